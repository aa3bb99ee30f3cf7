//! What a value must be. Each parser answers with what it expected, in words that complete "must be …".

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use bitcoin::Network;

use super::read::Value;
use super::{GossipSource, ServerAddr};

type Parsed<T> = Result<T, String>;

pub(super) fn text(value: &Value) -> Parsed<String> {
    match value {
        Value::Text(text) | Value::String(text) => Ok(text.clone()),
        _ => Err("a string in quotes".to_owned()),
    }
}

/// `""` means that there is none.
pub(super) fn optional<T>(parse: impl Fn(&Value) -> Parsed<T>) -> impl Fn(&Value) -> Parsed<Option<T>> {
    move |value| match value {
        Value::Text(text) | Value::String(text) if text.is_empty() => Ok(None),
        other => parse(other).map(Some),
    }
}

pub(super) fn boolean(value: &Value) -> Parsed<bool> {
    match value {
        Value::Boolean(truth) => Ok(*truth),
        Value::Text(text) if text == "true" => Ok(true),
        Value::Text(text) if text == "false" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

/// A whole number inside `range`; `unit` is said in the error.
pub(super) fn whole<T>(range: RangeInclusive<T>, unit: &'static str) -> impl Fn(&Value) -> Parsed<T>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    move |value| {
        let number = match value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.and_then(|number| T::try_from(number).ok()).filter(|number| range.contains(number));
        number.ok_or_else(|| format!("a whole number of {unit} between {} and {}", range.start(), range.end()))
    }
}

/// A percentage with up to four decimals, as parts per million.
pub(super) fn percent(value: &Value) -> Parsed<u32> {
    let number = match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(text) => text.parse::<f64>().ok(),
        _ => None,
    };
    let ppm = number.filter(|number| (0.0..=100.0).contains(number)).map(|number| number * 10_000.0);
    match ppm {
        // Bounded above: at most 1,000,000.
        Some(ppm) if (ppm - ppm.round()).abs() < 1e-6 => Ok(ppm.round() as u32),
        _ => Err("a percentage between 0 and 100 with at most four decimals".to_owned()),
    }
}

/// Whatever `FromStr` accepts; `expected` is said in the error, with the parser's own reason.
pub(super) fn parsed<T>(expected: &'static str) -> impl Fn(&Value) -> Parsed<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    move |value| {
        let text = text(value).map_err(|_| format!("{expected}, in quotes"))?;
        text.parse().map_err(|error| format!("{expected} ({error})"))
    }
}

/// A list in the file; separated by commas elsewhere.
pub(super) fn list<T>(parse: impl Fn(&Value) -> Parsed<T>) -> impl Fn(&Value) -> Parsed<Vec<T>> {
    move |value| match value {
        Value::List(values) => {
            values.iter().map(&parse).collect::<Result<_, _>>().map_err(|each| format!("a list, each entry {each}"))
        }
        Value::Text(text) => text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| parse(&Value::Text(part.to_owned())))
            .collect::<Result<_, _>>()
            .map_err(|each| format!("entries separated by commas, each {each}")),
        _ => Err("a list in brackets".to_owned()),
    }
}

pub(super) fn network(value: &Value) -> Parsed<Network> {
    let expected = || "one of \"bitcoin\", \"testnet\", \"testnet4\", \"signet\", \"regtest\"".to_owned();
    let text = text(value).map_err(|_| expected())?;
    match text.as_str() {
        "bitcoin" | "mainnet" => Ok(Network::Bitcoin),
        "testnet" | "testnet3" => Ok(Network::Testnet),
        "testnet4" => Ok(Network::Testnet4),
        "signet" => Ok(Network::Signet),
        "regtest" => Ok(Network::Regtest),
        _ => Err(expected()),
    }
}

pub(super) fn path(value: &Value) -> Parsed<PathBuf> {
    match text(value)? {
        text if text.is_empty() => Err("a path".to_owned()),
        text => Ok(PathBuf::from(text)),
    }
}

/// At most 32 bytes, as BOLT 7 has it.
pub(super) fn alias(value: &Value) -> Parsed<String> {
    let expected = || "a name of at most 32 bytes without control characters".to_owned();
    let text = text(value).map_err(|_| expected())?;
    if text.len() > 32 || text.chars().any(char::is_control) { Err(expected()) } else { Ok(text) }
}

/// `#rrggbb`
pub(super) fn color(value: &Value) -> Parsed<[u8; 3]> {
    let expected = || "a color like \"#f7931a\"".to_owned();
    let text = text(value).map_err(|_| expected())?;
    let digits = text.strip_prefix('#').ok_or_else(expected)?;
    bytes(digits).ok_or_else(expected)
}

/// The SHA-256 of a public key, as 64 hex digits; colons are allowed.
pub(super) fn pin(value: &Value) -> Parsed<[u8; 32]> {
    let expected = || "the SHA-256 of the server's public key: 64 hex digits".to_owned();
    let text = text(value).map_err(|_| expected())?.replace(':', "");
    bytes(&text).ok_or_else(expected)
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

pub(super) fn gossip(value: &Value) -> Parsed<GossipSource> {
    let expected = || "\"p2p\" or the https:// address of a rapid gossip sync server".to_owned();
    let text = text(value).map_err(|_| expected())?;
    if text == "p2p" {
        return Ok(GossipSource::P2p);
    }
    let host = text.match_indices('/').nth(2).map_or(text.as_str(), |(slash, _)| &text[..slash]);
    let http = host.parse::<ServerAddr>().is_ok_and(|server| server.transport.is_esplora());
    if http && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(GossipSource::Rapid(text.trim_end_matches('/').to_owned()))
    } else {
        Err(expected())
    }
}

/// `info`, or `info,lightnode::ln=debug,lightning=warn`.
pub(super) fn levels(value: &Value) -> Parsed<String> {
    let expected = || {
        "a level (off, error, warn, info, debug, trace), then levels by module, as in \"info,lightnode::ln=debug\""
            .to_owned()
    };
    let text = text(value).map_err(|_| expected())?;
    let level = |name: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&name);
    let module =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte));
    let part = |part: &str| match part.trim().split_once('=') {
        Some((name, at)) => module(name) && level(at),
        None => level(part.trim()),
    };
    if text.split(',').all(part) { Ok(text) } else { Err(expected()) }
}
