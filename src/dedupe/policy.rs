//! The rules that distinguish a copy from a new delivery. The dedupe layer and the inbox share them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    key::{BodyDigest, EventKey, Token},
    ledger::Claim,
    replays::{Admission, ReplayLimit, ReplayLimiter},
};
use crate::{
    direct_response::DirectResponse,
    event::{Delivery, EventId},
    json,
    preflight::{ProblemKind, Problems},
    telemetry::{self, LogLimits},
};

/// The part of a delivery that identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Identity {
    /// The event id. A known id with another body is a [conflict](ConflictPolicy). A delivery without an id is
    /// identified by its body.
    #[default]
    EventId,
    /// The body alone, with any id: a captured body that is sent again with a new id is a duplicate. Recommended if
    /// your events never have the same body: see [Replays](super#replays).
    ///
    /// A second genuine event with the same body is dropped.
    Body,
}

/// The treatment of a known id that comes with another body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ConflictPolicy {
    /// The delivery is handled once and marked as a conflict, so that nothing is lost. An inbox that still stores the
    /// earlier body treats a copy with the same JSON in other bytes as a duplicate.
    #[default]
    Process,
    /// Like [`Process`](Self::Process), but bodies are compared as JSON. White space, member order and escapes do not
    /// matter, so a copy with the same JSON is a duplicate for the whole retention. Numbers are compared as they are
    /// written.
    ///
    /// A body is compared by its bytes if it is not JSON, repeats a member name, nests deeper than 128 levels, or is
    /// larger than 8 MiB.
    ///
    /// Each body is parsed. After a change of the policy, copies of deliveries that the store remembers are conflicts,
    /// once.
    SameJson,
    /// The delivery is a duplicate, because the id alone counts. For the case that klikit changes the body between
    /// attempts. An attacker who has captured a delivery can then suppress a genuine one by guessing its id.
    TrustEventId,
    /// The delivery is rejected with 409, until an operator [forgets](super::KlikitDedupeLayer::forget) the earlier
    /// one.
    Reject,
}

/// The settings that distinguish a copy from a new delivery. Creates claims.
#[derive(Clone)]
pub(crate) struct DedupePolicy {
    pub(crate) identity: Identity,
    pub(crate) on_conflict: ConflictPolicy,
    pub(crate) scope: Option<Arc<str>>,
    /// The rate limits of log lines that anybody with a captured delivery can cause.
    pub(crate) log_limits: Arc<LogLimits>,
    replays: Arc<ReplayLimiter>,
    tokens: Arc<Tokens>,
}

/// The default limit on replays.
pub(crate) const REPLAY_LIMIT: ReplayLimit = ReplayLimit { ids: 16, window: Duration::from_secs(60 * 60) };

/// The result of comparing a delivery with the entry that its claim has found.
pub(crate) enum Match {
    /// The entry is the same delivery.
    Same,
    /// The entry is another delivery. The new delivery must be claimed with this claim, under a key of its own.
    Conflict(Claim),
    /// The entry is another delivery. The new delivery must be rejected.
    Rejected,
}

impl DedupePolicy {
    /// Creates the default policy.
    ///
    /// # Panics
    ///
    /// Panics if the system has no source of random bytes.
    pub(crate) fn new() -> Self {
        Self {
            identity: Identity::default(),
            on_conflict: ConflictPolicy::default(),
            scope: None,
            log_limits: Arc::new(LogLimits::new()),
            replays: Arc::new(ReplayLimiter::new(Some(REPLAY_LIMIT))),
            tokens: Arc::new(Tokens::new()),
        }
    }

    /// Creates a claim on this delivery with a new token.
    pub(crate) fn claim(&self, delivery: &Delivery, body: &[u8]) -> Claim {
        let digest = self.digest(body);
        let scope = self.scope_of(delivery.tenant());
        let event = match (self.identity, delivery.event_id()) {
            (Identity::EventId, Some(id)) => EventKey::of_event(scope, id.as_str()),
            (Identity::EventId, None) | (Identity::Body, _) => EventKey::of_body(scope, &digest),
        };
        Claim { key: event, event, digest, token: self.tokens.next() }
    }

    /// Sets the number of event ids that one body may come with. `None` for any number.
    pub(crate) fn limit_replays(&mut self, limit: Option<ReplayLimit>) {
        self.replays = Arc::new(ReplayLimiter::new(limit));
    }

