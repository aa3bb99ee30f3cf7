//! Text written by a server.

use std::fmt;

/// How many characters of a server's text are kept.
const KEPT: usize = 200;

/// Text written by a server: kept short, and shown only as printable ASCII. Everything else (terminal escapes,
/// bidirectional overrides, look-alike letters, line breaks) is shown as its code point.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Untrusted(String);

impl Untrusted {
    /// Keeps the beginning of `text`.
    pub fn new(text: &str) -> Self {
        let mut kept: String = text.chars().take(KEPT).collect();
        if kept.len() < text.len() {
            kept.push_str("...");
        }
        Self(kept)
    }

    /// The text as it came, for comparing with known texts; never for showing.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                ' '..='~' => write!(f, "{c}")?,
                _ => write!(f, "{}", c.escape_unicode())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_bidi_and_line_breaks_are_shown_as_code_points() {
        let shown = Untrusted::new("ok\u{1b}[31m\u{202e}evil\n<b>\u{7f}é").to_string();
        assert_eq!(shown, "ok\\u{1b}[31m\\u{202e}evil\\u{a}<b>\\u{7f}\\u{e9}");
    }

    #[test]
    fn long_text_is_cut() {
        let shown = Untrusted::new(&"ä".repeat(5000)).to_string();
        assert!(shown.len() < 2000);
        assert!(shown.ends_with("..."));
    }
}
