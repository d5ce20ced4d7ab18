//! The stored form of ordering keys: a JSON array of strings, or NULL for a delivery without ordering keys.

use rusqlite::types::ValueRef;
use tower_klikit::inbox::OrderingKey;

use crate::{fault::Fault, values::text};

/// Returns the stored form of a delivery's ordering keys.
pub(super) fn to_json(keys: &[OrderingKey]) -> Option<String> {
    let keys: Vec<_> = keys.iter().map(OrderingKey::as_str).collect();
    (!keys.is_empty()).then(|| serde_json::json!(keys).to_string())
}

/// Parses a stored value.
pub(super) fn from_value(value: ValueRef<'_>) -> Result<Vec<OrderingKey>, Fault> {
    if value == ValueRef::Null {
        return Ok(Vec::new());
    }
    let keys: Vec<String> = serde_json::from_str(text(value, "ordering_keys")?)
        .map_err(|error| Fault::new(format!("its ordering_keys are not a JSON array of strings: {error}")))?;
    Ok(keys.iter().map(|key| OrderingKey::from_text(key)).collect())
}

/// Parses a stored value. Returns no keys if the value is unreadable.
pub(super) fn readable(value: ValueRef<'_>) -> Vec<OrderingKey> {
    from_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_a_round_trip() {
        for keys in [&[][..], &["order:42@warung"], &["branch:1@default", "custom:\"\\ Phở@default"]] {
            let keys: Vec<_> = keys.iter().map(|key| OrderingKey::from_text(key)).collect();
            let json = to_json(&keys);
            let value = json.as_ref().map_or(ValueRef::Null, |json| ValueRef::Text(json.as_bytes()));
            assert_eq!(from_value(value), Ok(keys));
        }
        assert_eq!(to_json(&[OrderingKey::from_text("order:42@warung")]).unwrap(), r#"["order:42@warung"]"#);
    }

    #[test]
    fn accepts_only_arrays_of_strings() {
        for text in ["", "17", "order:42@warung", r#"{"a":"b"}"#, "[17]", r#"["a""#] {
            assert!(from_value(ValueRef::Text(text.as_bytes())).is_err(), "{text}");
        }
        assert!(from_value(ValueRef::Blob(b"[]")).is_err());
        assert!(from_value(ValueRef::Integer(17)).is_err());
    }
}
