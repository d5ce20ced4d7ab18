//! Leasing deliveries.

use std::{
    fmt::Display,
    time::{Duration, Instant, SystemTime},
};

use tokio_postgres::Row;
use tower_klikit::{
    dedupe::StoreError,
    inbox::{
        DeadLettered, DeliveryId, Lease, LeaseBatch, LeaseRequest, Leased, OrderingKey, SettleOutcome, Settlement,
        Unreadable,
    },
};

use super::{by_lease::LeaseParams, searches::FloorTimes, sql::CONTENT_MISSING};
use crate::{
    connection::{Answer, Failure, Params, Sql},
    store::PostgresStore,
    values::{elapsed, seconds, storable},
};

impl PostgresStore {
    /// Leases deliveries. The statement counts dead-lettered deliveries towards its limit, so it runs again if there were any.
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
            // Return the deliveries that are already leased or dead-lettered even after an error.
            let Ok(more) = self.lease_some(&LeaseRequest { limit, free_handlers, ..*request }).await else {
                return Ok(batch);
            };
            found_dead = !more.dead_lettered.is_empty();
            batch.leased.extend(more.leased);
            batch.dead_lettered.extend(more.dead_lettered);
            batch.unreadable.extend(more.unreadable);
        }
    }

    /// Leases and reads deliveries with one statement. If the server rejects the statement, for example because it cannot
    /// read one of the deliveries, leases them without their content, and then reads each by itself.
    async fn lease_some(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        match self.lease_and_read(request).await? {
            Ok(rows) => self.batch_of(&rows, ContentSource::LeaseRow).await,
            Err(failure) if failure.is_from_server() => {
                let rows = self.in_time(1, self.lease_rows(&self.shared.inbox.lease_unread, request)).await?;
                let rows = rows.map_err(StoreError::new)?.unwrap_or_default();
                self.batch_of(&rows, ContentSource::SeparateQuery).await
            }
            Err(failure) => Err(StoreError::new(failure)),
        }
    }

    /// Leases and reads deliveries. If possible, first runs the statement that leaves out deliveries with ordering keys, which
    /// the server plans in less time.
    async fn lease_and_read(&self, request: &LeaseRequest<'_>) -> Result<Result<Vec<Row>, Failure>, StoreError> {
        let sql = &self.shared.inbox;
        if self.shared.searches.may_leave_out_ordered() {
            let rows = self.in_time(1, self.lease_rows(&sql.lease_loose, request)).await?;
            if let Some(rows) = rows.transpose() {
                return Ok(rows);
            }
        }
        let rows = self.in_time(1, self.lease_rows(&sql.lease, request)).await?;
        Ok(rows.map(Option::unwrap_or_default))
    }

    /// Runs the statement that leases. In the same round trip, first extends the held leases that have expired, so that no
    /// delivery whose handler is still running is leased or dead-lettered.
    ///
    /// Returns `None` if the statement has not considered all deliveries. It has leased none then.
    async fn lease_rows(&self, sql: &Sql, request: &LeaseRequest<'_>) -> Result<Option<Vec<Row>>, Failure> {
        let shared = &*self.shared;
        let LeaseRequest { limit, free_handlers, duration, max_attempts, held, worker } = *request;
        let held = LeaseParams::extension(held, duration);
        let (limit, free_handlers) = (i64::from(limit), i64::from(free_handlers));
        let (duration, max_attempts) = (seconds(duration), i64::from(max_attempts));
        // Without floors, the search begins at the start of the index.
        let floors = shared.searches.for_next_search();
        let FloorTimes { loose, ordered } = floors.unwrap_or_default();
        let extend = held.params();
        let worker = storable(worker);
        let lease: Params<'_> =
            &[&limit, &duration, &max_attempts, held.ids(), held.tokens(), &free_handlers, &loose, &ordered, &worker];
        let mut statements = Vec::with_capacity(5);
        if shared.searches.tenants_must_be_added() {
            statements.push((&shared.inbox.add_tenants, &[][..]));
        }
        if !request.held.is_empty() {
            statements.push((&shared.inbox.extend_expired, &extend[..]));
        }
        let count_entries: (&Sql, Params<'_>) = (&shared.inbox.entries_read, &[]);
        if floors.is_none() {
            statements.push(count_entries);
        }
        let lease_index = statements.len();
        statements.push((sql, lease));
        if floors.is_none() {
            statements.push(count_entries);
        }
        let started = Instant::now();
        let mut answers = shared.connections.run_once_within(&shared.inbox.begin_leasing, &statements).await?;
        if floors.is_none() {
            let entries = |answer: &Answer| answer.rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0_i64);
            let read = entries(&answers[lease_index + 1]) - entries(&answers[lease_index - 1]);
            shared.searches.record_search_from_start(read, started.elapsed());
        }
        let mut rows = answers.swap_remove(lease_index).rows;
        if let Some(row) = rows.first() {
            if !row.try_get::<_, bool>(16).unwrap_or(true) {
                shared.searches.record_left_out_ordered(floors);
                return Ok(None);
            }
            // A failure of the call would lose the leases, so ignore an unreadable value.
            let time = |column| row.try_get::<_, Option<SystemTime>>(column).ok().flatten();
            let searched = time(14);
            let first = FloorTimes { loose: time(12).or(searched), ordered: time(13).or(searched) };
            shared.searches.record_first_found(first);
            shared.searches.record_pauses(row.try_get(15).unwrap_or_default());
        }
        // Without a delivery, there is one row.
        rows.retain(|row| !matches!(row.try_get::<_, Option<i64>>(0), Ok(None)));
        Ok(Some(rows))
    }

    /// Makes a batch of the rows of the statement that leases. Dead-letters deliveries whose content can never be read.
    async fn batch_of(&self, rows: &[Row], source: ContentSource) -> Result<LeaseBatch, StoreError> {
        let mut batch = LeaseBatch::default();
        for row in rows {
            let found = LeasedRow::read(row).map_err(StoreError::new)?;
            let Some(lease) = found.lease else {
                batch.dead_lettered.push(found.dead_lettered());
                continue;
            };
            let content = match source {
                ContentSource::LeaseRow => Ok(Content::read(row, 3).map_err(|error| cannot_be_read(&error))),
                ContentSource::SeparateQuery => self.read_content(lease.id()).await,
            };
            match content {
                Ok(Ok(content)) => batch.leased.push(found.leased(lease, content)),
                Ok(Err(reason)) => self.dead_letter_unreadable(&mut batch, lease, reason).await,
                // The delivery is leased again once this lease has expired.
                Err(error) => batch.unreadable.push(Unreadable { id: lease.id(), error }),
            }
        }
        Ok(batch)
    }

    /// Reads the content of a delivery. Returns `Ok(Err(reason))` if the content can never be read.
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

    /// Dead-letters a leased delivery whose content can never be read, and adds it to the batch.
    async fn dead_letter_unreadable(&self, batch: &mut LeaseBatch, lease: Lease, reason: String) {
        let (id, attempts) = (lease.id(), lease.attempt());
        let settlement = Settlement::DeadLetter { reason: reason.clone(), status: None };
        let error = match self.in_time(1, self.settle_one(&lease, &settlement)).await {
            Ok(Ok(SettleOutcome::Settled)) => {
                return batch.dead_lettered.push(DeadLettered { id, attempts, head: None, reason });
            }
            // Another worker has leased the delivery.
            Ok(Ok(_)) => return,
            Ok(Err(failure)) => StoreError::new(failure),
            Err(error) => error,
        };
        batch.unreadable.push(Unreadable { id, error });
    }
}

