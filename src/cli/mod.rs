//! Floor 7: the command line. Asks the daemon over its socket, and prints for people or for programs.
//!
//! - On a terminal output is for people; otherwise, or with `--json`, it is the API's answer in one line, with `\u…` for
//!   what could command a terminal.
//! - Errors go to stderr: what happened, then what to do. With `--json` they are `{ "code", "message", "hint" }`.
//! - What ends a command is told by the exit code ([`exit`]).

mod args;
mod backup;
mod client;
mod commands;
pub mod db;
mod duration;
pub mod exit;
pub mod init;
mod output;
mod pay;
mod person;
mod print;
mod progress;
mod qr;
mod receive;
mod recovery;
pub mod secret;
mod stop;
#[cfg(test)]
mod tests;
mod trust;
mod when;

pub use args::{Cli, Command, Db, Given, Passphrase, Seed};
pub use commands::{run, unlock};
pub use output::Output;
