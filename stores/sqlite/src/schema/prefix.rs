//! The check of the table prefix.

use crate::error::{SqliteError, SqliteErrorKind};

/// Returns an error if the prefix is too long or names that begin with it are not identifiers.
pub(super) fn check(prefix: &str) -> Result<(), SqliteError> {
    if is_prefix(prefix) { Ok(()) } else { Err(SqliteError::new(SqliteErrorKind::TablePrefix)) }
}

fn is_prefix(prefix: &str) -> bool {
    let mut bytes = prefix.bytes();
    prefix.len() <= 32
        && bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && !prefix.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_identifiers_as_prefixes() {
        for prefix in ["k", "_", "klikit_", "Orders2", &"x".repeat(32)] {
            assert!(is_prefix(prefix), "{prefix}");
        }
        for prefix in ["", "2x", "a b", "a\"", "a;", "a-b", "é", "sqlite_", "SQLite_x", &"x".repeat(33)] {
            assert!(!is_prefix(prefix), "{prefix}");
        }
    }
}
