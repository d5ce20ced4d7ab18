//! Amounts of money.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::value::RawValue;

/// An amount with exactly the digits that klikit sent. It never passes through floating point.
///
/// klikit sends some amounts as integers, some as decimal numbers and some as decimal strings. It does not document whether an integer
/// counts whole units or the smallest units of the currency: check the currency, and a `…_display` field next to the amount. An amount
/// that was sent as a string is serialized as a string.
///
/// `Money` can be read and written only with `serde_json`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Money {
    text: Box<str>,
    is_string: bool,
}

impl Money {
    /// Reads an amount from a JSON number or a JSON string. Neither may have an exponent.
    pub(super) fn from_raw(raw: &RawValue) -> Option<Self> {
        let raw = raw.get();
        let (text, is_string) = match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(text) => (text, true),
            None => (raw, false),
        };
        is_decimal(text).then(|| Self { text: text.into(), is_string })
    }

    /// Returns the digits as sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the amount multiplied by ten to the power of `digits`: with 2, an amount in cents. `None` if the result is not an
    /// integer, or does not fit an `i128`.
    ///
    /// ```
    /// use tower_klikit::payload::Money;
    ///
    /// let money: Money = serde_json::from_str(r#""1234.5""#)?;
    /// assert_eq!(money.scaled(2), Some(123_450));
    /// assert_eq!(money.scaled(0), None);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn scaled(&self, digits: u32) -> Option<i128> {
        let (is_negative, unsigned) = match self.text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, &*self.text),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let fraction = fraction.trim_end_matches('0');
        let missing = digits.checked_sub(u32::try_from(fraction.len()).ok()?)?;
        let digits = whole.bytes().chain(fraction.bytes());
        let amount = digits
            .map(|digit| i128::from(digit - b'0'))
            .try_fold(0i128, |amount, digit| amount.checked_mul(10)?.checked_add(digit))?;
        let amount = if amount == 0 { 0 } else { amount.checked_mul(10i128.checked_pow(missing)?)? };
        Some(if is_negative { -amount } else { amount })
    }
}

/// Returns whether the text consists of digits with at most one point between them, and an optional minus sign.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match unsigned.split_once('.') {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(unsigned),
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Money({})", self.text)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_raw(&raw).ok_or_else(|| D::Error::custom("expected a decimal number, or a string that holds one"))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_string {
            return serializer.serialize_str(&self.text);
        }
        // `text` was read as a JSON number, so it is valid JSON.
        let raw: &RawValue = serde_json::from_str(&self.text).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(json: &str) -> serde_json::Result<Money> {
        serde_json::from_str(json)
    }

    #[test]
    fn keeps_digits_as_sent() {
        for json in
            ["67500", "0", "-3", "12.50", "\"12.50\"", "\"-0.00\"", "\"007\"", "123456789012345678901234567890.12"]
        {
            assert_eq!(serde_json::to_string(&money(json).unwrap()).unwrap(), json);
        }
        assert_eq!(money("\"12.50\"").unwrap().to_string(), "12.50");
    }

    #[test]
    fn rejects_other_values() {
        for json in
            ["null", "true", "[]", "{}", "\"\"", "\"-\"", "\".5\"", "\"5.\"", "\"1e3\"", "1e3", "\"Rp 5\"", "\"1.2.3\""]
        {
            assert!(money(json).is_err(), "{json}");
        }
    }

    #[test]
    fn amounts_scale_without_rounding() {
        for (json, digits, scaled) in [
            ("67500", 0, Some(67_500)),
            ("67500", 2, Some(6_750_000)),
            ("\"12.50\"", 2, Some(1250)),
            ("\"12.50\"", 1, Some(125)),
            ("12.5", 0, None),
            ("-0.25", 2, Some(-25)),
            ("0", 1000, Some(0)),
            ("1", 1000, None),
            ("170141183460469231731687303715884105727", 0, Some(i128::MAX)),
            ("170141183460469231731687303715884105728", 0, None),
        ] {
            assert_eq!(money(json).unwrap().scaled(digits), scaled, "{json}, {digits}");
        }
    }
}
