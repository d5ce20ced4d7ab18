//! Rules for claiming, completing and releasing entries.

use std::time::Duration;

use tower_klikit::dedupe::{BodyDigest, Claim, ClaimTerms, Ledger, LedgerAdmin};

use super::{
    claim, conflict,
    tested::{GRACE, LEASE, MARGIN, RETENTION, TERMS, TestedLedger, roughly},
    with_fresh_token,
};

impl<L: Ledger + LedgerAdmin, A: AsyncFn(&L, Duration)> TestedLedger<'_, L, A> {
    pub(super) async fn absent_entry_can_be_claimed(&self) {
        self.claim(&claim("warung", "evt", "body"), "there is no entry").await;
    }

    pub(super) async fn held_entry_is_in_flight(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.claim(&holder, "there is no entry").await;
        let why = "another token holds the entry, with that body";
        let remaining = self.in_flight(&rival, holder.digest(), why).await;
        self.holds(roughly(remaining, LEASE), &format!("{remaining:?} remain of a lease of {LEASE:?} that just began"));
        self.advance(MARGIN).await;
        let (remaining, rest) = (self.in_flight(&rival, holder.digest(), why).await, LEASE - MARGIN);
        self.holds(roughly(remaining, rest), &format!("{remaining:?} remain of a lease of {LEASE:?} after {MARGIN:?}"));
    }

    pub(super) async fn rejected_claim_changes_nothing(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        self.advance(LEASE - MARGIN).await;
        self.in_flight(&rival, holder.digest(), "the lease is not over").await;
        self.cannot_renew(&rival, "its claim was rejected").await;
        self.cannot_complete(&rival, "its claim was rejected").await;
        self.advance(2 * MARGIN).await;
        self.claim(&rival, "the lease is over, and a rejected claim does not extend it").await;
        self.complete(&rival, "the token holds the entry").await;
        let late = claim("warung", "evt", "other body");
        self.advance(RETENTION - MARGIN).await;
        self.is_done(&late, rival.digest(), "the retention is not over").await;
        self.advance(2 * MARGIN).await;
        self.claim(&late, "the retention is over, and a rejected claim does not extend it").await;
    }

    pub(super) async fn holder_can_claim_again(&self) {
        let holder = claim("warung", "evt", "body");
        self.claim(&holder, "there is no entry").await;
        self.advance(LEASE - MARGIN).await;
        self.claim(&holder, "this token holds the entry").await;
        let rival = claim("warung", "evt", "body");
        let remaining = self.in_flight(&rival, holder.digest(), "the entry was claimed twice").await;
        self.holds(roughly(remaining, LEASE), &format!("{remaining:?} remain of a lease of {LEASE:?} that just began"));
        self.complete(&holder, "the token holds the entry").await;
        self.is_done(&holder, holder.digest(), "this token completed the entry").await;
    }

    pub(super) async fn done_entry_lasts_for_its_retention(&self) {
        let holder = claim("warung", "evt", "body");
        self.claim(&holder, "there is no entry").await;
        self.complete(&holder, "the token holds the entry").await;
        self.is_done(&claim("warung", "evt", "body"), holder.digest(), "the entry is done").await;
        self.is_done(&claim("warung", "evt", "other body"), holder.digest(), "the entry is done with that body").await;
        self.advance(LEASE + GRACE + MARGIN).await;
        self.is_done(&claim("warung", "evt", "body"), holder.digest(), "the lease does not end a done entry").await;
        self.advance(RETENTION - LEASE - GRACE - 2 * MARGIN).await;
        self.is_done(&claim("warung", "evt", "body"), holder.digest(), "the retention is not over").await;
        self.advance(2 * MARGIN).await;
        self.cannot_complete(&holder, "the retention is over").await;
        self.claim(&claim("warung", "evt", "body"), "the retention is over").await;
        self.cannot_complete(&holder, "the retention is over, and another token holds the entry").await;
    }

    pub(super) async fn retention_starts_at_completion(&self) {
        let (long, short) = (claim("warung", "long", "body"), claim("warung", "short", "body"));
        self.claim(&long, "there is no entry").await;
        self.claim_on(&short, &ClaimTerms { lease: 10 * LEASE, ..TERMS }, "there is no entry").await;
        self.advance(LEASE - MARGIN).await;
        self.complete_for(&long, LEASE, "the token holds the entry").await;
        self.complete_for(&short, LEASE, "the token holds the entry").await;
        self.advance(LEASE - MARGIN).await;
        self.is_done(&claim("warung", "long", "body"), long.digest(), "the retention is not over").await;
        self.is_done(&claim("warung", "short", "body"), short.digest(), "the retention is not over").await;
        self.advance(2 * MARGIN).await;
        self.claim(&claim("warung", "long", "body"), "the retention is over").await;
        self.claim(&claim("warung", "short", "body"), "the retention is over, although the lease would not be").await;
    }

    pub(super) async fn only_holder_can_complete(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.cannot_complete(&holder, "there is no entry").await;
        self.claim(&rival, "completing an absent entry leaves it absent").await;
        self.cannot_complete(&holder, "another token holds the entry").await;
        self.in_flight(&holder, rival.digest(), "its holder did not complete the entry").await;
        self.complete(&rival, "the token holds the entry").await;
        self.cannot_complete(&holder, "another token completed the entry").await;
    }

    pub(super) async fn completing_twice_succeeds(&self) {
        let holder = claim("warung", "evt", "body");
        self.claim(&holder, "there is no entry").await;
        self.complete(&holder, "the token holds the entry").await;
        self.advance(LEASE + MARGIN).await;
        self.complete(&holder, "this token completed the entry").await;
        self.is_done(&claim("warung", "evt", "body"), holder.digest(), "the entry was completed twice").await;
    }

    pub(super) async fn released_entry_can_be_claimed(&self) {
        let (holder, next) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.release(&holder).await;
        self.claim(&holder, "there is no entry").await;
        self.release(&holder).await;
        self.release(&holder).await;
        self.cannot_renew(&holder, "the claim was released").await;
        self.cannot_complete(&holder, "the claim was released").await;
        self.claim(&next, "the claim was released").await;
        self.cannot_complete(&holder, "the claim was released, and another token holds the entry").await;
        self.in_flight(&holder, next.digest(), "another token holds the entry").await;
    }

    pub(super) async fn only_holder_can_release(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        self.release(&rival).await;
        self.in_flight(&rival, holder.digest(), "only its holder can release the entry").await;
        self.complete(&holder, "the token holds the entry").await;
    }

    pub(super) async fn done_entry_cannot_be_released(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        self.complete(&holder, "the token holds the entry").await;
        self.release(&holder).await;
        self.release(&rival).await;
        self.is_done(&rival, holder.digest(), "releasing does not undo a completion").await;
    }

    pub(super) async fn entries_are_independent(&self) {
        let claims = [
            claim("warung", "evt", "body"),
            claim("kedai", "evt", "body"),
            claim("", "evt", "body"),
            claim("warung", "evt-2", "body"),
            conflict("warung", "evt", "other body"),
            conflict("warung", "evt", "another body"),
            conflict("kedai", "evt", "other body"),
        ];
        for held in &claims {
            self.claim(held, "each claim has its own entry").await;
        }
        let [completed, released, held @ ..] = &claims;
        self.complete(completed, "the token holds the entry").await;
        self.release(released).await;
        let why = "other entries were completed and released, not this one";
        for held in held {
            let rival = with_fresh_token(*held.key(), *held.event(), *held.digest());
            self.in_flight(&rival, held.digest(), why).await;
            self.renew(held, why).await;
            self.complete(held, why).await;
        }
    }

    pub(super) async fn keeps_every_byte(&self) {
        let bytes = [0, 0xff, b'\\', b'\'', b'\n', 0x80];
        for (n, byte) in (0_u8..).zip(bytes) {
            let digest = BodyDigest::from([byte; 32]);
            let rival = claim("warung", &format!("evt-{n}"), "body");
            let key = *rival.key().as_bytes();
            let held = Claim::new(key, key, digest, [byte; 16]);
            self.claim(&held, "there is no entry").await;
            self.in_flight(&rival, &digest, "another token holds the entry").await;
            self.complete(&held, "the token holds the entry").await;
            self.is_done(&rival, &digest, "the entry is done").await;
        }
        for byte in bytes {
            // These keys and tokens differ in the last byte only.
            let [mut one, mut other] = [[byte; 16]; 2];
            [one[15], other[15]] = [1, 2];
            let held = Claim::new(one, one, BodyDigest::of(b"body"), one);
            let neighbor = Claim::new(other, other, BodyDigest::of(b"body"), other);
            let rival = Claim::new(one, one, BodyDigest::of(b"body"), other);
            self.claim(&held, "there is no entry").await;
            self.claim(&neighbor, "the claim has its own entry").await;
            self.in_flight(&rival, held.digest(), "another token holds the entry").await;
        }
    }
}
