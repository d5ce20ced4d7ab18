//! The reason why a row cannot be read.

use std::{error::Error, fmt};

use rusqlite::{
    ErrorCode,
    types::{Type, ValueRef},
};

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

    pub(super) fn mismatch(name: &str, value: ValueRef<'_>, expected: Type) -> Self {
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

/// For what runs within SQLite's own functions.
impl From<Fault> for rusqlite::Error {
    fn from(fault: Fault) -> Self {
        Self::FromSqlConversionFailure(usize::MAX, Type::Null, Box::new(fault))
    }
}
