//! Floor 5: the assembly, `Opened → Restored → Synced → Running`, and the façade that the API calls.

pub mod error;
pub mod views;

use error::{Code, NodeError};
use views::*;

type Answer<T> = Result<T, NodeError>;

/// The node as the API sees it. Answers in every state; cheap to clone.
#[derive(Clone)]
pub struct Node {}

impl Node {
    pub async fn status(&self) -> Answer<Status> {
        not_yet()
    }
    pub async fn balance(&self) -> Answer<Balance> {
        not_yet()
    }
    pub async fn new_address(&self) -> Answer<NewAddress> {
        not_yet()
    }
    pub async fn send(&self, _request: SendRequest) -> Answer<Sent> {
        not_yet()
    }
    pub async fn peers(&self) -> Answer<Vec<Peer>> {
        not_yet()
    }
    pub async fn add_peer(&self, _request: AddPeer) -> Answer<Peer> {
        not_yet()
    }
    pub async fn remove_peer(&self, _node_id: String) -> Answer<Done> {
        not_yet()
    }
    pub async fn channels(&self) -> Answer<Vec<Channel>> {
        not_yet()
    }
    pub async fn open_channel(&self, _request: OpenChannel) -> Answer<Opened> {
        not_yet()
    }
    pub async fn close_channel(&self, _channel_id: String, _request: CloseChannel) -> Answer<Closing> {
        not_yet()
    }
    pub async fn receive(&self, _request: Receive) -> Answer<Invoice> {
        not_yet()
    }
    pub async fn decode(&self, _request: Decode) -> Answer<Decoded> {
        not_yet()
    }
    /// Begins the payment if none of this hash is under way, and waits for its outcome.
    pub async fn pay(&self, _request: Pay) -> Answer<Entry> {
        not_yet()
    }
    pub async fn history(&self, _query: HistoryQuery) -> Answer<History> {
        not_yet()
    }
    pub async fn show(&self, _id: String) -> Answer<Entry> {
        not_yet()
    }
    /// The entry, once it is settled or `timeout_secs` are over (then as it stands).
    pub async fn wait(&self, _id: String, _timeout_secs: u32) -> Answer<Entry> {
        not_yet()
    }
    /// Begins the shutdown; the answer goes out before the process ends.
    pub async fn stop(&self) -> Answer<Done> {
        not_yet()
    }
}

fn not_yet<T>() -> Answer<T> {
    Err(NodeError::new(Code::NotReady, "the node is starting"))
}
