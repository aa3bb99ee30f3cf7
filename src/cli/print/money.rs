//! `balance`, `address`, `send`, `receive`, `decode`

use super::layout::Pairs;
use super::{count, safe, short_id, verbatim};
use crate::amount::{feerate, grouped, msat, sat};
use crate::api::types::{Balance, Decoded, Invoice, NewAddress, Sent};
use crate::cli::qr;
use crate::cli::when::{relative, utc};

pub(in crate::cli) fn balance(balance: &Balance, verbose: bool) -> String {
    let mut lines = vec![("Lightning", "can send", balance.lightning_sat, String::new())];
    lines.push(("", "can receive", balance.lightning_inbound_sat, String::new()));
    lines.push(("On-chain", "spendable", balance.onchain_spendable_sat, String::new()));
    lines.push(("", "confirmed", balance.onchain_confirmed_sat, String::new()));
    if balance.onchain_pending_sat > 0 {
        lines.push(("", "unconfirmed", balance.onchain_pending_sat, "counts once it is in a block".into()));
    }
    if balance.onchain_locked_sat > 0 {
        lines.push(("", "locked", balance.onchain_locked_sat, "in fundings that are not confirmed yet".into()));
    }
    if balance.reserve_sat > 0 {
        lines.push(("", "reserve", balance.reserve_sat, "pays for closing a channel by force".into()));
    }
    let ids: Vec<String> = balance.closing.iter().map(|each| short_id(&each.channel_id, verbose)).collect();
    for (index, (each, id)) in balance.closing.iter().zip(&ids).enumerate() {
        let title = if index == 0 { "Closing" } else { "" };
        let mut what = safe(&each.waits_for);
        if let Some(height) = each.claimable_height {
            what.push_str(&format!(" (block {})", grouped(u64::from(height))));
        }
        lines.push((title, id, each.amount_sat, what));
    }
    let label = lines.iter().map(|(_, label, _, _)| label.len()).max().unwrap_or(0);
    let amount = lines.iter().map(|(_, _, amount, _)| grouped(*amount).len()).max().unwrap_or(0);
    let line = |(title, what, number, note): &(&str, &str, u64, String)| {
        let line = format!("{title:<9}  {what:<label$}  {:>amount$} sat  {note}", grouped(*number));
        format!("{}\n", line.trim_end())
    };
    lines.iter().map(line).collect()
}

/// The address, and a QR code for other people's wallets.
pub(in crate::cli) fn address(new: &NewAddress) -> String {
    let mut text = verbatim(&new.address) + "\n";
    if new.reused {
        text.push_str("An older address that was never used: too many are waiting for their first payment.\n");
    }
    // Only bech32 may be written in upper case; all of ours are.
    with_code(text, &format!("BITCOIN:{}", new.address.to_ascii_uppercase()))
}

pub(in crate::cli) fn invoice(invoice: &Invoice, now: u64) -> String {
    let mut pairs = Pairs::default();
    pairs.add("amount", invoice.amount_msat.map_or("the payer chooses".to_owned(), msat));
    if !invoice.description.is_empty() {
        pairs.add("for", safe(&invoice.description));
    }
    pairs.add("expires", format!("{} ({})", relative(invoice.expires_at, now), utc(invoice.expires_at)));
    pairs.add("payment hash", verbatim(&invoice.payment_hash));
    pairs.add_if("warning", invoice.warning.as_deref().map(safe));
    let text = format!("{}\n\n{}", verbatim(&invoice.invoice), pairs.draw());
    with_code(text, &format!("LIGHTNING:{}", invoice.invoice.to_ascii_uppercase()))
}

fn with_code(text: String, content: &str) -> String {
    match qr::draw(content) {
        Some(code) => format!("{text}\n{code}"),
        None => format!("{text}\n(too long for a QR code of 80 columns)\n"),
    }
}

pub(in crate::cli) fn sent(sent: &Sent) -> String {
    format!(
        "sent {}, fee {} ({})\ntxid {}\n",
        sat(sent.amount_sat),
        sat(sent.fee_sat),
        feerate(sent.feerate),
        verbatim(&sent.txid)
    )
}

