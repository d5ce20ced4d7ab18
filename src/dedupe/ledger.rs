//! What a store of handled deliveries has to do.
//!
//! ```text
//!             claim(token)                      complete(token)
//!   absent ────────────────▶ CLAIMED(token,until) ───────────────▶ DONE(until)
//!     ▲  ▲        release(token) │  │ until passed: the next claim wins, the old token is fenced out
//!     │  └───────────────────────┘  │
//!     └───────── until passed / forget ───────────────────────────
//! ```

use std::{fmt, future::Future, ops::Range, pin::Pin, time::Duration, time::SystemTime};

use sha2::{Digest, Sha256};

use super::error::StoreError;

/// A store that remembers which deliveries were handled, and which are being handled.
///
/// Every call is atomic, and all clones and processes that share the store see one order of calls. An entry whose time is up
/// counts as absent, by the store's one clock: a database's own where there is one.
///
/// Implement it with `async fn`. A store that is unsure must return an error: the delivery is then answered with 503, klikit
/// sends it again, and nothing is lost.
///
/// `testing::ledger` has the suite that this crate's own stores pass.
pub trait Ledger: Send + Sync + 'static {
    /// Claims `claim.key` for `claim.token` for the time `lease`, if it is absent. Otherwise changes nothing and returns what
    /// is there.
    ///
    /// Claiming again what this token already holds, as after an answer that was lost, succeeds, and renews it.
    fn claim(&self, claim: &Claim, lease: Duration) -> impl Future<Output = Result<ClaimOutcome, StoreError>> + Send;

    /// Turns what this token has claimed into DONE, for the time `retention`. `false`, and no change, when the token does not
    /// hold it any more.
    ///
    /// Completing again what this token has completed succeeds.
    fn complete(&self, claim: &Claim, retention: Duration) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives up what this token has claimed, so that the next claim succeeds. No change when the token does not hold it, or
    /// has completed it.
    fn release(&self, claim: &Claim) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Has what this token has claimed last for the time `lease` from now on. `false`, and no change, when the token does not
    /// hold it any more, or has completed it.
    fn renew(&self, claim: &Claim, lease: Duration) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Makes every entry of this event absent, whatever its state: the one under the event's own key, and those of other
    /// bodies that came under the same id. How many there were.
    fn forget(&self, event: &EventKey) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Makes every entry absent that was claimed in this time, whatever its state and whoever's it is. How many there were.
    fn forget_claimed(&self, window: Range<SystemTime>) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes at most `limit` entries whose time is up, to free room. How many there were.
    ///
    /// Stores do this by themselves as they go; a store that forgets by itself, as Redis does, has nothing to do.
    fn purge(&self, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// Which event, of which tenant: 16 bytes of a SHA-256, so that keys are short and neither ids nor tenants can be read off
/// them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey([u8; 16]);

/// One claim on one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The entry's own key.
    pub(crate) key: EventKey,
    /// The event that the entry is forgotten with. It is `key` itself but for a conflict.
    pub(crate) event: EventKey,
    pub(crate) digest: BodyDigest,
    pub(crate) token: Token,
}

/// The SHA-256 of a body.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyDigest([u8; 32]);

/// Tells one claim from every other, of this process and of all others: a fencing token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimOutcome {
    /// It is claimed for this token now.
    Claimed,
    /// Another token has claimed it, and its time is up after `remaining`.
    InFlight {
        /// Of the body that is being handled.
        digest: BodyDigest,
        /// How much longer, unless it is renewed.
        remaining: Duration,
    },
    /// It is done.
    Done {
        /// Of the body that was handled.
        digest: BodyDigest,
    },
}

impl EventKey {
    /// The key of an event that is known by its id.
    pub(crate) fn of_event(scope: &str, id: &str) -> Self {
        Self::hash(&[scope.as_bytes(), b"\0", id.as_bytes()])
    }

    /// The key of an event that is known by its body. No event has an empty id, so it is no other event's.
    pub(crate) fn of_body(scope: &str, digest: &BodyDigest) -> Self {
        Self::hash(&[scope.as_bytes(), b"\0\0", digest.as_bytes()])
    }

