//! The questions of the API, one or several requests each. Each has an absolute deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::DisplayHex;
use bitcoin::{BlockHash, Transaction, Txid};
use hyper::body::Bytes;
use tokio::time::timeout;

use super::super::error::{NoAnswer, SourceError, Trouble};
use super::super::fees::{FeeClaims, TARGETS};
use super::super::rejection::{BroadcastError, classify, one_by_one, taken_as_one};
use super::book::Fetched;
use super::history::History;
use super::http::Http;
use super::replies::{self, MOST_HASH, MOST_PAGE, MOST_RAW, MOST_SMALL};
use crate::chain::io::{Coinbase, Reply, Request, ScriptHash};

/// Confirmed transactions of a page.
const PAGE: usize = 25;
/// Blocks of a page; some servers give more.
const BLOCKS: u32 = 10;
/// Pages of one history; more is a flood, which is not followed.
const MOST_PAGES: u32 = 40;
/// Places in blocks that are looked up for one history; beyond, its order in a block is a guess.
const MOST_PLACES: usize = 64;
/// What each further request of a question may add to its deadline.
const A_PAGE: Duration = Duration::from_secs(2);

impl Http {
    /// The hash of the server's first block.
    pub(super) async fn genesis(&self) -> Result<BlockHash, SourceError> {
        replies::block_hash(&self.get("/block-height/0", MOST_HASH).await?)
    }

    /// The hash of the server's tip.
    pub(super) async fn tip(&self) -> Result<BlockHash, SourceError> {
        replies::block_hash(&self.get("/blocks/tip/hash", MOST_HASH).await?)
    }

    /// The newest headers, ascending.
    pub(super) async fn newest(&self) -> Result<Vec<(u32, Header)>, SourceError> {
        replies::blocks(&self.get("/blocks", MOST_SMALL).await?)
    }

    /// The two newest pages of headers, ascending; one where the chain, or what the server tells, ends earlier.
    pub(super) async fn newer(&self) -> Result<Vec<(u32, Header)>, SourceError> {
        let newest = self.newest().await?;
        let Some((height @ 1.., lowest)) = newest.first() else { return Ok(newest) };
        let mut all = match self.get(&format!("/blocks/{}", height - 1), MOST_SMALL).await {
            Ok(body) => replies::blocks(&body)?,
            Err(SourceError::Refused(_)) => return Ok(newest),
            Err(error) => return Err(error),
        };
        let linked = all.last().is_some_and(|(_, header)| header.block_hash() == lowest.prev_blockhash);
        match linked {
            true => {
                all.extend(newest);
                Ok(all)
            }
            // It reorganised in between.
            false => Ok(newest),
        }
    }

    /// A whole block.
    pub(super) async fn block(&self, hash: BlockHash) -> Result<Bytes, SourceError> {
        self.get(&format!("/block/{hash}/raw"), MOST_RAW).await
    }

    /// What a script has in the mempool.
    pub(super) async fn mempool(&self, script: ScriptHash) -> Result<Vec<replies::Listed>, SourceError> {
        let path = format!("/scripthash/{}/txs/mempool", script.0.as_hex());
        replies::history(&self.get(&path, MOST_PAGE).await?, script)
    }

    /// All of a script's history. `places` are those that are known before.
    pub(super) async fn script(
        &self,
        script: ScriptHash,
        places: BTreeMap<(Txid, u32), u32>,
    ) -> Result<Fetched, SourceError> {
        self.within(MOST_PAGES, self.pages(script, places)).await
    }

    async fn pages(&self, script: ScriptHash, mut places: BTreeMap<(Txid, u32), u32>) -> Result<Fetched, SourceError> {
        let path = format!("/scripthash/{}/txs", script.0.as_hex());
        let mut pages = replies::history(&self.get(&path, MOST_PAGE).await?, script)?;
        let confirmed = |page: &[replies::Listed]| page.iter().filter(|listed| listed.height.is_some()).count();
        let (mut last, mut count) = (confirmed(&pages), 1);
        // A page that is not full is the last one.
        while let Some(oldest) = pages.last().filter(|_| last >= PAGE).map(|listed| (listed.txid, listed.height)) {
            if count == MOST_PAGES {
                return Err(NoAnswer::Malformed("history: more than we follow").into());
            }
            count += 1;
            let page = self.get(&format!("{path}/chain/{}", oldest.0), MOST_PAGE).await?;
            let page = replies::history(&page, script)?;
            last = page.len();
            // The chain moved on between two pages, or the server pads.
            if page.iter().any(|listed| listed.height.is_none() || listed.height > oldest.1) {
                return Err(NoAnswer::Malformed("history: its order").into());
            }
            pages.extend(page);
        }
        let mut proofs = Vec::new();
        for (txid, height) in History::read(&pages, &places).ties().into_iter().take(MOST_PLACES) {
            if let Reply::Proof { branch, pos } = self.proof(txid, height).await? {
                places.insert((txid, height), pos);
                proofs.push((txid, height, branch, pos));
            }
        }
        Ok(Fetched { pages, places, proofs })
    }

