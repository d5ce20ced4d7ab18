//! The admin calls.

use std::{ops::Range, time::SystemTime};

use tokio_postgres::Row;
use tower_klikit::{
    dedupe::{EventKey, StoreError},
    inbox::{DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, Page},
};

use crate::{
    connection::{LONG_CALL_DEADLINES, Params, Sql},
    store::PostgresStore,
    values::{BoxError, bytes, count, storable, within_calendar},
};

/// The number of deliveries that are examined for one page.
const MAX_EXAMINED: i64 = 10_000;

impl InboxAdmin for PostgresStore {
    async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Result<Page, StoreError> {
        self.require_inbox()?;
        let sql = match filter.states.as_deref() {
            Some([DeliveryState::Dead]) => &self.shared.inbox.find_dead,
            _ => &self.shared.inbox.find,
        };
        let Filter { states, tenant, event_id, body, accepted } = filter;
        let states = states.as_deref().map(codes);
        let digest = body.as_ref().map(|digest| &digest.as_bytes()[..]);
        let start = accepted.as_ref().map(|window| within_calendar(window.start));
        let end = accepted.as_ref().map(|window| within_calendar(window.end));
        let params: Params<'_> = &[
            &after.map_or(i64::MIN, DeliveryId::get),
            &MAX_EXAMINED,
            &states,
            &tenant.as_deref().map(storable),
            &event_id.as_deref().map(storable),
            &digest,
            &start,
            &end,
            &i64::from(limit),
        ];
        let answer = self.run(sql, params).await?;
        page(&answer.rows, limit).map_err(StoreError::new)
    }

    async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        self.require_inbox()?;
        let answer = self.run(&self.shared.inbox.show, &[&id.get()]).await?;
        let Some(row) = answer.rows.first() else { return Ok(None) };
        let mut entry = entry(row, 0).map_err(StoreError::new)?;
        entry.body = row.try_get::<_, Option<Vec<u8>>>(7).map_err(StoreError::new)?.map(Into::into);
        Ok(Some(entry))
    }

    async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        self.require_inbox()?;
        let shared = &*self.shared;
        let params: Params<'_> = &[&id.get()];
        let statements = [(&shared.inbox.retry, params)];
        let retried = self.within(1, shared.connections.run_within(&shared.inbox.begin_alone, &statements)).await?;
        Ok(retried.iter().any(|answer| answer.changed > 0))
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let inbox = &self.shared.inbox;
        let params: Params<'_> = &[&numbers(ids), &codes(states), &storable(reason)];
        self.run_counted(1, &inbox.begin_many, &[(&inbox.dead_letter_chosen, params)]).await
    }

    async fn forget_deliveries(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let inbox = &self.shared.inbox;
        let (ids, states) = (numbers(ids), codes(states));
        let params: Params<'_> = &[&ids];
        let chosen: Params<'_> = &[&ids, &states];
        // Each statement sees what was committed while the previous one waited for its locks.
        let statements = [(&inbox.lock_ledger, params), (&inbox.lock_chosen, chosen), (&inbox.forget_chosen, chosen)];
        self.run_counted(1, &inbox.begin_many, &statements).await
    }

    async fn forget_event(&self, event: &EventKey) -> Result<u64, StoreError> {
        self.require_inbox()?;
        self.run_alone(&self.shared.inbox.forget_event, &[&bytes(event)]).await
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let (start, end) = (within_calendar(window.start), within_calendar(window.end));
        self.run_alone(&self.shared.inbox.forget_accepted, &[&start, &end]).await
    }
}

impl PostgresStore {
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

/// Reads the rows of a page. There is at least one row. Without a selected delivery, its delivery columns are NULL.
fn page(rows: &[Row], limit: u32) -> Result<Page, BoxError> {
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
    } else if examined < MAX_EXAMINED {
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
    Ok(entry)
}
