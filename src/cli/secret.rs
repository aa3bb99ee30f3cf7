//! Passphrases on their way in, and words on their way out. What touches the seed goes through [`SeedStore`], which
//! `main` makes of the keys: words and passphrases of a stopped node never pass the daemon.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::args::{self, Given};
use super::exit::{DONE, Failure};
use super::init::in_columns;
use super::output::Output;
use super::person;
use crate::api::types::{Code, NodeError};

/// A line longer than this is no passphrase.
const LONGEST_LINE: u64 = 4096;

/// Where the words are kept.
pub trait SeedStore {
    /// The file.
    fn path(&self) -> PathBuf;
    /// Whether there is a seed already.
    fn exists(&self) -> Result<bool, NodeError>;
    /// Whether a passphrase is needed for the one that is there.
    fn is_sealed(&self) -> Result<bool, NodeError>;
    /// Makes new words and keeps them; returns them.
    fn create(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, NodeError>;
    /// Checks words, and a backup that is to open with them, and keeps both; how many channels the backup names.
    fn restore(&self, words: &str, passphrase: Option<&str>, backup: Option<&Path>) -> Result<usize, NodeError>;
    /// The words that are kept.
    fn words(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, NodeError>;
    /// Keeps them under another passphrase, or under none.
    fn change(&self, old: Option<&str>, new: Option<&str>) -> Result<(), NodeError>;
    /// Checks a passphrase that is to protect something.
    fn check_new(&self, passphrase: &str) -> Result<(), NodeError>;
    /// The passphrase that a file holds.
    fn in_file(&self, path: &Path) -> Result<Zeroizing<String>, NodeError>;
}

/// The passphrase of a seed that is there.
pub fn present(given: &Given, seed: &impl SeedStore) -> Result<Zeroizing<String>, NodeError> {
    match (&given.passphrase_file, given.stdin) {
        (Some(path), _) => seed.in_file(path),
        (None, true) => line(),
        (None, false) => prompt("Passphrase of the seed: "),
    }
}

/// A passphrase for a seed that has none yet, or is to have another; a person types it twice.
pub(super) fn fresh(given: &Given, seed: &impl SeedStore) -> Result<Zeroizing<String>, NodeError> {
    let typed = match (&given.passphrase_file, given.stdin) {
        (Some(path), _) => seed.in_file(path)?,
        (None, true) => line()?,
        (None, false) => {
            let typed = prompt("New passphrase: ")?;
            seed.check_new(&typed)?;
            if *prompt("The same again: ")? != *typed {
                return Err(NodeError::new(Code::BadRequest, "the two are not the same; nothing was changed"));
            }
            typed
        }
    };
    seed.check_new(&typed)?;
    Ok(typed)
}

/// `passphrase change`
pub fn change(args: &args::PassphraseChange, seed: &impl SeedStore, output: Output) -> Result<u8, Failure> {
    let sealed = seed.is_sealed()?;
    if args.remove && !sealed {
        return Err(NodeError::new(Code::Refused, "the seed has no passphrase").into());
    }
    let given = Given { stdin: args.stdin, passphrase_file: None };
    let old = if sealed { Some(present(&given, seed)?) } else { None };
    let new = if args.remove { None } else { Some(fresh(&given, seed)?) };
    seed.change(old.as_ref().map(|old| old.as_str()), new.as_ref().map(|new| new.as_str()))?;
    let done = match (sealed, args.remove) {
        (_, true) => "the seed is no longer encrypted: its file is as good as the words",
        (true, false) => "the seed has a new passphrase",
        (false, false) => {
            "the seed is encrypted now. A disk may still hold the words as they lay there before: where that is a danger, \
             move the coins to a new seed"
        }
    };
    output.done(done);
    Ok(DONE)
}

/// `seed show`
pub fn show(args: &args::SeedShow, seed: &impl SeedStore, output: Output) -> Result<u8, Failure> {
    if !args.yes && !io::stdout().is_terminal() {
        let error = NodeError::new(Code::Refused, "the words are shown on a terminal, and this is none");
        return Err(error.hint("with --yes they are printed all the same").into());
    }
    let words = if seed.is_sealed()? {
        seed.words(Some(&present(&args.given, seed)?))?
    } else {
        if !args.yes && !sure("These words are the money. Is nobody looking, and no camera? Type yes: ")? {
            return Err(NodeError::new(Code::Refused, "not shown").into());
        }
        seed.words(None)?
    };
    if output.for_people() {
        output.text(&Zeroizing::new(in_columns(&words)));
    } else {
        output.json(Zeroizing::new(serde_json::json!({ "words": *words }).to_string()).as_bytes());
    }
    Ok(DONE)
}

/// One line of stdin. What follows it stays there for the next.
fn line() -> Result<Zeroizing<String>, NodeError> {
    let mut line = Zeroizing::new(String::with_capacity(LONGEST_LINE as usize));
    let mut stdin = io::stdin().lock();
    let read = io::Read::take(io::Read::by_ref(&mut stdin), LONGEST_LINE).read_line(&mut line);
    let read = read.map_err(|error| unread(&error))?;
    if read == 0 {
        return Err(NodeError::new(Code::BadRequest, "stdin has ended, and a passphrase was to be read from it"));
    }
    Ok(line)
}

fn prompt(text: &str) -> Result<Zeroizing<String>, NodeError> {
    if !io::stdin().is_terminal() {
        let error = NodeError::new(Code::BadRequest, "a passphrase is asked for on a terminal, and there is none");
        return Err(error.hint("--stdin reads it from stdin, --passphrase-file from a file"));
    }
    rpassword::prompt_password(text).map(Zeroizing::new).map_err(|error| unread(&error))
}

fn sure(question: &str) -> Result<bool, NodeError> {
    // A question that cannot be shown is not answered with yes.
    let _ = write!(io::stderr(), "{question}");
    Ok(person::typed()? == "yes")
}

fn unread(error: &io::Error) -> NodeError {
    NodeError::new(Code::BadRequest, format!("the passphrase could not be read: {error}"))
}
