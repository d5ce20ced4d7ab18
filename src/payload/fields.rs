//! Strings and objects that borrow from the JSON that they are read from.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A string, borrowed if it has no escapes.
pub(super) struct StringField<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for StringField<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringVisitor;

        impl<'de> Visitor<'de> for StringVisitor {
            type Value = StringField<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(StringField(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(StringField(Cow::Owned(text.into())))
            }
        }

        deserializer.deserialize_str(StringVisitor)
    }
}

/// The fields of an object. Their values are unparsed JSON.
///
/// Names are bytes, so that a name with half of a surrogate pair is not an error.
pub(super) struct ObjectFields<'a>(pub(super) Vec<(Cow<'a, [u8]>, &'a RawValue)>);

impl<'de> Deserialize<'de> for ObjectFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = ObjectFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                // An order has about this many fields.
                let mut fields = Vec::with_capacity(128);
                while let Some((MemberName(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(ObjectFields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The name of a field.
struct MemberName<'a>(Cow<'a, [u8]>);

impl<'de> Deserialize<'de> for MemberName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = MemberName<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_bytes<E>(self, name: &'de [u8]) -> Result<Self::Value, E> {
                Ok(MemberName(Cow::Borrowed(name)))
            }

            fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
                Ok(MemberName(Cow::Owned(name.into())))
            }
        }

        deserializer.deserialize_bytes(NameVisitor)
    }
}
