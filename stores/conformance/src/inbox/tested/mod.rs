//! The store under test. Each method makes a call and checks its result.

mod accept;
mod admin;
mod lease;
mod ledger;
mod limits;
mod settle;

use std::{error::Error, fmt::Debug, iter, sync::Arc, time::Duration};

use tower_klikit::{
    dedupe::{ClaimTerms, StoreError},
    inbox::LeaseRequest,
};

pub(super) use self::settle::{dead_letter, done, reschedule, reschedule_unordered};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const LEASE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub(super) const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);
/// More than the real time that passes while a rule is checked.
pub(super) const MARGIN: Duration = Duration::from_secs(20);
/// More deliveries than any rule makes.
pub(super) const ALL: u32 = 1000;
/// The name of the worker.
pub(super) const WORKER: &str = "worker";
/// A request for all deliveries, with enough free handlers and attempts.
pub(super) const REQUEST: LeaseRequest<'static> =
    LeaseRequest { limit: ALL, free_handlers: ALL, duration: LEASE, max_attempts: 100, held: &[], worker: WORKER };
/// A request for all deliveries ahead of need.
pub(super) const AHEAD: LeaseRequest<'static> = LeaseRequest { free_handlers: 0, ..REQUEST };
pub(super) const TERMS: ClaimTerms = ClaimTerms { lease: LEASE, grace: HOUR };

/// The store under test, and the rule that is checked.
pub(super) struct TestedInbox<'a, S, A> {
    rule: &'static str,
    pub(super) store: Arc<S>,
    /// More handles on the store, for concurrent calls.
    others: Vec<Arc<S>>,
    advance: &'a A,
}

impl<'a, S, A> TestedInbox<'a, S, A> {
    pub(super) fn new(rule: &'static str, store: S, advance: &'a A) -> Self {
        Self { rule, store: Arc::new(store), others: Vec::new(), advance }
    }

    pub(super) fn with_others(self, others: impl IntoIterator<Item = S>) -> Self {
        Self { others: others.into_iter().map(Arc::new).collect(), ..self }
    }

    /// Returns an endless iterator over the handles, in turn.
    pub(super) fn handles(&self) -> impl Iterator<Item = &Arc<S>> {
        iter::once(&self.store).chain(&self.others).cycle()
    }

    pub(super) fn renamed(self, rule: &'static str) -> Self {
        Self { rule, ..self }
    }

    pub(super) fn holds(&self, holds: bool, otherwise: &str) {
        if !holds {
            self.broken(otherwise);
        }
    }

    pub(super) fn answer<T>(&self, call: &str, answer: Result<T, StoreError>) -> T {
        answer.unwrap_or_else(|error| match error.source() {
            Some(source) => self.broken(&format!("{call} failed: {error}: {source}")),
            None => self.broken(&format!("{call} failed: {error}")),
        })
    }

    pub(super) fn same<T: PartialEq + Debug>(&self, call: &str, found: &T, expected: &T, why: &str) {
        self.holds(found == expected, &format!("{call} returned {found:?}, not {expected:?}: {why}"));
    }

    pub(super) fn broken(&self, how: &str) -> ! {
        panic!("this store breaks the rule `{}`: {how}", self.rule)
    }
}

impl<S, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Makes time pass for the store.
    pub(super) async fn advance(&self, time: Duration) {
        (self.advance)(&self.store, time).await;
    }
}

/// Returns whether `found` is `expected`, with tolerance for real time that passes and for the store's rounding.
pub(super) fn roughly(found: Duration, expected: Duration) -> bool {
    found.abs_diff(expected) < MARGIN
}
