//! `receive`, and the wait for the payment.

use std::time::Duration;

use super::args;
use super::client::{Client, ClientError, Reply, segment};
use super::exit::{self, Effect, Failure};
use super::output::Output;
use super::print;
use super::progress::during;
use super::when::now;
use crate::api::types::{Code, Entry, Invoice, NodeError, Receive};

const QUICK: Duration = Duration::from_secs(30);
/// One wait of many; the daemon answers when it is over.
const ROUND_SECS: u64 = 60;

pub(super) async fn receive(client: &Client, output: Output, args: &args::Receive) -> Result<u8, Failure> {
    let request = Receive {
        amount_msat: args.amount.map(|amount| amount.msat()),
        description: args.message.clone(),
        expiry_secs: args.expiry,
    };
    let harmless = |error: ClientError| error.failure(Effect::Harmless);
    let asking = client.post::<Invoice>("/v1/invoices", &request, QUICK);
    let made = during(|| "making an invoice".to_owned(), asking).await.map_err(harmless)?;
    output.reply(&made, |invoice| print::invoice(invoice, now()));
    if !args.wait {
        return Ok(exit::DONE);
    }
    let hash = &made.value.payment_hash;
    let path = format!("/v1/history/{}/wait?timeout_secs={ROUND_SECS}", segment(hash));
    let settled = async {
        loop {
            let reply: Reply<Entry> = client.get(&path, Duration::from_secs(ROUND_SECS) + QUICK).await?;
            if reply.value.status != "pending" {
                return Ok(reply);
            }
        }
    };
    let reply = tokio::select! {
        reply = during(|| "waiting for the payment".to_owned(), settled) => reply.map_err(harmless)?,
        _ = tokio::signal::ctrl_c() => {
            let error = NodeError::new(Code::Unknown, "no longer waiting; the invoice can still be paid")
                .hint(format!("look at it with `lightnode show {hash}`"));
            return Err(error.into());
        }
    };
    output.reply(&reply, print::outcome);
    Ok(exit::of_entry(&reply.value))
}
