//! Decimal numbers of JSON, read without floating point: fee rates are money.

/// Reads a JSON number as an integer of `10^-scale` units, rounding up; `None` when it is negative, no number, or
/// above `u64`. Servers write `0.00001`, `1e-05`, `-1` and, being servers, `1e400` or `NaN`.
pub fn scaled(text: &str, scale: u32) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = 0u128;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        digits = digits.checked_mul(10)?.checked_add(u128::from(byte - b'0'))?;
    }
    if whole.is_empty() || digits == 0 {
        return (digits == 0 && !whole.is_empty()).then_some(0);
    }
    let shift = i64::from(exponent) + i64::from(scale) - i64::try_from(fraction.len()).ok()?;
    let power = |by: i64| u32::try_from(by).ok().and_then(|by| 10u128.checked_pow(by));
    let value = match shift {
        0.. => digits.checked_mul(power(shift)?)?,
        _ => power(-shift).map_or(1, |power| digits.div_ceil(power)),
    };
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly() {
        let cases = [
            ("0.00001", Some(1000)),
            ("1e-05", Some(1000)),
            ("1.5E-5", Some(1500)),
            ("0.00101079", Some(101_079)),
            ("0.000010001", Some(1001)),
            ("2", Some(200_000_000)),
            ("0.0", Some(0)),
            ("0e400", Some(0)),
            ("1e-400", Some(1)),
        ];
        for (text, value) in cases {
            assert_eq!(scaled(text, 8), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for text in ["-1", "NaN", "1e400", "1e99999999999", "", ".", "\"1\"", "null", "Infinity", "0x10", "1.-2"] {
            assert_eq!(scaled(text, 8), None, "{text}");
        }
        assert_eq!(scaled(&"9".repeat(1000), 8), None);
    }
}
