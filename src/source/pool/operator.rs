//! Who runs a server, as far as its name and the network in which it was reached tell. Pure.
//!
//! A guess that only orders what is as good otherwise: a wrong one costs some diversity, never a server. Where a name
//! leads is known once it was connected to without a proxy, and remembered; before, and through a proxy, the name alone
//! tells.
//!
//! Decision: the registrable part of a name is taken by rule (the last two labels, three where the last two look like
//! `co.uk`). Rejected: the public suffix list, 250 kB that age, for an ordering. Cost: hosts of one provider's shared
//! domain count as one operator, and a short name under a country (`lu.ke`) with its subdomains as several.

use std::net::IpAddr;

/// Labels under which countries sell names.
const SECOND_LEVEL: [&str; 12] = ["ac", "co", "com", "edu", "gen", "go", "gov", "ne", "net", "or", "org", "gob"];

/// What tells of the hand behind a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    /// The registrable part of its name; an onion address whole. `None` for an IP address.
    name: Option<String>,
    /// Where it is, or was when it was last connected to.
    network: Option<Network>,
}

/// What one customer gets, or a little more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    /// The first two bytes of an IPv4 address.
    V4([u8; 2]),
    /// The first six bytes of an IPv6 address.
    V6([u8; 6]),
}

impl Operator {
    /// Of a host as [`crate::config::ServerAddr::host`] gives it.
    pub(super) fn of(host: &str) -> Self {
        match host.parse() {
            Ok(ip) => Self { name: None, network: Some(Network::of(ip)) },
            Err(_) => Self { name: Some(registrable(host.trim_end_matches('.'))), network: None },
        }
    }

    /// The server was reached there.
    pub(super) fn reached_at(&mut self, peer: IpAddr) {
        self.network = Some(Network::of(peer));
    }

    /// Two servers are likely to be of one hand.
    pub(super) fn is_likely(&self, other: &Self) -> bool {
        let same_name = self.name.is_some() && self.name == other.name;
        same_name || (self.network.is_some() && self.network == other.network)
    }
}

impl Network {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                Self::V4([a, b])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

fn registrable(name: &str) -> String {
    let labels: Vec<&str> = name.split('.').collect();
    let country = |label: &&str| label.len() == 2;
    let keep = match labels[..] {
        [.., second, top] if country(&top) && SECOND_LEVEL.contains(&second) => 3,
        _ => 2,
    };
    labels[labels.len().saturating_sub(keep)..].join(".")
}

/// The name of a server's software without its version, for comparing: `ElectrumX 1.20.0` and `ElectrumX 1.18` are
/// one software, with the same faults.
pub(super) fn family(software: &str) -> String {
    let letters = software.trim_start().chars().take_while(|letter| letter.is_alphabetic()).take(32);
    letters.collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        Operator::of(one).is_likely(&Operator::of(other))
    }

    fn reached(host: &str, peer: &str) -> Operator {
        let mut operator = Operator::of(host);
        operator.reached_at(peer.parse().unwrap());
        operator
    }

    #[test]
    fn one_operator_is_a_network_or_a_registrable_name() {
        for (one, other) in [
            ("203.0.113.7", "203.0.200.1"),
            ("::ffff:203.0.113.7", "203.0.1.1"),
            ("2001:db8:1:2::1", "2001:db8:1:ffff::9"),
            ("electrum.emzy.de", "fulcrum.emzy.de"),
            ("emzy.de", "a.b.emzy.de"),
            ("a.example.co.uk", "b.example.co.uk"),
            ("localhost", "localhost"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("203.0.113.7", "203.1.113.7"),
            ("2001:db8:1::1", "2001:db8:2::1"),
            ("a.example.org", "a.example.net"),
            ("a.co.uk", "b.co.uk"),
            ("abc.onion", "abd.onion"),
            ("10.0.0.1", "emzy.de"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn names_that_lead_into_one_network_are_of_one_hand_once_that_is_known() {
        let one = reached("a.example.org", "203.0.113.7");
        assert!(one.is_likely(&reached("b.example.net", "203.0.200.1")));
        assert!(one.is_likely(&Operator::of("203.0.200.1")) && Operator::of("203.0.200.1").is_likely(&one));
        assert!(!one.is_likely(&reached("b.example.net", "203.1.113.7")));
        assert!(!one.is_likely(&Operator::of("b.example.net")), "nobody knows yet");
        assert!(!Operator::of("a.example.org").is_likely(&Operator::of("b.example.net")));
        assert!(one.is_likely(&reached("b.example.org", "198.51.100.1")), "the name tells still");
        let six = reached("a.example.org", "2001:db8:1:2::1");
        assert!(six.is_likely(&reached("b.example.net", "2001:db8:1:ffff::9")));
        assert!(!six.is_likely(&reached("b.example.net", "2001:db8:2::1")));
        assert!(one.is_likely(&reached("b.example.net", "::ffff:203.0.1.1")));
    }

    #[test]
    fn software_is_compared_without_its_version() {
        assert_eq!(family("ElectrumX 1.20.0"), family("electrumx/1.18"));
        assert_ne!(family("Fulcrum 1.9"), family("ElectrumX 1.9"));
        assert_eq!(family("\u{1b}[2J"), "");
    }
}
