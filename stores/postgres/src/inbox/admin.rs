//! The admin calls.

use std::time::SystemTime;

use tokio_postgres::Row;
use tower_klikit::{
    dedupe::{LedgerSelection, StoreError},
    inbox::{
        ActivePause, AttemptRecord, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, LedgerRows, Page, Pause,
        SearchTerm, ShowBody,
    },
};

use crate::{
    connection::{LONG_CALL_DEADLINES, Params, Sql},
    store::PostgresStore,
    values::{BoxError, bytes, count, elapsed, seconds, storable, within_calendar},
};

/// The number of deliveries that are examined for one page.
const MAX_EXAMINED: i64 = 5_000;

/// The number of deliveries that are examined for one page if they are scattered over the tables.
const MAX_SCATTERED: i64 = 1_000;

impl InboxAdmin for PostgresStore {
    async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Result<Page, StoreError> {
        self.require_inbox()?;
        let (sql, max_examined) = self.search(filter);
        let Filter { id, states, tenant, event_id, event_type, order, branch, body, reason, .. } = filter;
        let Filter { attempts, accepted, min_age, max_age, .. } = filter;
        let states = states.as_deref().map(codes);
        let digest = body.as_ref().map(|digest| &digest.as_bytes()[..]);
        let start = accepted.as_ref().map(|window| within_calendar(window.start));
        let end = accepted.as_ref().map(|window| within_calendar(window.end));
        let params: Params<'_> = &[
            &after.map_or(i64::MIN, DeliveryId::get),
            &max_examined,
            &states,
            &tenant.as_deref().map(storable),
            &event_id.as_deref().map(storable),
            &digest,
            &start,
            &end,
            &i64::from(limit),
            &id.map(DeliveryId::get),
            &event_type.as_deref().map(storable),
            &order.as_ref().map(SearchTerm::as_str),
            &branch.as_ref().map(SearchTerm::as_str),
            &reason.as_deref().map(storable),
            &attempts.as_ref().map(|attempts| i64::from(*attempts.start())),
            &attempts.as_ref().map(|attempts| i64::from(*attempts.end())),
            &min_age.map(seconds),
            &max_age.map(seconds),
        ];
        let statements = [(sql, params)];
        let searching = self.shared.connections.run_within(&self.shared.inbox.begin_many, &statements);
        let answers = self.within(1, searching).await?;
        let rows: Vec<_> = answers.into_iter().flat_map(|answer| answer.rows).collect();
        page(&rows, limit, max_examined).map_err(StoreError::new)
    }

    async fn show(&self, id: DeliveryId, body: ShowBody) -> Result<Option<Entry>, StoreError> {
        self.require_inbox()?;
        let inbox = &self.shared.inbox;
        let shown = i64::try_from(AttemptRecord::SHOWN).unwrap_or(i64::MAX);
        let (show, records): (Params<'_>, Params<'_>) =
            (&[&id.get(), &(body == ShowBody::Include)], &[&id.get(), &shown]);
        let statements = [(&inbox.show, show), (&inbox.read_records, records)];
        let showing = self.shared.connections.run_within(&inbox.begin_many, &statements);
        let answers = self.within(1, showing).await?;
        let Some(row) = answers[0].rows.first() else { return Ok(None) };
        shown_entry(row, &answers[1].rows).map(Some).map_err(StoreError::new)
    }

    async fn requeue(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let inbox = &self.shared.inbox;
        let params: Params<'_> = &[&numbers(ids), &codes(states)];
        self.run_counted(1, &inbox.begin_alone, &[(&inbox.requeue, params)]).await
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let inbox = &self.shared.inbox;
        let params: Params<'_> = &[&numbers(ids), &codes(states), &storable(reason)];
        self.run_counted(1, &inbox.begin_many, &[(&inbox.dead_letter_chosen, params)]).await
    }

    async fn delete(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        ledger: LedgerRows,
    ) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let inbox = &self.shared.inbox;
        let (ids, states) = (numbers(ids), codes(states));
        let params: Params<'_> = &[&ids];
        let chosen: Params<'_> = &[&ids, &states];
        // Each statement sees what was committed while the previous one waited for its locks.
        let statements: &[_] = match ledger {
            LedgerRows::Keep => &[(&inbox.lock_chosen, chosen), (&inbox.delete_locked, chosen)],
            LedgerRows::Delete => {
                &[(&inbox.lock_ledger, params), (&inbox.lock_chosen, chosen), (&inbox.forget_locked, chosen)]
            }
        };
        self.run_counted(1, &inbox.begin_many, statements).await
    }

    async fn count_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let inbox = &self.shared.inbox;
        self.count_selected(selection, &inbox.count_event, &inbox.count_accepted).await
    }

    async fn forget_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let inbox = &self.shared.inbox;
        match selection {
            LedgerSelection::Event(event) => self.run_alone(&inbox.forget_event, &[&bytes(event)]).await,
            LedgerSelection::Claimed(window) => {
                let (start, end) = (within_calendar(window.start), within_calendar(window.end));
                self.run_alone(&inbox.forget_accepted, &[&start, &end]).await
            }
        }
    }

    async fn pause(&self, pause: &Pause, operator: &str) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let inbox = &self.shared.inbox;
        let [tenant, event_type] = paused(pause);
        let operator = storable(operator);
        let (add, release): (Params<'_>, Params<'_>) = (&[&tenant, &event_type, &operator], &[&tenant, &event_type]);
        let statements = [(&inbox.pause, add), (&inbox.release_paused, release)];
        self.run_counted(LONG_CALL_DEADLINES, &inbox.begin_long, &statements).await
    }

    async fn resume(&self, pause: &Pause) -> Result<bool, StoreError> {
        self.require_inbox()?;
        let [tenant, event_type] = paused(pause);
        Ok(self.run(&self.shared.inbox.resume, &[&tenant, &event_type]).await?.changed > 0)
    }

    async fn pauses(&self) -> Result<Vec<ActivePause>, StoreError> {
        self.require_inbox()?;
        let answer = self.run(&self.shared.inbox.pauses, &[]).await?;
        let pause = |row: &Row| {
            let pause = Pause { tenant: row.try_get(0)?, event_type: row.try_get(1)? };
            Ok(ActivePause { pause, operator: row.try_get(2)?, since: row.try_get(3)? })
        };
        answer.rows.iter().map(pause).collect::<Result<_, tokio_postgres::Error>>().map_err(StoreError::new)
    }
}

