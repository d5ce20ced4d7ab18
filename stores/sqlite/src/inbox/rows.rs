//! Functions that read the inbox's rows, and report values that this crate did not write.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, types::ValueRef};
use tower_klikit::inbox::EXPIRED;

use super::{deliveries::Deliveries, ordering_keys};
use crate::{
    fault::Fault,
    values::{blob, counter, integer, text},
};

/// The parts of a delivery that leasing needs.
pub(super) struct Content {
    pub(super) token: i64,
    pub(super) attempts: u32,
    /// Whether an attempt is open.
    pub(super) is_open: bool,
    pub(super) age: Duration,
    /// Whether the delivery was retried after it had expired.
    pub(super) after_expiry: bool,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// A delivery that cannot be read.
#[derive(Debug, Clone)]
pub(super) struct UnreadableRow {
    pub(super) id: i64,
    pub(super) attempts: u32,
    pub(super) head: Option<String>,
    pub(super) fault: Fault,
    /// Whether its state can be read, so that it can be dead-lettered.
    pub(super) has_state: bool,
}

impl UnreadableRow {
    pub(super) fn reason(&self) -> String {
        format!("the delivery cannot be read: {}", self.fault)
    }
}

impl Deliveries<'_> {
    /// Reads a delivery, and checks every value that leasing depends on.
    pub(super) fn read(&self, id: i64) -> rusqlite::Result<Result<Content, UnreadableRow>> {
        let mut read = self.connection.prepare_cached(&self.sql.lease.read_for_leasing)?;
        let content = self.isolation.isolate(|| {
            let content = read.query_row([id], |row| {
                let token = counter(row.get_ref(0)?, "token")?;
                let attempts = counter(row.get_ref(1)?, "attempts")?;
                integer(row.get_ref(2)?, "due")?;
                ordering_keys::from_value(row.get_ref(3)?)?;
                let age = self.age(row.get_ref(4)?);
                let after_expiry = row.get_ref(5)?.as_str().is_ok_and(|reason| reason == EXPIRED);
                let is_open = row.get_ref(6)? != ValueRef::Null;
                if row.get_ref(7)? == ValueRef::Null {
                    return Err(Fault::new("its head and its body are missing").into());
                }
                let (head, body) = (text(row.get_ref(8)?, "head")?, blob(row.get_ref(9)?, "body")?);
                let (head, body) = (head.into(), body.to_vec());
                Ok(Content { token, attempts, is_open, age, after_expiry, head, body })
            });
            content.optional()?.ok_or_else(|| Fault::new("its row is missing").into())
        });
        match content? {
            Ok(content) => Ok(Ok(content)),
            Err(fault) => self.unreadable(id, fault).map(Err),
        }
    }

    /// Returns the time since a stored time of acceptance, or zero if that is unreadable.
    pub(super) fn age(&self, since: ValueRef<'_>) -> Duration {
        let now = self.timestamp.now();
        let age = now.saturating_sub(since.as_i64().unwrap_or(now));
        Duration::from_millis(age.max(0).unsigned_abs())
    }

    /// Reads the readable parts of an unreadable delivery.
    pub(super) fn unreadable(&self, id: i64, fault: Fault) -> rusqlite::Result<UnreadableRow> {
        let mut read = self.connection.prepare_cached(&self.sql.rows.read_token_and_attempts)?;
        let attempts = self.isolation.isolate(|| {
            let attempts = |row: &Row<'_>| Ok(counter(row.get_ref(1)?, "attempts").unwrap_or_default());
            read.query_row([id], attempts).optional()
        })?;
        let attempts = attempts.ok().flatten();
        let head = self.head(id)?;
        Ok(UnreadableRow { id, attempts: attempts.unwrap_or_default(), head, fault, has_state: attempts.is_some() })
    }

    /// Reads a delivery's head. Returns `None` if it is missing or unreadable.
    pub(super) fn head(&self, id: i64) -> rusqlite::Result<Option<String>> {
        let mut read = self.connection.prepare_cached(&self.sql.rows.read_head)?;
        let head = self
            .isolation
            .isolate(|| read.query_row([id], |row| Ok(text(row.get_ref(0)?, "head")?.to_owned())).optional())?;
        Ok(head.ok().flatten())
    }

    /// Reads a delivery's body. Returns `None` if it is missing or unreadable.
    pub(super) fn body(&self, id: i64) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut read = self.connection.prepare_cached(&self.sql.rows.read_body)?;
        let body = self
            .isolation
            .isolate(|| read.query_row([id], |row| Ok(blob(row.get_ref(0)?, "body")?.to_vec())).optional())?;
        Ok(body.ok().flatten())
    }
}
