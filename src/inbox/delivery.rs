//! The deliveries that acceptors give to a store, and those that workers get from it.

use std::fmt;

use bytes::Bytes;

use super::{entry::DeliveryId, labels::Labels, ordering::OrderingKey};
use crate::dedupe::{BodyDigest, Claim};

/// A verified delivery for a store to keep.
#[derive(Clone)]
pub struct NewDelivery {
    pub(super) claim: Claim,
    pub(super) head: String,
    pub(super) body: Bytes,
    pub(super) labels: Labels,
    pub(super) ordering_keys: Vec<OrderingKey>,
    /// The bodies that are the same delivery, besides its own.
    pub(super) same_as: SameAs,
    pub(super) revives: bool,
}

/// The bodies that make a known key the same delivery, besides an equal one.
#[derive(Clone, Copy)]
pub(super) enum SameAs {
    /// None.
    Equal,
    /// The body with this digest: its JSON was found to be the same.
    Digest(BodyDigest),
    /// Any body: the key alone decides.
    Any,
}

/// A worker's lease on a delivery. It lasts until another worker leases the delivery, which none does before the lease
/// has expired.
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
}

impl NewDelivery {
    /// The key, the event and the digest of the delivery, and the token of its ledger row.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Whether this is the same delivery as one under the same key whose body has this digest.
    pub fn is_same_as(&self, digest: &BodyDigest) -> bool {
        let is_same = match &self.same_as {
            SameAs::Equal => false,
            SameAs::Digest(same) => same == digest,
            SameAs::Any => true,
        };
        is_same || self.claim.digest() == digest
    }

    /// Whether this delivery makes a DEAD one pending again that is [the same](Self::is_same_as). Otherwise the store returns
    /// [`Acceptance::Dead`](super::Acceptance::Dead) and changes nothing.
    pub fn revives(&self) -> bool {
        self.revives
    }

    /// The request's head, to be stored with the body: a JSON object of less than 2 KB, or more if the URI is long.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The body. It holds customers' data.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the event id, unless the delivery was let in without one. A part of the [head](Self::head), for a column of
    /// its own.
    pub fn event_id(&self) -> Option<&str> {
        self.labels.event_id.as_deref()
    }

    /// Returns the event type, if the request named one. A part of the [head](Self::head), for a column of its own.
    pub fn event_type(&self) -> Option<&str> {
        self.labels.event_type.as_deref()
    }

    /// Returns the keyring's name. A part of the [head](Self::head), for a column of its own.
    pub fn tenant(&self) -> &str {
        &self.labels.tenant
    }

    /// The ordering keys, ascending and without duplicates: mostly none or one. Deliveries that share a key are leased
    /// one after the other.
    pub fn ordering_keys(&self) -> &[OrderingKey] {
        &self.ordering_keys
    }
}

#[cfg(feature = "testing")]
impl NewDelivery {
    /// Makes a delivery for the tests of a store, without ordering keys. It [revives](Self::revives) a dead one.
    pub fn new(claim: Claim, head: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let new = Self {
            claim,
            head: String::new(),
            body: body.into(),
            labels: Labels::default(),
            ordering_keys: Vec::new(),
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

    /// Makes a delivery that [revives](Self::revives) a dead one.
    #[must_use]
    pub fn reviving(self) -> Self {
        Self { revives: true, ..self }
    }

    /// Makes a delivery that [revives](Self::revives) no dead one.
    #[must_use]
    pub fn without_reviving(self) -> Self {
        Self { revives: false, ..self }
    }

    /// Makes [any body](Self::is_same_as) under the key the same delivery.
    #[must_use]
    pub fn with_any_body(self) -> Self {
        Self { same_as: SameAs::Any, ..self }
    }

    /// Makes the body with this digest [the same delivery](Self::is_same_as), as an acceptor does whose body has the
    /// same JSON.
    #[must_use]
    pub fn with_same_json_as(self, digest: BodyDigest) -> Self {
        Self { same_as: SameAs::Digest(digest), ..self }
    }
}

impl Lease {
    /// Makes a lease from the delivery, the fencing token, and the number of this attempt, counted or not.
    pub const fn new(id: DeliveryId, token: i64, attempt: u32) -> Self {
        Self { id, token, attempt }
    }

    /// The delivery.
    pub const fn id(&self) -> DeliveryId {
        self.id
    }

    /// The fencing token, which tells this lease from all others on the delivery.
    pub const fn token(&self) -> i64 {
        self.token
    }

    /// The number of this attempt, from 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl Leased {
    /// Makes a leased delivery from its lease and the [head](NewDelivery::head) and body that the store was given.
    pub fn new(lease: Lease, head: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            lease,
            head: head.into(),
            body: body.into(),
            ordering_keys: Vec::new(),
            after_expired_lease: false,
            attempt_counted: false,
        }
    }

    /// Sets the [ordering keys](NewDelivery::ordering_keys) that the store was given. A worker does not run two
    /// deliveries that share one, even if their leases were lost.
    #[must_use]
    pub fn with_ordering_keys(self, ordering_keys: Vec<OrderingKey>) -> Self {
        Self { ordering_keys, ..self }
    }

    /// Marks a delivery whose last lease expired: its worker died, of this delivery or of another, or still runs it
    /// without being able to extend the lease. A worker does not start all of these at once.
    #[must_use]
    pub fn after_expired_lease(self) -> Self {
        Self { after_expired_lease: true, ..self }
    }

    /// Marks a delivery whose attempt was counted when it was leased. The worker counts that of any other by
    /// [`InboxStore::start`](super::InboxStore::start).
    #[must_use]
    pub fn with_attempt_counted(self) -> Self {
        Self { attempt_counted: true, ..self }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The request's head.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The body. It holds customers' data.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The ordering keys.
    pub fn ordering_keys(&self) -> &[OrderingKey] {
        &self.ordering_keys
    }

    /// Whether its [last lease expired](Self::after_expired_lease).
    pub fn is_after_expired_lease(&self) -> bool {
        self.after_expired_lease
    }

    /// Whether its [attempt was counted](Self::with_attempt_counted) when it was leased.
    pub fn is_attempt_counted(&self) -> bool {
        self.attempt_counted
    }
}

/// Never the body.
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

/// Never the body.
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
