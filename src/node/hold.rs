//! What must not go on by itself: the node is up, says why, and waits for its owner.
//!
//! Decision: an older copy of the database does not end the process. The API answers (promise P4), every command is
//! refused with the ways out, and a service manager has nothing to restart. A peer's proof that we are behind does end
//! it, at once, because LDK is at work then; the next start begins in recovery without asking: what else the owner
//! could have is a newer copy, and the marks would have told of one on this machine.

use std::sync::{Mutex, PoisonError};

use bitcoin::secp256k1::PublicKey;
use lightning::ln::types::ChannelId;
use tokio::sync::Notify;

use super::error::{Code, NodeError};
use super::views::Done;
use super::{Answer, Node};
use crate::ln::behind::Behind;
use crate::store::{Standing, Store};

/// Where the store keeps that a peer has proven us behind, and in which words.
pub(super) const BEHIND: &str = "recovery.behind";

/// Exit code of a process that ends for safety (design §6).
const REFUSED: i32 = 6;

/// Whether the node waits for its owner, and why.
#[derive(Debug, Default)]
pub(super) struct Hold {
    held: Mutex<Option<Held>>,
    freed: Notify,
}

/// Why it waits, and for what.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) why: String,
    pub(super) ways_out: String,
    /// Of everything that is refused meanwhile.
    pub(super) code: Code,
}

impl Held {
    pub(super) fn refusal(self) -> NodeError {
        NodeError::new(self.code, self.why).hint(self.ways_out)
    }
}

impl Hold {
    pub(super) fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, held: Option<Held>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// What an owner of an older copy can do.
const WAYS_OUT: &str = "if there is a newer copy, stop this node and bring that one, whole. If there is none: \
     `lightnode recover` gives the channels up, has their peers close them and brings the money back on-chain";

/// How to go on with what is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// As it is.
    On,
    /// Its channels are given up, for this reason.
    GiveUp(String),
}

impl Node {
    /// Looks whether the database is the newest of its kind, and waits for its owner if it is not. `None`: the node is
    /// to stop before that.
    pub(super) async fn turn(&self, store: &Store) -> Result<Option<Turn>, NodeError> {
        let (looked, outside) = (store.clone(), self.config().mark_dir.clone());
        let (standing, behind) =
            self.blocking(move |_| Ok((looked.standing(outside.as_deref())?, looked.meta(BEHIND)?))).await?;
        match standing {
            Standing::Older { found, newest, mark } => {
                let why = format!(
                    "this database is an older copy: it is at state {found}, and {} says that {newest} was reached. To go on \
                     with its channels could cost all the money in them, so nothing was sent to any peer, and nothing is",
                    mark.display()
                );
                tracing::error!("{why}. {WAYS_OUT}");
                self.0.hold.set(Some(Held { why, ways_out: WAYS_OUT.into(), code: Code::Refused }));
                tokio::select! {
                    () = self.0.hold.freed.notified() => {}
                    _ = self.0.tasks.shutdown().wait() => return Ok(None),
                }
                self.0.hold.set(None);
                return Ok(Some(Turn::GiveUp(
                    "its database was an older copy, and its owner gave the channels up".into(),
                )));
            }
            Standing::Stranger => tracing::warn!(
                "this database has not run on this machine before. If it was moved here, all is well, as long as it is the \
                 newest copy and the old one never runs again"
            ),
            Standing::New | Standing::Newest => {}
        }
        let behind = behind.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|why| !why.is_empty());
        Ok(Some(behind.map_or(Turn::On, Turn::GiveUp)))
    }

    /// `recover`: the owner of an older copy gives its channels up.
    pub async fn recover(&self) -> Answer<Done> {
        let held = self.0.hold.held();
        if let Some(held) = held.clone().filter(|held| held.code == Code::Damaged) {
            return Err(held.refusal());
        }
        if held.is_none() {
            let nothing = "nothing is to be recovered: the node runs with the newest state that is known";
            return Err(NodeError::new(Code::BadRequest, nothing).hint("`lightnode status` shows how it stands"));
        }
        self.0.hold.freed.notify_one();
        let done = "the channels are given up: their peers are asked to close them, and what that pays is swept to the \
                    wallet. `lightnode status` shows how far it has come";
        Ok(Done { done: done.into() })
    }
}

/// Writes down that a peer has proven us behind, and ends the process before LDK moves.
pub(super) fn behind(store: Store) -> Behind {
    Box::new(move |peer: PublicKey, channel: ChannelId| {
        let why = format!("peer {peer} proved that channel {channel} has gone on since the state that was stored here");
        match store.set_meta(BEHIND, why.as_bytes()) {
            Ok(()) => tracing::error!(
                "{why}. Nothing was broadcast. The process ends; at the next start the channels are given up, and their \
                 peers asked to close them"
            ),
            // The next start comes to the same point, again without having broadcast anything.
            Err(error) => tracing::error!(%error, "{why}. Nothing was broadcast. This could not be written down"),
        }
        std::process::exit(REFUSED)
    })
}
