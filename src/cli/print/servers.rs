//! `servers`

use super::layout::{Align, Table};
use super::{count, safe, verbatim};
use crate::amount::grouped;
use crate::api::types::{ChangedKey, ServerDetail, Trusted};
use crate::cli::when::{relative, short, span};

pub(in crate::cli) fn servers(servers: &[ServerDetail], now: u64, verbose: bool) -> String {
    if servers.is_empty() {
        return "no server is configured: add a [[server]] to the configuration\n".to_owned();
    }
    let mut table = Table::new(
        &[
            ("SERVER", Align::Left),
            ("ROLE", Align::Left),
            ("TIP", Align::Right),
            ("HEARD", Align::Right),
            ("SCORE", Align::Right),
            ("TOLD", Align::Left),
        ],
        verbose,
    );
    for server in servers {
        table.row(vec![
            verbatim(&server.address),
            safe(&server.role).replace('_', " "),
            server.tip.map_or("-".to_owned(), |tip| grouped(tip.into())),
            server.heard_at.map_or("never".to_owned(), |at| span(now.saturating_sub(at))),
            server.score.to_string(),
            told(server),
        ]);
        for note in notes(server, now) {
            table.note(&note);
        }
    }
    table.draw()
}

/// Whose scripts it knows.
fn told(server: &ServerDetail) -> String {
    let scripts: Vec<String> = server
        .duties
        .iter()
        .filter(|duty| ["channels", "wallet"].contains(&duty.as_str()))
        .map(|duty| safe(duty))
        .collect();
    match (scripts.is_empty(), server.duties.is_empty()) {
        (false, _) => scripts.join(", "),
        (true, false) => "no scripts".to_owned(),
        (true, true) => "nothing".to_owned(),
    }
}

fn notes(server: &ServerDetail, now: u64) -> Vec<String> {
    let mut about = Vec::new();
    if server.trusted {
        about.push("trusted".to_owned());
    }
    about.extend(server.software.as_deref().map(safe));
    about.extend(server.protocol.as_deref().map(|protocol| format!("protocol {}", safe(protocol))));
    about.extend(server.protection.as_deref().map(protection));
    about.extend(server.latency_ms.map(|ms| format!("{ms} ms")));
    let mut notes = Vec::new();
    if !about.is_empty() {
        notes.push(about.join(" · "));
    }
    if let Some(height) = server.covered.filter(|_| server.watches > 0) {
        notes.push(format!("{} told up to block {}", count(server.watches, "script"), grouped(height.into())));
    }
    if server.degraded > 0 {
        notes.push(format!("does not serve {}", count(server.degraded, "script")));
    }
    if let Some(blocks) = server.behind.filter(|blocks| *blocks > 2 && server.role == "in_use") {
        notes.push(format!("{} blocks behind", grouped(blocks.into())));
    }
    if let Some(fault) = &server.fault {
        notes.push(if server.demoted {
            format!("demoted: {}", safe(fault))
        } else {
            format!("suspect: {}", safe(fault))
        });
    }
    if let Some(changed) = &server.changed_key {
        notes.push("ALARM: it shows another key than the known one; it is not used".to_owned());
        notes.push(format!("known {}", known(changed)));
        notes.push(format!("shown {}", verbatim(&changed.shown)));
        notes.push(vouched(changed).to_owned());
        notes.push(format!("`lightnode servers trust {}` accepts it", host(&server.address)));
    }
    match (&server.ban, &server.trouble) {
        (Some(ban), _) => {
            notes.push(format!("banned until {} UTC: {}", short(ban.until), safe(&ban.reason)));
            notes.push(format!("`lightnode servers forgive {}` lifts the ban", host(&server.address)));
        }
        (None, Some(trouble)) if server.changed_key.is_none() => notes.push(safe(trouble)),
        (None, _) => {}
    }
    if let Some(at) = server.retry_at.filter(|at| server.ban.is_none() && *at > now) {
        notes.push(format!("tried again {}", relative(at, now)));
    }
    notes
}

/// What a person has to compare before a key is accepted.
pub(in crate::cli) fn changed_key(address: &str, changed: &ChangedKey) -> String {
    format!(
        "{} shows another key than the known one. Either its operator has made a new one, or somebody is in between.\n\n\
         known  {}\nshown  {}\n       {}\n\nIf you can, compare what is shown with what its operator says. Accept it? [y/N]",
        verbatim(address),
        known(changed),
        verbatim(&changed.shown),
        vouched(changed)
    )
}

pub(in crate::cli) fn trusted(trusted: &Trusted) -> String {
    let now = if trusted.by_authority { "every certificate that an authority vouches for" } else { "this key" };
    format!("{}: {now} is accepted from now on; the server is tried at once\n", verbatim(&trusted.server))
}

