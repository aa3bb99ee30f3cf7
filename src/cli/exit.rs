//! Exit codes: what a program may conclude (design §6).

use crate::api::types::{Code, Entry, NodeError};

/// Done.
pub const DONE: u8 = 0;
/// It failed for certain; no money has moved.
pub const FAILED: u8 = 1;
/// The request makes no sense: command line, configuration, invoice, address.
pub const USAGE: u8 = 2;
/// The daemon is unreachable, locked or not ready.
pub const UNREACHABLE: u8 = 3;
/// The outcome is unknown: do not retry blindly.
pub const UNKNOWN: u8 = 4;
/// Not enough funds, or over a limit.
pub const FUNDS: u8 = 5;
/// Refused for safety.
pub const REFUSED: u8 = 6;
/// The database is damaged; nothing was done with it.
pub const DAMAGED: u8 = 7;

/// Whether a request that broke off may have moved money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It may: `send`, `open`, `close`, `pay`.
    Money,
    /// At worst an unused address or invoice.
    Harmless,
}

/// The one table from the API's codes.
pub fn of_code(code: Code, effect: Effect) -> u8 {
    match (code, effect) {
        (Code::NotFound | Code::Failed | Code::PeerUnavailable, _) => FAILED,
        (Code::BadRequest, _) => USAGE,
        (Code::NotReady | Code::Locked | Code::Unauthorized, _) => UNREACHABLE,
        (Code::Unknown, _) => UNKNOWN,
        (Code::InsufficientFunds, _) => FUNDS,
        (Code::Refused, _) => REFUSED,
        (Code::Damaged, _) => DAMAGED,
        // A defect does not tell how far the request came.
        (Code::Internal, Effect::Money) => UNKNOWN,
        (Code::Internal, Effect::Harmless) => FAILED,
    }
}

/// For a command that waits for a payment.
pub fn of_entry(entry: &Entry) -> u8 {
    match entry.status.as_str() {
        "succeeded" => DONE,
        "failed" | "expired" => FAILED,
        _ => UNKNOWN,
    }
}

/// A command that did not do what it should: what is said, and how it ends.
#[derive(Debug)]
pub struct Failure {
    pub error: NodeError,
    pub exit: u8,
}

impl Failure {
    pub fn new(error: NodeError, effect: Effect) -> Self {
        Self { exit: of_code(error.code, effect), error }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Self::new(error, Effect::Harmless)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_exit_code() {
        for (code, harmless, money) in [
            (Code::BadRequest, 2, 2),
            (Code::NotFound, 1, 1),
            (Code::NotReady, 3, 3),
            (Code::Locked, 3, 3),
            (Code::InsufficientFunds, 5, 5),
            (Code::Refused, 6, 6),
            (Code::Damaged, 7, 7),
            (Code::Failed, 1, 1),
            (Code::Unknown, 4, 4),
            (Code::PeerUnavailable, 1, 1),
            (Code::Unauthorized, 3, 3),
            (Code::Internal, 1, 4),
        ] {
            assert_eq!(of_code(code, Effect::Harmless), harmless, "{code:?}");
            assert_eq!(of_code(code, Effect::Money), money, "{code:?}");
        }
    }
}
