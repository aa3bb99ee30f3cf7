//! No line makes the door panic; what `fuzz/harness/wire_line.rs` does for hours, for a moment.

use proptest::prelude::*;

use super::super::replies::{self, read_reply};
use super::super::wire::{Message, parse_line};
use super::*;
use crate::chain::io::Request;

fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/wire_line");
    let files = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
    files.collect()
}

/// Reads a line as everything that it can be; tells how many of these it is.
fn read(line: &[u8]) -> usize {
    let raw = match parse_line(line) {
        Ok(Message::Answer { outcome: Ok(raw), .. }) | Ok(Message::Notification { params: raw, .. }) => raw,
        _ => return 0,
    };
    let txid = bitcoin::Txid::from_raw_hash(bitcoin::hashes::Hash::all_zeros());
    let requests = [
        Request::Headers { start: 0, count: 2016 },
        Request::Subscribe { script: script(1) },
        Request::History { script: script(1) },
        Request::Transaction { txid },
        Request::Proof { txid, height: 123_456 },
    ];
    let others = [
        replies::tip(raw).is_ok(),
        replies::pushed_tip(raw).is_ok(),
        replies::first_of(raw).is_ok(),
        replies::pushed_status(raw).is_ok(),
        replies::rate(raw).is_some(),
        replies::histogram(raw).is_ok(),
        replies::package_errors(raw).is_ok(),
    ];
    let replies = requests.iter().filter(|request| read_reply(request, raw).is_ok()).count();
    replies + others.into_iter().filter(|read| *read).count()
}

#[test]
fn the_corpus_holds_a_line_of_each_kind() {
    assert!(corpus().iter().filter(|line| read(line) > 0).count() >= 12);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        read(&line);
    }

    #[test]
    fn good_lines_with_errors_in_them_are_read_without_panic(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let corpus = corpus();
        let mut line = corpus[which.index(corpus.len())].clone();
        for (at, byte) in changes {
            let at = at.index(line.len());
            line[at] = byte;
        }
        if cut {
            line.truncate(end.index(line.len()));
        }
        read(&line);
    }
}
