//! The stored names of tenants.

use std::borrow::Cow;

use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

/// The stored name of a tenant. Another program may have written one that is a blob or not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tenant {
    is_blob: bool,
    bytes: Vec<u8>,
}

impl Tenant {
    /// Returns the name that a stored value represents. Numbers cannot be stored in the column, which has the type
    /// TEXT.
    pub(super) fn from_value(value: ValueRef<'_>) -> Self {
        let bytes = value.as_bytes().unwrap_or_default().to_vec();
        Self { is_blob: matches!(value, ValueRef::Blob(_)), bytes }
    }

    pub(super) fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

impl ToSql for Tenant {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = if self.is_blob { ValueRef::Blob(&self.bytes) } else { ValueRef::Text(&self.bytes) };
        Ok(ToSqlOutput::Borrowed(value))
    }
}
