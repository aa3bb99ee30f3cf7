//! A large value that changes little: what is new against the value before. Pure.
//!
//! The channel manager is written with every step of a payment. It is 10 kB or more, of which a step changes a few
//! hundred bytes, adds some and takes some away, so that all that follows is moved and every page of it is another one.
//! A patch names what is taken over from the value before, piece by piece, and brings the rest. Patches follow one
//! another; a zero ends them, and what comes after it does not count.
//!
//! The form of each, numbers in LEB128: length of the result (no patch leads to an empty value) and its SHA-256, then pieces
//! until the result is whole: how many bytes are brought, these bytes, how many are taken over, from where.

use std::borrow::Cow;
use std::collections::HashMap;

use bitcoin::hashes::{Hash, sha256};

/// What is not as long as this in the stored value is brought along.
const BLOCK: usize = 16;

/// What leads from `old` to `new`, which is not empty.
pub(super) fn make(old: &[u8], new: &[u8]) -> Vec<u8> {
    // Where each block of the old value stands; of equal ones, the first.
    let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(old.len() / BLOCK);
    for (number, block) in old.chunks_exact(BLOCK).enumerate() {
        places.entry(block).or_insert(number * BLOCK);
    }
    let mut patch = Vec::new();
    number(&mut patch, new.len());
    patch.extend(sha256::Hash::hash(new).to_byte_array());
    let (mut brought, mut at) = (0, 0);
    while at < new.len() {
        let place = new.get(at..at + BLOCK).and_then(|block| places.get(block));
        let Some(&place) = place else {
            at += 1;
            continue;
        };
        // The blocks of the old value begin every 16 bytes; what is equal may begin before.
        let before = same(old[..place].iter().rev(), new[brought..at].iter().rev());
        let (from, begin) = (place - before, at - before);
        let length = before + same(&old[place..], &new[at..]);
        piece(&mut patch, &new[brought..begin], length, from);
        at = begin + length;
        brought = at;
    }
    if brought < new.len() {
        piece(&mut patch, &new[brought..], 0, 0);
    }
    patch
}

/// What comes after the last patch.
pub(super) const END: u8 = 0;

/// The value that the patches lead to, and how long they are without their end; `None`: they do not belong to `first`, or
/// are damaged.
pub(super) fn apply(first: &[u8], patches: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut value, mut rest, mut sum) = (Cow::Borrowed(first), patches, None);
    loop {
        let before = rest;
        match read_number(&mut rest)? {
            0 => {
                // One hash holds for all: whatever is wrong on the way ends in another value.
                let right = sum.is_none_or(|sum| sha256::Hash::hash(&value).to_byte_array() == sum);
                return right.then(|| (value.into_owned(), patches.len() - before.len()));
            }
            length => {
                let (next, after) = rest.split_first_chunk::<32>()?;
                (sum, rest) = (Some(*next), after);
                value = Cow::Owned(step(&value, &mut rest, length)?);
            }
        }
    }
}

/// The pieces of one patch, until the result has this length.
fn step(old: &[u8], rest: &mut &[u8], length: usize) -> Option<Vec<u8>> {
    let mut new = Vec::new();
    while new.len() < length {
        let brought = read_number(rest)?;
        let (bytes, after) = rest.split_at_checked(brought)?;
        new.extend_from_slice(bytes);
        *rest = after;
        let (taken, from) = (read_number(rest)?, read_number(rest)?);
        if brought == 0 && taken == 0 {
            return None;
        }
        new.extend_from_slice(old.get(from..)?.get(..taken)?);
    }
    (new.len() == length).then_some(new)
}

/// How many items both begin with.
fn same<'a>(a: impl IntoIterator<Item = &'a u8>, b: impl IntoIterator<Item = &'a u8>) -> usize {
    a.into_iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn piece(patch: &mut Vec<u8>, bytes: &[u8], taken: usize, from: usize) {
    number(patch, bytes.len());
    patch.extend_from_slice(bytes);
    number(patch, taken);
    number(patch, from);
}

fn number(patch: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        patch.push(value as u8 | 0x80);
        value >>= 7;
    }
    patch.push(value as u8);
}

fn read_number(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for place in 0..5 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    /// Through one patch, and its end.
    fn through(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
        let patch = make(old, new);
        let (value, length) = apply(old, &[&patch[..], &[END]].concat())?;
        assert_eq!(length, patch.len());
        Some(value)
    }

    #[test]
    fn a_patch_is_about_as_large_as_what_changed_wherever_that_moved_the_rest() {
        let old = noise(20_000, 7);
        let mut new = old.clone();
        new.splice(5_000..5_100, noise(700, 8));
        new.splice(15_000..15_300, []);
        new.splice(100..108, *b"changed!");
        assert_eq!(through(&old, &new), Some(new.clone()));
        let length = make(&old, &new).len();
        assert!((700..850).contains(&length), "{length}");
    }

    #[test]
    fn nearly_nothing_and_everything_can_be_new() {
        for (old, new) in [(vec![], noise(100, 1)), (noise(100, 1), vec![1]), (vec![0; 50], vec![0; 90])] {
            assert_eq!(through(&old, &new), Some(new));
        }
        assert_eq!(apply(b"old", &[END, 1, 2, 3]), Some((b"old".to_vec(), 0)), "no patch at all");
    }

    #[test]
    fn patches_of_another_value_or_with_a_wrong_byte_give_nothing() {
        let (old, mut middle) = (noise(500, 3), noise(500, 3));
        middle.splice(200..210, [1, 2, 3]);
        let mut new = middle.clone();
        new.splice(20..30, [4, 5, 6, 7]);
        let patches = [make(&old, &middle), make(&middle, &new), vec![END]].concat();
        assert_eq!(apply(&noise(500, 4), &patches), None);
        assert_eq!(apply(&[], &patches), None);
        // The sum of the first one is not looked at: what counts is where they lead.
        let first_sum = 2..34;
        for at in (0..patches.len() - 1).filter(|at| !first_sum.contains(at)) {
            let mut wrong = patches.clone();
            wrong[at] ^= 0x10;
            assert_eq!(apply(&old, &wrong), None, "byte {at}");
            assert_eq!(apply(&old, &patches[..at]), None, "{at} bytes");
        }
        let length = patches.len() - 1;
        assert_eq!(
            apply(&old, &[patches, vec![9; 99]].concat()),
            Some((new, length)),
            "what comes after the end counts"
        );
    }

    proptest! {
        #[test]
        fn every_value_is_found_again(
            first in prop::collection::vec(0..4_u8, 1..400),
            edits in prop::collection::vec(
                (any::<prop::sample::Index>(), 0..60_usize, prop::collection::vec(any::<u8>(), 0..60)), 0..6),
        ) {
            let (mut now, mut patches) = (first.clone(), Vec::new());
            for (at, gone, come) in edits {
                let mut new = now.clone();
                let at = at.index(new.len() + 1);
                let end = (at + gone).min(new.len());
                new.splice(at..end, come);
                new.push(7);
                patches.extend(make(&now, &new));
                now = new;
            }
            let length = patches.len();
            patches.push(END);
            prop_assert_eq!(apply(&first, &patches), Some((now, length)));
        }

        #[test]
        fn garbage_is_no_patch(
            old in prop::collection::vec(any::<u8>(), 0..100),
            garbage in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            prop_assert_eq!(apply(&old, &[&[1][..], &garbage].concat()), None);
        }
    }
}
