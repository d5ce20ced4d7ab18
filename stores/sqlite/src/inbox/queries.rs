//! The calls that count, find and show deliveries.

use std::time::Duration;

use rusqlite::{OptionalExtension, Params, Row, params};
use tower_klikit::{
    dedupe::BodyDigest,
    inbox::{Counts, DeliveryId, DeliveryState, Entry, Filter, Page, SearchTerm, ShowBody},
};

use super::{attempts::OpenAttempt, deliveries::Deliveries, sql::BUCKET_BITS, state::state_of, terms};
use crate::{
    timestamp::time,
    values::{count, digest, text},
};

/// The number of deliveries that a call examines for one page. The limit is there because no delivery can be selected
/// to be leased meanwhile.
const EXAMINED: u32 = 1024;

/// The number of buckets of 512 ids that a call searches for one page. It examines all entries of each, unless it looks
/// for an event id.
const BUCKETS: usize = 128;

impl Deliveries<'_> {
    pub(crate) fn counts(&self) -> rusqlite::Result<Counts> {
        let mut counts = Counts::default();
        let now = self.timestamp.now();
        self.connection.prepare_cached(&self.sql.admin.count_unfinished)?.query_row([], |row| {
            counts.ready = count(row, 0)?;
            counts.leased = count(row, 1)?;
            if counts.backlog() > 0 {
                let oldest = row.get_ref(2)?.as_i64().unwrap_or(now);
                // At least a millisecond: zero would mean that no delivery is pending.
                counts.oldest = Some(Duration::from_millis(now.saturating_sub(oldest).max(1).unsigned_abs()));
            }
            Ok(())
        })?;
        self.connection.prepare_cached(&self.sql.admin.count_finished)?.query_row([], |row| {
            counts.dead = count(row, 0)?;
            counts.done = count(row, 1)?;
            Ok(())
        })?;
        Ok(counts)
    }

    pub(crate) fn backlog(&self, limit: u64) -> rusqlite::Result<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection.prepare_cached(&self.sql.admin.count_backlog)?.query_row([limit], |row| count(row, 0))
    }

    pub(crate) fn stored(&self, limit: u64) -> rusqlite::Result<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection.prepare_cached(&self.sql.admin.count_stored)?.query_row([limit], |row| count(row, 0))
    }

    /// Lists the deliveries that match the filter. Leaves out deliveries on a damaged page.
    pub(crate) fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> rusqlite::Result<Page> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let Ids { ids, end } = self.ids_to_examine(filter, after.map_or(i64::MIN, DeliveryId::get))?;
        let mut page = Page { entries: Vec::new(), next: after };
        for id in ids {
            if page.entries.len() == limit {
                return Ok(page);
            }
            page.next = Some(DeliveryId::new(id));
            let entry = self.isolation.isolate(|| self.entry(id, |columns| columns.may_match(filter)))?.ok().flatten();
            page.entries.extend(entry.map(|(entry, _)| entry).filter(|entry| filter.matches(entry)));
        }
        page.next = end.map(DeliveryId::new);
        Ok(page)
    }

    /// Returns the deliveries to examine next.
    fn ids_to_examine(&self, filter: &Filter, after: i64) -> rusqlite::Result<Ids> {
        if let Some(id) = filter.id {
            return Ok(Ids { ids: Some(id.get()).filter(|id| *id > after).into_iter().collect(), end: None });
        }
        let sql = &self.sql.admin;
        let listed = self.isolation.isolate(|| match filter {
            Filter { event_id: Some(event_id), .. } => self.ids_in_buckets(&sql.list_of_event_id, event_id, after),
            Filter { order: Some(order), .. } => self.ids_in_buckets(&sql.list_of_order, &terms::element(order), after),
            Filter { branch: Some(branch), .. } => self.ids_in_buckets(&sql.list_of_branch, branch.as_str(), after),
            Filter { states: Some(states), .. } if states[..] == [DeliveryState::Dead] => {
                self.ids(&sql.list_dead, params![after, EXAMINED])
            }
            _ => self.ids(&sql.list_all, params![after, EXAMINED]),
        })?;
        if let Ok(ids) = listed {
            return Ok(ids);
        }
        // Listing failed at a damaged page, so try each id. Some may not exist.
        let ids: Vec<i64> = (1..=EXAMINED.into()).map(|n| after.max(0).saturating_add(n)).collect();
        let last =
            self.connection.prepare_cached(&self.sql.admin.read_last_id)?.query_row([], |row| row.get(0)).optional()?;
        let end = ids.last().copied().filter(|end| *end < last.unwrap_or_default());
        Ok(Ids { ids, end })
    }

    /// Returns the deliveries that a statement lists, which are at most `EXAMINED`.
    fn ids(&self, list: &str, values: impl Params) -> rusqlite::Result<Ids> {
        let mut list = self.connection.prepare_cached(list)?;
        let ids: Vec<i64> = list.query_map(values, |row| row.get(0))?.collect::<Result<_, _>>()?;
        let end = ids.last().copied().filter(|_| ids.len() >= EXAMINED as usize);
        Ok(Ids { ids, end })
    }

    /// Returns the deliveries that a statement finds in the index for searches.
    fn ids_in_buckets(&self, list: &str, value: &str, after: i64) -> rusqlite::Result<Ids> {
        let mut find_next = self.connection.prepare_cached(&self.sql.admin.find_next_bucket)?;
        let mut list = self.connection.prepare_cached(list)?;
        let mut ids: Vec<i64> = Vec::new();
        let mut bucket = (after >> BUCKET_BITS) - 1;
        for _ in 0..BUCKETS {
            let next: Option<i64> = find_next.query_row([bucket], |row| row.get(0))?;
            let Some(next) = next else { return Ok(Ids { ids, end: None }) };
            bucket = next;
            let found = list.query_map(params![bucket, value, after], |row| row.get(0))?;
            let mut found: Vec<i64> = found.collect::<Result<_, _>>()?;
            found.sort_unstable();
            ids.append(&mut found);
            if ids.len() >= EXAMINED as usize {
                break;
            }
        }
        // The last id of the bucket.
        let end = Some((bucket << BUCKET_BITS) | ((1 << BUCKET_BITS) - 1));
        Ok(Ids { ids, end })
    }

    pub(crate) fn show(&self, id: DeliveryId, body: ShowBody) -> rusqlite::Result<Option<Entry>> {
        let Some((mut entry, open)) = self.entry(id.get(), |_| true)? else { return Ok(None) };
        entry.history = self.history(id.get(), open)?;
        if body == ShowBody::Include {
            entry.body = self.body(id.get())?.map(Into::into);
        }
        Ok(Some(entry))
    }

    /// Reads a delivery without its body and its records of attempts, and its open attempt. Leaves out the parts that
    /// cannot be read. Returns `None` if there is no such delivery, or if `is_wanted` returns `false`.
    fn entry(
        &self,
        id: i64,
        is_wanted: impl FnOnce(&Columns) -> bool,
    ) -> rusqlite::Result<Option<(Entry, Option<OpenAttempt>)>> {
        let mut read = self.connection.prepare_cached(&self.sql.admin.read_entry)?;
        let columns = read.query_row([id], |row| self.columns(row)).optional()?;
        let Some(columns) = columns.filter(is_wanted) else { return Ok(None) };
        let (digest, head, has_body) = self.digest_and_head(id)?;
        let accepted_at = time(columns.accepted_at);
        let mut entry = Entry::new(DeliveryId::new(id), columns.state, accepted_at, &head.unwrap_or_default());
        entry.attempts = columns.attempts;
        entry.age = columns.age;
        entry.reason = columns.reason;
        entry.digest = digest;
        entry.has_body = has_body;
        entry.terms = columns.terms;
        Ok(Some((entry, columns.open)))
    }

    fn columns(&self, row: &Row<'_>) -> rusqlite::Result<Columns> {
        let attempts = row.get_ref(1)?.as_i64().ok().and_then(|n| n.try_into().ok()).unwrap_or_default();
        Ok(Columns {
            state: state_of(row.get_ref(0)?),
            attempts,
            accepted_at: row.get_ref(2)?.as_i64().unwrap_or_default(),
            age: self.age(row.get_ref(3)?),
            reason: text(row.get_ref(4)?, "reason").ok().map(Into::into),
            terms: terms::readable(row.get_ref(5)?, row.get_ref(6)?),
            tenant: text(row.get_ref(7)?, "tenant").ok().map(Into::into),
            event_type: text(row.get_ref(8)?, "event_type").ok().map(Into::into),
            open: OpenAttempt::new(attempts, row.get_ref(9)?, row.get_ref(10)?, row.get_ref(11)?),
        })
    }

    /// Reads the digest of a delivery's body and the head, and whether the body is stored. Returns `None` for what is
    /// missing or unreadable.
    fn digest_and_head(&self, id: i64) -> rusqlite::Result<(Option<BodyDigest>, Option<String>, bool)> {
        let mut read = self.connection.prepare_cached(&self.sql.rows.read_digest_and_head)?;
        let read = self.isolation.isolate(|| {
            let read = read.query_row([id], |row| {
                let (digest, head) = (digest(row.get_ref(0)?).ok(), text(row.get_ref(1)?, "head").ok());
                let has_body = row.get_ref(2)?.as_str() == Ok("blob");
                Ok((digest, head.map(Into::into), has_body))
            });
            read.optional()
        })?;
        Ok(read.ok().flatten().unwrap_or_default())
    }
}

