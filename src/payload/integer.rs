//! Integers that klikit may also write as text, such as `"2"`.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};
use serde_json::Number;

/// An integer, written as a number or as text.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct IntegerField(#[serde(deserialize_with = "deserialize")] pub(super) i64);

/// Reads an integer that is written as a number or as text. The errors are those of `i64`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    const EXPECTED: &str = "i64";
    // A binary format cannot tell a number from text.
    if !deserializer.is_human_readable() {
        return i64::deserialize(deserializer);
    }
    match NumberOrText::read(deserializer, EXPECTED)? {
        NumberOrText::Integer(number) => i64::try_from(number)
            .map_err(|_| D::Error::invalid_value(Unexpected::Other(&format!("integer `{number}`")), &EXPECTED)),
        NumberOrText::Float(number) => Err(D::Error::invalid_type(Unexpected::Float(number), &EXPECTED)),
        NumberOrText::Text(text) => {
            parse(&text).ok_or_else(|| D::Error::invalid_type(Unexpected::Str(&text), &EXPECTED))
        }
    }
}

/// Parses digits with an optional minus sign.
pub(super) fn parse(text: &str) -> Option<i64> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// A number or a text.
pub(super) enum NumberOrText {
    Integer(i128),
    /// A number with a fraction or an exponent, or beyond 64 bits.
    Float(f64),
    Text(String),
}

impl NumberOrText {
    /// Reads a number or a text. `expected` describes the requested type in the error for another value.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D, expected: &'static str) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrTextVisitor(expected))
    }
}

struct NumberOrTextVisitor(&'static str);

impl<'de> Visitor<'de> for NumberOrTextVisitor {
    type Value = NumberOrText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E>(self, number: i64) -> Result<NumberOrText, E> {
        Ok(NumberOrText::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<NumberOrText, E> {
        Ok(NumberOrText::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<NumberOrText, E> {
        Ok(NumberOrText::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<NumberOrText, E> {
        Ok(NumberOrText::Text(text.into()))
    }

    /// Reads a number that `serde_json` passes as a map, if a program turns on its feature `arbitrary_precision`.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NumberOrText, A::Error> {
        let number = Number::deserialize(MapAccessDeserializer::new(map)).ok();
        let read = |number: Number| {
            number.as_i128().map(NumberOrText::Integer).or_else(|| number.as_f64().map(NumberOrText::Float))
        };
        number.and_then(read).ok_or_else(|| A::Error::invalid_type(Unexpected::Map, &self))
    }
}
