//! `BroadcasterInterface`.
/// Broadcaster.
#[derive(Debug)]
pub struct Broadcaster {}
impl lightning::chain::chaininterface::BroadcasterInterface for Broadcaster {
    fn broadcast_transactions(&self, _: &[&bitcoin::Transaction]) {}
}
