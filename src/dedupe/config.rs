use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{DynLedger, ledger::Token};

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

/// What the layer was told, shared by all its services.
pub(super) struct Config {
    pub(super) ledger: Arc<dyn DynLedger>,
    pub(super) lease: Duration,
    pub(super) retention: Duration,
    pub(super) claim_deadline: Duration,
    pub(super) handler_deadline: Duration,
    pub(super) identity: Identity,
    pub(super) on_conflict: ConflictPolicy,
    pub(super) scope: Option<Arc<str>>,
    pub(super) tokens: Arc<Tokens>,
}

impl Config {
    /// Under which name a tenant's deliveries are remembered.
    pub(super) fn scope_of<'a>(&'a self, tenant: &'a str) -> &'a str {
        self.scope.as_deref().unwrap_or(tenant)
    }

    pub(super) fn new_token(&self) -> Token {
        self.tokens.next()
    }
}

impl Clone for Config {
    fn clone(&self) -> Self {
        Self { ledger: Arc::clone(&self.ledger), scope: self.scope.clone(), tokens: Arc::clone(&self.tokens), ..*self }
    }
}

/// Where tokens come from: a random start for each process, and a count.
pub(super) struct Tokens {
    process: u64,
    count: AtomicU64,
}

impl Tokens {
    pub(super) fn new() -> Self {
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

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .field("claim_deadline", &self.claim_deadline)
            .field("handler_deadline", &self.handler_deadline)
            .field("identity", &self.identity)
            .field("on_conflict", &self.on_conflict)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
