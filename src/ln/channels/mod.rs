//! Channels: opening, closing, and how they are shown.
//!
//! - Nothing is promised before it can be paid for: `open` first lets the wallet draft a funding of the same
//!   weight, with the reserve of all anchor channels and of the new one held back.
//! - `open` waits for the peer's signature, at most [`OPEN_WITHIN`]. "Failed" is said only when nothing was or will
//!   be spent.
//! - Words of a peer are escaped before they are shown.

mod accept;
mod list;
mod openings;
#[cfg(test)]
pub(super) mod testing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, WScriptHash, hashes::Hash};
use lightning::ln::channel_state::{ChannelDetails, ChannelShutdownState};
use lightning::ln::types::ChannelId;
use lightning::util::errors::APIError;

use super::types::{ChainMonitor, ChannelManager};
use super::{blocking, words};
use crate::wallet::{SendAmount, Spend, Wallet, WalletError};

pub use self::accept::{AcceptPolicy, Asked, Refusal, Situation, needs_reserve};
pub use self::list::{ChannelView, Standing, pending_htlcs, standing, view};
pub use self::openings::{FundingPlan, GivenUp, Openings, Verdict};

/// How long `open` waits for the peer.
pub const OPEN_WITHIN: Duration = Duration::from_secs(60);
/// How long a write of a channel's state may take before it counts as something else.
const WRITING: Duration = Duration::from_secs(1);
/// Smallest channel that is opened: below, reserves and fees leave nothing to pay with.
pub const MIN_FUNDING_SAT: u64 = 10_000;

/// What is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// A connected peer.
    pub peer: PublicKey,
    /// `None`: all that can be spent.
    pub amount_sat: Option<u64>,
    /// Given to the peer at once.
    pub push_msat: u64,
    /// Announced to the network.
    pub public: bool,
    /// Of the funding transaction.
    pub feerate: FeeRate,
}

/// A channel whose funding is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its id.
    pub channel_id: ChannelId,
    /// Ours, for its whole life.
    pub user_channel_id: u128,
    /// Its output.
    pub funding: OutPoint,
    /// Whole value.
    pub amount_sat: u64,
    /// Needed before it is used.
    pub confirmations_required: Option<u32>,
}

/// Why no channel was opened. Nothing was spent, except as [`OpenError::Unsigned`] says.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An amount that makes no sense.
    #[error("{0}")]
    Amount(String),
    /// The wallet cannot pay for it; what is missing and what is held back.
    #[error("{0}")]
    NotEnough(String),
    /// The wallet refuses, for another reason.
    #[error(transparent)]
    Wallet(WalletError),
    /// Not connected.
    #[error("the peer is not connected")]
    PeerAway,
    /// The peer said no, or broke off.
    #[error("{0}; nothing was spent")]
    Refused(String),
    /// No answer.
    #[error("the peer did not answer within {} seconds; the channel was given up and nothing was spent", OPEN_WITHIN.as_secs())]
    Silent,
    /// No signature, and it may still come.
    #[error(
        "the peer has not signed within {} seconds. Nothing is spent yet; the channel opens if it still signs, and is \
         forgotten when it disconnects. `lightnode channels` shows it", OPEN_WITHIN.as_secs()
    )]
    Unsigned,
    /// LDK refused.
    #[error("the channel was not opened: {0}")]
    Internal(String),
}

/// Why a channel was not closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// No such channel.
    #[error("there is no channel {0}")]
    NotFound(String),
    /// The id begins more than one.
    #[error("more than one channel begins with {0}; give more of its id")]
    Ambiguous(String),
    /// A cooperative close needs the peer.
    #[error("the peer is away, and closing needs its agreement. Wait for it, or use --force: {0}")]
    PeerAway(String),
    /// It is being closed already.
    #[error("the channel is being closed already; it waits for {0}")]
    Already(String),
    /// LDK refused.
    #[error("the channel was not closed: {0}")]
    Refused(String),
}

/// A channel that is being closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Its id.
    pub channel_id: ChannelId,
    /// In words: what happens next, and when the money is back.
    pub next: String,
}

/// Opens, closes and lists.
#[derive(Clone)]
pub struct Channels {
    manager: Arc<ChannelManager>,
    monitors: Arc<ChainMonitor>,
    wallet: Wallet,
    openings: Openings,
    policy: AcceptPolicy,
}

impl Channels {
    /// `openings` are the same as in the event handlers' context.
    pub fn new(
        manager: Arc<ChannelManager>,
        monitors: Arc<ChainMonitor>,
        wallet: Wallet,
        openings: Openings,
        policy: AcceptPolicy,
    ) -> Self {
        Self { manager, monitors, wallet, openings, policy }
    }

    /// Held back on-chain for the channels that there are, in sat.
    pub fn reserve_sat(&self) -> u64 {
        self.policy.reserve_for(anchor_channels(&self.manager.list_channels(), &self.monitors))
    }

