//! A line of the book and the changes that it allows. Pure: no IO, and the time is told.
//!
//! ```text
//! outgoing   Pending ──▶ Succeeded                 a preimage is proof: it overrides Failed and Unknown
//!            Pending ◀─▶ Unknown                   open, with the height at which it must end
//!            Pending, Unknown ──▶ Failed ──▶ Pending (begun again)
//! incoming   Pending ──▶ Succeeded                 "expired" is how an old Pending is shown, for a late payment counts
//! on-chain   Pending ◀─▶ Succeeded                 confirmed; reorganised away
//!            Pending, Succeeded ◀─▶ Failed         replaced or evicted; seen again
//! ```
//!
//! Over Lightning nothing leaves Succeeded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An invoice or offer that we pay.
    Pay,
    /// Our invoice.
    Receive,
    /// A payment without invoice, in either direction.
    Keysend,
    /// Coins from outside.
    Deposit,
    /// Coins to outside.
    Withdrawal,
    /// Funding of a channel.
    ChannelOpen,
    /// The closing transaction of a channel.
    ChannelClose,
    /// Coins of a closed channel, back to the wallet.
    Sweep,
    /// A child that pays for its parent.
    FeeBump,
}

impl Kind {
    /// The word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Receive => "receive",
            Self::Keysend => "keysend",
            Self::Deposit => "deposit",
            Self::Withdrawal => "withdrawal",
            Self::ChannelOpen => "channel_open",
            Self::ChannelClose => "channel_close",
            Self::Sweep => "sweep",
            Self::FeeBump => "fee_bump",
        }
    }

    /// Deposit and withdrawal are what a transaction is called as long as nothing more is known.
    fn is_general(self) -> bool {
        matches!(self, Self::Deposit | Self::Withdrawal)
    }
}

/// Which way the money goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To us.
    In,
    /// From us.
    Out,
}

impl Direction {
    /// The word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Which part of the book a line is in. Ids are unique within one: a payee may well send us a payment with the hash of
/// ours, and the two must not be mistaken for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Lightning, from us.
    Send,
    /// Lightning, to us.
    Receive,
    /// On-chain.
    Chain,
}

impl Side {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Chain => "chain",
        }
    }
}

/// What is known for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Under way.
    Pending,
    /// The money has moved; on-chain: confirmed.
    Succeeded,
    /// The money has not moved and will not.
    Failed,
    /// We wait no longer, but it may still succeed.
    Unknown,
}

/// [`State`] as it is shown at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Under way.
    Pending,
    /// The money has moved.
    Succeeded,
    /// It has not and will not.
    Failed,
    /// It may still succeed.
    Unknown,
    /// An unpaid invoice after its time.
    Expired,
}

impl Status {
    /// The word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
        }
    }
}

/// A line of the book. Hashes, keys and preimages are lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Payment hash, or txid.
    pub id: String,
    /// What it is about.
    pub kind: Kind,
    /// Which way the money goes.
    pub direction: Direction,
    /// What is known for certain.
    pub state: State,
    /// Without fees. Asked for while pending, what came once succeeded; on-chain: the wallet's gain or loss.
    pub amount_msat: Option<u64>,
    /// What we paid in fees, once known.
    pub fee_msat: Option<u64>,
    /// The most that we would pay in fees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee_msat: Option<u64>,
    /// When it was begun or first seen.
    pub created_at: u64,
    /// When something last changed.
    pub updated_at: u64,
    /// Proof of payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preimage: Option<String>,
    /// As given or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoice: Option<String>,
    /// Of the invoice; foreign text when we pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Node id of the receiver, or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payee: Option<String>,
    /// When an invoice stops being payable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// On-chain only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<String>,
    /// Height of its block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Ways over the network that were tried.
    #[serde(default)]
    pub attempts: u32,
    /// Why it failed, or why the outcome is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// While open: the height at which the last HTLC must have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_until_height: Option<u32>,
    /// Claims booked into this line (LDK's payment id → msat): an invoice may be paid more than once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, u64>,
}

impl Record {
    /// A pending line with nothing known but what it is.
    pub fn new(id: String, kind: Kind, direction: Direction, now: u64) -> Self {
        Self {
            id,
            kind,
            direction,
            state: State::Pending,
            amount_msat: None,
            fee_msat: None,
            max_fee_msat: None,
            created_at: now,
            updated_at: now,
            preimage: None,
            invoice: None,
            description: None,
            payee: None,
            expires_at: None,
            txid: None,
            height: None,
            attempts: 0,
            reason: None,
            open_until_height: None,
            claims: BTreeMap::new(),
        }
    }

