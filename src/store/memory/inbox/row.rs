//! The row of a stored delivery.

use std::sync::Arc;

use bytes::Bytes;

use super::super::table::{Tick, Timestamp};
use crate::{
    dedupe::{BodyDigest, EventKey},
    inbox::{
        AttemptRecord, DeliveryId, DeliveryState, Entry, Lease, NewDelivery, OUTCOME_UNKNOWN, OrderingKey, SearchTerm,
    },
};

/// A stored delivery.
pub(super) struct Row {
    pub(super) key: EventKey,
    pub(super) event: EventKey,
    pub(super) digest: BodyDigest,
    pub(super) state: DeliveryState,
    /// Ready or leased: the time from which the delivery can be leased. Done: the time until which it is kept, with its
    /// body if it has one.
    pub(super) due: Tick,
    /// Done: the time until which the history is kept after the body.
    pub(super) history_until: Tick,
    pub(super) attempts: u32,
    pub(super) token: i64,
    pub(super) accepted_at: Timestamp,
    pub(super) reason: Option<String>,
    pub(super) tenant: Arc<str>,
    pub(super) event_type: Option<String>,
    pub(super) head: String,
    /// `None` once only the history is kept.
    pub(super) body: Option<Bytes>,
    pub(super) ordering_keys: Vec<OrderingKey>,
    pub(super) terms: Vec<SearchTerm>,
    pub(super) open: Option<OpenAttempt>,
    pub(super) history: Vec<EndedAttempt>,
}

/// An attempt that has started and whose outcome is not known.
#[derive(Clone)]
pub(super) struct OpenAttempt {
    /// The token of the lease with which the attempt started. No other attempt has it.
    token: i64,
    started_at: Timestamp,
    worker: String,
}

/// The record of an attempt that has ended.
pub(super) struct EndedAttempt {
    attempt: OpenAttempt,
    number: u32,
    ended_at: Option<Timestamp>,
    status: Option<u16>,
    reason: Option<String>,
}

impl Row {
    /// Creates the row of a delivery that is ready and due at `due`.
    pub(super) fn new(new: &NewDelivery, accepted_at: Timestamp, due: Tick) -> Self {
        let claim = new.claim();
        Self {
            key: *claim.key(),
            event: *claim.event(),
            digest: *claim.digest(),
            state: DeliveryState::Ready,
            due,
            history_until: due,
            attempts: 0,
            token: 0,
            accepted_at,
            reason: None,
            tenant: new.tenant().into(),
            event_type: new.event_type().map(Into::into),
            head: new.head().into(),
            body: Some(new.body().clone()),
            ordering_keys: new.ordering_keys().to_vec(),
            terms: new.terms().to_vec(),
            open: None,
            history: Vec::new(),
        }
    }

    pub(super) fn is_held_by(&self, lease: &Lease) -> bool {
        self.state == DeliveryState::Leased && self.token == lease.token()
    }

    /// Starts an attempt, unless one is open.
    pub(super) fn open(&mut self, worker: &str, now: Timestamp) {
        let token = self.token;
        self.open.get_or_insert_with(|| OpenAttempt { token, started_at: now, worker: worker.into() });
    }

    /// Ends the open attempt. Replaces a record of the same attempt without an outcome.
    pub(super) fn end(&mut self, number: u32, now: Timestamp, status: Option<u16>, reason: Option<&str>) {
        if let Some(attempt) = self.take_open() {
            let reason = reason.map(str::to_owned);
            self.history.push(EndedAttempt { attempt, number, ended_at: Some(now), status, reason });
        }
    }

    /// Records the open attempt without an outcome, unless it has such a record.
    pub(super) fn end_unknown(&mut self) {
        let open = self.open.take();
        if let Some(attempt) = open.filter(|open| !self.has_record(open)) {
            let (number, reason) = (self.attempts.max(1), Some(OUTCOME_UNKNOWN.to_owned()));
            self.history.push(EndedAttempt { attempt, number, ended_at: None, status: None, reason });
        }
    }

    fn has_record(&self, open: &OpenAttempt) -> bool {
        self.history.iter().any(|ended| ended.attempt.token == open.token)
    }

    /// Returns the open attempt and deletes its record, if it has one.
    pub(super) fn take_open(&mut self) -> Option<OpenAttempt> {
        let open = self.open.take()?;
        self.history.retain(|ended| ended.attempt.token != open.token);
        Some(open)
    }

    /// Returns the entry without its body and history.
    pub(super) fn entry(&self, id: DeliveryId, now: Timestamp) -> Entry {
        let mut entry = Entry::new(id, self.state, self.accepted_at.wall_time(now), &self.head);
        entry.age = self.accepted_at.age(now);
        entry.attempts = self.attempts;
        entry.reason.clone_from(&self.reason);
        entry.digest = Some(self.digest);
        entry.has_body = self.body.is_some();
        entry.terms.clone_from(&self.terms);
        entry
    }

    /// Returns the records of the last attempts, oldest first.
    pub(super) fn history(&self, now: Timestamp) -> Vec<AttemptRecord> {
        let open = self.open.as_ref().filter(|open| !self.has_record(open));
        let open = open.map(|open| open.record(self.attempts.max(1), now));
        let ended = self.history.iter().map(|ended| AttemptRecord {
            ended_at: ended.ended_at.map(|at| at.wall_time(now)),
            status: ended.status,
            reason: ended.reason.clone(),
            ..ended.attempt.record(ended.number, now)
        });
        let mut history: Vec<_> = ended.chain(open).collect();
        history.split_off(history.len().saturating_sub(AttemptRecord::SHOWN))
    }
}

impl OpenAttempt {
    fn record(&self, number: u32, now: Timestamp) -> AttemptRecord {
        AttemptRecord {
            number,
            worker: self.worker.clone(),
            started_at: self.started_at.wall_time(now),
            ended_at: None,
            status: None,
            reason: None,
        }
    }
}
