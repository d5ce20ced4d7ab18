//! The names of tables, indexes and functions.

use crate::error::{Kind, PostgresError};

/// The prefix and the schema of the tables' names. Both are safe to quote.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    schema: Option<String>,
    prefix: String,
}

/// The longest prefix, in bytes. Postgres truncates names to 63 bytes, which leaves room for the longest index name.
const LONGEST_PREFIX: usize = 40;
const LONGEST_SCHEMA: usize = 63;

impl Names {
    pub(crate) fn parse(prefix: &str) -> Result<Self, PostgresError> {
        let (schema, name) = match prefix.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, prefix),
        };
        let is_valid =
            schema.is_none_or(|schema| is_identifier(schema, LONGEST_SCHEMA)) && is_identifier(name, LONGEST_PREFIX);
        if is_valid {
            Ok(Self { schema: schema.map(Into::into), prefix: name.into() })
        } else {
            Err(PostgresError::new(Kind::TablePrefix(prefix.into())))
        }
    }

    /// Returns the quoted name of a table, a view or a function, for a statement.
    pub(crate) fn of(&self, name: &str) -> String {
        match &self.schema {
            Some(schema) => format!(r#""{schema}".{}"#, self.unqualified(name)),
            None => self.unqualified(name),
        }
    }

    /// Returns the quoted name without the schema, for statements that create an index or a trigger.
    pub(crate) fn unqualified(&self, name: &str) -> String {
        format!(r#""{}{name}""#, self.prefix)
    }

    /// Returns the name without quotes, for messages.
    pub(crate) fn plain(&self, name: &str) -> String {
        self.of(name).replace('"', "")
    }

    /// Returns whether the prefix names a schema.
    pub(crate) fn has_schema(&self) -> bool {
        self.schema.is_some()
    }
}

/// Returns whether this is a lower-case identifier, which needs no quotes.
fn is_identifier(name: &str, longest: usize) -> bool {
    name.len() <= longest
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_lower_case_identifiers() {
        for (prefix, table) in [
            ("klikit_", r#""klikit_inbox""#),
            ("_2", r#""_2inbox""#),
            ("webhooks.order_", r#""webhooks"."order_inbox""#),
            (&"x".repeat(40), &format!(r#""{}inbox""#, "x".repeat(40))),
        ] {
            assert_eq!(Names::parse(prefix).unwrap().of("inbox"), table);
        }
    }

    #[test]
    fn rejects_anything_else() {
        let (prefix, schema) = ("x".repeat(41), format!("{}.x", "x".repeat(64)));
        let invalid = ["", ".", "a.", ".a", "a.b.c", "2a", "A", "a b", "a\"b", "a'b", "a;b", "a-b", "é", "a\0"];
        for name in invalid.into_iter().chain([&*prefix, &*schema]) {
            assert!(Names::parse(name).is_err(), "{name:?}");
        }
    }
}
