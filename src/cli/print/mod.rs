//! Answers for people. Pure: a view and the time in, text out. Whatever comes from peers, servers or invoices is
//! escaped here.

mod audit;
mod book;
mod channels;
mod database;
mod fees;
mod layout;
mod money;
mod servers;
mod status;

pub(super) use audit::audit;
pub(super) use book::{entry, history, outcome};
pub(super) use channels::{channels, closing, opened, peer, peers};
pub(super) use database::database;
pub(super) use fees::fees;
pub(super) use money::{address, balance, decoded, invoice, sent};
pub(super) use servers::{changed_key, servers, trusted};
pub(super) use status::{abandoning, backup, status};

use crate::text::escape_whole;

/// Foreign text. The daemon bounds its length.
fn safe(text: &str) -> String {
    escape_whole(text).to_string()
}

/// Ids, keys, addresses and invoices: whole when they are what they should be, so that they can be copied.
fn verbatim(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.@[]/#".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { safe(text) }
}

/// Enough of an id to tell it from others; all of it with `-v`.
fn short_id(id: &str, verbose: bool) -> String {
    let id = verbatim(id);
    if verbose { id } else { id.chars().take(12).collect() }
}

/// `1 channel`, `2 channels`
fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
