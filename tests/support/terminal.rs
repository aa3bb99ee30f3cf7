//! The command line as a person sees it.

use std::process::Command;

use super::daemon::{Daemon, LIGHTNODE, Ran};

/// Runs a command on a terminal (`script` of util-linux makes one) and returns what a person would see.
pub(crate) fn on_a_terminal(node: &Daemon, words: &[&str]) -> Ran {
    let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    let command = format!("'{LIGHTNODE}' --data-dir '{}' {}", node.folder().display(), quoted.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty cols 80; {command}"), "/dev/null"]).stdin(std::process::Stdio::null());
    script.env("TERM", "xterm").output().expect("`script` of util-linux").into()
}

/// The text without colour and cursor movements.
pub(crate) fn plain(text: &str) -> String {
    let (mut plain, mut letters) = (String::new(), text.chars().peekable());
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' && letters.peek() == Some(&'[') {
            for letter in letters.by_ref().skip(1) {
                if letter.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if letter != '\r' {
            plain.push(letter);
        }
    }
    plain
}
