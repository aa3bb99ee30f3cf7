//! A database that is not as it was written: what that means for the money, and the way back to it.
//!
//! Rules: all pages are looked at before anything of the node begins. Where something is wrong, or what was read makes no
//! sense, nothing is sent to anybody, and the node halts: it answers, says why, and names the commands.
//!
//! Decision: one look at all pages at each start, while the API answers already. Rejected: a look only after an unclean
//! end, for cards also rot in a drawer. Cost: the file is read once more, some 50 MB a second on a small machine; what the
//! restore reads next is in memory then.

use std::path::Path;

use bitcoin::Network;

use super::Node;
use super::error::{Code, NodeError};
use super::hold::Held;
use crate::config::Config;
use crate::store::{DATABASE, MARK_FILE, Store};

/// What it means.
const MEANS: &str = "Nothing was sent to anybody. The coins on chain are safe: the 24 words bring them back. What is in \
                     channels comes back when their peers close them, and a node that is restored from the words and the \
                     backup of the channels asks them to. An older copy of the database is no help: its channel states are \
                     old, and to use one can cost a channel's whole balance";

/// The error of everything, with the way back.
pub(super) fn damaged(config: &Config, what: &str) -> NodeError {
    NodeError::new(Code::Damaged, format!("{what}. {MEANS}")).hint(way_back(config))
}

/// Commands that can be copied.
fn way_back(config: &Config) -> String {
    let mut fresh = config.data_dir.clone().into_os_string();
    fresh.push(".restored");
    let (dir, fresh) = (quoted(&config.data_dir), quoted(Path::new(&fresh)));
    let network = match config.network {
        Network::Bitcoin => String::new(),
        other => format!("--network {other} "),
    };
    let backup = config.backup.path.as_deref().map_or("FILE".to_owned(), quoted);
    format!(
        "stop this node if it runs, and keep {dir} whole. `lightnode {network}--data-dir {dir} db check` says what is damaged. \
         The words, if you do not have them: `lightnode {network}--data-dir {dir} seed show`. A new node from them: `lightnode \
         {network}--data-dir {fresh} init --restore --backup {backup}` (without a backup: no --backup, and ask your peers to \
         close), then `lightnode {network}--data-dir {fresh} run`, with the settings of the old lightnode.toml"
    )
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.+@:".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Refuses to make a new database where there has been one: its mark is there, and it is not.
pub(super) fn refuse_lost(config: &Config, restores: bool) -> Result<(), NodeError> {
    let file = config.data_dir.join(DATABASE);
    let empty = std::fs::metadata(&file).map_or(true, |meta| meta.len() == 0);
    if restores || !empty || !config.data_dir.join(MARK_FILE).exists() {
        return Ok(());
    }
    let what = format!("{} is gone, or empty, and a node has run with it: its mark lies beside it", file.display());
    Err(damaged(config, &what))
}

impl Node {
    /// Looks at all pages. When something is wrong it halts, and returns true when the node is to end.
    pub(super) async fn is_damaged(&self, store: &Store) -> Result<bool, NodeError> {
        let looked = store.clone();
        let Some(why) = self.blocking(move |_| Ok(looked.damage()?)).await? else { return Ok(false) };
        let what = format!("{} is damaged, and was not changed: {why}", store.path().display());
        self.halt_damaged(damaged(self.config(), &what)).await;
        Ok(true)
    }

    /// Says so, does nothing, and returns when the node is to end.
    pub(super) async fn halt_damaged(&self, error: NodeError) {
        let NodeError { message, hint, code } = error;
        let ways_out = hint.unwrap_or_else(|| way_back(self.config()));
        tracing::error!("{message}. {ways_out}");
        self.0.hold.set(Some(Held { why: message, ways_out, code }));
        self.0.tasks.shutdown().wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_made_of_commands_that_a_shell_takes() {
        let config = |text: &str| Config::from_text(Path::new("/x.toml"), text, Path::new("/home/me")).unwrap();
        let plain = config("data_dir = \"/home/me/node\"\n[backup]\npath = \"/media/usb/node.backup\"\n");
        let init = "`lightnode --data-dir /home/me/node.restored init --restore --backup /media/usb/node.backup`";
        assert!(way_back(&plain).contains(init), "{}", way_back(&plain));
        let odd = way_back(&config("network = \"signet\"\ndata_dir = \"/home/me/my node's\"\n"));
        assert!(odd.contains(r"`lightnode --network signet --data-dir '/home/me/my node'\''s' db check`"), "{odd}");
    }
}
