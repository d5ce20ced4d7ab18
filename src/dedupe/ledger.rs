//! The interface of a ledger, which remembers deliveries.
//!
//! ```text
//!             claim(token)                      complete(token)
//!   absent ────────────────▶ CLAIMED(token) ────────────────────▶ DONE
//!     ▲  ▲        release(token) │  │ lease over: another token's claim takes the entry over
//!     │  └───────────────────────┘  │
//!     └───────── grace or retention over, or forget ──────────────
//! ```

use std::{future::Future, time::Duration};

use super::{
    entry::LedgerSelection,
    error::StoreError,
    key::{BodyDigest, EventKey, Token},
};
use crate::object_safe::object_safe_trait;

/// A store that remembers which deliveries were handled and which are being handled.
///
/// # Rules
///
/// - Every call is atomic, and all clones and processes that share the store see the same order of calls.
/// - Times are measured by the store's own clock: the database's clock where there is one.
/// - A claim is exclusive while its [lease](ClaimTerms::lease) lasts. An expired claim stays in the store for its
///   [grace](ClaimTerms::grace). During the grace, another token may take over the entry. Until then, the old token can
///   still complete, release or renew the claim, so that the success of a handler is remembered although its renewal
///   was late.
/// - A forgotten entry stays forgotten: a token cannot complete an entry that was removed.
/// - A store that does not know whether a call took effect returns an error. The delivery is then answered with 503,
///   klikit sends it again, and nothing is lost.
///
/// Implement the trait with `async fn`. The crate `tower-klikit-store-tests` has a test suite for ledgers.
pub trait Ledger: Send + Sync + 'static {
    /// Claims `claim.key` for `claim.token` if the key is absent or its claim has expired. Otherwise changes nothing
    /// and returns the state of the entry.
    ///
    /// Claiming an entry again with the token that holds it succeeds and renews the claim, because the response to the
    /// first call may have been lost.
    fn claim(&self, claim: &Claim, terms: &ClaimTerms)
    -> impl Future<Output = Result<ClaimOutcome, StoreError>> + Send;

    /// Marks this token's entry as done and remembers it for `retention` from now. Returns `false` and changes nothing
    /// if the entry is absent or another token has taken it over.
    ///
    /// Completing an entry again with the same token changes nothing and returns `true`.
    fn complete(&self, claim: &Claim, retention: Duration) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes this token's claim, so that the next claim succeeds. Changes nothing if the entry is absent, is done, or
    /// belongs to another token.
    fn release(&self, claim: &Claim) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Renews these claims, so that each lasts for `terms` from now. Returns one value for each claim, in the same
    /// order: `false`, and no change, if the entry is absent, is done, or belongs to another token.
    ///
    /// After an error, any of the claims may have been renewed.
    fn renew(&self, claims: &[Claim], terms: &ClaimTerms)
    -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Removes all entries that the selection contains, in every state. Returns the number of removed entries, without
    /// those whose retention or grace was over.
    fn forget(&self, selection: &LedgerSelection) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes up to `limit` entries whose retention or grace is over. Returns the number of deleted entries.
    ///
    /// Stores also delete such entries during other calls. A store whose database expires entries, such as Redis, has
    /// nothing to delete here.
    fn purge(&self, limit: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// The duration of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "stores and their tests make their own")]
pub struct ClaimTerms {
    /// The time for which the claim is exclusive.
    pub lease: Duration,
    /// The time for which the store keeps an expired claim. Its token can still complete the claim, unless another
    /// token has taken over the entry.
    pub grace: Duration,
}

/// A claim on one entry of a [`Ledger`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The key of the entry.
    pub(crate) key: EventKey,
    /// The key of the event that the entry belongs to. Equal to `key` unless the entry is a conflict.
    pub(crate) event: EventKey,
    pub(crate) digest: BodyDigest,
    pub(crate) token: Token,
}

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
        /// The time for which that claim stays exclusive, unless it is renewed.
        remaining: Duration,
    },
    /// The entry is done.
    Done {
        /// The digest of the body that was handled.
        digest: BodyDigest,
    },
}

impl Claim {
    /// Returns the key of the entry.
    pub fn key(&self) -> &EventKey {
        &self.key
    }

    /// Returns the key of the event that the entry belongs to. Equal to [`key`](Self::key) unless the entry is a
    /// conflict.
    pub fn event(&self) -> &EventKey {
        &self.event
    }

    /// Returns the digest of the body.
    pub fn digest(&self) -> &BodyDigest {
        &self.digest
    }

    /// Returns whether the event id came with another body before.
    pub fn is_conflict(&self) -> bool {
        self.key != self.event
    }

    /// Returns the fencing token.
    pub fn token(&self) -> &Token {
        &self.token
    }
}

#[cfg(feature = "testing")]
impl Claim {
    /// Creates a claim for tests of a store. The claim is a conflict if `key` and `event` differ.
    pub fn new(key: [u8; 16], event: [u8; 16], digest: BodyDigest, token: [u8; 16]) -> Self {
        Self { key: key.into(), event: event.into(), digest, token: Token::from_bytes(token) }
    }
}

object_safe_trait! {
    /// An object-safe [`Ledger`].
    pub(crate) trait DynLedger: Ledger {
        owned fn claim(claim: Claim, terms: ClaimTerms) -> ClaimOutcome;
        fn complete(&'a self, claim: &'a Claim, retention: Duration) -> bool;
        fn release(&'a self, claim: &'a Claim) -> ();
        fn renew(&'a self, claims: &'a [Claim], terms: &'a ClaimTerms) -> Vec<bool>;
        fn forget(&'a self, selection: &'a LedgerSelection) -> u64;
    }
}
