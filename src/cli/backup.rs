//! `backup`: the list of channels, encrypted by the daemon, into a file of whoever asks.

use std::path::absolute;
use std::time::Duration;

use bitcoin::hex::FromHex;
use serde::Serialize;

use super::args;
use super::client::Client;
use super::exit::{DONE, Effect, FAILED, Failure};
use super::output::Output;
use super::print;
use super::progress::during;
use crate::api::types::{BackupMade, Code, NodeError};
use crate::files::replace;

/// The configured command may take its time.
const SLOW: Duration = Duration::from_secs(90);

/// What was written, and where.
#[derive(Serialize)]
pub(super) struct Written {
    pub(super) channels: usize,
    /// Files, each whole.
    pub(super) files: Vec<String>,
    /// Why the configured file or command was not served.
    pub(super) trouble: Option<String>,
}

/// Fails when nothing was written at all, or not where it was asked to be.
pub(super) async fn backup(client: &Client, output: Output, args: &args::Backup) -> Result<u8, Failure> {
    let nothing = serde_json::json!({});
    let asking = client.post::<BackupMade>("/v1/backup", &nothing, SLOW);
    let reply = during(|| "writing the backup".to_owned(), asking).await;
    let made = reply.map_err(|error| error.failure(Effect::Harmless))?.value;
    let mut written = Written { channels: made.channels, files: Vec::new(), trouble: made.trouble };
    written.files.extend(made.path);
    if let Some(path) = &args.path {
        let bytes = Vec::from_hex(&made.content)
            .map_err(|error| NodeError::new(Code::Internal, format!("the daemon's answer is no backup: {error}")))?;
        let path = absolute(path).unwrap_or_else(|_| path.clone());
        replace(&path, &bytes)
            .map_err(|error| NodeError::new(Code::Failed, format!("could not write {}: {error}", path.display())))?;
        written.files.push(path.display().to_string());
    }
    if output.for_people() {
        output.text(&print::backup(&written));
    } else {
        let json = serde_json::to_vec(&written);
        output.json(&json.map_err(|error| NodeError::new(Code::Internal, error.to_string()))?);
    }
    let nowhere = written.files.is_empty() && written.trouble.is_some();
    Ok(if nowhere { FAILED } else { DONE })
}
