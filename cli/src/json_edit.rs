//! Changes to single values of a JSON text, which leave all other bytes as they are.

use std::{collections::BTreeMap, fmt, ops::Range, str::FromStr};

use serde_json::value::RawValue;

/// The place of a value: keys of objects and indexes of arrays, such as `orders.0.status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonPath(Vec<String>);

/// The reason why a text could not be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EditError {
    /// The text is not JSON.
    NotJson,
    /// There is no value at this path.
    Missing(JsonPath),
}

/// The place in a text for a value.
enum Place {
    Value(Range<usize>),
    /// The place before the end of an object that does not have the key.
    NewKey {
        end: usize,
        is_first: bool,
    },
}

impl FromStr for JsonPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let steps: Vec<String> = text.split('.').map(Into::into).collect();
        if steps.iter().any(String::is_empty) {
            return Err("a path is keys and indexes between dots, such as orders.0.status".into());
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("is not JSON"),
            Self::Missing(path) => write!(f, "has no value {path}"),
        }
    }
}

impl JsonPath {
    /// Returns where the value at this path is in the text.
    pub(crate) fn range(&self, text: &str) -> Result<Range<usize>, EditError> {
        match self.find(text)? {
            Place::Value(range) => Ok(range),
            Place::NewKey { .. } => Err(EditError::Missing(self.clone())),
        }
    }

    /// Replaces the value at this path. If an object does not have the last key of the path, adds the key.
    pub(crate) fn set(&self, text: &str, value: &RawValue) -> Result<String, EditError> {
        let mut edited = text.to_owned();
        match self.find(text)? {
            Place::Value(range) => edited.replace_range(range, value.get()),
            Place::NewKey { end, is_first } => {
                let comma = if is_first { "" } else { "," };
                let key = serde_json::Value::from(self.0.last().map_or("", String::as_str));
                edited.insert_str(end, &format!("{comma}{key}:{}", value.get()));
            }
        }
        Ok(edited)
    }

    fn find(&self, text: &str) -> Result<Place, EditError> {
        let missing = || EditError::Missing(self.clone());
        let mut value: &RawValue = serde_json::from_str(text).map_err(|_| EditError::NotJson)?;
        for (at, step) in self.0.iter().enumerate() {
            let range = range_in(text, value);
            value = match value.get().as_bytes().first() {
                Some(b'{') => {
                    let object: BTreeMap<String, &RawValue> =
                        serde_json::from_str(value.get()).map_err(|_| EditError::NotJson)?;
                    match object.get(step) {
                        Some(value) => value,
                        None if at + 1 == self.0.len() => {
                            return Ok(Place::NewKey { end: range.end - 1, is_first: object.is_empty() });
                        }
                        None => return Err(missing()),
                    }
                }
                Some(b'[') => {
                    let array: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| EditError::NotJson)?;
                    let index: usize = step.parse().map_err(|_| missing())?;
                    array.get(index).copied().ok_or_else(missing)?
                }
                _ => return Err(missing()),
            };
        }
        Ok(Place::Value(range_in(text, value)))
    }
}

/// Returns where `value`, which borrows from `text`, is in `text`.
fn range_in(text: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr() as usize - text.as_ptr() as usize;
    start..start + value.get().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, path: &str, value: &str) -> Result<String, EditError> {
        let value: Box<RawValue> = serde_json::from_str(value).unwrap();
        path.parse::<JsonPath>().unwrap().set(text, &value)
    }

    #[test]
    fn changes_one_value_and_no_other_byte() {
        let text = "{\"b\": 1.50,\n \"orders\":[{\"id\" : 4e1, \"note\":\"\\u00e9\"} , {}]}\n";
        for (path, value, expected) in [
            ("orders.0.id", "42", text.replace("4e1", "42")),
            ("b", "[true]", text.replace("1.50", "[true]")),
            ("orders.0.status", "3", text.replace("e9\"}", "e9\",\"status\":3}")),
            ("orders.1.a\"b", "\"x\"", text.replace("{}", r#"{"a\"b":"x"}"#)),
            ("orders.0", "null", text.replace("{\"id\" : 4e1, \"note\":\"\\u00e9\"}", "null")),
        ] {
            assert_eq!(set(text, path, value).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn absent_values_are_errors() {
        for path in ["orders.1.id", "orders.x", "brand.id", "brand_id.0", "orders.-1"] {
            let missing = EditError::Missing(path.parse().unwrap());
            assert_eq!(set(r#"{"brand_id":1,"orders":[{"id":1}]}"#, path, "1"), Err(missing), "{path}");
        }
        assert_eq!(set("{", "a", "1"), Err(EditError::NotJson));
        assert_eq!(set("{} x", "a", "1"), Err(EditError::NotJson));
        let path: JsonPath = "orders.0.id".parse().unwrap();
        assert!(path.range(r#"{"orders":[{}]}"#).is_err());
        assert_eq!(path.range(r#"{"orders":[{"id":"a"}]}"#), Ok(17..20));
        assert!("".parse::<JsonPath>().is_err() && "a..b".parse::<JsonPath>().is_err());
    }
}