/// The ids of deliveries to examine, ascending.
struct Ids {
    ids: Vec<i64>,
    /// The id after which there may be more, or `None` if there are no more.
    end: Option<i64>,
}

/// The columns of a delivery's short row.
struct Columns {
    state: DeliveryState,
    attempts: u32,
    accepted_at: i64,
    age: Duration,
    reason: Option<String>,
    terms: Vec<SearchTerm>,
    tenant: Option<String>,
    event_type: Option<String>,
    open: Option<OpenAttempt>,
}

impl Columns {
    /// Returns whether the filter may select the delivery. If not, its head, which is in another table, is not read.
    fn may_match(&self, filter: &Filter) -> bool {
        let Filter { states, tenant, event_type, reason, attempts, .. } = filter;
        states.as_ref().is_none_or(|states| states.contains(&self.state))
            && tenant.as_deref().is_none_or(|tenant| self.tenant.as_deref() == Some(tenant))
            && event_type.as_deref().is_none_or(|event_type| self.event_type.as_deref() == Some(event_type))
            && filter.terms().all(|term| self.terms.contains(term))
            && reason.as_deref().is_none_or(|part| self.reason.as_deref().is_some_and(|reason| reason.contains(part)))
            && attempts.as_ref().is_none_or(|attempts| attempts.contains(&self.attempts))
    }
}
