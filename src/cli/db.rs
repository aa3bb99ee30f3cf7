//! `db check`: what was found, for people and programs.

use super::exit::{DONE, FAILED};
use super::output::Output;
use super::print;
use crate::api::types::DbReport;

/// Prints the report; returns the exit code.
pub fn report(report: &DbReport, output: Output) -> u8 {
    if output.for_people() {
        output.text(&print::database(report));
    } else {
        output.json(serde_json::json!(report).to_string().as_bytes());
    }
    if report.ok { DONE } else { FAILED }
}
