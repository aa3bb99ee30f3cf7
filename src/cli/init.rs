//! `init`: a seed, shown once, and a commented configuration.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use serde::Serialize;
use zeroize::Zeroizing;

use super::args;
use super::exit::{DONE, Failure};
use super::output::Output;
use super::person;
use super::secret::{self, SeedStore};
use crate::api::types::{Code, NodeError};
use crate::config::{Config, example};

/// What `init` has made.
#[derive(Serialize)]
struct Made<'a> {
    data_dir: String,
    seed_file: String,
    encrypted: bool,
    config_file: String,
    network: String,
    /// Absent when they were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<&'a str>,
    /// Of the backup; absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<usize>,
}

/// Makes what is missing. An existing seed is never touched.
pub fn init(args: &args::Init, config: &Config, seed: &impl SeedStore, output: Output) -> Result<u8, Failure> {
    let config_file = prepare(config)?;
    if seed.exists()? {
        let message = format!("there is a seed already at {}; it is never overwritten", seed.path().display());
        return Err(NodeError::new(Code::Refused, message).hint("name another directory with --data-dir").into());
    }
    let asks = !args.yes && io::stdin().is_terminal() && output.for_people();
    if !asks && !args.yes && !args.restore {
        let error = NodeError::new(Code::BadRequest, "new words are shown on a terminal, and there is none");
        return Err(error.hint("with --yes they are printed without asking").into());
    }
    // On stdin the passphrase comes first, the words after it.
    let passphrase = if args.encrypt { Some(secret::fresh(&args.given, seed)?) } else { None };
    let passphrase = passphrase.as_ref().map(|passphrase| passphrase.as_str());
    let (words, channels) = if args.restore {
        let words = read_words(asks)?;
        let channels = seed.restore(&words, passphrase, args.backup.as_deref())?;
        (None, args.backup.as_ref().map(|_| channels))
    } else {
        (Some(seed.create(passphrase)?), None)
    };
    let made = Made {
        data_dir: config.data_dir.display().to_string(),
        seed_file: seed.path().display().to_string(),
        encrypted: args.encrypt,
        config_file: config_file.display().to_string(),
        network: config.network.to_string(),
        words: words.as_ref().map(|words| words.as_str()),
        channels,
    };
    if output.for_people() {
        output.text(&for_people(&made));
    } else {
        let json = serde_json::to_vec(&made).map(Zeroizing::new);
        output.json(&json.map_err(|error| NodeError::new(Code::Internal, error.to_string()))?);
    }
    if asks && words.is_some() {
        output.note("\nPress Enter when the words are written down.");
        person::typed()?;
    }
    Ok(DONE)
}

/// The data directory (0700), and the commented configuration where there is none; returns its path. For `init` and
/// every `run`.
pub fn prepare(config: &Config) -> Result<PathBuf, NodeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&config.data_dir);
    made.map_err(|error| {
        let message = format!("the data directory {} cannot be made: {error}", config.data_dir.display());
        NodeError::new(Code::Failed, message).hint("name another one with --data-dir")
    })?;
    write_config(config)
}

/// Writes the example for the network where there is no file yet; returns its path.
fn write_config(config: &Config) -> Result<PathBuf, NodeError> {
    let path = config.file.clone();
    let written = OpenOptions::new().write(true).create_new(true).open(&path);
    let written = written.and_then(|mut file| {
        file.write_all(example(config.network).as_bytes())?;
        file.sync_all()
    });
    match written {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            let message = format!("the configuration {} cannot be written: {error}", path.display());
            Err(NodeError::new(Code::Failed, message))
        }
        _ => Ok(fs::canonicalize(&path).unwrap_or(path)),
    }
}

fn for_people(made: &Made<'_>) -> String {
    let mut text = String::new();
    if let Some(words) = made.words {
        text.push_str(
            "These 24 words are your money. Write them on paper, in this order; they are not shown again by themselves.\n\n",
        );
        text.push_str(&in_columns(words));
        text.push_str(
            "\nThey bring back on-chain coins. For the money in channels keep their backup, too: see `lightnode backup`.\n\n",
        );
    } else if let Some(channels) = made.channels {
        text.push_str(&format!(
            "The words are restored, and {channels} channels are known. When the node runs, their peers are asked to close\n\
             them, and what that pays comes back on-chain; `lightnode status` shows how far it has come. It may be stopped\n\
             and started meanwhile.\n\n"
        ));
    } else {
        text.push_str(
            "The words are restored. On-chain coins come back with the first sync, and so does what was paid by channels\n\
             that their peers close. With a backup of the channels (--backup FILE) the peers would be asked to.\n\n",
        );
    }
    if made.encrypted {
        text.push_str("The seed is encrypted: after each start, `lightnode unlock` asks for the passphrase.\n\n");
    }
    text.push_str(&format!(
        "network        {}\ndata           {}\nseed           {}\nconfiguration  {}\n\nnext: lightnode run\n",
        made.network, made.data_dir, made.seed_file, made.config_file
    ));
    text
}

