//! The rules that tell a copy from a new delivery. The layer and the inbox share them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::ledger::{BodyDigest, Claim, EventKey, Token};
use crate::{event::Delivery, json, telemetry};

/// The part of a delivery that identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Identity {
    /// Its event id, checked against its body. A delivery that was let in without an id is identified by its body.
    #[default]
    EventId,
    /// Its body alone, under any id: a captured body that is sent again under a fresh id is a duplicate.
    ///
    /// The price: a second genuine event whose body is the same is dropped.
    Body,
}

/// The treatment of a known id that comes with another body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ConflictPolicy {
    /// The delivery is handled, once, and marked as a conflict: nothing is lost. An inbox that still stores the earlier
    /// body treats a copy whose JSON was merely written anew as a duplicate.
    #[default]
    Process,
    /// As [`Process`](Self::Process), but bodies are compared as JSON: white space, member order and escapes do not
    /// matter, so that a copy whose JSON was written anew is a duplicate however long ago the first one was handled.
    /// Numbers compare as they are written. A body that is not JSON, that repeats a member name, that nests deeper than
    /// 128 levels or that is larger than 8 MiB is compared by its bytes.
    ///
    /// The price is parsing each body. A store that remembers deliveries under another policy takes their copies for
    /// conflicts, once.
    SameJson,
    /// The delivery is a duplicate: the id alone counts. For the case that klikit changes the body from one attempt to
    /// the next. An attacker who captured a delivery can then suppress a genuine one by guessing its id.
    TrustEventId,
    /// The delivery is rejected with 409 until an operator has looked at it.
    Reject,
}

/// The settings that tell a copy from a new delivery, and the source of claims.
#[derive(Clone)]
pub(crate) struct DedupePolicy {
    pub(crate) identity: Identity,
    pub(crate) on_conflict: ConflictPolicy,
    pub(crate) scope: Option<Arc<str>>,
    tokens: Arc<Tokens>,
}

/// How a delivery compares with the entry that its claim has found.
pub(crate) enum Match {
    /// The entry is the same delivery.
    Same,
    /// The entry is another delivery. This one has to be claimed under a key of its own.
    Conflict(Claim),
    /// The entry is another delivery, and this one has to be rejected.
    Rejected,
}

impl DedupePolicy {
    /// # Panics
    ///
    /// Panics if the system has no random bytes.
    pub(crate) fn new() -> Self {
        Self {
            identity: Identity::default(),
            on_conflict: ConflictPolicy::default(),
            scope: None,
            tokens: Arc::new(Tokens::new()),
        }
    }

    /// Makes a claim on this delivery with a token of its own.
    pub(crate) fn claim(&self, delivery: &Delivery, body: &[u8]) -> Claim {
        let digest = self.digest(body);
        let scope = self.scope_of(delivery.tenant());
        let event = match (self.identity, delivery.event_id()) {
            (Identity::EventId, Some(id)) => EventKey::of_event(scope, id.as_str()),
            (Identity::EventId, None) | (Identity::Body, _) => EventKey::of_body(scope, &digest),
        };
        Claim { key: event, event, digest, token: self.tokens.next() }
    }

    /// Compares a delivery with the entry that `claim` has found, whose body has the digest `held`.
    pub(crate) fn compare(&self, claim: &Claim, held: &BodyDigest, delivery: &Delivery) -> Match {
        // The key of a conflict contains the digest of its body.
        if *held == claim.digest || claim.is_conflict() || self.trusts_event_ids() {
            return Match::Same;
        }
        match self.on_conflict {
            ConflictPolicy::Reject => {
                telemetry::conflict(delivery, "rejected the delivery");
                Match::Rejected
            }
            ConflictPolicy::Process | ConflictPolicy::SameJson | ConflictPolicy::TrustEventId => {
                telemetry::conflict(delivery, "processing it as a separate delivery");
                Match::Conflict(Claim { key: claim.event.with_body(&claim.digest), ..claim.clone() })
            }
        }
    }

    /// Returns whether the same id is the same delivery under every body.
    pub(crate) fn trusts_event_ids(&self) -> bool {
        self.on_conflict == ConflictPolicy::TrustEventId
    }

    pub(crate) fn key_of_event(&self, tenant: &str, event_id: &str) -> EventKey {
        EventKey::of_event(self.scope_of(tenant), event_id)
    }

    pub(crate) fn key_of_body(&self, tenant: &str, body: &[u8]) -> EventKey {
        EventKey::of_body(self.scope_of(tenant), &self.digest(body))
    }

    /// Hashes a body for comparison with others.
    fn digest(&self, body: &[u8]) -> BodyDigest {
        match self.on_conflict {
            ConflictPolicy::SameJson => {
                json::canonical_digest(body).map_or_else(|| BodyDigest::of(body), BodyDigest::from)
            }
            _ => BodyDigest::of(body),
        }
    }

    /// Returns the name under which a tenant's deliveries are remembered.
    pub(crate) fn scope_of<'a>(&'a self, tenant: &'a str) -> &'a str {
        self.scope.as_deref().unwrap_or(tenant)
    }
}

impl fmt::Debug for DedupePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DedupePolicy")
            .field("identity", &self.identity)
            .field("on_conflict", &self.on_conflict)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// The source of tokens: a random start, and a counter.
struct Tokens {
    process: u64,
    count: AtomicU64,
}

impl Tokens {
    fn new() -> Self {
        let process = getrandom::u64().expect("the system has random bytes");
        Self { process, count: AtomicU64::new(0) }
    }

    fn next(&self) -> Token {
        // Only uniqueness matters.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.process.to_be_bytes());
        bytes[8..].copy_from_slice(&count.to_be_bytes());
        Token::from_bytes(bytes)
    }
}
