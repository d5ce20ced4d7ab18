//! Quantities of items.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sent_decimal::SentDecimal;

/// A quantity with exactly the digits that klikit sent, as a number or as text. It may have a fraction, such as `0.5`.
///
/// `Display` and `Debug` write the digits alone. `Quantity` can be read and written only with `serde_json`.
///
/// ```
/// use tower_klikit::payload::Quantity;
///
/// #[derive(serde::Deserialize)]
/// struct Item {
///     title: String,
///     quantity: Quantity,
/// }
/// let item: Item = serde_json::from_str(r#"{"title": "Soup", "quantity": 0.5}"#)?;
/// assert_eq!(format!("{} x {}", item.quantity, item.title), "0.5 x Soup");
/// assert_eq!(item.quantity.as_u64(), None);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(SentDecimal);

impl Quantity {
    /// Returns the digits as sent.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns a whole quantity, such as 2 for `2`, `"2"` and `2.0`. `None` for a fraction or a negative number.
    pub fn as_u64(&self) -> Option<u64> {
        u64::try_from(self.0.scaled(0)?).ok()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_fractions_and_knows_whole_numbers() {
        for (json, text, whole) in [
            ("2", "2", Some(2)),
            ("\"2\"", "2", Some(2)),
            ("2.0", "2.0", Some(2)),
            ("0.5", "0.5", None),
            ("\"0.50\"", "0.50", None),
            ("-1", "-1", None),
            ("18446744073709551616", "18446744073709551616", None),
        ] {
            let quantity: Quantity = serde_json::from_str(json).unwrap();
            assert_eq!((quantity.to_string(), format!("{quantity:?}")), (text.into(), text.into()));
            assert_eq!((quantity.as_str(), quantity.as_u64()), (text, whole), "{json}");
            assert_eq!(serde_json::to_string(&quantity).unwrap(), json);
        }
    }
}
