//! `history`, `show`, and the outcome of `pay` and `receive --wait`

use super::layout::{Align, Pairs, Table};
use super::{count, safe, short_id, verbatim};
use crate::amount::{grouped, msat};
use crate::api::types::{Entry, History};
use crate::cli::when::{short, utc};

/// With its sign: what came is `+`, what went is `-`.
fn amount(entry: &Entry) -> String {
    let sign = if entry.direction == "in" { '+' } else { '-' };
    match entry.amount_msat {
        Some(amount) => format!("{sign}{}", msat(amount)),
        None => "open".to_owned(),
    }
}

fn kind(entry: &Entry) -> String {
    safe(&entry.kind).replace('_', " ")
}

pub(in crate::cli) fn history(history: &History, verbose: bool) -> String {
    if history.entries.is_empty() {
        return "nothing yet\n".to_owned();
    }
    let mut table = Table::new(
        &[
            ("UTC", Align::Left),
            ("ID", Align::Left),
            ("WHAT", Align::Left),
            ("AMOUNT", Align::Right),
            ("STATUS", Align::Left),
            ("FOR", Align::Left),
        ],
        verbose,
    );
    for entry in &history.entries {
        table.row(vec![
            short(entry.created_at),
            short_id(&entry.id, verbose),
            kind(entry),
            amount(entry),
            safe(&entry.status),
            entry.description.as_deref().map(safe).unwrap_or_default(),
        ]);
    }
    let mut text = table.draw();
    if history.forwarding_fees_msat > 0 {
        text.push_str(&format!("earned by forwarding: {}\n", msat(history.forwarding_fees_msat)));
    }
    if let Some(next) = &history.next {
        text.push_str(&format!("older: lightnode history --before {}\n", verbatim(next)));
    }
    text
}

pub(in crate::cli) fn entry(entry: &Entry) -> String {
    let mut pairs = Pairs::default();
    pairs.add("what", kind(entry));
    pairs.add("status", safe(&entry.status));
    pairs.add_if("because", entry.reason.as_deref().map(safe));
    pairs.add_if("open until", entry.open_until_height.map(|height| format!("block {}", grouped(u64::from(height)))));
    pairs.add("amount", amount(entry));
    pairs.add_if("fee", entry.fee_msat.map(msat));
    pairs.add_if("for", entry.description.as_deref().filter(|text| !text.is_empty()).map(safe));
    pairs.add("begun", utc(entry.created_at));
    if entry.updated_at != entry.created_at {
        pairs.add("changed", utc(entry.updated_at));
    }
    if entry.attempts > 0 {
        pairs.add("attempts", entry.attempts.to_string());
    }
    let id = if entry.txid.as_ref() == Some(&entry.id) { None } else { Some(verbatim(&entry.id)) };
    pairs.add_if("id", id);
    pairs.add_if("payee", entry.payee.as_deref().map(verbatim));
    pairs.add_if("preimage", entry.preimage.as_deref().map(verbatim));
    pairs.add_if("txid", entry.txid.as_deref().map(verbatim));
    pairs.add_if("block", entry.height.map(|height| grouped(u64::from(height))));
    pairs.add_if("invoice", entry.invoice.as_deref().map(verbatim));
    pairs.draw()
}