/// Numbered, four in a line.
pub(super) fn in_columns(words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut text = String::new();
    for (row, line) in words.chunks(4).enumerate() {
        for (column, word) in line.iter().enumerate() {
            text.push_str(&format!("{:>4}. {word:<10}", row * 4 + column + 1));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn read_words(asks: bool) -> Result<Zeroizing<String>, NodeError> {
    let failed = |error: io::Error| NodeError::new(Code::BadRequest, format!("the words could not be read: {error}"));
    if asks {
        let words = rpassword::prompt_password("The words, with blanks between (they do not show): ");
        return words.map(Zeroizing::new).map_err(failed);
    }
    // A seed has some 200 bytes. What is longer is another file.
    let mut words = Zeroizing::new(String::with_capacity(4096));
    io::stdin().lock().take(4096).read_to_string(&mut words).map_err(failed)?;
    Ok(words)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    struct Memory {
        words: RefCell<Option<String>>,
    }

    impl SeedStore for Memory {
        fn path(&self) -> PathBuf {
            "/data/seed".into()
        }
        fn exists(&self) -> Result<bool, NodeError> {
            Ok(self.words.borrow().is_some())
        }
        fn is_sealed(&self) -> Result<bool, NodeError> {
            Ok(false)
        }
        fn words(&self, _: Option<&str>) -> Result<Zeroizing<String>, NodeError> {
            Ok(Zeroizing::new(self.words.borrow().clone().unwrap()))
        }
        fn change(&self, _: Option<&str>, _: Option<&str>) -> Result<(), NodeError> {
            Ok(())
        }
        fn check_new(&self, _: &str) -> Result<(), NodeError> {
            Ok(())
        }
        fn in_file(&self, _: &Path) -> Result<Zeroizing<String>, NodeError> {
            Ok(Zeroizing::new("passphrase".to_owned()))
        }
        fn create(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, NodeError> {
            self.restore(&"abandon ".repeat(24), passphrase, None)?;
            Ok(Zeroizing::new("abandon ".repeat(24)))
        }
        fn restore(&self, words: &str, _: Option<&str>, _: Option<&Path>) -> Result<usize, NodeError> {
            *self.words.borrow_mut() = Some(words.to_owned());
            Ok(0)
        }
    }

    fn config(dir: &Path) -> Config {
        Config::from_text(&dir.join("lightnode.toml"), "network = \"signet\"", dir).unwrap()
    }

    #[test]
    fn a_second_init_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let seed = Memory { words: RefCell::new(None) };
        let args =
            args::Init { restore: false, backup: None, encrypt: false, given: args::Given::default(), yes: true };
        let output = Output::new(true, false);
        assert_eq!(init(&args, &config, &seed, output).unwrap(), 0);
        let mode = fs::metadata(&config.data_dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "the directory is private");
        assert_eq!(fs::read_to_string(&config.file).unwrap(), example(bitcoin::Network::Signet));
        fs::write(&config.file, "# mine").unwrap();
        let failure = init(&args, &config, &seed, output).unwrap_err();
        assert_eq!(failure.exit, 6);
        assert_eq!(fs::read_to_string(&config.file).unwrap(), "# mine");
        assert_eq!(prepare(&config).unwrap(), fs::canonicalize(&config.file).unwrap());
        assert_eq!(fs::read_to_string(&config.file).unwrap(), "# mine");
    }

    #[test]
    fn words_are_numbered_in_columns() {
        assert_eq!(
            in_columns("one two three four five"),
            "   1. one          2. two          3. three        4. four\n   5. five\n"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut config = config(file.path());
        config.data_dir = file.path().join("data");
        let error = prepare(&config).unwrap_err();
        assert!(error.message.contains(&config.data_dir.display().to_string()), "{error}");
    }
}
