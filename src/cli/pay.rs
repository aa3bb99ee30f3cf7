//! `pay`: waits for the outcome, and never makes a guess of it.

use std::cell::Cell;
use std::time::Duration;

use super::args;
use super::client::{Client, segment};
use super::exit::{self, Effect, Failure};
use super::output::Output;
use super::print;
use super::progress::during;
use crate::amount::msat;
use crate::api::types::{Code, Decode, Decoded, Entry, NodeError, Pay};

const QUICK: Duration = Duration::from_secs(30);
/// The daemon answers when the payment's time is over; so much later it is surely not going to.
const GRACE: Duration = Duration::from_secs(30);
/// How often attempts are looked up for the one who waits.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn pay(
    client: &Client,
    output: Output,
    args: &args::Pay,
    default_timeout: Duration,
) -> Result<u8, Failure> {
    let invoice = args.invoice.trim().to_owned();
    // Whoever waits wants to know for what; and the hash is needed when the wait breaks off.
    let question = Decode { invoice: invoice.clone() };
    let decoded = client.post::<Decoded>("/v1/decode", &question, QUICK).await;
    let decoded = decoded.map_err(|error| error.failure(Effect::Harmless))?.value;
    let hash = decoded.payment_hash;
    let request = Pay {
        invoice,
        amount_msat: args.amount.map(|amount| amount.msat()),
        max_fee_msat: args.max_fee,
        timeout_secs: args.timeout,
    };
    let time = args.timeout.map_or(default_timeout, |secs| Duration::from_secs(u64::from(secs)));
    let sum = request.amount_msat.or(decoded.amount_msat).map(msat).unwrap_or_default();
    // The book counts attempts that have ended; another one is out.
    let ended = Cell::new(0);
    let say = || format!("paying {sum} · attempt {}", ended.get() + 1);
    let outcome = client.post::<Entry>("/v1/payments", &request, time.saturating_add(GRACE));
    let look = async {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Ok(entry) = client.get::<Entry>(&format!("/v1/history/{}", segment(&hash)), QUICK).await {
                ended.set(entry.value.attempts);
            }
        }
    };
    let reply = tokio::select! {
        reply = during(say, outcome) => reply,
        () = look => return Err(interrupted(&hash)),
        _ = tokio::signal::ctrl_c() => return Err(interrupted(&hash)),
    };
    let reply = reply.map_err(|error| {
        let mut failure = error.failure(Effect::Money);
        if failure.exit == exit::UNKNOWN {
            failure.error.hint = Some(format!("do not pay in another way; look at it with `lightnode show {hash}`"));
        }
        failure
    })?;
    let code = exit::of_entry(&reply.value);
    if output.for_people() && code != exit::DONE {
        output.note(print::outcome(&reply.value).trim_end());
    } else {
        output.reply(&reply, print::outcome);
    }
    Ok(code)
}

fn interrupted(hash: &str) -> Failure {
    let error = NodeError::new(Code::Unknown, "no longer waiting; the payment goes on in the daemon")
        .hint(format!("look at it with `lightnode show {hash}`"));
    Failure::new(error, Effect::Money)
}
