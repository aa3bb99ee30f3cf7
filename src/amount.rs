//! Amounts and fee rates as people write and read them. Inside, amounts are msat; a bare number is sat.
//!
//! Chosen: `k` is thousand sat, `M` million sat, and `m` is refused (million, milli-bitcoin and msat all have a
//! claim to it). A unit takes only the decimals it has, so that no amount is ever rounded.

use std::fmt;
use std::str::FromStr;

/// All the bitcoin there will be, in sat.
pub const MAX_SAT: u64 = 21_000_000 * 100_000_000;
/// The same in msat.
pub const MAX_MSAT: u64 = MAX_SAT * 1000;
/// sat/vB; more is surely a mistake of units. The node's own cap is lower (`fees.max_sat_per_vb`).
pub const MAX_FEERATE: u64 = 10_000;

/// Why a text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    #[error("an amount is a number of sat, or has a unit: 50000, 50k, 1.5M, 0.001btc, 1500msat")]
    Malformed,
    #[error("an amount must be more than zero")]
    Zero,
    #[error("an amount cannot be negative")]
    Negative,
    #[error("there are only 21 million BTC")]
    TooMuch,
    #[error("sat have no decimals; write parts of a sat in msat (1500msat is a sat and a half)")]
    PartOfSat,
    #[error("{unit} has at most {most} decimals, because a sat is not divided there")]
    TooFine { unit: &'static str, most: usize },
    #[error("`m` could be a million or a thousandth; write 1.5M for 1.5 million sat, or msat")]
    Ambiguous,
    #[error("`{0}` is no unit of bitcoin; there are sat, k, M, btc and msat")]
    Unit(String),
    #[error("`all` is not possible here, name an amount")]
    All,
    #[error("on-chain amounts are whole sat")]
    NotWhole,
}

/// More than zero, at most 21 million BTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    msat: u64,
}

impl Amount {
    /// `None` for zero and for more than 21 million BTC.
    pub fn from_msat(msat: u64) -> Option<Self> {
        (1..=MAX_MSAT).contains(&msat).then_some(Self { msat })
    }

    pub fn msat(self) -> u64 {
        self.msat
    }

    /// Whole sat, as the chain knows them.
    pub fn sat(self) -> Result<u64, AmountError> {
        if self.msat % 1000 == 0 { Ok(self.msat / 1000) } else { Err(AmountError::NotWhole) }
    }
}

/// Whole sat, or all that can be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SatOrAll {
    Sat(u64),
    All,
}

impl SatOrAll {
    /// As the API has it: absent is all.
    pub fn sat(self) -> Option<u64> {
        match self {
            SatOrAll::Sat(sat) => Some(sat),
            SatOrAll::All => None,
        }
    }
}

impl FromStr for SatOrAll {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text.trim().eq_ignore_ascii_case("all") {
            return Ok(SatOrAll::All);
        }
        text.parse::<Amount>()?.sat().map(SatOrAll::Sat)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        match parse_msat(text)? {
            0 => Err(AmountError::Zero),
            msat => Ok(Self { msat }),
        }
    }
}

/// A limit in msat, which may be zero.
pub fn parse_limit(text: &str) -> Result<u64, AmountError> {
    parse_msat(text)
}

fn parse_msat(text: &str) -> Result<u64, AmountError> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("all") {
        return Err(AmountError::All);
    }
    if let Some(rest) = text.strip_prefix('-') {
        let number = rest.starts_with(|c: char| c.is_ascii_digit());
        return Err(if number { AmountError::Negative } else { AmountError::Malformed });
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    // The unit, how many msat it has as a power of ten, and how many decimals it takes.
    let (unit, power, most) = match unit {
        "k" | "K" => ("k (thousand sat)", 6, 3),
        "M" => ("M (million sat)", 9, 6),
        "m" => return Err(AmountError::Ambiguous),
        _ => match unit.to_ascii_lowercase().as_str() {
            "" | "sat" | "sats" => ("sat", 3, 0),
            "msat" | "msats" => ("msat", 0, 0),
            "btc" => ("btc", 11, 8),
            _ if number.is_empty() => return Err(AmountError::Malformed),
            _ => return Err(AmountError::Unit(unit.escape_debug().to_string())),
        },
    };
    let (whole, decimals) = match number.split_once('.') {
        Some((whole, decimals)) => (whole, decimals),
        None => (number, ""),
    };
    let whole = if most == 0 { ungroup(whole)? } else { whole.to_owned() };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(&whole) || (number.contains('.') && !digits(decimals)) {
        return Err(AmountError::Malformed);
    }
    if decimals.len() > most {
        let part_of_sat = power == 3;
        return Err(if part_of_sat { AmountError::PartOfSat } else { AmountError::TooFine { unit, most } });
    }
    let zeros = "0".repeat(power - decimals.len());
    let msat: u64 = format!("{whole}{decimals}{zeros}").parse().map_err(|_| AmountError::TooMuch)?;
    if msat > MAX_MSAT { Err(AmountError::TooMuch) } else { Ok(msat) }
}

