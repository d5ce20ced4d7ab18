//! Operators' operations on deliveries.

use std::ops::Bound;

use super::{
    super::table::{Tick, Timestamp},
    deliveries::Deliveries,
    row::Row,
};
use crate::{
    dedupe::EventKey,
    inbox::{ActivePause, DeliveryId, DeliveryState, Entry, Filter, Page, Pause, ShowBody},
};

/// The maximum number of deliveries to examine for one page. Other calls wait meanwhile.
const EXAMINED: usize = 1024;

impl Deliveries {
    pub(super) fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32, now: Timestamp) -> Page {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut page = Page::default();
        let mut last = after;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (start, end) = match filter.id {
            Some(id) if after.is_none_or(|after| after < id) => (Bound::Included(id), Bound::Included(id)),
            Some(_) => return page,
            None => (start, Bound::Unbounded),
        };
        for (examined, (id, row)) in self.rows.range((start, end)).enumerate() {
            if examined == EXAMINED || page.entries.len() == limit {
                page.next = last;
                break;
            }
            last = Some(*id);
            page.entries.extend(Some(row.entry(*id, now)).filter(|entry| filter.matches(entry)));
        }
        page
    }

    pub(super) fn show(&self, id: DeliveryId, body: ShowBody, now: Timestamp) -> Option<Entry> {
        let row = self.rows.get(&id)?;
        let mut entry = row.entry(id, now);
        entry.history = row.history(now);
        entry.body = row.body.clone().filter(|_| body == ShowBody::Include);
        Some(entry)
    }

    /// Makes dead and done deliveries with these ids ready, if they are in one of these states and have a body. Returns
    /// their number.
    pub(super) fn requeue(&mut self, ids: &[DeliveryId], states: &[DeliveryState], now: Tick) -> u64 {
        let is_chosen = |row: &Row| !row.state.is_unfinished() && states.contains(&row.state) && row.body.is_some();
        self.change_all(ids, is_chosen, |row| {
            row.state = DeliveryState::Ready;
            row.due = now;
            row.attempts = 0;
        })
    }

    /// Dead-letters the deliveries with these ids that are ready or leased and in one of these states. Returns their
    /// number.
    pub(super) fn dead_letter_all(&mut self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> u64 {
        let is_chosen = |row: &Row| row.state.is_unfinished() && states.contains(&row.state);
        self.change_all(ids, is_chosen, |row| row.dead_letter(reason))
    }

    /// Keeps deliveries from being leased. Returns the number of leased deliveries that had not started and are ready
    /// now.
    pub(super) fn pause(&mut self, pause: &Pause, operator: &str, at: Timestamp) -> u64 {
        self.pauses.entry(pause.clone()).or_insert_with(|| (operator.into(), at));
        let is_waiting = |row: &Row| {
            let is_unstarted = row.state == DeliveryState::Leased && row.open.is_none();
            is_unstarted && pause.matches(&row.tenant, row.event_type.as_deref())
        };
        let waiting: Vec<_> = self.rows.iter().filter(|(_, row)| is_waiting(row)).map(|(id, _)| *id).collect();
        self.change_all(&waiting, is_waiting, |row| {
            row.state = DeliveryState::Ready;
            row.due = at.tick();
        })
    }

    /// Returns whether there was such a pause.
    pub(super) fn resume(&mut self, pause: &Pause) -> bool {
        self.pauses.remove(pause).is_some()
    }

    pub(super) fn pauses(&self, now: Timestamp) -> Vec<ActivePause> {
        let active = |(pause, (operator, since)): (&Pause, &(String, Timestamp))| ActivePause {
            pause: pause.clone(),
            operator: operator.clone(),
            since: since.wall_time(now),
        };
        self.pauses.iter().map(active).collect()
    }

    fn change_all(&mut self, ids: &[DeliveryId], is_chosen: impl Fn(&Row) -> bool, change: impl Fn(&mut Row)) -> u64 {
        let mut changed = 0;
        for id in ids {
            if self.rows.get(id).is_some_and(&is_chosen) {
                self.change(*id, &change);
                changed += 1;
            }
        }
        changed
    }

    /// Deletes the deliveries with these ids that are in one of these states. Returns their keys.
    pub(super) fn delete(&mut self, ids: &[DeliveryId], states: &[DeliveryState]) -> Vec<EventKey> {
        let is_in = |row: &Row| states.contains(&row.state);
        let mut deleted = Vec::new();
        for id in ids {
            if self.rows.get(id).is_some_and(is_in) {
                deleted.extend(self.remove(*id).map(|row| row.key));
            }
        }
        deleted
    }
}