    /// All channels, oldest funding first.
    pub fn list(&self, connected: &BTreeSet<PublicKey>) -> Vec<ChannelView> {
        let mut channels = self.manager.list_channels();
        channels.sort_by_key(|c| (c.short_channel_id.unwrap_or(u64::MAX), c.user_channel_id));
        channels.iter().map(|channel| view(channel, connected)).collect()
    }

    /// Opens a channel to a connected peer, and waits for its signature. Dropping the future changes nothing about
    /// it.
    pub async fn open(&self, open: Open) -> Result<Opened, OpenError> {
        let this = self.clone();
        let (user_channel_id, amount_sat, temporary, told) = blocking(move || this.begin(open)).await?;
        let verdict = tokio::time::timeout(OPEN_WITHIN, told).await;
        match verdict {
            Ok(Ok(Verdict::Pending { channel_id, funding })) => {
                let confirmations_required =
                    self.find(&channel_id.to_string()).ok().and_then(|channel| channel.confirmations_required);
                Ok(Opened { channel_id, user_channel_id, funding, amount_sat, confirmations_required })
            }
            Ok(Ok(Verdict::Failed(why))) => Err(OpenError::Refused(why)),
            Ok(Ok(Verdict::Unfunded(why))) => Err(OpenError::NotEnough(why)),
            Ok(Err(_)) => Err(OpenError::Unsigned),
            Err(_elapsed) => match self.openings.give_up(user_channel_id) {
                GivenUp::Unsigned | GivenUp::Settled => Err(OpenError::Unsigned),
                GivenUp::Unfunded => {
                    let this = self.clone();
                    let told = "no answer in time".to_owned();
                    // An error means that LDK has dropped it already.
                    let _gone = blocking(move || {
                        this.manager.force_close_broadcasting_latest_txn(&temporary, &open.peer, told)
                    })
                    .await;
                    Err(OpenError::Silent)
                }
            },
        }
    }

    fn begin(&self, open: Open) -> Result<Begun, OpenError> {
        let anchors = anchor_channels(&self.manager.list_channels(), &self.monitors);
        let keep_back = Amount::from_sat(self.policy.reserve_for(anchors + 1));
        if let Some(amount_sat) = open.amount_sat {
            check_amount(amount_sat, open.push_msat, self.policy.max_sat).map_err(OpenError::Amount)?;
        }
        let amount_sat = self.draft(&open, keep_back)?;
        check_amount(amount_sat, open.push_msat, self.policy.max_sat).map_err(OpenError::Amount)?;

        let user_channel_id = random_user_channel_id().map_err(|e| OpenError::Internal(e.to_string()))?;
        let mut config = self.manager.get_current_config();
        config.channel_handshake_config.announce_for_forwarding = open.public;
        let told = self.openings.begin(user_channel_id, FundingPlan { feerate: open.feerate, keep_back });
        let created =
            self.manager.create_channel(open.peer, amount_sat, open.push_msat, user_channel_id, None, Some(config));
        match created {
            Ok(temporary) => Ok((user_channel_id, amount_sat, temporary, told)),
            Err(error) => {
                self.openings.give_up(user_channel_id);
                Err(match error {
                    APIError::APIMisuseError { err } if err.starts_with("Not connected") => OpenError::PeerAway,
                    other => OpenError::Internal(words::api_error(&other)),
                })
            }
        }
    }

    /// What the channel will hold; an error if the wallet cannot pay for it. The script is not the channel's, which
    /// LDK has yet to make with the peer, but of its size.
    fn draft(&self, open: &Open, keep_back: Amount) -> Result<u64, OpenError> {
        let spend = Spend {
            script: ScriptBuf::new_p2wsh(&WScriptHash::all_zeros()),
            amount: open.amount_sat.map_or(SendAmount::All, SendAmount::Sat),
            feerate: open.feerate,
            keep_back_sat: keep_back.to_sat(),
            coins: Vec::new(),
            force: false,
        };
        match self.wallet.draft(&spend) {
            Ok(draft) => Ok(draft.amount_sat.min(match open.amount_sat {
                Some(_) => u64::MAX,
                None => self.policy.max_sat,
            })),
            Err(error @ WalletError::NotEnough { .. }) => Err(OpenError::NotEnough(error.to_string())),
            Err(other) => Err(OpenError::Wallet(other)),
        }
    }

    /// The channel with this id, or the only one whose id begins so (8 digits at least).
    pub fn find(&self, id: &str) -> Result<ChannelDetails, CloseError> {
        let wanted = id.trim().to_ascii_lowercase();
        let mut found = self.manager.list_channels();
        found.retain(|c| {
            let (channel, user) = (c.channel_id.to_string(), format!("{:032x}", c.user_channel_id));
            wanted.len() >= 8 && (channel.starts_with(&wanted) || user.starts_with(&wanted))
        });
        match (found.pop(), found.len()) {
            (Some(channel), 0) => Ok(channel),
            (Some(_), _) => Err(CloseError::Ambiguous(wanted)),
            (None, _) => Err(CloseError::NotFound(words::foreign(&wanted))),
        }
    }

