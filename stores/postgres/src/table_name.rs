//! Names of tables.

use super::error::{Kind, PostgresError};

/// The name of a table and its schema, safe to put between quotes.
#[derive(Debug, Clone)]
pub(super) struct TableName {
    schema: Option<String>,
    table: String,
}

impl TableName {
    pub(super) fn parse(name: &str) -> Result<Self, PostgresError> {
        let (schema, table) = match name.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, name),
        };
        if schema.is_none_or(is_identifier) && is_identifier(table) {
            Ok(Self { schema: schema.map(Into::into), table: table.into() })
        } else {
            Err(PostgresError::new(Kind::TableName(name.into())))
        }
    }

    /// The name as it stands in a statement.
    pub(super) fn quoted(&self) -> String {
        self.with("")
    }

    /// The name of the table with this name and a suffix, as it stands in a statement.
    pub(super) fn with(&self, suffix: &str) -> String {
        match &self.schema {
            Some(schema) => format!(r#""{schema}"."{}{suffix}""#, self.table),
            None => self.index(suffix),
        }
    }

    /// The name of an index, as it stands in the statement that creates it: there an index has no schema.
    pub(super) fn index(&self, suffix: &str) -> String {
        format!(r#""{}{suffix}""#, self.table)
    }
}

/// Whether this is a lower-case identifier, which means the same with and without quotes. Postgres cuts names off at 63 bytes; 48 leave
/// space for the suffixes of the indexes and of the inbox's tables.
fn is_identifier(name: &str) -> bool {
    name.len() <= 48
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_lower_case_identifiers() {
        for (name, quoted) in [
            ("klikit_deliveries", r#""klikit_deliveries""#),
            ("_2", r#""_2""#),
            ("webhooks.order", r#""webhooks"."order""#),
            (&"x".repeat(48), &format!(r#""{}""#, "x".repeat(48))),
        ] {
            assert_eq!(TableName::parse(name).unwrap().quoted(), quoted);
        }
    }

    #[test]
    fn rejects_anything_else() {
        for name in
            ["", ".", "a.", ".a", "a.b.c", "2a", "A", "a b", "a\"b", "a'b", "a;b", "a-b", "é", "a\0", &"x".repeat(49)]
        {
            assert!(TableName::parse(name).is_err(), "{name:?}");
        }
    }
}
