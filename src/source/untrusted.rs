//! Text written by a server.

use std::fmt;

use crate::text::escape;

/// How many characters of a server's text are kept.
const KEPT: usize = 200;

/// Text written by a server: kept short, and shown only escaped.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Untrusted(String);

impl Untrusted {
    /// Keeps the beginning of `text`.
    pub fn new(text: &str) -> Self {
        Self(text.chars().take(KEPT).collect())
    }

    /// The text as it came, for comparing with known texts; never for showing.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", escape(&self.0))
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
    fn text_is_escaped_and_cut_even_for_debugging() {
        let text = Untrusted::new(&format!("ok\u{1b}[31m\u{202e}{}", "x".repeat(5000)));
        for shown in [text.to_string(), format!("{text:?}")] {
            assert!(shown.contains("ok\\u{1b}[31m\\u{202e}xxx"), "{shown}");
            assert!(shown.len() < 300);
        }
    }
}