    async fn proof(&self, txid: Txid, height: u32) -> Result<Reply, SourceError> {
        replies::proof(&self.get(&format!("/tx/{txid}/merkle-proof"), MOST_SMALL).await?, height)
    }

    async fn transaction(&self, txid: Txid) -> Result<Arc<Transaction>, SourceError> {
        let body = self.get(&format!("/tx/{txid}/raw"), MOST_RAW).await?;
        Ok(Arc::new(replies::transaction(&body)?))
    }

    async fn coinbase(&self, height: u32) -> Result<Reply, SourceError> {
        let hash = replies::block_hash(&self.get(&format!("/block-height/{height}"), MOST_HASH).await?)?;
        let txid = replies::txid(&self.get(&format!("/block/{hash}/txid/0"), MOST_HASH).await?)?;
        match self.proof(txid, height).await? {
            Reply::Proof { branch, pos: 0 } => {
                Ok(Reply::Coinbase(Coinbase { tx: self.transaction(txid).await?, branch }))
            }
            _ => Err(NoAnswer::Malformed("the first transaction is not the first").into()),
        }
    }

    /// The answer to a question of the machine that is not about a script.
    pub(super) async fn answer(&self, request: &Request) -> Result<Reply, SourceError> {
        match *request {
            Request::Headers { start, count } => {
                self.within(count.div_ceil(BLOCKS), self.headers(start, count)).await.map(Reply::Headers)
            }
            Request::Transaction { txid } => self.transaction(txid).await.map(Reply::Transaction),
            Request::Proof { txid, height } => self.proof(txid, height).await,
            Request::Coinbase { height } => self.within(3, self.coinbase(height)).await,
            Request::Subscribe { .. } | Request::History { .. } => {
                Err(NoAnswer::Malformed("a script is followed by the book").into())
            }
        }
    }

    /// Headers upwards, a page at a time. Fewer than asked for when the server's chain ends before.
    async fn headers(&self, start: u32, count: u32) -> Result<Vec<Header>, SourceError> {
        let end = start.saturating_add(count);
        let mut headers = Vec::<Header>::new();
        let mut next = start;
        while next < end {
            let top = next.saturating_add(BLOCKS - 1).min(end - 1);
            let page = match self.get(&format!("/blocks/{top}"), MOST_SMALL).await {
                Ok(body) => replies::blocks(&body)?,
                Err(SourceError::Refused(NoAnswer::Said(_))) if !headers.is_empty() => break,
                Err(error) => return Err(error),
            };
            if page.last().is_none_or(|(height, _)| *height != top) || page[0].0 > next {
                return Err(NoAnswer::Malformed("blocks: not those asked for").into());
            }
            headers.extend(page.into_iter().filter(|(height, _)| *height >= next).map(|(_, header)| header));
            next = top + 1;
        }
        Ok(headers)
    }

    /// A question of several requests, in a time that bounds them together.
    async fn within<T>(
        &self,
        requests: u32,
        question: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let limit = self.limits().request + A_PAGE * requests.min(1000);
        timeout(limit, question).await.unwrap_or_else(|_| Err(Trouble::Deadline(limit).into()))
    }

    pub(super) async fn fee_claims(&self) -> Result<FeeClaims, SourceError> {
        let estimates = replies::estimates(&self.get("/fee-estimates", MOST_SMALL).await?, &TARGETS)?;
        let histogram = match self.get("/mempool", MOST_SMALL).await.and_then(|body| replies::histogram(&body)) {
            Ok(histogram) => histogram,
            Err(SourceError::Refused(why)) => {
                tracing::debug!("no fee histogram: {why}");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        Ok(FeeClaims { estimates, relay: None, histogram })
    }

    pub(super) async fn broadcast(&self, tx: &Transaction) -> Result<(), BroadcastError> {
        match self.post("/tx", serialize_hex(tx), MOST_SMALL).await {
            Ok(body) => Ok(replies::txid(&body).map(drop)?),
            // The node's own words stand in a 400; everything else is about the server.
            Err(SourceError::Refused(NoAnswer::Said(error))) if error.code == Some(400) => {
                classify(error.text.raw()).map_or(Ok(()), |rejection| Err(rejection.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn broadcast_package(&self, txs: &[Transaction]) -> Result<(), BroadcastError> {
        if txs.len() > 1 {
            let body = format!("[\"{}\"]", txs.iter().map(serialize_hex).collect::<Vec<_>>().join("\",\""));
            let answer = self.post("/txs/package", body, MOST_SMALL).await;
            if taken_as_one(answer.and_then(|answer| replies::package_errors(&answer)))? {
                return Ok(());
            }
        }
        one_by_one(txs.iter().map(|tx| self.broadcast(tx))).await
    }
}
