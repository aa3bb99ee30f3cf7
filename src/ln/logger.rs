//! `Logger`: LDK's records, handed to `tracing`.
//!
//! `tracing` fixes the target of a callsite when it is compiled, so each room of LDK that is worth a level of its own
//! has its callsites here; the rest go to `lightning`. Texts may quote what a peer sent: control characters are
//! escaped. LDK's trace level may quote onions and HTLC details, its own documentation says "no private keys"; payment
//! preimages are blanked all the same (see [`tame`]).

use std::fmt::Write as _;

use lightning::util::logger::{Level, Record};

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

/// One line, without control or direction characters, of bounded length, and without preimages.
pub(crate) fn tame(text: &str) -> String {
    const LONGEST: usize = 2_000;
    let mut out = String::with_capacity(text.len().min(LONGEST));
    let mut hide = false;
    for (position, part) in text.split_inclusive(char::is_whitespace).enumerate() {
        if out.len() >= LONGEST {
            out.push('…');
            break;
        }
        let word = part.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if hide && word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()) {
            out.push_str("(hidden) ");
            hide = false;
            continue;
        }
        // "preimage" stays in force for the two words that may stand between it and its value.
        hide = word.to_ascii_lowercase().contains("preimage") || (hide && position > 0 && word.len() < 8);
        for c in part.chars() {
            match c {
                c if c.is_control() || is_invisible(c) => {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "{}", c.escape_unicode());
                }
                c => out.push(c),
            }
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Bidi controls and other characters that change how the rest of a line looks.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidi_characters_are_escaped() {
        assert_eq!(tame("peer says \u{1b}[31mred\u{202e}"), "peer says \\u{1b}[31mred\\u{202e}");
        assert_eq!(tame("two\nlines"), "two\\u{a}lines");
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
