//! What can go wrong with a request, in words for people and stable codes for programs.

use serde::{Deserialize, Serialize};

/// Stable codes. They map to HTTP statuses in `api` and to exit codes in `cli` (design §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request makes no sense: bad amount, bad address, bad invoice, unknown field.
    BadRequest,
    /// Nothing with that id, or no such route.
    NotFound,
    /// The node is starting or syncing.
    NotReady,
    /// The seed is encrypted and not unlocked.
    Locked,
    /// Not enough funds, or over a limit.
    InsufficientFunds,
    /// Refused for safety (a reserve, a fee bound, an expired invoice, halted).
    Refused,
    /// It failed for certain; no money has moved.
    Failed,
    /// The outcome is unknown: do not retry blindly.
    Unknown,
    /// The peer is away, refuses, or took too long.
    PeerUnavailable,
    /// The token is missing or wrong (TCP only).
    Unauthorized,
    /// What lies on the disk is not what was written there; nothing is done with it.
    Damaged,
    /// A defect or a failing disk; the message says what it means for the money.
    Internal,
}

/// What happened, what it means for the money, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct NodeError {
    /// Stable code.
    pub code: Code,
    /// What happened and what it means for the money.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl NodeError {
    /// An error without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same error with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
