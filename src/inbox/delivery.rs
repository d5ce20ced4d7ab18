//! Types that acceptors pass to a store, and types that a store returns to workers.

use std::{fmt, time::Duration};

use bytes::Bytes;

use super::{entry::DeliveryId, labels::Labels, ordering::OrderingKey, terms::SearchTerm};
use crate::dedupe::{BodyDigest, Claim};

/// A verified delivery for a store to keep.
#[derive(Clone)]
pub struct NewDelivery {
    pub(super) claim: Claim,
    pub(super) head: String,
    pub(super) body: Bytes,
    pub(super) labels: Labels,
    pub(super) ordering_keys: Vec<OrderingKey>,
    pub(super) terms: Vec<SearchTerm>,
    /// The other bodies under the same key that count as this delivery.
    pub(super) same_as: SameAs,
    pub(super) revives: bool,
}

/// The other bodies that count as the same delivery. A body with an equal digest always does.
#[derive(Clone, Copy)]
pub(super) enum SameAs {
    /// No other body.
    Equal,
    /// The body with this digest, which has the same JSON.
    Digest(BodyDigest),
    /// Every body: the key alone identifies the delivery.
    Any,
}

/// A worker's lease on a delivery. The lease ends when another worker leases the delivery, which is possible only after
/// the lease has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    id: DeliveryId,
    token: i64,
    attempt: u32,
}

/// A leased delivery.
#[derive(Clone)]
pub struct Leased {
    pub(super) lease: Lease,
    pub(super) head: String,
    pub(super) body: Bytes,
    pub(super) ordering_keys: Vec<OrderingKey>,
    pub(super) after_expired_lease: bool,
    pub(super) attempt_counted: bool,
    pub(super) age: Duration,
    pub(super) after_expiry: bool,
}

impl NewDelivery {
    /// Returns the key, the event and the digest of the delivery, and the token of its ledger row.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Returns whether this is the same delivery as a stored one with the same key whose body has this digest.
    pub fn is_same_as(&self, digest: &BodyDigest) -> bool {
        let is_same = match &self.same_as {
            SameAs::Equal => false,
            SameAs::Digest(same) => same == digest,
            SameAs::Any => true,
        };
        is_same || self.claim.digest() == digest
    }

    /// Returns whether this delivery makes a DEAD one pending again that is [the same](Self::is_same_as). If not, the
    /// store returns [`Acceptance::Dead`](super::Acceptance::Dead) and changes nothing.
    pub fn revives(&self) -> bool {
        self.revives
    }

    /// Returns the head to store with the body: a JSON object of less than 2 KB, or more if the URI is long.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Returns the body. It contains customers' data.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the event id, if the delivery has one. A part of the [head](Self::head), for a column of its own.
    pub fn event_id(&self) -> Option<&str> {
        self.labels.event_id.as_deref()
    }

    /// Returns the event type, if the delivery has one. A part of the [head](Self::head), for a column of its own.
    pub fn event_type(&self) -> Option<&str> {
        self.labels.event_type.as_deref()
    }

    /// Returns the keyring's name. A part of the [head](Self::head), for a column of its own.
    pub fn tenant(&self) -> &str {
        &self.labels.tenant
    }

    /// Returns the ordering keys, ascending and without duplicates: usually at most one. Deliveries that share a key
    /// are leased one after the other.
    pub fn ordering_keys(&self) -> &[OrderingKey] {
        &self.ordering_keys
    }

    /// Returns the terms by which operators find the delivery, ascending and without duplicates: at most
    /// [`SearchTerm::MAX`], usually two.
    pub fn terms(&self) -> &[SearchTerm] {
        &self.terms
    }
}

#[cfg(feature = "testing")]
impl NewDelivery {
    /// Creates a delivery for tests of a store. It has no ordering keys and [revives](Self::revives) a dead one.
    pub fn new(claim: Claim, head: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let new = Self {
            claim,
            head: String::new(),
            body: body.into(),
            labels: Labels::default(),
            ordering_keys: Vec::new(),
            terms: Vec::new(),
            same_as: SameAs::Equal,
            revives: true,
        };
        new.with_head(head)
    }

    /// Sets the head, and with it the event id, the event type and the tenant.
    #[must_use]
    pub fn with_head(self, head: impl Into<String>) -> Self {
        let head = head.into();
        Self { labels: serde_json::from_str(&head).unwrap_or_default(), head, ..self }
    }

    /// Sets the ordering keys, one for each name.
    #[must_use]
    pub fn with_ordering_keys(self, names: &[&str]) -> Self {
        let mut ordering_keys: Vec<_> = names.iter().map(|name| OrderingKey::from_text(name)).collect();
        ordering_keys.sort_unstable();
        ordering_keys.dedup();
        Self { ordering_keys, ..self }
    }

