//! Floor 2: the book, every payment in and out.
//!
//! Rules:
//!
//! - The row of an outgoing payment is durable before LDK hears of it: [`Ledger::begin_send`] gives the only
//!   [`SendToken`] for a hash, and gives none while an earlier payment of that hash may still succeed.
//! - A payment is succeeded, failed for certain, or open. Time alone settles nothing.
//! - LDK and the chain replay events. Every method here gives, on replay, what it gave before ([`record`] is pure).
//! - A change is announced after it is durable.
//!
//! Methods block for one write; times are unix seconds.

mod book;
mod check;
mod closes;
mod forwards;
mod onchain;
mod receive;
pub mod record;
mod send;
mod table;
#[cfg(test)]
mod tests;

pub use self::book::{Changed, Filter, Found, Ledger, Page};
pub use self::check::Sums;
pub use self::closes::ClosedChannel;
pub use self::forwards::Forward;
pub use self::onchain::{ChainNews, NewOnchain};
pub use self::receive::{NewInvoice, Received};
pub use self::record::{Direction, Kind, Record, Side, State, Status};
pub use self::send::{Begun, NewSend, SendToken};