impl PostgresStore {
    /// Returns the statement that examines the fewest deliveries for this filter, and the number that it examines for a page.
    fn search(&self, filter: &Filter) -> (&Sql, i64) {
        let inbox = &self.shared.inbox;
        match filter {
            Filter { id: Some(_), .. } => (&inbox.find_id, MAX_EXAMINED),
            Filter { event_id: Some(_), .. } => (&inbox.find_event_id, MAX_SCATTERED),
            Filter { order: Some(_), .. } => (&inbox.find_order, MAX_SCATTERED),
            Filter { branch: Some(_), .. } => (&inbox.find_branch, MAX_SCATTERED),
            Filter { states: Some(states), .. } if states[..] == [DeliveryState::Dead] => {
                (&inbox.find_dead, MAX_SCATTERED)
            }
            _ => (&inbox.find, MAX_EXAMINED),
        }
    }

    /// Runs a statement that counts what it has changed, while nothing is leased or brought back from DEAD.
    async fn run_alone(&self, sql: &Sql, params: Params<'_>) -> Result<u64, StoreError> {
        self.run_counted(LONG_CALL_DEADLINES, &self.shared.inbox.begin_long, &[(sql, params)]).await
    }

    /// Runs statements in one transaction, of which the last one counts what it has changed.
    async fn run_counted(
        &self,
        deadlines: u32,
        begin: &str,
        statements: &[(&Sql, Params<'_>)],
    ) -> Result<u64, StoreError> {
        let answers = self.within(deadlines, self.shared.connections.run_within(begin, statements)).await?;
        count(answers.last().ok_or_else(|| StoreError::new("a statement without an answer"))?)
    }
}

fn numbers(ids: &[DeliveryId]) -> Vec<i64> {
    ids.iter().map(|id| id.get()).collect()
}

fn codes(states: &[DeliveryState]) -> Vec<i16> {
    states.iter().map(|state| state.code()).collect()
}

/// Returns the tenant and the event type of a pause.
fn paused(pause: &Pause) -> [Option<String>; 2] {
    [&pause.tenant, &pause.event_type].map(|name| name.as_deref().map(storable))
}

/// Reads the rows of a page. There is at least one row. Without a selected delivery, its delivery columns are NULL.
fn page(rows: &[Row], limit: u32, max_examined: i64) -> Result<Page, BoxError> {
    let row = rows.first().ok_or("a page without a row")?;
    let (last, examined): (Option<i64>, i64) = (row.try_get(0)?, row.try_get(1)?);
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        // Skip a row that is unreadable after an edit by hand.
        entries.extend(entry(row, 2).ok());
    }
    let last_selected: Option<i64> = rows.last().and_then(|row| row.try_get(2).ok());
    let is_full = u32::try_from(rows.len()).is_ok_and(|selected| selected >= limit) && last_selected.is_some();
    // After a full page, examined deliveries may follow that the limit left out.
    let next = if is_full {
        last_selected
    } else if examined < max_examined {
        None
    } else {
        last
    };
    Ok(Page { entries, next: next.map(DeliveryId::new) })
}

/// Reads a delivery from the columns after the first `skipped`.
fn entry(row: &Row, skipped: usize) -> Result<Entry, BoxError> {
    let code: i16 = row.try_get(skipped + 1)?;
    let state = DeliveryState::from_code(code).ok_or_else(|| format!("{code} is not a state of a delivery"))?;
    let head: Option<&str> = row.try_get(skipped + 3)?;
    let id = DeliveryId::new(row.try_get(skipped)?);
    let mut entry = Entry::new(id, state, row.try_get(skipped + 2)?, head.unwrap_or_default());
    // A negative number comes from an edit by hand. Show the row anyway.
    entry.attempts = u32::try_from(row.try_get::<_, i32>(skipped + 4)?).unwrap_or_default();
    entry.reason = row.try_get(skipped + 5)?;
    let digest: Option<&[u8]> = row.try_get(skipped + 6)?;
    entry.digest = digest.and_then(|digest| <[u8; 32]>::try_from(digest).ok()).map(Into::into);
    entry.age = elapsed(row.try_get(skipped + 7)?);
    entry.has_body = row.try_get(skipped + 8)?;
    let branch: Option<&str> = row.try_get(skipped + 9)?;
    let orders: Option<Vec<&str>> = row.try_get(skipped + 10)?;
    entry.terms = branch.into_iter().chain(orders.into_iter().flatten()).map(SearchTerm::from_text).collect();
    Ok(entry)
}

/// Reads a delivery with the records of its attempts, which are given latest first.
fn shown_entry(row: &Row, records: &[Row]) -> Result<Entry, BoxError> {
    let mut entry = entry(row, 0)?;
    entry.body = row.try_get::<_, Option<Vec<u8>>>(11)?.map(Into::into);
    entry.history = records.iter().rev().map(record).collect::<Result<_, _>>()?;
    let started_at: Option<SystemTime> = row.try_get(12)?;
    // The open attempt of a delivery whose lease expired on the last attempt has a record.
    let open = started_at.filter(|start| entry.history.iter().all(|record| record.started_at != *start));
    if let Some(started_at) = open {
        let worker = row.try_get::<_, Option<_>>(13)?.unwrap_or_default();
        let number = entry.attempts.max(1);
        let open = AttemptRecord { number, worker, started_at, ended_at: None, status: None, reason: None };
        entry.history.push(open);
    }
    let surplus = entry.history.len().saturating_sub(AttemptRecord::SHOWN);
    entry.history.drain(..surplus);
    Ok(entry)
}

/// Reads the record of an attempt. A number that cannot be one comes from an edit by hand.
fn record(row: &Row) -> Result<AttemptRecord, tokio_postgres::Error> {
    let status: Option<i32> = row.try_get(4)?;
    Ok(AttemptRecord {
        number: u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default(),
        worker: row.try_get::<_, Option<_>>(1)?.unwrap_or_default(),
        started_at: row.try_get(2)?,
        ended_at: row.try_get(3)?,
        status: status.and_then(|status| u16::try_from(status).ok()),
        reason: row.try_get(5)?,
    })
}
