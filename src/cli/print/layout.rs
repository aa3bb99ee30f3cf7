//! Columns and labels that fit a terminal of 80 columns.

use crate::text::{clip, columns};

pub(super) const WIDTH: usize = 80;

#[derive(Clone, Copy)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a head, two blanks between columns; the last column is cut where a line would be too long.
pub(super) struct Table {
    aligns: Vec<Align>,
    /// The head is the first; a note stands alone below its row, indented.
    rows: Vec<Row>,
    wide: bool,
}

enum Row {
    Cells(Vec<String>),
    Note(String),
}

impl Table {
    /// `wide` tables may exceed 80 columns (`-v`).
    pub(super) fn new(head: &[(&str, Align)], wide: bool) -> Self {
        Self {
            aligns: head.iter().map(|(_, align)| *align).collect(),
            rows: vec![Row::Cells(head.iter().map(|(name, _)| (*name).to_owned()).collect())],
            wide,
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(Row::Cells(cells));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.rows.push(Row::Note(text.to_owned()));
    }

    pub(super) fn draw(&self) -> String {
        let mut widths = vec![0; self.aligns.len()];
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = columns(cell).max(*width);
                }
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            let line = match row {
                Row::Cells(cells) => self.line(cells, &widths),
                Row::Note(text) if self.wide => format!("  {text}"),
                Row::Note(text) => format!("  {}", clip(text, WIDTH - 2)),
            };
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (index, ((cell, width), align)) in cells.iter().zip(widths).zip(&self.aligns).enumerate() {
            if index > 0 {
                line.push_str("  ");
            }
            let last = index + 1 == cells.len();
            let cell =
                if last && !self.wide { clip(cell, WIDTH.saturating_sub(columns(&line)).max(1)) } else { cell.clone() };
            let blanks = " ".repeat(width.saturating_sub(columns(&cell)));
            match align {
                Align::Left => line.extend([cell, blanks]),
                Align::Right => line.extend([blanks, cell]),
            }
        }
        line
    }
}

/// Labels on the left, values on the right; long values go on below, broken between words.
#[derive(Default)]
pub(super) struct Pairs {
    pairs: Vec<(String, String)>,
}

impl Pairs {
    pub(super) fn add(&mut self, label: &str, value: impl Into<String>) {
        self.pairs.push((label.to_owned(), value.into()));
    }

    pub(super) fn add_if(&mut self, label: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.add(label, value);
        }
    }

    pub(super) fn draw(&self) -> String {
        let left = self.pairs.iter().map(|(label, _)| columns(label)).max().unwrap_or(0) + 2;
        let mut out = String::new();
        for (label, value) in &self.pairs {
            let mut label = label.as_str();
            for line in wrap(value, WIDTH - left) {
                let blanks = " ".repeat(left - columns(label));
                out.push_str(format!("{label}{blanks}{line}").trim_end());
                out.push('\n');
                label = "";
            }
        }
        out
    }
}

/// Broken between words; a word that is too long stays whole, so that it can be copied.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut();
        match last {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if columns(line) + 1 + columns(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_one_is_cut() {
        let mut table = Table::new(&[("ID", Align::Left), ("SAT", Align::Right), ("WHAT", Align::Left)], false);
        table.row(vec!["a".into(), "1,000".into(), "x".repeat(100)]);
        table.row(vec!["bcd".into(), "7".into(), "日本".into()]);
        table.note("waits for something");
        let drawn = table.draw();
        assert_eq!(
            drawn.lines().map(|line| line.chars().take(20).collect::<String>()).collect::<Vec<_>>(),
            ["ID     SAT  WHAT", "a    1,000  xxxxxxxx", "bcd      7  日本", "  waits for somethin"]
        );
        assert!(drawn.lines().all(|line| columns(line) <= WIDTH), "{drawn}");
    }

    #[test]
    fn labelled_values_are_broken_between_words() {
        let mut pairs = Pairs::default();
        pairs.add("id", "f".repeat(90));
        pairs.add("waits for", "word ".repeat(20).trim());
        let drawn = pairs.draw();
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[0], format!("id         {}", "f".repeat(90)));
        assert!(lines[1].starts_with("waits for  word") && lines[2].starts_with("           word"));
    }
}
