//! What acceptors give to a store, and workers get from it.

use std::fmt;

use bytes::Bytes;

use super::{entry::DeliveryId, ordering::OrderingKey};
use crate::dedupe::{BodyDigest, Claim};

/// A verified delivery that is to be stored.
#[derive(Clone)]
pub struct NewDelivery {
    pub(super) claim: Claim,
    pub(super) head: String,
    pub(super) body: Bytes,
    pub(super) ordering_keys: Vec<OrderingKey>,
    /// Whether another body under the same key is the same delivery.
    pub(super) any_body: bool,
}

/// A delivery that this worker has, until its lease runs out and another takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    id: DeliveryId,
    token: i64,
    attempt: u32,
}

/// A delivery to be handled, and the lease on it.
#[derive(Clone)]
pub struct Leased {
    pub(super) lease: Lease,
    pub(super) head: String,
    pub(super) body: Bytes,
    pub(super) ran_out: bool,
}

impl NewDelivery {
    /// Its key, its event, its digest, and the token that its ledger row gets.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Whether this is the same delivery as one under the same key whose body has this digest.
    pub fn is_same_as(&self, digest: &BodyDigest) -> bool {
        self.any_body || self.claim.digest() == digest
    }

    /// What is to be kept beside the body: a JSON object of less than 2 KB with the URI, and more if the URI is longer.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The body. It holds customers' data.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Deliveries that share one of these are leased one after the other. Ascending, none twice, and mostly empty or one.
    pub fn ordering_keys(&self) -> &[OrderingKey] {
        &self.ordering_keys
    }
}

#[cfg(feature = "testing")]
impl NewDelivery {
    /// Any delivery, for the tests of a store: without ordering keys, and of this body alone.
    pub fn new(claim: Claim, head: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { claim, head: head.into(), body: body.into(), ordering_keys: Vec::new(), any_body: false }
    }

    /// With this head.
    #[must_use]
    pub fn with_head(self, head: impl Into<String>) -> Self {
        Self { head: head.into(), ..self }
    }

    /// To be leased one after the other with those that have one of these names.
    #[must_use]
    pub fn with_ordering_keys(self, names: &[&str]) -> Self {
        let key = |name: &&str| {
            let digest = BodyDigest::of(name.as_bytes());
            OrderingKey::new(std::array::from_fn(|n| digest.as_bytes()[n]))
        };
        let mut ordering_keys: Vec<_> = names.iter().map(key).collect();
        ordering_keys.sort_unstable();
        ordering_keys.dedup();
        Self { ordering_keys, ..self }
    }

    /// Of any body: the key alone tells whether it is the [same](Self::is_same_as).
    #[must_use]
    pub fn with_any_body(self) -> Self {
        Self { any_body: true, ..self }
    }
}

impl Lease {
    /// As a store gives it: the delivery, the fencing token, and how many attempts there were with this one.
    pub const fn new(id: DeliveryId, token: i64, attempt: u32) -> Self {
        Self { id, token, attempt }
    }

    /// The delivery.
    pub const fn id(&self) -> DeliveryId {
        self.id
    }

    /// Tells this lease from all others on the same delivery.
    pub const fn token(&self) -> i64 {
        self.token
    }

    /// Which attempt this is, from 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl Leased {
    /// As a store gives it, with the [head](NewDelivery::head) and the body that it was given.
    pub fn new(lease: Lease, head: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { lease, head: head.into(), body: body.into(), ran_out: false }
    }

    /// The same, of a delivery whose last lease has run out: its worker has died, of this delivery or of another. A worker does not
    /// begin all of those at once.
    #[must_use]
    pub fn after_a_lease_that_ran_out(self) -> Self {
        Self { ran_out: true, ..self }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What was kept beside the body.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The body. It holds customers' data.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether its [last lease ran out](Self::after_a_lease_that_ran_out).
    pub fn is_after_a_lease_that_ran_out(&self) -> bool {
        self.ran_out
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
            .field("ran_out", &self.ran_out)
            .finish()
    }
}