fn known(changed: &ChangedKey) -> String {
    changed.known.as_deref().map_or("any key, in a certificate that an authority vouches for".to_owned(), verbatim)
}

fn vouched(changed: &ChangedKey) -> &'static str {
    if changed.vouched { "an authority vouches for the new one" } else { "the new one is self-signed" }
}

fn protection(word: &str) -> String {
    match word {
        "clear" => "clear text".to_owned(),
        "authority" => "TLS, certificate of an authority".to_owned(),
        "pinned" => "TLS, known key".to_owned(),
        "first_use" => "TLS, new key".to_owned(),
        other => safe(other),
    }
}

/// The host of an address as configured.
fn host(address: &str) -> String {
    let at = address.split_once("://").map_or(address, |(_, at)| at);
    let host = match at.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => at.split([':', '/']).next().unwrap_or(at),
    };
    verbatim(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Ban;

    fn examples() -> Vec<ServerDetail> {
        let used = ServerDetail {
            address: "ssl://a.example:50002".into(),
            role: "in_use".into(),
            duties: ["headers", "broadcasts", "channels"].map(Into::into).into(),
            software: Some("ElectrumX 1.20\x1b[2J".into()),
            protocol: Some("1.4".into()),
            protection: Some("pinned".into()),
            tip: Some(812_345),
            behind: Some(0),
            latency_ms: Some(42),
            heard_at: Some(995),
            watches: 21,
            degraded: 1,
            covered: Some(812_345),
            ..ServerDetail::default()
        };
        let banned = ServerDetail {
            address: "tcp://[2001:db8::1]:50001".into(),
            role: "banned".into(),
            trouble: Some("it sent a forged header".into()),
            retry_at: Some(2_592_000),
            ban: Some(Ban { reason: "it sent a forged header".into(), until: 2_592_000 }),
            ..ServerDetail::default()
        };
        let demoted = ServerDetail {
            role: "in_use".into(),
            address: "tcp://10.0.0.1:50001".into(),
            trusted: true,
            software: None,
            degraded: 0,
            covered: None,
            tip: Some(812_340),
            behind: Some(5),
            score: 10,
            demoted: true,
            fault: Some("it is behind".into()),
            heard_at: Some(999),
            ..used.clone()
        };
        vec![used, banned, ServerDetail { duties: vec!["headers".into()], ..demoted }]
    }

    #[test]
    fn the_table_tells_what_each_server_knows_and_what_speaks_against_it() {
        assert_eq!(
            servers(&examples(), 1_000, false),
            "\
SERVER                     ROLE        TIP      HEARD  SCORE  TOLD
ssl://a.example:50002      in use  812,345  5 seconds      0  channels
  ElectrumX 1.20\\u{1b}[2J · protocol 1.4 · TLS, known key · 42 ms
  21 scripts told up to block 812,345
  does not serve 1 script
tcp://[2001:db8::1]:50001  banned        -      never      0  nothing
  banned until 1970-01-31 00:00 UTC: it sent a forged header
  `lightnode servers forgive 2001:db8::1` lifts the ban
tcp://10.0.0.1:50001       in use  812,340   1 second     10  no scripts
  trusted · protocol 1.4 · TLS, known key · 42 ms
  5 blocks behind
  demoted: it is behind
"
        );
        assert!(servers(&[], 0, false).contains("[[server]]"));
    }

    #[test]
    fn a_changed_key_is_shown_beside_the_known_one_in_full_and_with_the_way_out() {
        let changed = ChangedKey { known: Some("ab".repeat(32)), shown: "cd".repeat(32), vouched: false };
        let server = ServerDetail {
            address: "ssl://a.example:50002".into(),
            role: "unusable".into(),
            trouble: Some("the server's key has changed".into()),
            changed_key: Some(changed.clone()),
            ..ServerDetail::default()
        };
        let drawn = servers(&[server], 0, false);
        for line in [
            "  ALARM: it shows another key than the known one; it is not used\n".to_owned(),
            format!("  known {}\n  shown {}\n  the new one is self-signed\n", "ab".repeat(32), "cd".repeat(32)),
            "  `lightnode servers trust a.example` accepts it\n".to_owned(),
        ] {
            assert!(drawn.contains(&line), "{drawn}");
        }
        let asked = changed_key("ssl://a.example:50002", &ChangedKey { known: None, vouched: true, ..changed });
        assert!(asked.contains("known  any key, in a certificate that an authority vouches for\n"), "{asked}");
        assert!(asked.contains(&format!("shown  {}\n       an authority vouches", "cd".repeat(32))), "{asked}");
    }

    #[test]
    fn a_host_is_what_forgive_wants() {
        for (address, wanted) in
            [("ssl://a.b:1", "a.b"), ("tcp://[::1]:7", "::1"), ("https://e.org/api", "e.org"), ("x", "x")]
        {
            assert_eq!(host(address), wanted);
        }
    }
}
