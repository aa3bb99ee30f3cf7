//! Times: UTC in ISO form, ages in words.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::macros::format_description;

/// Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `2026-08-01 12:34:56 UTC`
pub(super) fn utc(unix: u64) -> String {
    match moment(unix)
        .and_then(|at| at.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC")).ok())
    {
        Some(text) => text,
        None => format!("{unix} s after 1970"),
    }
}

/// `2026-08-01 12:34`, for tables.
pub(super) fn short(unix: u64) -> String {
    match moment(unix).and_then(|at| at.format(format_description!("[year]-[month]-[day] [hour]:[minute]")).ok()) {
        Some(text) => text,
        None => unix.to_string(),
    }
}

fn moment(unix: u64) -> Option<OffsetDateTime> {
    i64::try_from(unix).ok().and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok())
}

/// `3 minutes`, `2 days`: the largest unit of which there are two, so that the error stays small.
pub(super) fn span(secs: u64) -> String {
    let (number, unit) = match secs {
        0..120 => (secs, "second"),
        120..7200 => (secs / 60, "minute"),
        7200..172_800 => (secs / 3600, "hour"),
        _ => (secs / 86_400, "day"),
    };
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

/// `3 minutes ago`, `in 2 hours`, `now`
pub(super) fn relative(at: u64, now: u64) -> String {
    match at.cmp(&now) {
        std::cmp::Ordering::Equal => "now".to_owned(),
        std::cmp::Ordering::Less => format!("{} ago", span(now - at)),
        std::cmp::Ordering::Greater => format!("in {}", span(at - now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_ages_are_words() {
        assert_eq!(utc(1_785_587_696), "2026-08-01 12:34:56 UTC");
        assert_eq!(short(1_785_587_696), "2026-08-01 12:34");
        assert_eq!(utc(u64::MAX), format!("{} s after 1970", u64::MAX));
        for (secs, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (180, "3 minutes"),
            (7200, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(span(secs), text);
        }
        assert_eq!(relative(100, 220), "2 minutes ago");
        assert_eq!(relative(130, 100), "in 30 seconds");
        assert_eq!(relative(7, 7), "now");
    }
}
