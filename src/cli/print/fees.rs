//! `fees`

use super::layout::{Align, Table};
use super::{safe, verbatim};
use crate::api::types::{FeeSource, FeeTarget, Fees};
use crate::cli::when::span;

pub(in crate::cli) fn fees(fees: &Fees, verbose: bool) -> String {
    let mut table = Table::new(&[("WITHIN", Align::Left), ("SAT/VB", Align::Right), ("FROM", Align::Left)], verbose);
    for target in &fees.targets {
        table.row(vec![within(target), rate(target.sat_per_vb), safe(&target.from)]);
    }
    let mut text = table.draw();
    let limits = &fees.limits;
    let heard = fees.age_secs.map_or("No server ever gave an estimate.".to_owned(), |age| {
        format!("The last estimate came {} ago.", span(age))
    });
    text.push_str(&format!(
        "\n{heard} Never below {} nor above {} sat/vB;\nwithin an hour at most {} times as much, or as little.\n",
        limits.min_sat_per_vb, limits.max_sat_per_vb, limits.max_factor_per_hour
    ));
    if !fees.sources.is_empty() {
        text.push('\n');
        text.push_str(&sources(fees, verbose));
    }
    text
}

fn sources(fees: &Fees, verbose: bool) -> String {
    let targets: Vec<u16> = fees.targets.iter().filter(|target| !target.urgent).map(|target| target.blocks).collect();
    let names: Vec<String> = targets.iter().map(|blocks| format!("{blocks}B")).collect();
    let mut head = vec![("SERVER", Align::Left), ("AGO", Align::Right)];
    head.extend(names.iter().map(|name| (name.as_str(), Align::Right)));
    head.extend([("NEXT", Align::Right), ("RELAY", Align::Right)]);
    let mut table = Table::new(&head, verbose);
    for source in &fees.sources {
        let at = source.server.split_once("://").map_or(source.server.as_str(), |(_, at)| at);
        let mut row = vec![verbatim(at), brief(source.age_secs)];
        row.extend(targets.iter().map(|blocks| optional(estimate(source, *blocks))));
        row.extend([optional(source.next_block_sat_per_vb), optional(source.relay_sat_per_vb)]);
        table.row(row);
        if let Some(trouble) = &source.trouble {
            table.note(&safe(trouble));
        }
    }
    table.draw()
}

fn within(target: &FeeTarget) -> String {
    match (target.urgent, target.blocks) {
        (true, _) => "urgent".to_owned(),
        (false, 144) => "144 blocks, a day".to_owned(),
        (false, 1008) => "1008 blocks, a week".to_owned(),
        (false, blocks) => format!("{blocks} blocks"),
    }
}

/// An age in few columns.
fn brief(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs}s"),
        120..7200 => format!("{}m", secs / 60),
        _ => format!("{}h", secs / 3600),
    }
}

fn estimate(source: &FeeSource, blocks: u16) -> Option<f64> {
    source.estimates.iter().find(|estimate| estimate.blocks == blocks).map(|estimate| estimate.sat_per_vb)
}

fn optional(sat_per_vb: Option<f64>) -> String {
    sat_per_vb.map_or("-".to_owned(), rate)
}

fn rate(sat_per_vb: f64) -> String {
    format!("{sat_per_vb:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{FeeEstimate, FeeLimits};

    #[test]
    fn rates_are_shown_with_where_they_come_from_and_each_servers_last_word() {
        let target =
            |blocks, urgent, sat_per_vb, from: &str| FeeTarget { blocks, urgent, sat_per_vb, from: from.into() };
        let said = FeeSource {
            server: "ssl://a.example:50002".into(),
            at: 0,
            age_secs: 61,
            estimates: vec![
                FeeEstimate { blocks: 2, sat_per_vb: 12.345 },
                FeeEstimate { blocks: 144, sat_per_vb: 2.0 },
            ],
            next_block_sat_per_vb: Some(30.0),
            relay_sat_per_vb: Some(1.0),
            trouble: None,
        };
        let silent = FeeSource {
            server: "tcp://[::1]:50001".into(),
            age_secs: 5,
            estimates: Vec::new(),
            next_block_sat_per_vb: None,
            relay_sat_per_vb: None,
            trouble: Some("the server closed\x1b the connection".into()),
            ..said.clone()
        };
        let view = Fees {
            targets: vec![
                target(6, true, 12.345, "1 server"),
                target(2, false, 30.0, "1 server"),
                target(144, false, 2.0, "1 server"),
            ],
            at: Some(0),
            age_secs: Some(61),
            limits: FeeLimits {
                min_sat_per_vb: 1,
                max_sat_per_vb: 500,
                fallback_sat_per_vb: 10,
                max_factor_per_hour: 4,
            },
            sources: vec![said, silent],
        };
        assert_eq!(
            fees(&view, false),
            "\
WITHIN             SAT/VB  FROM
urgent               12.3  1 server
2 blocks             30.0  1 server
144 blocks, a day     2.0  1 server

The last estimate came 61 seconds ago. Never below 1 nor above 500 sat/vB;
within an hour at most 4 times as much, or as little.

SERVER           AGO    2B  144B  NEXT  RELAY
a.example:50002  61s  12.3   2.0  30.0    1.0
[::1]:50001       5s     -     -     -      -
  the server closed\\u{1b} the connection
"
        );
        let nothing = Fees { at: None, age_secs: None, sources: Vec::new(), ..view };
        assert!(fees(&nothing, false).contains("No server ever gave an estimate."));
    }
}
