//! The terms and the result of a selection of deliveries to lease.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use tower_klikit::inbox::{Lease, OrderingKey};

use super::{ordering_queue::Repair, rows::UnreadableRow};

/// The terms of a selection.
#[derive(Clone)]
pub(crate) struct SelectTerms {
    /// The maximum number of deliveries to lease.
    pub(crate) limit: usize,
    /// The number of handlers that can start at once. Deliveries beyond that number are prefetched. A delivery whose
    /// lease has expired, or that has used all its attempts, is never prefetched.
    pub(crate) free_handlers: usize,
    pub(crate) max_attempts: u32,
    /// The leases whose handlers the process is running.
    pub(crate) held: Vec<Lease>,
    /// The deliveries that earlier selections of the same call have leased. They count for their tenants' ranks.
    pub(crate) leased: Vec<i64>,
    /// The deliveries to leave out, since they can neither be read nor dead-lettered.
    pub(crate) skip: HashSet<i64>,
}

/// The deliveries that can probably be leased, the deliveries that must be dead-lettered, and the repairs of queues.
#[derive(Default)]
pub(crate) struct Selection {
    pub(super) candidates: Vec<Candidate>,
    pub(super) expired: Vec<ExpiredLease>,
    /// The held leases that have expired, to be extended.
    pub(crate) held: Vec<Lease>,
    pub(super) unreadable: Vec<UnreadableRow>,
    pub(super) repairs: Vec<Repair>,
}

/// A delivery to lease.
pub(super) struct Candidate {
    pub(super) id: i64,
    pub(super) token: i64,
    pub(super) ordering_keys: Vec<OrderingKey>,
    /// Whether the delivery's last lease has expired.
    pub(super) after_expired_lease: bool,
    pub(super) attempt: Attempt,
    /// Whether an attempt may be open, which the lease supersedes.
    pub(super) may_be_open: bool,
    pub(super) age: Duration,
    /// Whether the delivery was retried after it had expired.
    pub(super) after_expiry: bool,
    pub(super) head: String,
    pub(super) body: Bytes,
}

/// How the attempt of a new lease is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Leasing counts the attempt.
    Counted,
    /// The start of the handler counts the attempt.
    CountedAtStart,
    /// No new attempt: the process is still running the delivery's handler.
    Continued,
}

/// A delivery whose lease expired on the last allowed attempt, to be dead-lettered.
pub(super) struct ExpiredLease {
    pub(super) id: i64,
    pub(super) token: i64,
    pub(super) attempts: u32,
    pub(super) head: Option<String>,
}

impl Selection {
    /// Returns whether there is anything to write.
    pub(crate) fn has_changes(&self) -> bool {
        !(self.candidates.is_empty() && self.expired.is_empty() && self.held.is_empty() && self.repairs.is_empty())
            || self.unreadable.iter().any(|unreadable| unreadable.has_state)
    }
}
