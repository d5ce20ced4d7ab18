//! Functions that read column values and check their types. SQLite allows a value of any type in any column, so a value
//! may be one that this crate did not write.

use rusqlite::{
    Row,
    types::{Type, ValueRef},
};
use tower_klikit::dedupe::{BodyDigest, EventKey};

use crate::fault::Fault;

pub(super) fn blob<'a>(value: ValueRef<'a>, name: &str) -> Result<&'a [u8], Fault> {
    value.as_blob().map_err(|_| Fault::mismatch(name, value, Type::Blob))
}

pub(super) fn text<'a>(value: ValueRef<'a>, name: &str) -> Result<&'a str, Fault> {
    match value {
        ValueRef::Text(text) => {
            str::from_utf8(text).map_err(|error| Fault::new(format!("its {name} is not valid UTF-8: {error}")))
        }
        _ => Err(Fault::mismatch(name, value, Type::Text)),
    }
}

pub(super) fn integer(value: ValueRef<'_>, name: &str) -> Result<i64, Fault> {
    value.as_i64().map_err(|_| Fault::mismatch(name, value, Type::Integer))
}

/// Reads a number that the caller will increment. Returns a fault if it is negative or has no successor.
pub(super) fn counter<T: TryFrom<i64>>(value: ValueRef<'_>, name: &str) -> Result<T, Fault> {
    let number = integer(value, name)?;
    let has_next = number.checked_add(1).is_some_and(|next| T::try_from(next).is_ok());
    match T::try_from(number) {
        Ok(counter) if has_next && number >= 0 => Ok(counter),
        _ => Err(Fault::new(format!("its {name} is out of range: {number}"))),
    }
}

pub(super) fn digest(value: ValueRef<'_>) -> Result<BodyDigest, Fault> {
    let bytes = blob(value, "digest")?;
    let digest: [u8; 32] =
        bytes.try_into().map_err(|_| Fault::new(format!("its digest has {} bytes, not 32", bytes.len())))?;
    Ok(digest.into())
}

pub(super) fn event_key(value: ValueRef<'_>, name: &str) -> Result<EventKey, Fault> {
    let bytes = blob(value, name)?;
    let key: [u8; 16] =
        bytes.try_into().map_err(|_| Fault::new(format!("its {name} has {} bytes, not 16", bytes.len())))?;
    Ok(key.into())
}

/// Reads the result of a `count(*)`.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_column() {
        let fault = |result: Result<(), Fault>| result.unwrap_err().to_string();
        assert_eq!(fault(blob(ValueRef::Integer(1), "body").map(drop)), "its body is of the type Integer, not Blob");
        assert_eq!(fault(text(ValueRef::Null, "head").map(drop)), "its head is of the type Null, not Text");
        assert!(fault(text(ValueRef::Text(b"\xff"), "head").map(drop)).starts_with("its head is not valid UTF-8"));
        assert_eq!(fault(digest(ValueRef::Blob(b"31")).map(drop)), "its digest has 2 bytes, not 32");
        assert_eq!(fault(event_key(ValueRef::Blob(b"31"), "key").map(drop)), "its key has 2 bytes, not 16");
        assert_eq!(fault(integer(ValueRef::Real(1.5), "due").map(drop)), "its due is of the type Real, not Integer");
    }

    #[test]
    fn counters_can_be_incremented() {
        for (number, is_counter) in [(0, true), (7, true), (-1, false), (u32::MAX.into(), false), (i64::MAX, false)] {
            assert_eq!(counter::<u32>(ValueRef::Integer(number), "attempts").is_ok(), is_counter, "{number}");
        }
        assert!(counter::<i64>(ValueRef::Integer(i64::MAX - 1), "token").is_ok());
        assert!(counter::<i64>(ValueRef::Integer(i64::MAX), "token").is_err());
    }
}
