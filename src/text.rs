//! Text of peers and servers, made harmless before a person or a log sees it.

use std::fmt::Write;

/// Characters that are not drawn as themselves: they move the cursor, turn the writing direction, or hide.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'   // zero width, marks of direction
            | '\u{2028}'..='\u{202e}'   // line separators, embeddings and overrides
            | '\u{2060}'..='\u{206f}'   // invisible operators, isolates
            | '\u{fff9}'..='\u{fffb}'   // interlinear annotations
            | '\u{e0000}'..='\u{e0fff}' // tags
        )
}

/// Shows control characters (and so terminal sequences), line breaks, bidirectional overrides and invisible characters
/// as `\n` or `\u{202e}`; everything else as it is.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_treacherous(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Escaped and at most `width` columns of a terminal wide; what is cut shows as `…`.
pub fn clip(text: &str, width: usize) -> String {
    let text = escape(text);
    if columns(&text) <= width {
        return text;
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += column(c);
        if used > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Columns that an escaped text takes on a terminal.
pub fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

/// East Asian wide characters and emoji take two. Combining marks count as one: rather too short than too long.
fn column(c: char) -> usize {
    match c {
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

    #[test]
    fn text_of_others_cannot_reach_the_terminal() {
        for (text, shown) in [
            ("Zoë's café ☕", "Zoë's café ☕"),
            ("\x1b[31mred\x1b[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{202e}drowssap", "\\u{202e}drowssap"),
            ("pay\u{200b}pal", "pay\\u{200b}pal"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("bell\x07", "bell\\u{7}"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }

    #[test]
    fn long_text_is_clipped_by_columns() {
        assert_eq!(clip("short", 5), "short");
        assert_eq!(clip("longer", 5), "long…");
        assert_eq!(clip("日本語日本語", 5), "日本…");
    }

    proptest! {
        #[test]
        fn escaped_text_is_calm_and_stays_so(text in any::<String>()) {
            let once = escape(&text);
            prop_assert!(!once.chars().any(is_treacherous));
            prop_assert_eq!(escape(&once), once);
        }

        #[test]
        fn clipped_text_fits(text in any::<String>(), width in 1..40usize) {
            prop_assert!(columns(&clip(&text, width)) <= width);
        }
    }
}
