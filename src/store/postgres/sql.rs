//! The table, and every statement on it.
//!
//! `clock_timestamp()`, not `now()`: a statement that has waited for another's lock, or that runs in a user's long
//! transaction, must judge by the time at which it holds the row.

use super::error::{Kind, PostgresError};

/// The names of a table and its schema, fit to be put between quotes.
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

    /// As it stands in a statement.
    pub(super) fn quoted(&self) -> String {
        self.with("")
    }

    /// The table beside it whose name has this at its end, as it stands in a statement.
    pub(super) fn with(&self, suffix: &str) -> String {
        match &self.schema {
            Some(schema) => format!(r#""{schema}"."{}{suffix}""#, self.table),
            None => self.index(suffix),
        }
    }

    /// An index, which has no schema of its own, as it stands in the statement that creates it.
    pub(super) fn index(&self, suffix: &str) -> String {
        format!(r#""{}{suffix}""#, self.table)
    }
}

/// Lower case only, so that the name means the same with quotes and without. Postgres cuts names off at 63 bytes; 48 leave
/// room for the names of the indexes and of the tables beside it.
fn is_identifier(name: &str) -> bool {
    name.len() <= 48
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The statements, for one table.
///
/// Parameters that stand for keys, events and tokens are `bytea`, so that every driver can give them; the columns are
/// `uuid`, which is shorter on disk by a byte here and by eight in the index.
#[derive(Debug)]
pub(super) struct Sql {
    /// No parameters, no rows.
    pub(super) create: String,
    /// Key, event, token, digest, lease in seconds. One row when it is claimed.
    pub(super) claim: String,
    /// Key, token. One row when there is an entry: whether it is done, whether it is this token's, the digest, the seconds
    /// that remain.
    pub(super) read: String,
    /// Key, token, retention in seconds. Changes one row when the token holds it.
    pub(super) complete: String,
    /// Key, token, lease in seconds. Changes one row when the token holds it.
    pub(super) renew: String,
    /// Key, token.
    pub(super) release: String,
    /// Event. One row: how many there were.
    pub(super) forget: String,
    /// Start and end. One row: how many there were.
    pub(super) forget_claimed: String,
    /// Limit. Changes the rows that it deletes.
    pub(super) purge: String,
    /// No parameters. Changes the rows that it deletes.
    pub(super) sweep: String,
}

/// Keeps two nodes from creating a table at the same time, which fails for one of them even with `IF NOT EXISTS`. Any
/// number does that nobody else uses: these are the first bytes of "klikit".
pub(super) const CREATE_LOCK: i64 = 0x6b6c_696b_6974;

impl Sql {
    pub(super) fn new(name: &TableName) -> Self {
        let table = name.quoted();
        let index = name.index("_event_idx");
        let blocks = format!("pg_relation_size('{table}'::regclass) / current_setting('block_size')::bigint");
        let holds = "key = encode($1::bytea, 'hex')::uuid AND token = encode($2::bytea, 'hex')::uuid \
                     AND until > clock_timestamp()";
        Self {
            // The wide columns first, so that nothing is lost to alignment. `event` is null but for a conflict, and so the
            // index on it stays next to empty. There is none on `until`: every completion changes it, and an update that
            // changes no indexed column stays in its page and leaves the indexes alone.
            create: format!(
                "SELECT pg_advisory_xact_lock({CREATE_LOCK}); \
                 CREATE TABLE IF NOT EXISTS {table} (\
                 claimed timestamptz NOT NULL, until timestamptz NOT NULL, key uuid PRIMARY KEY, event uuid, \
                 token uuid NOT NULL, done boolean NOT NULL, digest bytea NOT NULL\
                 ) WITH (autovacuum_vacuum_scale_factor = 0.05); \
                 CREATE INDEX IF NOT EXISTS {index} ON {table} (event) WHERE event IS NOT NULL"
            ),
            claim: format!(
                "INSERT INTO {table} AS held (claimed, until, key, event, token, done, digest) \
                 SELECT clock_timestamp(), clock_timestamp() + make_interval(secs => $5::float8), new.key, \
                 nullif(new.event, new.key), new.token, false, $4::bytea \
                 FROM (SELECT encode($1::bytea, 'hex')::uuid AS key, encode($2::bytea, 'hex')::uuid AS event, \
                 encode($3::bytea, 'hex')::uuid AS token) AS new \
                 ON CONFLICT (key) DO UPDATE SET \
                 claimed = CASE WHEN held.until <= clock_timestamp() THEN clock_timestamp() ELSE held.claimed END, \
                 until = clock_timestamp() + make_interval(secs => $5::float8), event = excluded.event, \
                 token = excluded.token, done = false, digest = excluded.digest \
                 WHERE held.until <= clock_timestamp() OR (held.token = excluded.token AND NOT held.done) \
                 RETURNING true"
            ),
            read: format!(
                "SELECT done, token = encode($2::bytea, 'hex')::uuid, digest, \
                 extract(epoch FROM until - clock_timestamp())::float8 \
                 FROM {table} WHERE key = encode($1::bytea, 'hex')::uuid AND until > clock_timestamp()"
            ),
            complete: format!(
                "UPDATE {table} SET done = true, until = CASE WHEN done THEN until \
                 ELSE clock_timestamp() + make_interval(secs => $3::float8) END WHERE {holds}"
            ),
            renew: format!(
                "UPDATE {table} SET until = clock_timestamp() + make_interval(secs => $3::float8) \
                 WHERE {holds} AND NOT done"
            ),
            release: format!("DELETE FROM {table} WHERE {holds} AND NOT done"),
            forget: format!(
                "WITH gone AS (DELETE FROM {table} WHERE key = encode($1::bytea, 'hex')::uuid \
                 OR event = encode($1::bytea, 'hex')::uuid RETURNING until) \
                 SELECT count(*) FILTER (WHERE until > clock_timestamp()) FROM gone"
            ),
            forget_claimed: format!(
                "WITH gone AS (DELETE FROM {table} WHERE claimed >= $1::timestamptz AND claimed < $2::timestamptz \
                 RETURNING until) SELECT count(*) FILTER (WHERE until > clock_timestamp()) FROM gone"
            ),
            // Rows that somebody is about to claim are left to them, so that neither waits for the other.
            purge: format!(
                "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE until <= now() \
                 LIMIT $1::bigint FOR UPDATE SKIP LOCKED))"
            ),
            // 128 blocks somewhere in the table. The range may begin before the table does, so that its first blocks have
            // the same chance as all others.
            sweep: format!(
                "WITH slice AS MATERIALIZED (\
                 SELECT greatest(0, floor(random() * ({blocks} + 127))::bigint - 127) AS first) \
                 DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} \
                 WHERE ctid >= (SELECT format('(%s,0)', first)::tid FROM slice) \
                 AND ctid < (SELECT format('(%s,0)', first + 128)::tid FROM slice) \
                 AND until <= now() FOR UPDATE SKIP LOCKED))"
            ),
        }
    }

    /// All that run on every delivery, for trying them out when the table is opened.
    pub(super) fn each(&self) -> [&str; 9] {
        [
            &self.claim,
            &self.read,
            &self.complete,
            &self.renew,
            &self.release,
            &self.forget,
            &self.forget_claimed,
            &self.purge,
            &self.sweep,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_identifiers_with_a_schema_or_without() {
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
    fn anything_else_is_no_name() {
        for name in
            ["", ".", "a.", ".a", "a.b.c", "2a", "A", "a b", "a\"b", "a'b", "a;b", "a-b", "é", "a\0", &"x".repeat(49)]
        {
            assert!(TableName::parse(name).is_err(), "{name:?}");
        }
    }
}
