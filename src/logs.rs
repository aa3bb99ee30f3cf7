//! Records: levels by module, stderr and a rotating file.
//!
//! Decision: the file is written directly, not through a queue. A line is one `write` into the page cache; a queue
//! would lose the last lines of a crash, which are the ones that count.

use std::fs::DirBuilder;
use std::io::IsTerminal;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as layer};

use crate::text::escape;

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Level by module: `info,lightnode::engine=debug,lightning=warn`.
    pub levels: &'a str,
    /// Also to stderr.
    pub stderr: bool,
    /// Also to `lightnode.<day>.log` in this directory, which is made when it is not there.
    pub dir: Option<&'a Path>,
    /// Days of files to keep.
    pub keep: usize,
}

/// Why nothing is recorded.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The levels make no sense.
    #[error(
        "“{}” is not a list of log levels ({why}). It looks like this: info,lightnode::engine=debug,lightning=warn",
        escape(given)
    )]
    Levels {
        /// As configured.
        given: String,
        /// In the parser's words.
        why: String,
    },
    /// The directory cannot be written.
    #[error("could not write logs to {}: {why}", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        why: String,
    },
    /// Called twice.
    #[error("logs were set up before")]
    Twice,
}

/// Begins to record, for the whole process. To be called once.
pub fn start(settings: &Settings<'_>) -> Result<(), LogError> {
    let stderr =
        settings.stderr.then(|| layer::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()));
    let file = match settings.dir {
        Some(dir) => Some(layer::layer().with_ansi(false).with_writer(appender(dir, settings.keep)?)),
        None => None,
    };
    let both = stderr.map(|layer| layer.boxed()).into_iter().chain(file.map(|layer| layer.boxed()));
    tracing_subscriber::registry()
        .with(both.collect::<Vec<_>>())
        .with(levels(settings.levels)?)
        .try_init()
        .map_err(|_| LogError::Twice)
}

/// Reads a list of levels, so that a configuration can be checked without recording.
pub fn levels(given: &str) -> Result<Targets, LogError> {
    given.parse().map_err(|error: tracing_subscriber::filter::ParseError| LogError::Levels {
        given: given.to_owned(),
        why: error.to_string(),
    })
}

fn appender(dir: &Path, keep: usize) -> Result<RollingFileAppender, LogError> {
    let failed = |why: String| LogError::Dir { dir: dir.to_owned(), why };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed(error.to_string()))?;
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("lightnode")
        .filename_suffix("log")
        .max_log_files(keep.max(1))
        .build(dir)
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_by_module_and_a_wrong_one_is_explained() {
        let targets = levels("info,lightnode::engine=debug,lightning=warn").unwrap();
        assert!(targets.would_enable("lightnode::engine", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("lightnode::source", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("lightning", &tracing::Level::INFO));
        let error = levels("lightnode=loud").unwrap_err().to_string();
        assert!(error.contains("lightnode=loud") && error.contains("lightning=warn"), "{error}");
    }

    #[test]
    fn lines_reach_a_file_of_the_day_in_a_private_directory() {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("logs");
        let mut file = appender(&dir, 3).unwrap();
        file.write_all(b"a line\n").unwrap();
        let entry = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap();
        assert!(entry.file_name().to_str().unwrap().starts_with("lightnode."));
        assert_eq!(std::fs::read_to_string(entry.path()).unwrap(), "a line\n");
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
