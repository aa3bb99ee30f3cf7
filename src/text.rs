//! Foreign text: what servers, peers and invoices say, made fit to be shown.

use std::fmt::{self, Write};

/// Characters of foreign text that are shown at most.
const SHOWN: usize = 256;

/// Foreign text, made fit for a terminal and a log: what could command a terminal, reorder or hide text is shown as
/// `\u{…}`, and at most 256 characters are shown.
pub fn escape(text: &str) -> Escaped<'_> {
    Escaped { text, shown: SHOWN }
}

/// As [`escape`], in full length: for text whose length was bounded at the door.
pub fn escape_whole(text: &str) -> Escaped<'_> {
    Escaped { text, shown: usize::MAX }
}

/// See [`escape`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    text: &'a str,
    shown: usize,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.text.char_indices();
        for (_, character) in characters.by_ref().take(self.shown) {
            match character {
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                _ if is_harmful(character) => write!(f, "{}", character.escape_unicode())?,
                _ => f.write_char(character)?,
            }
        }
        match characters.next() {
            Some((at, _)) => write!(f, "… ({} bytes more)", self.text.len() - at),
            None => Ok(()),
        }
    }
}

/// JSON with the same meaning, and harmless on a terminal: what [`escape`] would show as `\u{…}` stands as JSON's `\uXXXX`
/// in it. Such characters are only in its strings, and those below a blank serde has escaped.
pub fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        if character > ' ' && is_harmful(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(plain, "\\u{unit:04x}");
            }
        } else {
            plain.push(character);
        }
    }
    plain
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

/// Escaped, and at most `width` columns of a terminal wide; what is cut shows as `…`.
pub fn clip(text: &str, width: usize) -> String {
    let text = escape(text).to_string();
    if columns(&text) <= width {
        return text;
    }
    let mut clipped = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += column(character);
        if used > width {
            break;
        }
        clipped.push(character);
    }
    clipped.push('…');
    clipped
}

/// Columns that an escaped text takes on a terminal.
pub fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

/// East Asian wide characters and emoji take two. Combining marks count as one: rather too short than too long.
fn column(character: char) -> usize {
    match character {
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escaped_text_is_harmless_whatever_it_was(text in any::<String>()) {
            prop_assert!(!escape(&text).to_string().chars().any(is_harmful));
        }

        #[test]
        fn json_means_the_same_and_is_harmless(text in any::<String>()) {
            let json = plain_json(&serde_json::json!({ text.clone(): text.clone() }).to_string());
            prop_assert!(!json.chars().any(is_harmful));
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read[&text].as_str(), Some(text.as_str()));
        }

        #[test]
        fn clipped_text_fits(text in any::<String>(), width in 1..40usize) {
            prop_assert!(columns(&clip(&text, width)) <= width);
        }
    }

    #[test]
    fn long_text_is_clipped_by_columns() {
        assert_eq!(clip("short", 5), "short");
        assert_eq!(clip("longer", 5), "long…");
        assert_eq!(clip("日本語日本語", 5), "日本…");
    }

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
        assert_eq!(escape_whole(&text).to_string(), text);
    }
}
