//! `Logger`: LDK's records, handed to `tracing`.
//!
//! `tracing` fixes the target of a callsite when it is compiled, so each room of LDK that is worth a level of its own
//! has its callsites here; the rest go to `lightning`. Texts may quote what a peer sent: control characters are
//! escaped. LDK's trace level may quote onions and HTLC details, its own documentation says "no private keys"; payment
//! preimages are blanked all the same (see `tame`).

use std::fmt::Write as _;

use lightning::util::logger::{Level, Record};

use crate::text::escape;

/// LDK's `Logger`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logger;

/// One callsite for each level, with one target.
macro_rules! say {
    ($target:literal, $record:expr) => {{
        let record = $record;
        match record.level {
            // Gossip is LDK's level under trace; a node in sync writes thousands of these a minute.
            Level::Gossip | Level::Trace => say!(@ TRACE, $target, record),
            Level::Debug => say!(@ DEBUG, $target, record),
            Level::Info => say!(@ INFO, $target, record),
            Level::Warn => say!(@ WARN, $target, record),
            Level::Error => say!(@ ERROR, $target, record),
        }
    }};
    (@ $level:ident, $target:literal, $record:ident) => {{
        // Formatting only when somebody listens: LDK formats lazily for the same reason.
        if tracing::enabled!(target: $target, tracing::Level::$level) {
            tracing::event!(
                target: $target,
                tracing::Level::$level,
                peer = $record.peer_id.map(tracing::field::display),
                channel = $record.channel_id.map(tracing::field::display),
                "{}",
                tame(&$record.args.to_string())
            )
        }
    }};
}

impl lightning::util::logger::Logger for Logger {
    fn log(&self, record: Record) {
        if record.level == Level::Gossip {
            return say!("lightning::gossip", record);
        }
        match room(record.module_path) {
            "chain" => say!("lightning::chain", record),
            "ln" => say!("lightning::ln", record),
            "routing" => say!("lightning::routing", record),
            "onion_message" => say!("lightning::onion_message", record),
            "events" => say!("lightning::events", record),
            "peer" => say!("lightning::peer", record),
            "gossip" => say!("lightning::gossip", record),
            "background" => say!("lightning::background", record),
            _ => say!("lightning", record),
        }
    }
}

/// The part of LDK that a module path belongs to.
fn room(module_path: &str) -> &str {
    let mut parts = module_path.split("::");
    match (parts.next(), parts.next(), parts.next()) {
        (Some("lightning"), Some("ln"), Some("peer_handler" | "peer_channel_encryptor")) => "peer",
        (Some("lightning"), Some("routing"), Some("gossip" | "utxo")) => "gossip",
        (Some("lightning"), Some(room), _) => room,
        (Some("lightning_background_processor"), ..) => "background",
        (Some("lightning_rapid_gossip_sync"), ..) => "gossip",
        _ => "",
    }
}

/// One line of bounded length, without characters that command a terminal, and without preimages.
fn tame(text: &str) -> String {
    const LONGEST: usize = 4_000;
    let mut out = String::with_capacity(text.len().min(LONGEST));
    let mut hide = false;
    for part in text.split_inclusive(char::is_whitespace) {
        if out.len() >= LONGEST {
            out.push('…');
            break;
        }
        let word = part.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_secret = hide && word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
        // It stays in force for the short words that may stand between "preimage" and its value.
        hide = word.to_ascii_lowercase().contains("preimage") || (hide && !is_secret && word.len() < 8);
        // Writing to a String cannot fail.
        let _ = if is_secret { out.write_str("(hidden) ") } else { write!(out, "{}", escape(part)) };
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidi_characters_are_escaped() {
        assert_eq!(tame("peer says \u{1b}[31mred\u{202e}"), "peer says \\u{1b}[31mred\\u{202e}");
        assert_eq!(tame("two\nlines"), "two\\nlines");
    }

    #[test]
    fn a_preimage_is_hidden_and_a_hash_is_not() {
        let hex = "ab".repeat(32);
        assert_eq!(tame(&format!("claiming with preimage {hex} now")), "claiming with preimage (hidden) now");
        assert_eq!(tame(&format!("payment hash {hex}")), format!("payment hash {hex}"));
    }

    #[test]
    fn a_module_path_leads_to_its_room() {
        assert_eq!(room("lightning::chain::channelmonitor"), "chain");
        assert_eq!(room("lightning::ln::channelmanager"), "ln");
        assert_eq!(room("lightning::ln::peer_handler"), "peer");
        assert_eq!(room("lightning::routing::gossip"), "gossip");
        assert_eq!(room("lightning_background_processor"), "background");
        assert_eq!(room("something_else"), "");
    }
}