    /// Sets the [search terms](Self::terms) from their texts.
    #[must_use]
    pub fn with_terms(self, terms: &[&str]) -> Self {
        let mut terms: Vec<_> = terms.iter().map(|term| SearchTerm::from_text(term)).collect();
        terms.sort_unstable();
        terms.dedup();
        Self { terms, ..self }
    }

    /// Lets the delivery [revive](Self::revives) a dead one.
    #[must_use]
    pub fn reviving(self) -> Self {
        Self { revives: true, ..self }
    }

    /// Does not let the delivery [revive](Self::revives) a dead one.
    #[must_use]
    pub fn without_reviving(self) -> Self {
        Self { revives: false, ..self }
    }

    /// Treats [every body](Self::is_same_as) with the same key as the same delivery.
    #[must_use]
    pub fn with_any_body(self) -> Self {
        Self { same_as: SameAs::Any, ..self }
    }

    /// Treats the body with this digest as [the same delivery](Self::is_same_as), as an acceptor does if both bodies
    /// have the same JSON.
    #[must_use]
    pub fn with_same_json_as(self, digest: BodyDigest) -> Self {
        Self { same_as: SameAs::Digest(digest), ..self }
    }
}

impl Lease {
    /// Creates a lease from the delivery's id, the fencing token, and the number of this attempt, counted or not.
    pub const fn new(id: DeliveryId, token: i64, attempt: u32) -> Self {
        Self { id, token, attempt }
    }

    /// Returns the id of the delivery.
    pub const fn id(&self) -> DeliveryId {
        self.id
    }

    /// Returns the fencing token, which distinguishes this lease from all other leases on the delivery.
    pub const fn token(&self) -> i64 {
        self.token
    }

    /// Returns the number of this attempt, from 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl Leased {
    /// Creates a leased delivery from its lease, its stored [head](NewDelivery::head) and its stored body.
    pub fn new(lease: Lease, head: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            lease,
            head: head.into(),
            body: body.into(),
            ordering_keys: Vec::new(),
            after_expired_lease: false,
            attempt_counted: false,
            age: Duration::ZERO,
            after_expiry: false,
        }
    }

    /// Sets the stored [ordering keys](NewDelivery::ordering_keys). A worker does not run two deliveries that share a
    /// key at the same time, even if their leases were lost.
    #[must_use]
    pub fn with_ordering_keys(self, ordering_keys: Vec<OrderingKey>) -> Self {
        Self { ordering_keys, ..self }
    }

    /// Marks a delivery whose last lease expired: its worker has crashed, perhaps because of this delivery, or cannot
    /// extend the lease. A worker starts such deliveries at staggered times.
    #[must_use]
    pub fn after_expired_lease(self) -> Self {
        Self { after_expired_lease: true, ..self }
    }

    /// Marks a delivery whose attempt was counted when it was leased. The worker counts the attempts of other
    /// deliveries by [`InboxStore::start`](super::InboxStore::start).
    #[must_use]
    pub fn with_attempt_counted(self) -> Self {
        Self { attempt_counted: true, ..self }
    }

    /// Sets the time since the delivery was accepted, by the store's clock. Workers compare it with
    /// [`expire_after`](super::Worker::expire_after).
    #[must_use]
    pub fn with_age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// Marks a delivery whose last reason is [`EXPIRED`](super::EXPIRED): an operator has retried it, so it does not
    /// expire again before its next attempt.
    #[must_use]
    pub fn after_expiry(self) -> Self {
        Self { after_expiry: true, ..self }
    }

    /// Returns the lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Returns the stored head.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Returns the body. It contains customers' data.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the ordering keys.
    pub fn ordering_keys(&self) -> &[OrderingKey] {
        &self.ordering_keys
    }

    /// Returns whether the [last lease expired](Self::after_expired_lease).
    pub fn is_after_expired_lease(&self) -> bool {
        self.after_expired_lease
    }

    /// Returns whether the [attempt was counted](Self::with_attempt_counted) when the delivery was leased.
    pub fn is_attempt_counted(&self) -> bool {
        self.attempt_counted
    }

    /// Returns the [age](Self::with_age).
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Returns whether the delivery was [retried after it had expired](Self::after_expiry).
    pub fn is_after_expiry(&self) -> bool {
        self.after_expiry
    }
}

/// Omits the body, which contains customers' data.
impl fmt::Debug for NewDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewDelivery")
            .field("claim", &self.claim)
            .field("head", &self.head)
            .field("bytes", &self.body.len())
            .field("ordering_keys", &self.ordering_keys)
            .field("revives", &self.revives)
            .finish_non_exhaustive()
    }
}

/// Omits the body, which contains customers' data.
impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased")
            .field("lease", &self.lease)
            .field("head", &self.head)
            .field("bytes", &self.body.len())
            .field("after_expired_lease", &self.after_expired_lease)
            .field("attempt_counted", &self.attempt_counted)
            .finish()
    }
}
