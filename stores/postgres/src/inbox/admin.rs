//! The calls of operators.

use std::{ops::Range, time::SystemTime};

use tokio_postgres::Row;
use tower_klikit::{
    dedupe::{EventKey, StoreError},
    inbox::{DeliveryId, DeliveryState, Entry, InboxAdmin},
};

use crate::{
    connection::{PATIENCE, Params, Sql},
    store::PostgresStore,
    values::{BoxError, bytes, count, within_calendar},
};

impl InboxAdmin for PostgresStore {
    async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        self.require_inbox()?;
        let after = after.map_or(i64::MIN, DeliveryId::get);
        let answer = self.run(&self.shared.inbox.dead, &[&after, &i64::from(limit)]).await?;
        answer.rows.iter().map(|row| entry(row).map_err(StoreError::new)).collect()
    }

    async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        self.require_inbox()?;
        let answer = self.run(&self.shared.inbox.show, &[&id.get()]).await?;
        let Some(row) = answer.rows.first() else { return Ok(None) };
        let mut entry = entry(row).map_err(StoreError::new)?;
        entry.body = row.try_get::<_, Option<Vec<u8>>>(6).map_err(StoreError::new)?.map(Into::into);
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

    async fn forget_event(&self, event: &EventKey) -> Result<u64, StoreError> {
        self.require_inbox()?;
        self.forget_those(&self.shared.inbox.forget_event, &[&bytes(event)]).await
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        self.require_inbox()?;
        let (start, end) = (within_calendar(window.start), within_calendar(window.end));
        self.forget_those(&self.shared.inbox.forget_accepted, &[&start, &end]).await
    }
}

impl PostgresStore {
    async fn forget_those(&self, sql: &Sql, params: Params<'_>) -> Result<u64, StoreError> {
        let shared = &*self.shared;
        let statements = [(sql, params)];
        let forgotten = shared.connections.run_within(&shared.inbox.begin_long, &statements);
        let answers = self.within(PATIENCE, forgotten).await?;
        count(answers.first().ok_or_else(|| StoreError::new("a statement without an answer"))?)
    }
}

fn entry(row: &Row) -> Result<Entry, BoxError> {
    let code: i16 = row.try_get(1)?;
    let state = DeliveryState::from_code(code).ok_or_else(|| format!("{code} is not a state of a delivery"))?;
    let head: Option<&str> = row.try_get(3)?;
    let mut entry = Entry::new(DeliveryId::new(row.try_get(0)?), state, row.try_get(2)?, head.unwrap_or_default());
    // Shows a row that was edited by hand, too.
    entry.attempts = u32::try_from(row.try_get::<_, i32>(4)?).unwrap_or_default();
    entry.reason = row.try_get(5)?;
    Ok(entry)
}
