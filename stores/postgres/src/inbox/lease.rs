//! Leasing deliveries.

use std::{
    fmt::Display,
    time::{Instant, SystemTime},
};

use tokio_postgres::Row;
use tower_klikit::{
    dedupe::StoreError,
    inbox::{
        DeadLettered, DeliveryId, Lease, LeaseBatch, LeaseRequest, Leased, OrderingKey, SettleOutcome, Settlement,
        Unreadable,
    },
};

use super::{by_lease::Asked, floors::Times, sql::CONTENT_MISSING};
use crate::{
    connection::{Answer, Failure, Params, Sql},
    store::PostgresStore,
    values::seconds,
};

impl PostgresStore {
    /// Leases deliveries. A statement's limit counts those that it dead-letters as well, so it runs again after each of
    /// these.
    pub(super) async fn lease_all(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        let mut batch = self.lease_some(request).await?;
        let mut found_dead = !batch.dead_lettered.is_empty();
        loop {
            let leased = u32::try_from(batch.leased.len()).unwrap_or(u32::MAX);
            let (limit, free_handlers) =
                (request.limit.saturating_sub(leased), request.free_handlers.saturating_sub(leased));
            if limit == 0 || !found_dead {
                return Ok(batch);
            }
            // An error must not lose what is leased and dead-lettered already.
            let Ok(more) = self.lease_some(&LeaseRequest { limit, free_handlers, ..*request }).await else {
                return Ok(batch);
            };
            found_dead = !more.dead_lettered.is_empty();
            batch.leased.extend(more.leased);
            batch.dead_lettered.extend(more.dead_lettered);
            batch.unreadable.extend(more.unreadable);
        }
    }

    /// Leases deliveries with one statement that reads them as well. If the server rejects that, as it does if it
    /// cannot read one of them, leases them without reading them, and then reads each by itself.
    async fn lease_some(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        let sql = &self.shared.inbox;
        match self.in_time(1, self.lease_rows(&sql.lease, request)).await? {
            Ok(rows) => self.batch_of(&rows, Reading::Together).await,
            Err(failure) if failure.is_servers() => {
                let rows = self.in_time(1, self.lease_rows(&sql.lease_unread, request)).await?;
                self.batch_of(&rows.map_err(StoreError::new)?, Reading::Apart).await
            }
            Err(failure) => Err(StoreError::new(failure)),
        }
    }

    /// First extends the leases that are held and have expired, so that no delivery is leased or dead-lettered whose
    /// handler is still running. Sends that together with the statement that leases.
    async fn lease_rows(&self, sql: &Sql, request: &LeaseRequest<'_>) -> Result<Vec<Row>, Failure> {
        let shared = &*self.shared;
        let LeaseRequest { limit, free_handlers, duration, max_attempts, held } = *request;
        let held = Asked::extension(held, duration);
        let (limit, free_handlers) = (i64::from(limit), i64::from(free_handlers));
        let (duration, max_attempts) = (seconds(duration), i64::from(max_attempts));
        let floors = shared.floors.next();
        let Times { loose, ordered } = floors.unwrap_or_default();
        let extend = held.params();
        let lease: Params<'_> =
            &[&limit, &duration, &max_attempts, held.ids(), held.tokens(), &free_handlers, &loose, &ordered];
        let mut statements = Vec::with_capacity(4);
        if !request.held.is_empty() {
            statements.push((&shared.inbox.extend_expired, &extend[..]));
        }
        let leasing = if floors.is_none() {
            statements.extend([
                (&shared.inbox.entries_read, [].as_slice()),
                (sql, lease),
                (&shared.inbox.entries_read, &[]),
            ]);
            statements.len() - 2
        } else {
            statements.push((sql, lease));
            statements.len() - 1
        };
        let asked = Instant::now();
        let mut answers = shared.connections.run_once_within(&shared.inbox.begin_leasing, &statements).await?;
        if floors.is_none() {
            let entries = |answer: &Answer| answer.rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0_i64);
            let read = entries(&answers[leasing + 1]) - entries(&answers[leasing - 1]);
            shared.floors.read(read, asked.elapsed());
        }
        let rows = answers.swap_remove(leasing).rows;
        if let Some(row) = rows.first() {
            // An unreadable time must not fail the call, which would lose the leases.
            let time = |column| row.try_get::<_, Option<SystemTime>>(column).ok().flatten();
            shared.floors.found(Times { loose: time(9), ordered: time(10) });
        }
        Ok(rows)
    }

    async fn batch_of(&self, rows: &[Row], reading: Reading) -> Result<LeaseBatch, StoreError> {
        let mut batch = LeaseBatch::default();
        for row in rows {
            let found = Found::read(row).map_err(StoreError::new)?;
            let Some(lease) = found.lease else {
                batch.dead_lettered.push(found.dead_lettered());
                continue;
            };
            let content = match reading {
                Reading::Together => Ok(Content::read(row, 3).map_err(|error| cannot_be_read(&error))),
                Reading::Apart => self.read_content(lease.id()).await,
            };
            match content {
                Ok(Ok(content)) => batch.leased.push(found.leased(lease, content)),
                Ok(Err(reason)) => self.dead_letter_unreadable(&mut batch, lease, reason).await,
                // It is leased again once this lease has expired.
                Err(error) => batch.unreadable.push(Unreadable { id: lease.id(), error }),
            }
        }
        Ok(batch)
    }

    /// Reads the content of a delivery. Returns `Ok(Err(_))`, with the reason, if it cannot be read now or later.
    async fn read_content(&self, id: DeliveryId) -> Result<Result<Content, String>, StoreError> {
        let shared = &*self.shared;
        let params: Params<'_> = &[&id.get()];
        match self.in_time(1, shared.connections.run(&shared.inbox.read_content, params)).await? {
            Ok(answer) => Ok(match answer.rows.first() {
                Some(row) => Content::read(row, 0).map_err(|error| cannot_be_read(&error)),
                None => Err(CONTENT_MISSING.into()),
            }),
            Err(failure) => match failure.damage() {
                Some(message) => Ok(Err(cannot_be_read(&message))),
                None => Err(StoreError::new(failure)),
            },
        }
    }

    async fn dead_letter_unreadable(&self, batch: &mut LeaseBatch, lease: Lease, reason: String) {
        let (id, attempts) = (lease.id(), lease.attempt());
        let settlement = Settlement::DeadLetter { reason: reason.clone() };
        let error = match self.in_time(1, self.settle_one(&lease, &settlement)).await {
            Ok(Ok(SettleOutcome::Settled)) => {
                return batch.dead_lettered.push(DeadLettered { id, attempts, head: None, reason });
            }
            // Another worker has leased it.
            Ok(Ok(_)) => return,
            Ok(Err(failure)) => StoreError::new(failure),
            Err(error) => error,
        };
        batch.unreadable.push(Unreadable { id, error });
    }
}