pub(in crate::cli) fn decoded(decoded: &Decoded, now: u64) -> String {
    let mut pairs = Pairs::default();
    pairs.add("amount", decoded.amount_msat.map_or("the payer chooses".to_owned(), msat));
    pairs.add_if("for", decoded.description.as_deref().filter(|text| !text.is_empty()).map(safe));
    pairs.add_if("hash of what it is for", decoded.description_hash.as_deref().map(verbatim));
    let expiry = if decoded.expired { "expired" } else { "expires" };
    pairs.add(expiry, format!("{} ({})", relative(decoded.expires_at, now), utc(decoded.expires_at)));
    pairs.add("made", utc(decoded.created_at));
    let own = if decoded.own { " (this node)" } else { "" };
    pairs.add("payee", format!("{}{own}", verbatim(&decoded.payee)));
    pairs.add("payment hash", verbatim(&decoded.payment_hash));
    pairs.add("network", safe(&decoded.network));
    pairs.add("last hop", format!("{} blocks", decoded.min_final_cltv_expiry));
    if decoded.route_hints > 0 {
        pairs.add("private ways", count(decoded.route_hints, "route hint"));
    }
    pairs.draw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ClosingBalance;

    #[test]
    fn balances_stand_in_columns() {
        let example = Balance {
            lightning_sat: 500_000,
            lightning_inbound_sat: 1_490_000,
            onchain_spendable_sat: 100_000,
            onchain_confirmed_sat: 125_000,
            onchain_pending_sat: 0,
            onchain_locked_sat: 20_000,
            reserve_sat: 25_000,
            closing: vec![ClosingBalance {
                channel_id: "ab".repeat(32),
                amount_sat: 50_000,
                waits_for: "the delay of 144 blocks".into(),
                claimable_height: Some(812_400),
            }],
        };
        assert_eq!(
            balance(&example, false),
            "\
Lightning  can send        500,000 sat
           can receive   1,490,000 sat
On-chain   spendable       100,000 sat
           confirmed       125,000 sat
           locked           20,000 sat  in fundings that are not confirmed yet
           reserve          25,000 sat  pays for closing a channel by force
Closing    abababababab     50,000 sat  the delay of 144 blocks (block 812,400)
"
        );
    }

    #[test]
    fn an_invoice_for_people_can_be_copied_and_scanned() {
        let example = Invoice {
            invoice: "lnbcrt1".to_owned() + &"q".repeat(280),
            payment_hash: "cd".repeat(32),
            amount_msat: Some(21_000_500),
            description: "two\ncoffees".into(),
            expires_at: 1_003_600,
            warning: Some("no channel can receive this much now".into()),
        };
        let text = invoice(&example, 1_000_000);
        let (words, code) = text.split_once("\n\n\x1b").unwrap();
        assert_eq!(
            words,
            format!(
                "{}\n\namount        21,000,500 msat\nfor           two\\ncoffees\nexpires       in 60 minutes \
                 (1970-01-12 14:46:40 UTC)\npayment hash  {}\nwarning       no channel can receive this much now",
                example.invoice, example.payment_hash
            )
        );
        assert!(code.contains('█'));
    }

    #[test]
    fn an_address_is_printed_whole_above_its_code() {
        let text = address(&NewAddress { address: "bcrt1qexample".into(), reused: true });
        assert!(text.starts_with("bcrt1qexample\nAn older address"), "{text}");
        assert!(text.contains('█'));
    }

    #[test]
    fn a_withdrawal_says_amount_fee_and_txid() {
        let example = Sent { txid: "ef".repeat(32), amount_sat: 200_000, fee_sat: 423, feerate: 3.0 };
        let text = format!("sent 200,000 sat, fee 423 sat (3 sat/vB)\ntxid {}\n", "ef".repeat(32));
        assert_eq!(sent(&example), text);
    }

    #[test]
    fn a_decoded_invoice_tells_everything() {
        let example = Decoded {
            network: "regtest".into(),
            payee: "03".repeat(33),
            payment_hash: "cd".repeat(32),
            amount_msat: None,
            description: Some("tip \x1b]0;owned\x07".into()),
            description_hash: None,
            created_at: 1_000_000,
            expires_at: 1_003_600,
            expired: true,
            min_final_cltv_expiry: 18,
            route_hints: 1,
            own: true,
        };
        assert_eq!(
            decoded(&example, 1_010_800),
            format!(
                "\
amount        the payer chooses
for           tip \\u{{1b}}]0;owned\\u{{7}}
expired       2 hours ago (1970-01-12 14:46:40 UTC)
made          1970-01-12 13:46:40 UTC
payee         {}
              (this node)
payment hash  {}
network       regtest
last hop      18 blocks
private ways  1 route hint
",
                "03".repeat(33),
                "cd".repeat(32)
            )
        );
    }
}
