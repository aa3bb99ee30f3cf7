//! The first words: version, network, tip. Sequential; its deadline is that of connecting.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use serde_json::value::RawValue;

use super::super::error::{NoAnswer, ServerError, SourceError, Trouble, Unfit};
use super::super::untrusted::Untrusted;
use super::lines::Wire;
use super::replies;
use super::wire::{Message, parse_line};

/// ElectrumX reads a purely numeric name as a version of the Electrum wallet: so ours has letters.
const CLIENT: &str = concat!("lightnode/", env!("CARGO_PKG_VERSION"));

/// What the server said of itself.
pub(super) struct Greeting {
    pub(super) software: Untrusted,
    pub(super) protocol: Protocol,
    pub(super) tip: (Header, u32),
}

/// A protocol version from 1.4 to 1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Protocol {
    major: u16,
    minor: u16,
    patch: u16,
}

impl Protocol {
    pub(super) const V1_4: Self = Self { major: 1, minor: 4, patch: 0 };
    pub(super) const V1_6: Self = Self { major: 1, minor: 6, patch: 0 };
    const V1_7: Self = Self { major: 1, minor: 7, patch: 0 };

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse::<u16>().ok());
        let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next().unwrap_or(Some(0))? };
        (parts.next().is_none() && (Self::V1_4..Self::V1_7).contains(&version)).then_some(version)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.patch {
            0 => Ok(()),
            patch => write!(f, ".{patch}"),
        }
    }
}

/// Agrees on a version, checks the network, subscribes to the tip.
pub(super) async fn handshake(wire: &mut Wire, genesis: BlockHash) -> Result<Greeting, SourceError> {
    let said = must(call(wire, "server.version", &format!("[\"{CLIENT}\",[\"1.4\",\"1.6\"]]")).await?)?;
    let [software, version] =
        serde_json::from_str::<[String; 2]>(said.get()).map_err(|_| NoAnswer::Malformed("version"))?;
    let protocol = Protocol::read(&version).ok_or_else(|| Unfit::Protocol(Untrusted::new(&version)))?;

    let claimed = match call(wire, "server.features", "[]").await? {
        Ok(features) => replies::genesis(&features),
        Err(_) => None,
    };
    // Some electrs have no features, or none with the genesis: the first header is as good.
    let claimed = match claimed {
        Some(claimed) => claimed,
        None => replies::header_hash(&must(call(wire, "blockchain.block.header", "[0]").await?)?)?,
    };
    if claimed != genesis {
        return Err(Unfit::OtherNetwork(claimed).into());
    }

    let tip = replies::tip(&must(call(wire, "blockchain.headers.subscribe", "[]").await?)?)?;
    Ok(Greeting { software: Untrusted::new(&software), protocol, tip })
}

fn must(outcome: Result<Box<RawValue>, ServerError>) -> Result<Box<RawValue>, SourceError> {
    outcome.map_err(|error| NoAnswer::Said(error).into())
}

/// One question and its answer; what is pushed meanwhile concerns nothing that we subscribed to.
async fn call(wire: &mut Wire, method: &str, params: &str) -> Result<Result<Box<RawValue>, ServerError>, SourceError> {
    let asked = wire.request(method, params);
    wire.out.write().await?;
    loop {
        let line = wire.lines.next().await?;
        match parse_line(&line).map_err(|garbled| Trouble::Garbled(garbled.0))? {
            Message::Answer { id, outcome } if id == asked => return Ok(outcome.map(RawValue::to_owned)),
            Message::Answer { .. } => return Err(Trouble::Garbled("an answer to no question").into()),
            Message::Complaint(error) => return Ok(Err(error)),
            Message::Notification { .. } | Message::Blank => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_protocols_are_spoken() {
        for (text, shown) in [("1.4", "1.4"), ("1.4.3", "1.4.3"), ("1.5", "1.5"), ("1.6", "1.6")] {
            assert_eq!(Protocol::read(text).map(|protocol| protocol.to_string()).as_deref(), Some(shown));
        }
        for text in ["1.3", "1.7", "2.0", "", "1", "1.4.1.1", "1.x", "-1.4"] {
            assert_eq!(Protocol::read(text), None, "{text}");
        }
    }
}
