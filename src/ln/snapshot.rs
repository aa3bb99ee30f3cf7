//! A snapshot of the network (rapid gossip sync, formats 1 and 2), looked over before LDK takes it. Pure.
//!
//! LDK refuses what is of another network, or older than two weeks. Two things it takes:
//! - a snapshot of the future. Updates of channels are taken by their time, so that it would keep every honest one out;
//!   and the next is asked for from that time on;
//! - ten times the channels that there are, at some hundred bytes each, from a file of a few megabytes.

use std::time::Duration;

/// What BOLT 7 allows a timestamp to be ahead.
const AHEAD: Duration = Duration::from_secs(24 * 3600);
/// Mainnet has about 15,000.
const MOST_NODES: u32 = 100_000;
/// Mainnet has about 45,000.
const MOST_CHANNELS: u32 = 200_000;

/// Bits of a node's first byte in format 2 (the key itself needs two).
const HAS_ADDRESSES: u8 = 1 << 2;
/// All of them: features of its own follow; else which of the features in the head.
const FEATURES: u8 = 0b111 << 3;
const HAS_MORE: u8 = 1 << 7;

/// Why a snapshot is not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("it is no snapshot, or ends too early")]
    Broken,
    #[error("it is of the future (or this machine's clock is behind)")]
    Future,
    #[error("it names more nodes than the network can have")]
    Nodes,
    #[error("it names more channels than the network can have")]
    Channels,
}

/// Looks over what a server sent; `now` is the time since 1970.
pub(super) fn look_over(bytes: &[u8], now: Duration) -> Result<(), Unfit> {
    let mut rest = Reader(bytes);
    let version = match rest.take(4)? {
        [b'L', b'D', b'K', version @ (1 | 2)] => *version,
        _ => return Err(Unfit::Broken),
    };
    // The network is LDK's to compare.
    rest.take(32)?;
    if is_future(rest.u32()?, now) {
        return Err(Unfit::Future);
    }
    if version == 2 {
        for _ in 0..rest.u8()? {
            rest.list()?;
        }
    }
    let nodes = rest.u32()?;
    if nodes > MOST_NODES {
        return Err(Unfit::Nodes);
    }
    for _ in 0..nodes {
        let flags = *rest.take(33)?.first().ok_or(Unfit::Broken)?;
        if version == 1 {
            continue;
        }
        if flags & HAS_ADDRESSES != 0 {
            for _ in 0..rest.u8()? {
                let length = rest.u8()?;
                rest.take(length.into())?;
            }
        }
        if flags & FEATURES == FEATURES {
            rest.list()?;
        }
        if flags & HAS_MORE != 0 {
            rest.list()?;
        }
    }
    if rest.u32()? > MOST_CHANNELS {
        return Err(Unfit::Channels);
    }
    Ok(())
}

/// Further ahead than clocks are apart.
pub(super) fn is_future(time: u32, now: Duration) -> bool {
    Duration::from_secs(time.into()) > now + AHEAD
}

/// Big-endian numbers, and lists with a length of two bytes before them.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Unfit> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unfit::Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Unfit> {
        self.take(N)?.try_into().map_err(|_| Unfit::Broken)
    }

    fn u8(&mut self) -> Result<u8, Unfit> {
        self.number().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Unfit> {
        self.number().map(u32::from_be_bytes)
    }

    fn list(&mut self) -> Result<&'a [u8], Unfit> {
        let length = self.number().map(u16::from_be_bytes)?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    /// A head of this format, then these nodes, then so many channels.
    fn snapshot(version: u8, time: u32, nodes: &[Vec<u8>], count: u32, channels: u32) -> Vec<u8> {
        let features: &[u8] = if version == 2 { &[1, 0, 2, 8, 8] } else { &[] };
        let head = [&[b'L', b'D', b'K', version][..], &[7; 32], &time.to_be_bytes(), features].concat();
        [head, count.to_be_bytes().to_vec(), nodes.concat(), channels.to_be_bytes().to_vec()].concat()
    }

    fn node(flags: u8, more: &[u8]) -> Vec<u8> {
        [&[flags | 2][..], &[5; 32], more].concat()
    }

    #[test]
    fn both_formats_are_read_up_to_the_number_of_channels() {
        let plain = [node(0, &[]), node(0, &[])];
        // Addresses of 1 and 3 bytes; features of its own; further data; all of it.
        let rich = [
            node(HAS_ADDRESSES, &[2, 1, 9, 3, 9, 9, 9]),
            node(FEATURES, &[0, 2, 8, 8]),
            node(HAS_MORE, &[0, 1, 9]),
            node(HAS_ADDRESSES | FEATURES | HAS_MORE, &[1, 1, 9, 0, 1, 8, 0, 0]),
            node(1 << 3 | 1 << 6, &[]),
        ];
        let now = 1_800_000_000;
        for (version, nodes) in [(1, &plain[..]), (2, &plain[..]), (2, &rich[..])] {
            let count = nodes.len() as u32;
            let good = snapshot(version, now, nodes, count, MOST_CHANNELS);
            assert_eq!(look_over(&good, NOW), Ok(()));
            assert_eq!(look_over(&snapshot(version, now, nodes, count, MOST_CHANNELS + 1), NOW), Err(Unfit::Channels));
            assert_eq!(look_over(&snapshot(version, now, nodes, MOST_NODES + 1, 0), NOW), Err(Unfit::Nodes));
            for cut in 0..good.len() {
                assert_eq!(look_over(&good[..cut], NOW), Err(Unfit::Broken), "after {cut} bytes");
            }
        }
        assert_eq!(look_over(&snapshot(3, now, &plain, 2, 0), NOW), Err(Unfit::Broken));
        assert_eq!(
            look_over(b"<html></html>, and so on for some time, until there is enough of it", NOW),
            Err(Unfit::Broken)
        );
    }

    #[test]
    fn a_snapshot_may_be_a_day_ahead_and_no_more() {
        let at = |time| look_over(&snapshot(1, time, &[], 0, 0), NOW);
        assert_eq!((at(0), at(1_800_086_400)), (Ok(()), Ok(())));
        assert_eq!((at(1_800_086_401), at(u32::MAX)), (Err(Unfit::Future), Err(Unfit::Future)));
    }
}
