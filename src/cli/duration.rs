//! Spans of time as people write them: `90`, `90s`, `10m`, `2h`, `7d`.

/// Seconds of a span of at most a year.
pub(super) fn parse_secs(text: &str) -> Result<u32, String> {
    const MOST: u64 = 366 * 24 * 3600;
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit.trim_start() {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err("a span of time is a number of seconds, or has a unit: 90s, 10m, 2h, 7d".to_owned()),
    };
    let secs = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match secs {
        Some(0) => Err("a span of time must be more than zero".to_owned()),
        Some(secs) if secs <= MOST => u32::try_from(secs).map_err(|error| error.to_string()),
        _ if number.is_empty() => {
            Err("a span of time is a number of seconds, or has a unit: 90s, 10m, 2h, 7d".to_owned())
        }
        _ => Err("a span of time can be a year at most".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        for (text, secs) in [("90", 90), ("1s", 1), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("5 min", 300)] {
            assert_eq!(parse_secs(text), Ok(secs), "{text}");
        }
        for text in ["", "m", "-5", "1.5h", "1y", "0", "0s", "400d", "99999999999999999999"] {
            assert!(parse_secs(text).is_err(), "{text}");
        }
    }
}
