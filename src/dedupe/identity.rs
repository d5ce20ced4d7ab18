//! By what a delivery is known, and what is done when a known one comes with another body. The layer and the inbox ask here.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::ledger::{BodyDigest, Claim, EventKey, Token};
use crate::{event::Delivery, telemetry};

/// By what a delivery is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Identity {
    /// By its event id, checked against its body. A delivery that was let in without an id is known by its body.
    #[default]
    EventId,
    /// By its body alone, whatever id it comes under: a captured body sent again under a fresh id is a duplicate.
    ///
    /// The price: a second genuine event whose body has the very same bytes is dropped.
    Body,
}

/// What is done with a known id that comes with another body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ConflictPolicy {
    /// It is handled, once, and marked as a conflict: nothing is lost.
    #[default]
    Process,
    /// The id alone counts, so it is a duplicate. For the case that klikit should turn out to write the body anew for each
    /// attempt. Whoever captured a delivery can then have a genuine one ignored, by guessing its id.
    TrustEventId,
    /// It is refused with 409, until an operator has looked at it.
    Refuse,
}

/// The settings, and where claims come from.
#[derive(Clone)]
pub(crate) struct Recognition {
    pub(crate) identity: Identity,
    pub(crate) on_conflict: ConflictPolicy,
    pub(crate) scope: Option<Arc<str>>,
    tokens: Arc<Tokens>,
}

/// What a claim has run into, once the body that is there is compared with its own.
pub(crate) enum Found {
    /// The same delivery.
    Same,
    /// Another one, which is to be claimed like this.
    Conflict(Claim),
    /// Another one, which is to be refused.
    Refused,
}

impl Recognition {
    /// # Panics
    ///
    /// When the system has no random bytes.
    pub(crate) fn new() -> Self {
        Self {
            identity: Identity::default(),
            on_conflict: ConflictPolicy::default(),
            scope: None,
            tokens: Arc::new(Tokens::new()),
        }
    }

    /// A claim on this delivery, unlike any other.
    pub(crate) fn claim(&self, delivery: &Delivery, digest: BodyDigest) -> Claim {
        let scope = self.scope_of(delivery.tenant());
        let event = match (self.identity, delivery.event_id()) {
            (Identity::EventId, Some(id)) => EventKey::of_event(scope, id.as_str()),
            (Identity::EventId, None) | (Identity::Body, _) => EventKey::of_body(scope, &digest),
        };
        Claim { key: event, event, digest, token: self.tokens.next() }
    }

    /// What it means that `claim` has found an entry whose body is `held`.
    pub(crate) fn found(&self, claim: &Claim, held: &BodyDigest, delivery: &Delivery) -> Found {
        // An entry of a conflict is its body's own.
        if *held == claim.digest || claim.is_conflict() || self.trusts_event_ids() {
            return Found::Same;
        }
        telemetry::conflict(delivery);
        match self.on_conflict {
            ConflictPolicy::Refuse => Found::Refused,
            ConflictPolicy::Process | ConflictPolicy::TrustEventId => {
                Found::Conflict(Claim { key: claim.event.with_body(&claim.digest), ..claim.clone() })
            }
        }
    }

    /// Whether the same id is the same delivery, whatever its body.
    pub(crate) fn trusts_event_ids(&self) -> bool {
        self.on_conflict == ConflictPolicy::TrustEventId
    }

    pub(crate) fn key_of_event(&self, tenant: &str, event_id: &str) -> EventKey {
        EventKey::of_event(self.scope_of(tenant), event_id)
    }

    pub(crate) fn key_of_body(&self, tenant: &str, body: &[u8]) -> EventKey {
        EventKey::of_body(self.scope_of(tenant), &BodyDigest::of(body))
    }

    /// Under which name a tenant's deliveries are remembered.
    pub(crate) fn scope_of<'a>(&'a self, tenant: &'a str) -> &'a str {
        self.scope.as_deref().unwrap_or(tenant)
    }
}

impl fmt::Debug for Recognition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recognition")
            .field("identity", &self.identity)
            .field("on_conflict", &self.on_conflict)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Where tokens come from: a random start for each process, and a count.
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