/// Takes the thousands separators out of whole sat and msat, where a comma cannot be a decimal one.
fn ungroup(whole: &str) -> Result<String, AmountError> {
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let mut rest = groups.peekable();
    if rest.peek().is_some() && !(1..=3).contains(&first.len()) {
        return Err(AmountError::Malformed);
    }
    let mut out = first.to_owned();
    for group in rest {
        if group.len() != 3 {
            return Err(AmountError::Malformed);
        }
        out.push_str(group);
    }
    Ok(out)
}

/// `1234567` is `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `50,000 sat`
pub fn sat(sat: u64) -> String {
    format!("{} sat", grouped(sat))
}

/// In sat where it is whole, else in msat: `50,000 sat`, `1,500 msat`.
pub fn msat(msat: u64) -> String {
    if msat % 1000 == 0 { sat(msat / 1000) } else { format!("{} msat", grouped(msat)) }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&msat(self.msat))
    }
}

/// Why a text is no fee rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeerateError {
    #[error("a fee rate is a number of sat/vB with at most three decimals, as in 12 or 1.5")]
    Malformed,
    #[error("a fee rate must be more than zero")]
    Zero,
    #[error("a fee rate is in sat/vB, and more than {MAX_FEERATE} sat/vB is surely a mistake")]
    TooMuch,
    #[error("fee rates are in sat/vB only; `{0}` is another unit")]
    Unit(String),
}

/// A fee rate in thousandths of a sat/vB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feerate {
    thousandths: u64,
}

impl Feerate {
    pub fn sat_per_vb(self) -> f64 {
        // At most 10,000,000: exact in a double.
        self.thousandths as f64 / 1000.0
    }
}

impl FromStr for Feerate {
    type Err = FeerateError;

    fn from_str(text: &str) -> Result<Self, FeerateError> {
        let text = text.trim();
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = (&text[..end], text[end..].trim());
        if number.is_empty() {
            return Err(FeerateError::Malformed);
        }
        if !unit.is_empty() && !unit.eq_ignore_ascii_case("sat/vb") {
            return Err(FeerateError::Unit(unit.escape_debug().to_string()));
        }
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
            return Err(FeerateError::Malformed);
        }
        let thousandths: u64 = format!("{whole}{decimals:0<3}").parse().map_err(|_| FeerateError::TooMuch)?;
        match thousandths {
            0 => Err(FeerateError::Zero),
            more if more > MAX_FEERATE * 1000 => Err(FeerateError::TooMuch),
            thousandths => Ok(Self { thousandths }),
        }
    }
}

/// `12 sat/vB`, `1.5 sat/vB`
pub fn feerate(sat_per_vb: f64) -> String {
    let rounded = format!("{sat_per_vb:.3}");
    format!("{} sat/vB", rounded.trim_end_matches('0').trim_end_matches('.'))
}