/// Whether the statement that leased deliveries has read them.
#[derive(Clone, Copy)]
enum Reading {
    Together,
    Apart,
}

fn cannot_be_read(error: &dyn Display) -> String {
    format!("its content cannot be read: {error}")
}

/// A row of the statement that leases, without the content.
struct Found {
    id: DeliveryId,
    /// `None` if the delivery was dead-lettered.
    lease: Option<Lease>,
    /// The number of this attempt, or of all if the delivery was dead-lettered.
    attempts: u32,
    head: Option<String>,
    /// Whether its last lease has expired.
    expired: bool,
    dead_because: Option<String>,
    attempt_counted: bool,
}

impl Found {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let id = DeliveryId::new(row.try_get(0)?);
        // Never negative, unless the row was edited by hand.
        let attempts = u32::try_from(row.try_get::<_, i32>(2)?).unwrap_or_default();
        let token: Option<i64> = row.try_get(1)?;
        Ok(Self {
            id,
            lease: token.map(|token| Lease::new(id, token, attempts)),
            attempts,
            head: row.try_get(3).unwrap_or_default(),
            expired: row.try_get(6)?,
            dead_because: row.try_get(7)?,
            attempt_counted: row.try_get(8)?,
        })
    }

    fn dead_lettered(self) -> DeadLettered {
        let Self { id, attempts, head, dead_because, .. } = self;
        DeadLettered { id, attempts, head, reason: dead_because.unwrap_or_default() }
    }

    fn leased(self, lease: Lease, content: Content) -> Leased {
        let Content { head, body, ordering_keys } = content;
        let leased = Leased::new(lease, head, body).with_ordering_keys(ordering_keys);
        let leased = if self.expired { leased.after_expired_lease() } else { leased };
        if self.attempt_counted { leased.with_attempt_counted() } else { leased }
    }
}

struct Content {
    head: String,
    body: Vec<u8>,
    ordering_keys: Vec<OrderingKey>,
}

impl Content {
    /// Reads the content from three columns, the first of which is number `first`.
    fn read(row: &Row, first: usize) -> Result<Self, tokio_postgres::Error> {
        let keys: Option<Vec<&str>> = row.try_get(first + 2)?;
        let ordering_keys = keys.into_iter().flatten().map(OrderingKey::from_text).collect();
        Ok(Self { head: row.try_get(first)?, body: row.try_get(first + 1)?, ordering_keys })
    }
}