    /// The part of the book that it belongs to.
    pub fn side(&self) -> Side {
        match (self.kind, self.direction) {
            (Kind::Pay, _) | (Kind::Keysend, Direction::Out) => Side::Send,
            (Kind::Receive, _) | (Kind::Keysend, Direction::In) => Side::Receive,
            _ => Side::Chain,
        }
    }

    /// True while the outcome is open.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Pending | State::Unknown)
    }

    /// True once succeeded or failed.
    pub fn is_settled(&self) -> bool {
        !self.is_open()
    }

    /// How it is to be shown at `now`.
    pub fn status(&self, now: u64) -> Status {
        match self.state {
            State::Pending if self.expires_at.is_some_and(|end| end <= now) && self.kind == Kind::Receive => {
                Status::Expired
            }
            State::Pending => Status::Pending,
            State::Succeeded => Status::Succeeded,
            State::Failed => Status::Failed,
            State::Unknown => Status::Unknown,
        }
    }
}

// Changes. Each gives true when the record is another one afterwards; the caller sets `updated_at` then.

/// The preimage came: the payment has succeeded, whatever was thought before.
pub(super) fn sent(record: &mut Record, preimage: &str, fee_msat: Option<u64>) -> bool {
    if record.state == State::Succeeded {
        return set_missing(&mut record.fee_msat, fee_msat);
    }
    record.state = State::Succeeded;
    record.preimage = Some(preimage.to_owned());
    record.fee_msat = fee_msat;
    record.reason = None;
    record.open_until_height = None;
    true
}

/// No HTLC of it is left and none will be: it has failed for certain. Ignored after success and after failure.
pub(super) fn failed(record: &mut Record, reason: &str) -> bool {
    if record.is_settled() {
        return false;
    }
    record.state = State::Failed;
    record.reason = Some(reason.to_owned());
    record.open_until_height = None;
    true
}

/// Nobody waits any more, and it may still succeed. Ignored once settled.
pub(super) fn unknown(record: &mut Record, reason: &str, open_until_height: Option<u32>) -> bool {
    if record.is_settled() {
        return false;
    }
    let before = (record.state, record.reason.take(), record.open_until_height);
    record.state = State::Unknown;
    record.reason = Some(reason.to_owned());
    // A height once known is not forgotten by a later report without one.
    record.open_until_height = open_until_height.or(before.2);
    before != (record.state, record.reason.clone(), record.open_until_height)
}

/// A claim of an incoming payment. A claim with an id already booked changes nothing; another one adds to the amount,
/// for it is our money.
pub(super) fn received(record: &mut Record, claim: &str, amount_msat: u64, preimage: Option<&str>) -> bool {
    if record.claims.contains_key(claim) {
        return false;
    }
    record.claims.insert(claim.to_owned(), amount_msat);
    record.amount_msat = Some(record.claims.values().fold(0, |sum: u64, amount| sum.saturating_add(*amount)));
    record.state = State::Succeeded;
    if record.preimage.is_none() {
        record.preimage = preimage.map(str::to_owned);
    }
    true
}

/// What is told of a transaction, possibly better than before. What was replaced or evicted is pending again.
pub(super) fn seen(record: &mut Record, told: &Record) -> bool {
    let before = record.clone();
    if record.kind.is_general() || !told.kind.is_general() {
        record.kind = told.kind;
    }
    record.direction = told.direction;
    record.amount_msat = told.amount_msat.or(record.amount_msat);
    record.fee_msat = told.fee_msat.or(record.fee_msat);
    record.payee = told.payee.clone().or(record.payee.take());
    record.description = told.description.clone().or(record.description.take());
    if record.state == State::Failed {
        record.state = State::Pending;
        record.reason = None;
    }
    *record != before
}

/// It is in a block of our chain.
pub(super) fn confirmed(record: &mut Record, height: u32) -> bool {
    let same = record.state == State::Succeeded && record.height == Some(height);
    record.state = State::Succeeded;
    record.height = Some(height);
    record.reason = None;
    !same
}

/// Its block left our chain.
pub(super) fn unconfirmed(record: &mut Record) -> bool {
    if record.state != State::Succeeded {
        return false;
    }
    record.state = State::Pending;
    record.height = None;
    true
}

/// It no longer counts: replaced, evicted, or in conflict with what is confirmed.
pub(super) fn gone(record: &mut Record, reason: &str) -> bool {
    if record.state == State::Failed {
        return false;
    }
    record.state = State::Failed;
    record.height = None;
    record.reason = Some(reason.to_owned());
    true
}

fn set_missing<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    let better = field.is_none() && value.is_some();
    if better {
        *field = value;
    }
    better
}
