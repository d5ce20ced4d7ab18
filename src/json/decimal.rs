use std::fmt;

/// The number of digits up to which an integer is written without an exponent.
const MAX_PLAIN: usize = 40;

/// An exact decimal number: significant digits times a power of ten.
///
/// Two decimals are equal if and only if their values are equal. There is one exception: an exponent out of the range of `i64` counts
/// as the nearest `i64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    is_negative: bool,
    /// The digits without zeros at either end. Empty for zero.
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Parses a JSON number. Accepts leading zeros too.
    pub(crate) fn from_number(number: &[u8]) -> Option<Self> {
        let number = str::from_utf8(number).ok()?;
        match number.split_once(['e', 'E']) {
            None => Self::from_plain(number.as_bytes()),
            Some((number, exponent)) => {
                let mut decimal = Self::from_plain(number.as_bytes())?;
                if !decimal.digits.is_empty() {
                    decimal.exponent = decimal.exponent.saturating_add(read_exponent(exponent)?);
                }
                Some(decimal)
            }
        }
    }

    /// Parses a number without an exponent: digits with at most one point between them, and an optional minus sign.
    pub(crate) fn from_plain(number: &[u8]) -> Option<Self> {
        let number = str::from_utf8(number).ok()?;
        let (is_negative, unsigned) = match number.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, number),
        };
        let (whole, fraction) = match unsigned.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (unsigned, None),
        };
        let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !fraction.is_none_or(are_digits) {
            return None;
        }
        let fraction = fraction.unwrap_or_default();
        let all = [whole, fraction].concat();
        let digits = all.trim_end_matches('0');
        let exponent = as_i64(all.len() - digits.len()) - as_i64(fraction.len());
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits: String::new(), exponent: 0 });
        }
        Some(Self { is_negative, digits: digits.into(), exponent })
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.is_negative
    }

    pub(crate) fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    /// Returns the absolute value of an integer. `None` if the number is not an integer, or does not fit a `u128`.
    pub(crate) fn magnitude(&self) -> Option<u128> {
        let zeros = usize::try_from(self.exponent).ok()?;
        if self.digits.len().saturating_add(zeros) > MAX_PLAIN {
            return None;
        }
        let digits = self.digits.bytes().map(|digit| u128::from(digit - b'0'));
        digits
            .chain(std::iter::repeat_n(0, zeros))
            .try_fold(0u128, |number, digit| number.checked_mul(10)?.checked_add(digit))
    }
}

/// Writes equal numbers as equal texts. The length of the text does not depend on the exponent.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negative {
            f.write_str("-")?;
        }
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        f.write_str(&self.digits)?;
        match usize::try_from(self.exponent) {
            Ok(zeros) if self.digits.len().saturating_add(zeros) <= MAX_PLAIN => write!(f, "{:0<zeros$}", ""),
            _ => write!(f, "e{}", self.exponent),
        }
    }
}

fn read_exponent(exponent: &str) -> Option<i64> {
    let (is_negative, digits) = match exponent.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(match (digits.parse::<i64>(), is_negative) {
        (Ok(exponent), false) => exponent,
        (Ok(exponent), true) => -exponent,
        (Err(_), false) => i64::MAX,
        (Err(_), true) => i64::MIN,
    })
}

/// Converts a length in memory, which always fits.
fn as_i64(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: &str) -> String {
        Decimal::from_number(number.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn equal_numbers_have_one_name() {
        for (expected, numbers) in [
            ("42", &["42", "42.0", "4.2e1", "4.2E+01", "420e-1", "042", "0.00042e5"][..]),
            ("0", &["0", "-0", "0.0", "-0.00", "0e400", "-0e-99999999999999999999"]),
            ("-7", &["-7", "-7.0", "-0.7e1"]),
            ("45e-1", &["4.5", "4.50", "45e-1", "0.045e2"]),
            ("1e400", &["1e400", "10e399", "0.1e401"]),
            ("9007199254740993", &["9007199254740993", "9007199254740993.0"]),
            ("18446744073709551616", &["18446744073709551616"]),
        ] {
            for number in numbers {
                assert_eq!(name(number), expected, "{number}");
                assert_eq!(Decimal::from_number(number.as_bytes()), Decimal::from_number(numbers[0].as_bytes()));
            }
        }
    }

    #[test]
    fn huge_exponents_stay_short() {
        for (number, exponent) in [("1e999999999", "999999999"), ("-1e99999999999999999999", "9223372036854775807")] {
            assert_eq!(name(number).trim_start_matches('-'), format!("1e{exponent}"));
        }
        assert_eq!(name("12e-99999999999999999999"), "12e-9223372036854775808");
        assert_eq!(name("0.5e-9223372036854775808"), "5e-9223372036854775808");
    }

    #[test]
    fn rejects_texts_that_are_not_numbers() {
        for text in
            ["", "-", ".5", "5.", "1.2.3", "+1", " 1", "1 ", "0x1", "--1", "1e", "e1", "1e+", "1e1.5", "1e1e1", "Rp 5"]
        {
            assert_eq!(Decimal::from_number(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Decimal::from_plain(b"4.2e1"), None);
        assert_eq!(Decimal::from_plain(b"\xff"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Integers are the oracle: the test moves the decimal point of an integer and moves it back with an exponent.
        #[test]
        fn moved_point_changes_nothing(number: i64, point in 0..19usize, zeros in 0..3usize) {
            let digits = format!("{:020}", number.unsigned_abs());
            let (whole, fraction) = digits.split_at(digits.len() - point);
            let sign = if number < 0 { "-" } else { "" };
            let moved = format!("{sign}{whole}.{fraction}0{}e{point}", "0".repeat(zeros));
            prop_assert_eq!(name(&moved), number.to_string());
        }

        #[test]
        fn different_numbers_have_different_names(one in -100i32..100, other in -100i32..100) {
            // Quarters are exact in binary and in decimal.
            let name = |quarters: i32| name(&format!("{:?}", f64::from(quarters) / 4.0));
            prop_assert_eq!(name(one) == name(other), one == other);
        }
    }
}