    /// The key for another body under the id of this event.
    pub(crate) fn with_body(&self, digest: &BodyDigest) -> Self {
        Self::hash(&[&self.0, b"\0", digest.as_bytes()])
    }

    fn hash(parts: &[&[u8]]) -> Self {
        Self(short_hash(parts))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The first 16 bytes of the SHA-256 over these, one after the other.
pub(crate) fn short_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let digest: [u8; 32] = hash.finalize().into();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

impl BodyDigest {
    /// Hashes a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for BodyDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Token {
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Claim {
    /// The entry's own key.
    pub fn key(&self) -> &EventKey {
        &self.key
    }

    /// The event that the entry is forgotten with. It is [`key`](Self::key) itself but for a conflict.
    pub fn event(&self) -> &EventKey {
        &self.event
    }

    /// The digest of the body.
    pub fn digest(&self) -> &BodyDigest {
        &self.digest
    }

    /// Whether the event's id came with another body before.
    pub fn is_conflict(&self) -> bool {
        self.key != self.event
    }

    /// Who claims.
    pub fn token(&self) -> &Token {
        &self.token
    }
}

#[cfg(feature = "testing")]
impl Claim {
    /// Any claim, for the tests of a store. It is a conflict's when `key` and `event` differ.
    pub fn new(key: [u8; 16], event: [u8; 16], digest: BodyDigest, token: [u8; 16]) -> Self {
        Self { key: EventKey(key), event: EventKey(event), digest, token: Token(token) }
    }
}

macro_rules! debug_as_hex {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    )*};
}

debug_as_hex!(EventKey, BodyDigest, Token);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// [`Ledger`], callable without knowing the store.
pub(crate) trait DynLedger: Send + Sync {
    fn claim<'a>(&'a self, claim: &'a Claim, lease: Duration) -> Boxed<'a, ClaimOutcome>;
    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> Boxed<'a, bool>;
    fn release<'a>(&'a self, claim: &'a Claim) -> Boxed<'a, ()>;
    fn renew<'a>(&'a self, claim: &'a Claim, lease: Duration) -> Boxed<'a, bool>;
    fn forget<'a>(&'a self, event: &'a EventKey) -> Boxed<'a, u64>;
    fn forget_claimed(&self, window: Range<SystemTime>) -> Boxed<'_, u64>;
}

impl<L: Ledger> DynLedger for L {
    fn claim<'a>(&'a self, claim: &'a Claim, lease: Duration) -> Boxed<'a, ClaimOutcome> {
        Box::pin(Ledger::claim(self, claim, lease))
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> Boxed<'a, bool> {
        Box::pin(Ledger::complete(self, claim, retention))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> Boxed<'a, ()> {
        Box::pin(Ledger::release(self, claim))
    }

    fn renew<'a>(&'a self, claim: &'a Claim, lease: Duration) -> Boxed<'a, bool> {
        Box::pin(Ledger::renew(self, claim, lease))
    }

    fn forget<'a>(&'a self, event: &'a EventKey) -> Boxed<'a, u64> {
        Box::pin(Ledger::forget(self, event))
    }

    fn forget_claimed(&self, window: Range<SystemTime>) -> Boxed<'_, u64> {
        Box::pin(Ledger::forget_claimed(self, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_and_conflicts_have_keys_of_their_own() {
        let digest = BodyDigest::of(b"body");
        let keys = [
            EventKey::of_event("warung", "evt-1"),
            EventKey::of_event("warung", "evt-2"),
            EventKey::of_event("kedai", "evt-1"),
            EventKey::of_event("", "evt-1"),
            EventKey::of_event("warung", "evt-1").with_body(&digest),
            EventKey::of_event("warung", "evt-1").with_body(&BodyDigest::of(b"other")),
            EventKey::of_body("warung", &digest),
            EventKey::of_body("kedai", &digest),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[n + 1..].contains(key));
        }
    }
}
