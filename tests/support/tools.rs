//! Where the real programs are: `scripts/regtest-deps` finds or fetches them, once per test run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// The executables that worlds are made of.
pub(crate) struct Tools {
    pub(crate) bitcoind: PathBuf,
    pub(crate) electrumx: PathBuf,
    /// The last one that answers clients which do not say their version: LDK's own.
    pub(crate) electrumx_old: PathBuf,
}

/// The programs on this machine. A missing one fails the test, with the script's instructions.
pub(crate) fn tools() -> &'static Tools {
    static TOOLS: LazyLock<Tools> = LazyLock::new(find);
    &TOOLS
}

fn find() -> Tools {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/regtest-deps");
    // Its progress goes straight to the terminal: the first run fetches some tens of megabytes.
    let output = Command::new(script).stderr(Stdio::inherit()).output().expect("scripts/regtest-deps runs");
    assert!(output.status.success(), "scripts/regtest-deps found no real bitcoind or ElectrumX; it says why above");
    let text = String::from_utf8(output.stdout).expect("paths are UTF-8 here");
    let value = |key: &str| {
        let quoted = text.lines().find_map(|line| line.strip_prefix(key)).expect("scripts/regtest-deps names all");
        PathBuf::from(unquote(quoted))
    };
    Tools { bitcoind: value("BITCOIND="), electrumx: value("ELECTRUMX="), electrumx_old: value("ELECTRUMX_OLD=") }
}

/// Undoes the backslashes of the shell's `%q`.
fn unquote(quoted: &str) -> String {
    let mut chars = quoted.chars();
    let mut plain = String::new();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}
