//! Foreign text: what servers, peers and invoices say, made fit to be shown.

use std::fmt::{self, Write};

/// Characters of foreign text that are shown at most.
const SHOWN: usize = 256;

/// Foreign text, made fit for a terminal and a log: what could command a terminal, reorder or hide text is shown as
/// `\u{…}`, and at most 256 characters are shown.
pub fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// See [`escape`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.char_indices();
        for (_, character) in characters.by_ref().take(SHOWN) {
            match character {
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                _ if is_harmful(character) => write!(f, "{}", character.escape_unicode())?,
                _ => f.write_char(character)?,
            }
        }
        match characters.next() {
            Some((at, _)) => write!(f, "… ({} bytes more)", self.0.len() - at),
            None => Ok(()),
        }
    }
}

/// Controls (C0, C1: terminal escapes), bidirectional overrides and isolates, invisible and separating characters,
/// tags, variation selectors, private use.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_command_a_terminal_or_reorder_text() {
        let table = [
            ("plain text, ümläut, 漢字", "plain text, ümläut, 漢字"),
            ("\u{1b}[31mred\u{1b}[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("pay \u{202e}ecila", "pay \\u{202e}ecila"),
            ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("\u{e0041}", "\\u{e0041}"),
            ("\u{7f}\0", "\\u{7f}\\u{0}"),
        ];
        for (text, shown) in table {
            assert_eq!(escape(text).to_string(), shown);
        }
    }

    #[test]
    fn long_foreign_text_is_cut_and_says_by_how_much() {
        let text = "ä".repeat(300);
        let shown = escape(&text).to_string();
        assert_eq!(shown, format!("{}… (88 bytes more)", "ä".repeat(256)));
        let just = "x".repeat(256);
        assert_eq!(escape(&just).to_string(), just);
    }
}
