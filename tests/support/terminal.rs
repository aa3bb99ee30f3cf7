//! The command line as a person sees it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use super::daemon::{Daemon, LIGHTNODE, Ran};
use super::eventually::eventually;

/// A question, and what a person types when it stands there.
pub(crate) enum Asked<'a> {
    /// What is typed shows.
    Openly(&'a str, &'a str),
    /// It does not; nothing is typed before the terminal shows nothing any more.
    Unseen(&'a str, &'a str),
}

/// Runs a command on a terminal (`script` of util-linux makes one) and returns what a person would see.
pub(crate) fn on_a_terminal(node: &Daemon, words: &[&str]) -> Ran {
    let mut script = Command::new("script");
    script.args(["-qec", &line(node, words), "/dev/null"]).stdin(Stdio::null());
    script.env("TERM", "xterm").output().expect("`script` of util-linux").into()
}

/// The same with a person who answers these questions, in this order, and nothing beyond them.
pub(crate) fn talk_on_a_terminal(node: &Daemon, words: &[&str], talk: &[Asked]) -> Ran {
    let mut script = Command::new("script");
    script.args(["-qefc", &format!("tty; {}", line(node, words)), "/dev/null"]).env("TERM", "xterm");
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().expect("`script` of util-linux");
    let (mut hands, mut screen) = (script.stdin.take().expect("a pipe"), script.stdout.take().expect("a pipe"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let eyes = Arc::clone(&seen);
    let reading = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = screen.read(&mut piece) {
            eyes.lock().expect("not poisoned").extend_from_slice(&piece[..length]);
        }
    });
    let text = || String::from_utf8_lossy(&seen.lock().expect("not poisoned")).into_owned();
    let named = eventually("the terminal to be named", text, |text| text.contains('\n'));
    let terminal = named.lines().next().expect("a line").trim().to_owned();
    let mut read = 0;
    for asked in talk {
        let (Asked::Openly(question, answer) | Asked::Unseen(question, answer)) = asked;
        let screen = eventually(&format!("{question:?} to be asked"), text, |text| text[read..].contains(question));
        read += screen[read..].find(question).expect("it stands there") + question.len();
        if let Asked::Unseen(..) = asked {
            let modes = || {
                let stty = Command::new("stty").args(["-a", "-F", &terminal]).output().expect("stty");
                String::from_utf8_lossy(&stty.stdout).into_owned()
            };
            eventually("typing to be hidden", modes, |modes| modes.contains(" -echo "));
        }
        writeln!(hands, "{answer}").expect("the terminal listens");
    }
    drop(hands);
    let code = script.wait().expect("the command ends").code().unwrap_or(-1);
    reading.join().expect("it reads to the end");
    Ran { code, stdout: text(), stderr: String::new() }
}

/// For a shell, on 80 columns.
fn line(node: &Daemon, words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    format!("stty cols 80; '{LIGHTNODE}' --data-dir '{}' {}", node.folder().display(), quoted.join(" "))
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
