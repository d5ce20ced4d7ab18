//! The interface of a ledger of deliveries.
//!
//! ```text
//!             claim(token)                      complete(token)
//!   absent ────────────────▶ CLAIMED(token) ────────────────────▶ DONE
//!     ▲  ▲        release(token) │  │ lease over: another token's claim takes the entry over
//!     │  └───────────────────────┘  │
//!     └───────── grace or retention over, or forget ──────────────
//! ```

use std::{
    fmt,
    future::Future,
    hash::{Hash, Hasher},
    ops::Range,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::error::StoreError;
use crate::object_safe::object_safe_twin;

/// A store that remembers which deliveries were handled, and which are being handled.
///
/// # Rules
///
/// - Every call is atomic, and all clones and processes that share the store see one order of calls.
/// - Times are measured by the store's own clock: the database's clock where there is one.
/// - A claim is exclusive while its [lease](ClaimTerms::lease) lasts. An expired claim stays in the store for its
///   [grace](ClaimTerms::grace): another token may then take the entry over, and until one does, the old token can
///   still complete, release or renew it. So the success of a handler whose renewal was late is remembered.
/// - A forgotten entry stays forgotten: a token whose entry was removed can no longer complete it.
/// - A store that does not know whether a call took effect returns an error. The delivery is then answered with 503,
///   klikit sends it again, and nothing is lost.
///
/// Implement it with `async fn`. The crate `tower-klikit-store-tests` has the suite that every store passes.
pub trait Ledger: Send + Sync + 'static {
    /// Claims `claim.key` for `claim.token`, if the key is absent or its claim has expired. Otherwise changes nothing
    /// and returns what is there.
    ///
    /// Claiming an entry again with the token that holds it succeeds and renews the claim: the answer to the first call
    /// may have been lost.
    fn claim(&self, claim: &Claim, terms: &ClaimTerms)
    -> impl Future<Output = Result<ClaimOutcome, StoreError>> + Send;

    /// Marks this token's entry as done and remembers it for `retention` from now. Returns `false` and changes nothing
    /// if the entry is absent or another token has taken it over.
    ///
    /// Completing an entry again with the token that completed it changes nothing and returns `true`.
    fn complete(&self, claim: &Claim, retention: Duration) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes this token's claim, so that the next claim succeeds. Changes nothing if the entry is absent, is done, or
    /// belongs to another token.
    fn release(&self, claim: &Claim) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Renews these claims: each lasts for `terms` from now, as if it had just been made. Returns one value for each
    /// claim, in the same order: `false`, and no change, if the entry is absent, is done, or belongs to another token.
    ///
    /// An error leaves it open which claims were renewed.
    fn renew(&self, claims: &[Claim], terms: &ClaimTerms)
    -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Removes every entry of this event in every state: the entry under the event's own key, and those of other bodies
    /// that came under the same id. Returns how many entries were removed.
    fn forget(&self, event: &EventKey) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Removes every entry that was claimed within this window, in every state and of every tenant. Returns how many
    /// entries were removed.
    fn forget_claimed(&self, window: Range<SystemTime>) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes up to `limit` entries whose retention or grace is over. Returns how many were deleted.
    ///
    /// Stores do this by themselves as they go. A store that expires entries by itself, as Redis does, has nothing to
    /// do.
    fn purge(&self, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// How long a claim lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "stores and their tests make their own")]
pub struct ClaimTerms {
    /// How long the claim is exclusive.
    pub lease: Duration,
    /// How much longer the store keeps an expired claim, so that its token can still complete it unless another token
    /// has taken the entry over.
    pub grace: Duration,
}

/// The key of one event of one tenant: 16 bytes of a SHA-256, so that keys are short and reveal neither ids nor
/// tenants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey([u8; 16]);

/// A claim on one entry of a [`Ledger`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The entry's own key.
    pub(crate) key: EventKey,
    /// The event that the entry belongs to: `key` itself, unless the entry is a conflict.
    pub(crate) event: EventKey,
    pub(crate) digest: BodyDigest,
    pub(crate) token: Token,
}

/// The SHA-256 by which two bodies are compared: of the body as it was sent, or of its canonical JSON under
/// [`ConflictPolicy::SameJson`](super::ConflictPolicy::SameJson).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyDigest([u8; 32]);

/// A fencing token: unique to one claim, across all processes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

/// The outcome of [`Ledger::claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimOutcome {
    /// The entry is now claimed for this token.
    Claimed,
    /// Another token holds the entry.
    InFlight {
        /// The digest of the body that is being handled.
        digest: BodyDigest,
        /// How much longer that claim is exclusive, unless it is renewed.
        remaining: Duration,
    },
    /// The entry is done.
    Done {
        /// The digest of the body that was handled.
        digest: BodyDigest,
    },
}

impl EventKey {
    /// Returns the key of an event that is identified by its id: the first 16 bytes of SHA-256(scope ‖ 0 ‖ id).
    ///
    /// The scope is the keyring's name, or the one that the layer or the inbox was given.
    pub fn of_event(scope: &str, id: &str) -> Self {
        Self::hashed(&[scope.as_bytes(), b"\0", id.as_bytes()])
    }

    /// Returns the key of an event that is identified by its body. No event has an empty id, so the keys differ from those of
    /// [`of_event`](Self::of_event).
    pub fn of_body(scope: &str, digest: &BodyDigest) -> Self {
        Self::hashed(&[scope.as_bytes(), b"\0\0", digest.as_bytes()])
    }

    /// Returns the key of a conflict: another body under the id of this event.
    pub fn with_body(&self, digest: &BodyDigest) -> Self {
        Self::hashed(&[&self.0, b"\0", digest.as_bytes()])
    }

    fn hashed(parts: &[&[u8]]) -> Self {
        Self(short_hash(parts))
    }

    /// Returns the bytes.
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

/// The key is a hash already: half of it is enough for a hash table.
impl Hash for EventKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [half @ .., _, _, _, _, _, _, _, _] = self.0;
        state.write_u64(u64::from_ne_bytes(half));
    }
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

    /// The event that the entry belongs to: [`key`](Self::key) itself, unless the entry is a conflict.
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

    /// The fencing token.
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
                f.write_str(&hex::encode(self.0))
            }
        }
    )*};
}

debug_as_hex!(EventKey, BodyDigest, Token);

object_safe_twin! {
    /// [`Ledger`], callable without knowing the store's type.
    pub(crate) trait DynLedger: Ledger {
        owned fn claim(claim: Claim, terms: ClaimTerms) -> ClaimOutcome;
        fn complete(&'a self, claim: &'a Claim, retention: Duration) -> bool;
        fn release(&'a self, claim: &'a Claim) -> ();
        fn renew(&'a self, claims: &'a [Claim], terms: &'a ClaimTerms) -> Vec<bool>;
        fn forget(&'a self, event: &'a EventKey) -> u64;
        fn forget_claimed(&'a self, window: Range<SystemTime>) -> u64;
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
