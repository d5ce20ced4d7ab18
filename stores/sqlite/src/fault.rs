//! Faults of single rows.

use std::{error::Error, fmt};

use rusqlite::{
    ErrorCode,
    types::{Type, ValueRef},
};

/// The reason why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    description: String,
    is_damage: bool,
}

impl Fault {
    pub(super) fn new(description: impl Into<String>) -> Self {
        Self { description: description.into(), is_damage: false }
    }

    pub(super) fn mismatch(name: &str, value: ValueRef<'_>, expected: Type) -> Self {
        Self::new(format!("its {name} is of the type {}, not {expected}", value.data_type()))
    }

    /// Returns the fault if the error is caused by the row that was read, not by the connection.
    pub(super) fn of(error: &rusqlite::Error) -> Option<Self> {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, source) => match source.downcast_ref::<Self>() {
                Some(fault) => Some(fault.clone()),
                None => Some(Self::new(source.to_string())),
            },
            _ if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                Some(Self { description: error.to_string(), is_damage: true })
            }
            _ => None,
        }
    }

    /// Returns whether a page of the file is damaged. Then this transaction can write nothing more.
    pub(super) fn is_damage(&self) -> bool {
        self.is_damage
    }

    /// Puts a context in front of the description.
    pub(super) fn within(self, context: &str) -> Self {
        Self { description: format!("{context}: {}", self.description), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl Error for Fault {}

/// Lets closures that rusqlite calls for each row return a fault.
impl From<Fault> for rusqlite::Error {
    fn from(fault: Fault) -> Self {
        Self::FromSqlConversionFailure(usize::MAX, Type::Null, Box::new(fault))
    }
}