impl fmt::Display for Feerate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&feerate(self.sat_per_vb()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_as_people_write_them() {
        for (text, msat) in [
            ("1", 1000),
            ("50000", 50_000_000),
            ("50,000", 50_000_000),
            ("100sat", 100_000),
            ("100 sats", 100_000),
            ("50k", 50_000_000),
            ("1.5K", 1_500_000),
            ("1.5M", 1_500_000_000),
            ("0.000001M", 1000),
            ("0.001btc", 100_000_000),
            ("0.00000001 BTC", 1000),
            ("1500msat", 1500),
            ("1msat", 1),
            ("21000000btc", MAX_MSAT),
            (" 7 ", 7000),
            ("007", 7000),
        ] {
            assert_eq!(text.parse::<Amount>().map(Amount::msat), Ok(msat), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_the_reason() {
        use AmountError::*;
        for (text, error) in [
            ("", Malformed),
            ("k", Malformed),
            ("abc", Malformed),
            ("1e8", Unit("e8".into())),
            ("+5", Malformed),
            ("0x10", Unit("x10".into())),
            ("1.", Malformed),
            (".5btc", Malformed),
            ("1.2.3", Malformed),
            ("5,00", Malformed),
            ("1234,567", Malformed),
            ("1,5btc", Malformed),
            ("0", Zero),
            ("0msat", Zero),
            ("0.00btc", Zero),
            ("-5", Negative),
            ("-0.1btc", Negative),
            ("-", Malformed),
            ("1.5", PartOfSat),
            ("1.500", PartOfSat),
            ("100.001sat", PartOfSat),
            ("1.5msat", TooFine { unit: "msat", most: 0 }),
            ("0.000000001btc", TooFine { unit: "btc", most: 8 }),
            ("1.0001k", TooFine { unit: "k (thousand sat)", most: 3 }),
            ("1.5m", Ambiguous),
            ("5mbtc", Unit("mbtc".into())),
            ("5usd", Unit("usd".into())),
            ("21000000.00000001btc", TooMuch),
            ("99999999999999999999999", TooMuch),
            ("all", All),
        ] {
            assert_eq!(text.parse::<Amount>(), Err(error), "{text}");
        }
        assert_eq!("1500msat".parse::<SatOrAll>(), Err(NotWhole));
        assert_eq!("All".parse::<SatOrAll>(), Ok(SatOrAll::All));
        assert_eq!("2k".parse::<SatOrAll>(), Ok(SatOrAll::Sat(2000)));
        assert_eq!(parse_limit("0"), Ok(0));
    }

    #[test]
    fn fee_rates_are_sat_per_vb_and_nothing_else() {
        use FeerateError::*;
        for (text, rate, shown) in [
            ("1", 1.0, "1 sat/vB"),
            ("12.5", 12.5, "12.5 sat/vB"),
            ("0.1 sat/vB", 0.1, "0.1 sat/vB"),
            ("100sat/vb", 100.0, "100 sat/vB"),
            ("1.001", 1.001, "1.001 sat/vB"),
        ] {
            let parsed: Feerate = text.parse().unwrap();
            assert!((parsed.sat_per_vb() - rate).abs() < f64::EPSILON, "{text}");
            assert_eq!(parsed.to_string(), shown);
        }
        for (text, error) in [
            ("", Malformed),
            ("fast", Malformed),
            ("-1", Malformed),
            ("1.0001", Malformed),
            ("0", Zero),
            ("0.000", Zero),
            ("10001", TooMuch),
            ("99999999999999999999", TooMuch),
            ("250sat/kw", Unit("sat/kw".into())),
            ("0.0001btc/kb", Unit("btc/kb".into())),
        ] {
            assert_eq!(text.parse::<Feerate>(), Err(error), "{text}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back_as_the_same_amount(msat in 1..=MAX_MSAT) {
            let amount = Amount::from_msat(msat).unwrap();
            prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
        }

        #[test]
        fn whole_sat_read_the_same_in_every_unit(sat in 1..=MAX_SAT) {
            let amount = Amount::from_msat(sat * 1000);
            prop_assert_eq!(format!("{sat}").parse::<Amount>().ok(), amount);
            prop_assert_eq!(format!("{}000msat", sat).parse::<Amount>().ok(), amount);
            prop_assert_eq!(format!("{}.{:03}k", sat / 1000, sat % 1000).parse::<Amount>().ok(), amount);
            prop_assert_eq!(format!("{}.{:06}M", sat / 1_000_000, sat % 1_000_000).parse::<Amount>().ok(), amount);
            let btc = format!("{}.{:08}btc", sat / 100_000_000, sat % 100_000_000);
            prop_assert_eq!(btc.parse::<Amount>().ok(), amount);
        }

        #[test]
        fn no_text_makes_it_panic_or_go_out_of_bounds(text in "[0-9.,a-zA-Z -]{0,24}|\\PC{0,12}") {
            if let Ok(amount) = text.parse::<Amount>() {
                prop_assert!((1..=MAX_MSAT).contains(&amount.msat()));
            }
            if let Ok(rate) = text.parse::<Feerate>() {
                prop_assert!(rate.sat_per_vb() > 0.0 && rate.sat_per_vb() <= 10_000.0);
            }
        }

        #[test]
        fn a_fee_rate_shown_is_read_back(thousandths in 1..=MAX_FEERATE * 1000) {
            let rate = Feerate { thousandths };
            prop_assert_eq!(rate.to_string().parse::<Feerate>(), Ok(rate));
        }
    }
}
