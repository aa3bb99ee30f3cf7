//! A person at the terminal: whether there is one, and what they type.

use std::io::{self, BufRead, IsTerminal};

use super::output::Output;
use crate::api::types::{Code, NodeError};

/// True when a question would be read, and somebody can answer it.
pub(super) fn is_there(output: Output) -> bool {
    output.for_people() && io::stdin().is_terminal()
}

/// The next line, without what surrounds it.
pub(super) fn typed() -> Result<String, NodeError> {
    let mut line = String::new();
    let failed = |error| NodeError::new(Code::Failed, format!("the terminal could not be read: {error}"));
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(line.trim().to_owned())
}