/// The source of the content of leased deliveries.
#[derive(Clone, Copy)]
enum ContentSource {
    LeaseRow,
    SeparateQuery,
}

fn cannot_be_read(error: &dyn Display) -> String {
    format!("the delivery's content cannot be read: {error}")
}

/// A row of the statement that leases, without the content.
struct LeasedRow {
    id: DeliveryId,
    /// `None` if the delivery was dead-lettered.
    lease: Option<Lease>,
    /// The number of this attempt, or of all attempts if the delivery was dead-lettered.
    attempts: u32,
    head: Option<String>,
    /// Whether the previous lease expired.
    expired: bool,
    /// The reason if the delivery was dead-lettered.
    dead_because: Option<String>,
    attempt_counted: bool,
    age: Duration,
    after_expiry: bool,
}

impl LeasedRow {
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
            age: elapsed(row.try_get(9)?),
            after_expiry: row.try_get(10)?,
        })
    }

    fn dead_lettered(self) -> DeadLettered {
        let Self { id, attempts, head, dead_because, .. } = self;
        DeadLettered { id, attempts, head, reason: dead_because.unwrap_or_default() }
    }

    fn leased(self, lease: Lease, content: Content) -> Leased {
        let Content { head, body, ordering_keys } = content;
        let leased = Leased::new(lease, head, body).with_ordering_keys(ordering_keys).with_age(self.age);
        let leased = if self.after_expiry { leased.after_expiry() } else { leased };
        let leased = if self.expired { leased.after_expired_lease() } else { leased };
        if self.attempt_counted { leased.with_attempt_counted() } else { leased }
    }
}

/// The content of a delivery.
struct Content {
    head: String,
    body: Vec<u8>,
    ordering_keys: Vec<OrderingKey>,
}

impl Content {
    /// Reads the content from three columns, starting at `first`.
    fn read(row: &Row, first: usize) -> Result<Self, tokio_postgres::Error> {
        let keys: Option<Vec<&str>> = row.try_get(first + 2)?;
        let ordering_keys = keys.into_iter().flatten().map(OrderingKey::from_text).collect();
        Ok(Self { head: row.try_get(first)?, body: row.try_get(first + 1)?, ordering_keys })
    }
}
