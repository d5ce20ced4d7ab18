use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, Unexpected},
    ser::Error as _,
};
use serde_json::value::RawValue;

/// A decimal number with exactly the digits that klikit sent, as a number or as text. It never passes through floating
/// point.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SentDecimal {
    text: Box<str>,
    is_string: bool,
}

impl SentDecimal {
    /// Reads a decimal from a JSON number or a JSON string. Neither may have an exponent.
    pub(super) fn from_raw(raw: &RawValue) -> Option<Self> {
        let raw = raw.get();
        let (text, is_string) = match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(text) => (text, true),
            None => (raw, false),
        };
        is_decimal(text).then(|| Self { text: text.into(), is_string })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the number multiplied by ten to the power of `digits`. `None` if the result is not an integer, or does not
    /// fit an `i128`.
    pub(super) fn scaled(&self, digits: u32) -> Option<i128> {
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

impl fmt::Display for SentDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for SentDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for SentDecimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_raw(&raw).ok_or_else(|| {
            let expected = &"a decimal number without an exponent";
            let found = match raw.get().as_bytes().first() {
                Some(b'"') => Unexpected::Str(""),
                Some(b'{') => Unexpected::Map,
                Some(b'[') => Unexpected::Seq,
                Some(b'n') => Unexpected::Unit,
                Some(b't' | b'f') => Unexpected::Bool(false),
                // A number with an exponent.
                _ => return D::Error::invalid_value(Unexpected::Other("number"), expected),
            };
            D::Error::invalid_type(found, expected)
        })
    }
}

impl Serialize for SentDecimal {
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

    fn decimal(json: &str) -> serde_json::Result<SentDecimal> {
        serde_json::from_str(json)
    }

    #[test]
    fn keeps_digits_as_sent() {
        for json in
            ["67500", "0", "-3", "12.50", "\"12.50\"", "\"-0.00\"", "\"007\"", "123456789012345678901234567890.12"]
        {
            assert_eq!(serde_json::to_string(&decimal(json).unwrap()).unwrap(), json);
        }
        assert_eq!(decimal("\"12.50\"").unwrap().to_string(), "12.50");
    }

    #[test]
    fn rejects_other_values() {
        for json in
            ["null", "true", "[]", "{}", "\"\"", "\"-\"", "\".5\"", "\"5.\"", "\"1e3\"", "1e3", "\"Rp 5\"", "\"1.2.3\""]
        {
            assert!(decimal(json).is_err(), "{json}");
        }
    }

    #[test]
    fn scales_without_rounding() {
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
            assert_eq!(decimal(json).unwrap().scaled(digits), scaled, "{json}, {digits}");
        }
    }
}
