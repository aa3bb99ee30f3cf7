//! What is wrong with an order before anything is begun. Pure.

use lightning::ln::channel_state::ChannelDetails;
use lightning_invoice::Bolt11Invoice;

use super::PayError;
use crate::ln::decode::{self, MAX_MONEY_MSAT};

/// What the channels that are up can send, in msat, before fees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sendable {
    /// In parts, over all of them.
    pub all_msat: u64,
    /// Over one.
    pub one_msat: u64,
}

/// What channels that are up can send.
pub fn sendable(usable: &[ChannelDetails]) -> Sendable {
    let limits = usable.iter().filter(|channel| channel.is_usable).map(|c| c.next_outbound_htlc_limit_msat);
    limits.fold(Sendable::default(), |sum, limit| Sendable {
        all_msat: sum.all_msat.saturating_add(limit),
        one_msat: sum.one_msat.max(limit),
    })
}

/// The amount to be paid, from what the invoice asks for and what the payer wants; an error in words.
pub(super) fn amount(asked: Option<u64>, given: Option<u64>) -> Result<u64, String> {
    let amount_msat = match (asked, given) {
        (Some(asked), Some(given)) if asked != given => {
            return Err(format!(
                "the invoice asks for {}, not for {}; leave the amount out",
                in_words(asked),
                in_words(given)
            ));
        }
        (Some(amount), _) | (None, Some(amount)) => amount,
        (None, None) => return Err("the invoice leaves the amount to you: say how much to pay".into()),
    };
    match amount_msat {
        0 => Err("the amount is zero".into()),
        too_much if too_much > MAX_MONEY_MSAT => Err("the amount is more than 21 million bitcoin".into()),
        amount => Ok(amount),
    }
}

pub(super) fn check_expiry(invoice: &Bolt11Invoice, now: u64) -> Result<(), PayError> {
    match now.checked_sub(decode::expires_at(invoice)) {
        Some(ago) => Err(PayError::Expired(duration(ago))),
        None => Ok(()),
    }
}

/// Refuses what cannot go through, so that no line of the book is spent on it.
pub(super) fn check_channels(channels: &[ChannelDetails], in_parts: bool, amount_msat: u64) -> Result<(), PayError> {
    if channels.is_empty() {
        return Err(PayError::NotEnough("there is no channel to pay through; open one with `lightnode open`".into()));
    }
    if !channels.iter().any(|channel| channel.is_usable) {
        let away = channels.iter().filter(|channel| channel.is_channel_ready).count();
        return Err(PayError::NoChannelUp(match away {
            0 => "no channel is open yet; `lightnode channels` says what they wait for".into(),
            _ => format!("no channel is up: {away} of {} wait for their peers to connect", channels.len()),
        }));
    }
    let Sendable { all_msat, one_msat } = sendable(channels);
    let (limit, how) = if in_parts { (all_msat, "in all") } else { (one_msat, "in one part, as the invoice wants it") };
    if amount_msat > limit {
        return Err(PayError::NotEnough(format!(
            "{} cannot be sent: at most {} sat can be sent now {how}, before fees",
            in_words(amount_msat),
            limit / 1000
        )));
    }
    Ok(())
}

/// An amount with its unit; msat only where they count.
fn in_words(msat: u64) -> String {
    if msat % 1000 == 0 { format!("{} sat", msat / 1000) } else { format!("{msat} msat") }
}

/// Seconds in the largest unit that fits.
fn duration(secs: u64) -> String {
    let (count, unit) = match secs {
        0..=119 => (secs, "second"),
        120..=7_199 => (secs / 60, "minute"),
        7_200..=172_799 => (secs / 3_600, "hour"),
        _ => (secs / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ln::channels::testing::channel;

    #[test]
    fn the_amount_is_the_invoices_or_else_the_payers() {
        assert_eq!(amount(Some(5_000), None), Ok(5_000));
        assert_eq!(amount(Some(5_000), Some(5_000)), Ok(5_000));
        assert_eq!(amount(None, Some(1)), Ok(1));
        let refused = [
            (amount(None, None), "say how much"),
            (amount(Some(5_000), Some(5_001)), "asks for 5 sat, not for 5001 msat"),
            (amount(None, Some(0)), "zero"),
            (amount(None, Some(MAX_MONEY_MSAT + 1)), "21 million"),
        ];
        for (verdict, reason) in refused {
            let why = verdict.expect_err(reason);
            assert!(why.contains(reason), "{why}");
        }
    }

    fn refused(channels: &[ChannelDetails], in_parts: bool, amount_msat: u64) -> String {
        check_channels(channels, in_parts, amount_msat).expect_err("it should be refused").to_string()
    }

    #[test]
    fn what_the_channels_cannot_carry_is_refused_and_says_what_they_can() {
        let up = [
            channel(7, |c| c.next_outbound_htlc_limit_msat = 30_000),
            channel(8, |c| c.next_outbound_htlc_limit_msat = 20_999),
        ];
        assert!(check_channels(&up, true, 50_999).is_ok());
        assert_eq!(
            refused(&up, true, 51_000),
            "51 sat cannot be sent: at most 50 sat can be sent now in all, before fees"
        );
        assert!(refused(&up, false, 31_000).contains("at most 30 sat can be sent now in one part"));
    }

    #[test]
    fn channels_that_are_not_up_are_told_from_channels_that_are_not_there() {
        assert!(refused(&[], true, 1).contains("no channel to pay through"));
        let away = channel(7, |c| c.is_usable = false);
        assert_eq!(refused(&[away], true, 1), "no channel is up: 1 of 1 wait for their peers to connect");
        let opening = channel(7, |c| (c.is_usable, c.is_channel_ready) = (false, false));
        assert!(refused(&[opening], true, 1).contains("no channel is open yet"));
    }

    #[test]
    fn how_long_ago_is_said_in_one_unit() {
        let said: Vec<String> = [1, 119, 120, 7_200, 172_800].map(duration).to_vec();
        assert_eq!(said, ["1 second", "119 seconds", "2 minutes", "2 hours", "2 days"]);
    }
}
