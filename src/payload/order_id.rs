//! The id of an order.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected},
};

use super::integer::{self, NumberOrText};
use crate::visible::Escaped;

/// The id of an order, which klikit sends as a number or as text.
///
/// Ids are equal if their plain texts are equal, so `202` and `"202"` are one order. An inbox that
/// [orders](crate::inbox::OrderBy::order) by order handles their deliveries one after the other, too. An id that was sent as
/// a number is serialized as a number.
///
/// ```
/// use tower_klikit::payload::OrderId;
///
/// let (number, text): (OrderId, OrderId) = serde_json::from_str(r#"[202, "202"]"#)?;
/// assert_eq!(number, text);
/// assert_eq!((number.to_string(), text.as_i64()), ("202".into(), Some(202)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone)]
pub struct OrderId {
    /// Not empty.
    text: Box<str>,
    is_number: bool,
}

/// The greatest number that an `f64` holds along with all smaller integers.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

impl OrderId {
    /// Returns the plain id, without quotes.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the id as a number. `None` if it is another text, or does not fit an `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        integer::parse(&self.text)
    }
}

impl From<i64> for OrderId {
    fn from(number: i64) -> Self {
        Self { text: number.to_string().into(), is_number: true }
    }
}

impl PartialEq for OrderId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for OrderId {}

impl Hash for OrderId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Writes the plain id, with hidden characters escaped.
impl fmt::Debug for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.text))
    }
}

impl<'de> Deserialize<'de> for OrderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "an order id";
        match NumberOrText::read(deserializer, EXPECTED)? {
            NumberOrText::Integer(number) => Ok(Self { text: number.to_string().into(), is_number: true }),
            // 42.0, for example. It is written as 42.
            NumberOrText::Float(number) if number.fract() == 0.0 && number.abs() <= MAX_EXACT => {
                Ok(Self { text: number.to_string().into(), is_number: true })
            }
            NumberOrText::Float(number) => Err(D::Error::invalid_value(Unexpected::Float(number), &EXPECTED)),
            NumberOrText::Text(text) if text.is_empty() => {
                Err(D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED))
            }
            NumberOrText::Text(text) => Ok(Self { text: text.into(), is_number: false }),
        }
    }
}

impl Serialize for OrderId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.text.parse::<i128>().ok().filter(|_| self.is_number) {
            None => serializer.serialize_str(&self.text),
            Some(number) => match (i64::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => serializer.serialize_i64(number),
                (_, Ok(number)) => serializer.serialize_u64(number),
                _ => serializer.serialize_i128(number),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn id(json: &str) -> OrderId {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn equal_ids_are_one_order() {
        let same: HashSet<_> = ["202", r#""202""#, "202.0", "2.02e2"].map(id).into();
        assert_eq!(same, [OrderId::from(202)].into());
        for (one, other) in [("202", "203"), ("7", r#""007""#), (r#""GF-1""#, r#""gf-1""#)] {
            assert_ne!(id(one), id(other));
        }
    }

    #[test]
    fn is_serialized_as_sent() {
        for json in ["202", r#""202""#, "-1", "0", "18446744073709551615", r#""GF \"1\"""#, r#""007""#] {
            assert_eq!(serde_json::to_string(&id(json)).unwrap(), json);
        }
    }

    #[test]
    fn is_written_plainly() {
        let text = id(r#""GF-7""#);
        assert_eq!((text.as_str(), format!("{text:>5} {:?}", Some(&text))), ("GF-7", " GF-7 Some(GF-7)".into()));
        assert_eq!(
            (text.as_i64(), id(r#""-7""#).as_i64(), id("18446744073709551615").as_i64()),
            (None, Some(-7), None)
        );
        assert_eq!(format!("{:?}", id(r#""a\u202eb""#)), r"a\u{202e}b");
    }

    #[test]
    fn rejects_other_values() {
        for json in ["null", "true", "[]", "{}", r#""""#, "1.5", "18446744073709551616", "9007199254740994e0", "1e400"]
        {
            assert!(serde_json::from_str::<OrderId>(json).is_err(), "{json}");
        }
    }
}
