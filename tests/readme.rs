//! README: every command in it is one, and the first of them does what it says.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use lightnode::cli::Cli;

use crate::support::daemon::{LIGHTNODE, Ran};

/// The lines of all ```sh blocks that run `lightnode`, as written. A line that ends with a backslash goes on.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let (mut inside, mut begun) = (false, String::new());
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) => inside = !inside && ["sh", "bash", "console"].contains(&language.trim()),
            None if inside => match line.trim_end().strip_suffix('\\') {
                Some(part) => begun.push_str(part),
                None => commands.push(std::mem::take(&mut begun) + line),
            },
            None => {}
        }
    }
    commands
        .into_iter()
        .map(|line| line.trim().trim_start_matches("$ ").to_string())
        .filter(|line| {
            line.split_whitespace().next().is_some_and(|word| word == "lightnode" || word.ends_with("/lightnode"))
        })
        .collect()
}

/// The words of a command, without its comment and without what is piped or redirected.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in command.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '>' | ';' | '&') => break,
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_of_the_readme_is_one_that_the_program_understands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let commands = commands(&text);
    assert!(commands.len() >= 5, "only {} commands were found: are they in ```sh blocks?", commands.len());
    for command in commands {
        if let Err(error) = Cli::try_parse_from(words(&command)) {
            // Help and version are commands too, and end without an error.
            assert_eq!(error.exit_code(), 0, "README.md: {command}\n{error}");
        }
    }
}

#[test]
fn commands_are_found_as_a_reader_finds_them() {
    let text = "# x\n```sh\n$ lightnode pay lnbc1 \\\n    --timeout 5s   # waits\ncd x\n```\n\
                lightnode not this\n```toml\nlightnode = 1\n```\n```sh\nlightnode receive 1k -m 'two words' | cat\n```\n";
    let found: Vec<Vec<String>> = commands(text).iter().map(|command| words(command)).collect();
    let wanted =
        [vec!["lightnode", "pay", "lnbc1", "--timeout", "5s"], vec!["lightnode", "receive", "1k", "-m", "two words"]];
    assert_eq!(found, wanted);
    assert!(Cli::try_parse_from(words("lightnode frobnicate")).is_err());
}

#[test]
fn the_demo_pays_and_leaves_nothing_running() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo");
    let place = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(demo).env("LIGHTNODE_BINARY", LIGHTNODE).env("TMPDIR", place.path()).output();
    let ran = Ran::from(output.expect("the demo starts"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let last = ran.stdout.lines().last().expect("a last line");
    let (paid, preimage) = last.rsplit_once(' ').expect("words");
    assert!(paid.starts_with("paid 50000 sat, fee ") && paid.ends_with(" sat, preimage"), "{last}");
    assert!(preimage.len() == 64 && preimage.bytes().all(|byte| byte.is_ascii_hexdigit()), "{last}");
    let left: Vec<_> = fs::read_dir(place.path()).expect("the temporary folder").collect();
    assert!(left.is_empty(), "the demo leaves behind {left:?}");
}
