//! Statements, with the types of their parameters.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

/// A statement with the types of its parameters, so that the server need not prepare it under a name.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    text: String,
    types: Vec<Type>,
}

impl Sql {
    /// Makes a statement. The types come from casts of the parameters, such as `$1::bytea`. Each parameter must have a cast.
    pub(crate) fn new(text: String) -> Self {
        let casts: BTreeMap<usize, Type> = text.split('$').skip(1).filter_map(cast).collect();
        let types: Vec<_> = casts.values().cloned().collect();
        debug_assert_eq!(casts.keys().last().copied().unwrap_or(0), types.len(), "a parameter without a cast: {text}");
        Self { text, types }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn types(&self) -> &[Type] {
        &self.types
    }

    /// Returns a statement that plans this one and checks permissions, but does not run it.
    pub(super) fn explained(&self) -> Self {
        Self { text: format!("EXPLAIN {}", self.text), types: self.types.clone() }
    }
}

/// Parses the number and the type of a parameter, after its `$`.
fn cast(text: &str) -> Option<(usize, Type)> {
    let (number, rest) = text.split_once("::")?;
    let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"[]".contains(letter));
    let of = match &rest[..end.unwrap_or(rest.len())] {
        "bigint" => Type::INT8,
        "bigint[]" => Type::INT8_ARRAY,
        "boolean" => Type::BOOL,
        "bytea" => Type::BYTEA,
        "bytea[]" => Type::BYTEA_ARRAY,
        "float8" => Type::FLOAT8,
        "float8[]" => Type::FLOAT8_ARRAY,
        "integer" => Type::INT4,
        "integer[]" => Type::INT4_ARRAY,
        "smallint[]" => Type::INT2_ARRAY,
        "text" => Type::TEXT,
        "text[]" => Type::TEXT_ARRAY,
        "timestamptz" => Type::TIMESTAMPTZ,
        _ => return None,
    };
    Some((number.parse().ok()?, of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_types_from_casts() {
        let sql = Sql::new("SELECT $2::text, encode($1::bytea, 'hex'), $3::bigint[] WHERE $2 = 'a'".into());
        assert_eq!(sql.types(), [Type::BYTEA, Type::TEXT, Type::INT8_ARRAY]);
        assert!(Sql::new("SELECT 1::bigint".into()).types().is_empty());
    }

    #[test]
    #[should_panic = "a parameter without a cast"]
    fn rejects_a_parameter_without_a_cast() {
        Sql::new("SELECT $1, $2::text".into());
    }
}