    /// Checks the limit on replays when a service starts.
    pub(crate) fn check_replay_limit(&self, problems: &mut Problems) {
        const HIGHEST_PER_HOUR: u64 = 1000;
        let is_useless = |limit: ReplayLimit| limit.ids == 0 || limit.window.as_secs() == 0;
        let limit = self.replay_limit();
        problems.check(limit.is_some_and(is_useless), ProblemKind::ReplayLimitZero);
        let is_high = |limit: ReplayLimit| {
            u64::from(limit.ids) * 60 * 60 > HIGHEST_PER_HOUR.saturating_mul(limit.window.as_secs())
        };
        let is_too_high = limit.is_none_or(|limit| !is_useless(limit) && is_high(limit));
        problems.check(is_too_high && self.identity == Identity::EventId, ProblemKind::ReplayLimitTooHigh);
    }

    pub(crate) fn replay_limit(&self) -> Option<ReplayLimit> {
        self.replays.limit()
    }

    /// Marks a delivery whose body came with another id before. Returns the response as an error if the delivery is
    /// rejected as a replay.
    ///
    /// A delivery that is identified by its body is a duplicate under any id. One without an id counts as one with an id of its own:
    /// its body may have come under an id before, and then its key is another one.
    pub(crate) fn admit(&self, delivery: &mut Delivery, claim: &Claim) -> Result<(), DirectResponse> {
        if self.identity == Identity::Body {
            return Ok(());
        }
        let id = id_or_empty(delivery);
        let admission = self.replays.admit(self.scope_of(delivery.tenant()), &claim.digest, id);
        delivery.is_copy = self.is_copy(admission, delivery)?;
        Ok(())
    }

    /// Returns the response as an error if the delivery must not revive a dead letter, because its body came too often.
    #[cfg(feature = "inbox")]
    pub(crate) fn admit_revival(&self, delivery: &Delivery, claim: &Claim) -> Result<(), DirectResponse> {
        let id = id_or_empty(delivery);
        let admission = self.replays.admit_revival(self.scope_of(delivery.tenant()), &claim.digest, id);
        self.is_copy(admission, delivery).map(drop)
    }

    /// Returns whether the delivery is a copy, or the response if it is rejected.
    fn is_copy(&self, admission: Admission, delivery: &Delivery) -> Result<bool, DirectResponse> {
        match admission {
            Admission::First => Ok(false),
            Admission::Copy => Ok(true),
            Admission::Rejected { remaining, warn } => {
                telemetry::replayed(delivery, warn.then(|| self.replay_limit()).flatten());
                Err(DirectResponse::Replayed { remaining })
            }
        }
    }

    /// Compares a delivery with the entry that its claim has found. `held` is the digest of the entry's body.
    pub(crate) fn compare(&self, claim: &Claim, held: &BodyDigest, delivery: &Delivery) -> Match {
        // The key of a conflict is derived from the digest of its body, so the entry has the same body.
        if *held == claim.digest || claim.is_conflict() || self.trusts_event_ids() {
            return Match::Same;
        }
        match self.on_conflict {
            ConflictPolicy::Reject => {
                telemetry::conflict(delivery, "rejected the delivery", &self.log_limits);
                Match::Rejected
            }
            ConflictPolicy::Process | ConflictPolicy::SameJson | ConflictPolicy::TrustEventId => {
                telemetry::conflict(delivery, "processing it as a separate delivery", &self.log_limits);
                Match::Conflict(Claim { key: claim.event.with_body(&claim.digest), ..claim.clone() })
            }
        }
    }

    /// Returns whether deliveries with the same id are the same delivery even if their bodies differ.
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

    /// Returns the scope of a tenant's deliveries.
    pub(crate) fn scope_of<'a>(&'a self, tenant: &'a str) -> &'a str {
        self.scope.as_deref().unwrap_or(tenant)
    }
}

/// Returns the event id, or an empty text, which is no valid event id.
fn id_or_empty(delivery: &Delivery) -> &str {
    delivery.event_id().map_or("", EventId::as_str)
}

impl fmt::Debug for DedupePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DedupePolicy")
            .field("identity", &self.identity)
            .field("on_conflict", &self.on_conflict)
            .field("scope", &self.scope)
            .field("replay_limit", &self.replay_limit())
            .finish_non_exhaustive()
    }
}

/// A source of unique tokens, which consist of a random number per process and a counter.
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