    /// Closes a channel by agreement with its peer. Blocks.
    pub fn close(&self, id: &str) -> Result<Closing, CloseError> {
        let channel = self.find(id)?;
        let peer = channel.counterparty.node_id;
        if standing(&channel) == Standing::Closing {
            let waits_for = view(&channel, &BTreeSet::from([peer])).waits_for;
            return Err(CloseError::Already(waits_for.unwrap_or_else(|| "the closing transaction".into())));
        }
        // LDK has one refusal for a peer that is away and for a channel whose newest state is just being written.
        let until = Instant::now() + WRITING;
        loop {
            return match self.manager.close_channel(&channel.channel_id, &peer) {
                Ok(()) => Ok(Closing { channel_id: channel.channel_id, next: after_agreement(&channel) }),
                Err(APIError::ChannelUnavailable { err }) if err.contains("peer is disconnected") => {
                    if Instant::now() < until {
                        std::thread::sleep(Duration::from_millis(20));
                        continue;
                    }
                    Err(CloseError::PeerAway(after_force(&channel)))
                }
                Err(error) => Err(CloseError::Refused(words::api_error(&error))),
            };
        }
    }

    /// Closes a channel without its peer, by publishing our last state of it. Blocks.
    pub fn force_close(&self, id: &str) -> Result<Closing, CloseError> {
        let channel = self.find(id)?;
        let told = "closed by its owner".to_owned();
        self.manager
            .force_close_broadcasting_latest_txn(&channel.channel_id, &channel.counterparty.node_id, told)
            .map_err(|error| CloseError::Refused(words::api_error(&error)))?;
        Ok(Closing { channel_id: channel.channel_id, next: after_force(&channel) })
    }
}

/// User channel id, amount, temporary id, and where the verdict arrives.
type Begun = (u128, u64, ChannelId, tokio::sync::oneshot::Receiver<Verdict>);

/// Channels that need a reserve: open and opening ones, and closed ones with something left to claim.
pub fn anchor_channels(channels: &[ChannelDetails], monitors: &ChainMonitor) -> usize {
    // The type of a channel that is being negotiated is not known; we ask for anchors.
    let open = channels.iter().filter(|c| c.channel_type.as_ref().is_none_or(needs_reserve)).count();
    let closed = monitors
        .list_monitors()
        .into_iter()
        .filter(|id| !channels.iter().any(|channel| channel.channel_id == *id))
        .filter_map(|id| monitors.get_monitor(id).ok())
        .filter(|monitor| {
            needs_reserve(&monitor.channel_type_features()) && !monitor.get_claimable_balances().is_empty()
        })
        .count();
    open + closed
}

/// A random id for a channel.
pub fn random_user_channel_id() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_be_bytes(bytes))
}

fn check_amount(amount_sat: u64, push_msat: u64, max_sat: u64) -> Result<(), String> {
    if amount_sat < MIN_FUNDING_SAT {
        return Err(format!("{amount_sat} sat is too little for a channel: at least {MIN_FUNDING_SAT} sat"));
    }
    if amount_sat > max_sat {
        return Err(format!(
            "{amount_sat} sat is more than a channel may hold: at most {max_sat} sat (channels.max_funding_sat)"
        ));
    }
    if push_msat > amount_sat.saturating_mul(1000) {
        return Err(format!("{push_msat} msat cannot be pushed into a channel of {amount_sat} sat"));
    }
    Ok(())
}

fn after_agreement(channel: &ChannelDetails) -> String {
    let pending = pending_htlcs(channel);
    let first = match pending {
        0 => "the closing transaction is agreed on with the peer and sent".to_owned(),
        _ => format!("{pending} payment(s) in flight are settled, then the closing transaction is sent"),
    };
    format!("{first}; 6 confirmations later the money is moved to the wallet")
}

fn after_force(channel: &ChannelDetails) -> String {
    if channel.funding_txo.is_none() || channel.channel_shutdown_state == Some(ChannelShutdownState::ShutdownComplete) {
        return "nothing was in it yet, or its closing transaction is out already".into();
    }
    let delay = channel.force_close_spend_delay.map_or_else(
        || "a delay of up to two weeks".to_owned(),
        |blocks| format!("{blocks} blocks (about {} hours)", u32::from(blocks).div_ceil(6)),
    );
    let pending = match pending_htlcs(channel) {
        0 => String::new(),
        n => format!(" {n} payment(s) in flight are settled on-chain and may take longer."),
    };
    format!(
        "our last state of the channel is published and paid for from the wallet's reserve. Once it is confirmed, our money is \
         locked for {delay}, then moved to the wallet.{pending}"
    )
}
