//! Reads values that this crate may not have written. SQLite keeps a value of any type in any column.

use std::{error::Error, fmt};

use rusqlite::{
    ErrorCode,
    types::{Type, ValueRef},
};
use tower_klikit::dedupe::BodyDigest;

use super::error::{SqliteError, SqliteErrorKind};

/// The reason why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    what: String,
    is_damage: bool,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), is_damage: false }
    }

    fn mismatch(name: &str, value: ValueRef<'_>, expected: Type) -> Self {
        Self::new(format!("its {name} is of the type {}, not {expected}", value.data_type()))
    }

    /// Returns the fault if this error concerns the row that was read, and not the connection.
    pub(super) fn of(error: &rusqlite::Error) -> Option<Self> {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, source) => match source.downcast_ref::<Self>() {
                Some(fault) => Some(fault.clone()),
                None => Some(Self::new(source.to_string())),
            },
            _ if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                Some(Self { what: error.to_string(), is_damage: true })
            }
            _ => None,
        }
    }

    /// Whether a page of the file is damaged: then nothing more can be written in this transaction.
    pub(super) fn is_damage(&self) -> bool {
        self.is_damage
    }

    /// Adds what cannot be read for this reason.
    pub(super) fn within(self, what: &str) -> Self {
        Self { what: format!("{what}: {}", self.what), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Fault {}

impl From<Fault> for SqliteError {
    fn from(fault: Fault) -> Self {
        let kind = if fault.is_damage { SqliteErrorKind::Damaged } else { SqliteErrorKind::Unreadable };
        Self::because(kind, fault)
    }
}

/// For what runs within SQLite's own functions.
impl From<Fault> for rusqlite::Error {
    fn from(fault: Fault) -> Self {
        Self::FromSqlConversionFailure(usize::MAX, Type::Null, Box::new(fault))
    }
}

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

/// Reads a number that is going to be counted up.
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
        assert_eq!(fault(integer(ValueRef::Real(1.5), "due").map(drop)), "its due is of the type Real, not Integer");
    }

    #[test]
    fn counters_can_be_counted_up() {
        for (number, is_counter) in [(0, true), (7, true), (-1, false), (u32::MAX.into(), false), (i64::MAX, false)] {
            assert_eq!(counter::<u32>(ValueRef::Integer(number), "attempts").is_ok(), is_counter, "{number}");
        }
        assert!(counter::<i64>(ValueRef::Integer(i64::MAX - 1), "token").is_ok());
        assert!(counter::<i64>(ValueRef::Integer(i64::MAX), "token").is_err());
    }
}
