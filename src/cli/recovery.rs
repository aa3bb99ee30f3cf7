//! `recovery abandon`: says what is given up, asks, and ends the wait for a lost channel.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::{Client, ClientError, segment};
use super::exit::{DONE, Effect, Failure};
use super::output::Output;
use super::person;
use super::print::abandoning;
use super::progress::during;
use crate::api::types::{Code, Done, LostChannel, NodeError, Status};

const QUICK: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub enum Recovery {
    /// Waits no longer for a lost channel, whose peer does not close it: the way to end a recovery that cannot end
    Abandon(Abandon),
}

#[derive(Debug, Args)]
pub struct Abandon {
    /// The channel's id, or its first 8 digits or more
    pub channel: String,
    /// Does not ask
    #[arg(long)]
    pub yes: bool,
}

pub(super) async fn abandon(client: &Client, output: Output, args: &Abandon) -> Result<u8, Failure> {
    let failed = |error: ClientError| error.failure(Effect::Harmless);
    if !args.yes {
        if !person::is_there(output) {
            let error = NodeError::new(Code::BadRequest, "a channel is abandoned by a person, and there is none");
            return Err(error.hint("with --yes it is abandoned without asking").into());
        }
        let asking = client.get::<Status>("/v1/status", QUICK);
        let status = during(|| "asking the daemon".to_owned(), asking).await.map_err(failed)?.value;
        let lost = status.recovery.map(|recovery| recovery.channels).unwrap_or_default();
        if let Some(channel) = meant(&lost, &args.channel) {
            output.note(&abandoning(channel));
            if !person::typed()?.eq_ignore_ascii_case("yes") {
                return Err(NodeError::new(Code::Refused, "it is not abandoned, and waited for as before").into());
            }
        }
    }
    let path = format!("/v1/recovery/{}/abandon", segment(&args.channel));
    let nothing = serde_json::json!({});
    let asking = client.post::<Done>(&path, &nothing, QUICK);
    let reply = during(|| "abandoning the channel".to_owned(), asking).await.map_err(failed)?;
    output.reply(&reply, |done| done.done.clone());
    Ok(DONE)
}

/// The one that would be abandoned. The daemon says what is wrong with every other name.
fn meant<'a>(lost: &'a [LostChannel], id: &str) -> Option<&'a LostChannel> {
    let id = id.trim().to_ascii_lowercase();
    lost.iter().find(|channel| channel.channel_id.starts_with(&id) && channel.closing_txid.is_none())
}