/// What became of a payment, for the one who waits for it: what happened, what it means for the money, what to do.
pub(in crate::cli) fn outcome(entry: &Entry) -> String {
    let sum = entry.amount_msat.map_or("an unknown amount".to_owned(), msat);
    let id = verbatim(&entry.id);
    let reason = entry.reason.as_deref().map(|reason| format!(": {}", safe(reason))).unwrap_or_default();
    let got = entry.direction == "in";
    match entry.status.as_str() {
        "succeeded" if got => format!("received {sum}\npayment hash  {id}\n"),
        "succeeded" => {
            let mut text = match entry.already {
                true => format!("paid already, {}: {sum}", utc(entry.updated_at)),
                false => format!("paid {sum}"),
            };
            text.push_str(&entry.fee_msat.map_or(String::new(), |fee| format!(", fee {}", msat(fee))));
            if entry.attempts > 1 {
                text.push_str(&format!(", {}", count(entry.attempts as usize, "attempt")));
            }
            let preimage = entry.preimage.as_deref().map_or("unknown".to_owned(), verbatim);
            format!("{text}\npayment hash  {id}\npreimage      {preimage}\n")
        }
        "expired" => format!("not paid: expired{reason}\n"),
        "failed" if got => format!("not received{reason}\n"),
        "failed" => format!("not paid{reason}\nNo money has left.\n"),
        "pending" if got => format!("not paid yet\nlook again: lightnode show {id}\n"),
        _ => {
            let until = entry.open_until_height.map_or(String::new(), |height| {
                format!(" The outcome can stay open until block {}.", grouped(u64::from(height)))
            });
            format!(
                "not known yet whether {sum} are paid{reason}\n\
                 The payment is still under way and may succeed.{until}\n\
                 Do not pay in another way. Look again: lightnode show {id}\n"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Entry {
        Entry {
            id: "ab".repeat(32),
            kind: "pay".into(),
            direction: "out".into(),
            status: "succeeded".into(),
            amount_msat: Some(50_000_000),
            fee_msat: Some(1500),
            created_at: 1_000_000,
            updated_at: 1_000_060,
            description: Some("coffee \u{202e}".into()),
            payee: Some("03".repeat(33)),
            preimage: Some("ef".repeat(32)),
            invoice: None,
            txid: None,
            height: None,
            attempts: 3,
            reason: None,
            open_until_height: None,
            already: false,
        }
    }

    #[test]
    fn the_history_is_a_table_of_80_columns() {
        let deposit = Entry {
            id: "cd".repeat(32),
            kind: "channel_close".into(),
            direction: "in".into(),
            status: "pending".into(),
            amount_msat: Some(1_234_567_000),
            description: None,
            ..example()
        };
        let wordy = Entry { description: Some("a long description ".repeat(3)), ..example() };
        let page = History {
            entries: vec![example(), deposit, wordy],
            next: Some("cd".repeat(32)),
            forwarding_fees_msat: 1001,
        };
        assert_eq!(
            history(&page, false),
            format!(
                "\
UTC               ID            WHAT                   AMOUNT  STATUS     FOR
1970-01-12 13:46  abababababab  pay               -50,000 sat  succeeded  coffe…
1970-01-12 13:46  cdcdcdcdcdcd  channel close  +1,234,567 sat  pending
1970-01-12 13:46  abababababab  pay               -50,000 sat  succeeded  a lon…
earned by forwarding: 1,001 msat
older: lightnode history --before {}
",
                "cd".repeat(32)
            )
        );
    }

    #[test]
    fn an_entry_shows_everything_it_has() {
        assert_eq!(
            entry(&example()),
            format!(
                "\
what      pay
status    succeeded
amount    -50,000 sat
fee       1,500 msat
for       coffee \\u{{202e}}
begun     1970-01-12 13:46:40 UTC
changed   1970-01-12 13:47:40 UTC
attempts  3
id        {}
payee     {}
preimage  {}
",
                "ab".repeat(32),
                "03".repeat(33),
                "ef".repeat(32)
            )
        );
    }

    #[test]
    fn an_outcome_says_what_it_means_for_the_money() {
        let id = "ab".repeat(32);
        let paid = outcome(&example());
        assert!(paid.starts_with("paid 50,000 sat, fee 1,500 msat, 3 attempts\n"), "{paid}");
        let again = outcome(&Entry { already: true, attempts: 1, ..example() });
        assert!(again.starts_with("paid already, 1970-01-12 13:47:40 UTC: 50,000 sat, fee 1,500 msat\n"), "{again}");
        let failed = Entry { status: "failed".into(), reason: Some("no route".into()), ..example() };
        assert_eq!(outcome(&failed), "not paid: no route\nNo money has left.\n");
        let open = Entry { status: "unknown".into(), open_until_height: Some(812_400), ..example() };
        assert_eq!(
            outcome(&open),
            format!(
                "not known yet whether 50,000 sat are paid\n\
                 The payment is still under way and may succeed. The outcome can stay open until block 812,400.\n\
                 Do not pay in another way. Look again: lightnode show {id}\n"
            )
        );
        let received = Entry { direction: "in".into(), ..example() };
        assert_eq!(outcome(&received), format!("received 50,000 sat\npayment hash  {id}\n"));
    }
}
