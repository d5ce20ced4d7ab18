//! Amounts of money.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::sent_decimal::SentDecimal;

/// An amount with exactly the digits that klikit sent. It never passes through floating point.
///
/// klikit sends some amounts as integers, some as decimal numbers and some as decimal strings. It does not document whether an integer
/// counts whole units or the smallest units of the currency: check the currency, and a `…_display` field next to the amount. An amount
/// that was sent as a string is serialized as a string. `Display` and `Debug` write the digits alone.
///
/// `Money` can be read and written only with `serde_json`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(SentDecimal);

impl Money {
    pub(super) fn from_raw(raw: &RawValue) -> Option<Self> {
        SentDecimal::from_raw(raw).map(Self)
    }

    /// Returns the digits as sent.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
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
        self.0.scaled(digits)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_plainly() {
        let total: Option<Money> = serde_json::from_str("\"12.50\"").unwrap();
        assert_eq!(format!("{:?} {:>6}", total, total.as_ref().unwrap()), "Some(12.50)  12.50");
    }
}
