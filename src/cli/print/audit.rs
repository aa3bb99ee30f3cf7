//! `chain audit`

use super::layout::Pairs;
use super::{count, safe, verbatim};
use crate::amount::grouped;
use crate::api::types::{AuditDisagreement, BlockId, ChainAudit, NoOpinion, Verdict};
use crate::cli::when::relative;

pub(in crate::cli) fn audit(audit: &ChainAudit, now: u64) -> String {
    let mut pairs = Pairs::default();
    let many = audit.disagreements.len();
    pairs.add(
        "second opinion",
        match audit.verdict {
            Verdict::Agrees => "LDK's own engine agrees with what is proven here".to_owned(),
            Verdict::Disagrees => format!("LDK's own engine DISAGREES about {}", count(many, "thing")),
            Verdict::NoOpinion => "none: no server could be asked".to_owned(),
        },
    );
    pairs.add("made", relative(audit.at, now));
    let serves = if audit.serves_us { ", which also serves this node" } else { "" };
    pairs.add_if("server", audit.server.as_deref().map(|server| format!("{}{serves}", verbatim(server))));
    pairs.add(
        "looked for",
        format!("{} transactions and outputs; {} transactions in blocks", audit.watched, audit.compared),
    );
    pairs.add_if("our block", audit.ours.as_ref().map(block));
    pairs.add_if("its block", audit.theirs.as_ref().map(block));
    for NoOpinion { server, why } in &audit.without_opinion {
        pairs.add("no opinion", format!("{}: {}", verbatim(server), safe(why)));
    }
    for AuditDisagreement { txid, ours, theirs, .. } in &audit.disagreements {
        let what =
            txid.as_deref().map_or("the best block".to_owned(), |txid| format!("transaction {}", verbatim(txid)));
        pairs.add("two stories", what);
        pairs.add("  proven here", story(ours.as_ref()));
        pairs.add("  LDK was told", story(theirs.as_ref()));
    }
    if audit.verdict == Verdict::Disagrees {
        pairs.add(
            "what to do",
            "Nothing was done, and your money is where it was: this node goes by proofs. Ask another server \
             (`lightnode chain audit --server URL`). Where that one agrees, the first one is wrong or behind. Where it \
             tells the same other story, the servers of this node may keep something from it: add that one to the \
             configuration.",
        );
    }
    pairs.draw()
}

fn block(block: &BlockId) -> String {
    format!("{} {}", grouped(u64::from(block.height)), verbatim(&block.hash))
}

fn story(block_of: Option<&BlockId>) -> String {
    block_of.map_or("not in a block".to_owned(), |at| format!("in block {}", block(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> ChainAudit {
        ChainAudit {
            at: 1_000_000,
            verdict: Verdict::Agrees,
            server: Some("ssl://a.example:50002".into()),
            serves_us: true,
            watched: 12,
            compared: 7,
            ours: Some(BlockId { height: 812_345, hash: "ab".repeat(32) }),
            theirs: Some(BlockId { height: 812_345, hash: "ab".repeat(32) }),
            disagreements: Vec::new(),
            without_opinion: vec![NoOpinion { server: "tcp://[::1]:1".into(), why: "it\u{1b}[2J refuses".into() }],
        }
    }

    #[test]
    fn agreement_names_the_server_and_what_was_looked_for() {
        let text = audit(&example(), 1_000_060);
        for part in [
            "LDK's own engine agrees",
            "ssl://a.example:50002, which also serves this node",
            "12 transactions and outputs; 7 transactions in blocks",
            "tcp://[::1]:1: it\\u{1b}[2J refuses",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("what to do"), "{text}");
    }

    #[test]
    fn each_disagreement_is_shown_with_both_stories_and_what_to_do() {
        let at = |height| Some(BlockId { height, hash: "cd".repeat(32) });
        let found = |txid: Option<&str>, ours, theirs| AuditDisagreement {
            txid: txid.map(str::to_owned),
            height: Some(5),
            ours,
            theirs,
        };
        let spend = "ef".repeat(32);
        let disagreements = vec![found(Some(&spend), None, at(5)), found(None, at(9), at(8))];
        let text = audit(&ChainAudit { verdict: Verdict::Disagrees, disagreements, ..example() }, 1_000_060);
        for part in
            ["DISAGREES about 2 things", &spend, "not in a block", "in block 5\n", "the best block", "what to do"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
