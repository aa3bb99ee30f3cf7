//! What can be wrong with the settings, always with the place and the way out.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::text::clip;

/// Columns of a path, a name or an option that an error shows.
const SHOWN: usize = 160;

/// Where a setting was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file, counted from 1.
    File { path: PathBuf, line: usize },
    /// An environment variable.
    Environment(String),
    /// An option of the command line, as written.
    CommandLine(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {}", clip(name, SHOWN)),
            Origin::CommandLine(option) => write!(f, "option {}", clip(option, SHOWN)),
        }
    }
}

/// Why there is no configuration. All of them are the user's to repair (exit code 2).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: not valid TOML: {message}", path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("{origin}: unknown setting `{key}`")]
    UnknownKey { origin: Origin, key: String, nearest: Option<String> },
    #[error("{origin}: `{key}` must be {expected}, but it is {found}")]
    Value { origin: Origin, key: String, expected: String, found: String },
    #[error("{origin}: {message}")]
    Conflict { origin: Origin, message: String },
    #[error("{}this [[server]] has no url", origin.as_ref().map(|at| format!("{at}: ")).unwrap_or_default())]
    NoUrl { origin: Option<Origin> },
    #[error("there is no home directory to keep the data in")]
    NoHome,
    #[error("no server is configured for {network}, and there are no public ones to begin with")]
    NoServers { network: String, file: PathBuf },
    #[error("the path of the API socket is longer than the 100 bytes that a socket may have: {}", clip(&path.to_string_lossy(), SHOWN))]
    SocketPath { path: PathBuf },
}

impl ConfigError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Unreadable { .. } | ConfigError::Syntax { .. } | ConfigError::Conflict { .. } => None,
            ConfigError::UnknownKey { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            ConfigError::UnknownKey { nearest: None, .. } => {
                Some("config/all.toml of the source shows every setting there is".to_owned())
            }
            ConfigError::Value { .. } => {
                Some("config/all.toml of the source shows every setting with its unit and default".to_owned())
            }
            ConfigError::NoUrl { .. } => Some("give it one: url = \"ssl://host:50002\"".to_owned()),
            ConfigError::NoHome => Some("name a directory with --data-dir or LIGHTNODE_DATA_DIR".to_owned()),
            ConfigError::NoServers { file, .. } => Some(format!(
                "add a [[server]] with url = \"tcp://127.0.0.1:50001\" to {}, or set LIGHTNODE_SERVERS",
                file.display()
            )),
            ConfigError::SocketPath { .. } => Some("set api.socket to a shorter path".to_owned()),
        }
    }
}
