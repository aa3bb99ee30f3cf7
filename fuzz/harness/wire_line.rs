//! One line of a server, read as everything that a line can be.

use lightnode::chain::io::{Request, ScriptHash};
use lightnode::source::electrum::replies;
use lightnode::source::electrum::wire::{Message, parse_line};

/// Must return, whatever the line is.
pub(crate) fn run(line: &[u8]) {
    let raw = match parse_line(line) {
        Ok(Message::Answer { outcome: Ok(raw), .. }) | Ok(Message::Notification { params: raw, .. }) => raw,
        Ok(Message::Answer { outcome: Err(error), .. }) | Ok(Message::Complaint(error)) => {
            // Shown text is harmless: no control character, whatever was sent.
            assert!(!error.to_string().chars().any(char::is_control));
            return;
        }
        Ok(Message::Blank) | Err(_) => return,
    };
    let script = ScriptHash([7; 32]);
    let txid = "e3bf3d07d4b0375638d5f1db5255fe07ba2c4cb067cd81b84ee974b6585fb468".parse().expect("64 hex digits");
    for request in [
        Request::Headers { start: 0, count: 2016 },
        Request::Subscribe { script },
        Request::History { script },
        Request::Transaction { txid },
        Request::Proof { txid, height: 123_456 },
        Request::Coinbase { height: 123_456 },
    ] {
        let _ = replies::read_reply(&request, raw);
    }
    let _ = replies::first_of(raw);
    let _ = replies::tip(raw);
    let _ = replies::pushed_tip(raw);
    let _ = replies::pushed_status(raw);
    let _ = replies::rate(raw);
    let _ = replies::mempool_floor(raw);
    let _ = replies::histogram(raw);
    let _ = replies::txid(raw);
    let _ = replies::package_errors(raw);
}
