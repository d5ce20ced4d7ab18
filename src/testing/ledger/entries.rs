//! Rules for one entry, and for entries beside each other.

use std::time::Duration;

use super::{
    claim, conflict,
    subject::{LEASE, MARGIN, RETENTION, Subject},
    with_fresh_token,
};
use crate::dedupe::{BodyDigest, Claim, Ledger};

impl<L: Ledger, A: AsyncFn(&L, Duration)> Subject<'_, L, A> {
    pub(super) async fn what_is_absent_can_be_claimed(&self) {
        self.claim(&claim("warung", "evt", "body"), "there is no entry").await;
    }

    pub(super) async fn what_another_holds_is_in_flight(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.claim(&holder, "there is no entry").await;
        let why = "another token holds it, with that body";
        let remaining = self.in_flight(&rival, holder.digest(), why).await;
        self.holds(
            within(remaining, LEASE),
            &format!("{remaining:?} remain of a lease of {LEASE:?} that has just begun"),
        );
        self.pass(MARGIN).await;
        let (remaining, left) = (self.in_flight(&rival, holder.digest(), why).await, LEASE - MARGIN);
        self.holds(within(remaining, left), &format!("{remaining:?} remain of a lease of {LEASE:?} after {MARGIN:?}"));
    }

    pub(super) async fn a_refused_claim_changes_nothing(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        self.pass(LEASE - MARGIN).await;
        self.in_flight(&rival, holder.digest(), "its lease is not over").await;
        self.renew(&rival, false, "its claim was refused").await;
        self.complete(&rival, false, "its claim was refused").await;
        self.pass(2 * MARGIN).await;
        self.claim(&rival, "the lease is over, and a refused claim does not make it longer").await;
        self.complete(&rival, true, "it holds the entry").await;
        let late = claim("warung", "evt", "other body");
        self.pass(RETENTION - MARGIN).await;
        self.done(&late, rival.digest(), "its retention is not over").await;
        self.pass(2 * MARGIN).await;
        self.claim(&late, "the retention is over, and a refused claim does not make it longer").await;
    }

    pub(super) async fn the_holder_can_claim_again(&self) {
        let holder = claim("warung", "evt", "body");
        self.claim(&holder, "there is no entry").await;
        self.claim(&holder, "this token holds it").await;
        self.in_flight(&claim("warung", "evt", "body"), holder.digest(), "it was claimed, twice").await;
        self.complete(&holder, true, "it holds the entry").await;
        self.done(&holder, holder.digest(), "it was completed, by this token").await;
    }

    pub(super) async fn what_is_done_stays_done_for_its_retention(&self) {
        let holder = claim("warung", "evt", "body");
        self.claim(&holder, "there is no entry").await;
        self.complete(&holder, true, "it holds the entry").await;
        self.done(&claim("warung", "evt", "body"), holder.digest(), "it is done").await;
        self.done(&claim("warung", "evt", "other body"), holder.digest(), "it is done, with that body").await;
        self.pass(LEASE + MARGIN).await;
        self.done(&claim("warung", "evt", "body"), holder.digest(), "a lease does not end what is done").await;
        self.pass(RETENTION - LEASE - 2 * MARGIN).await;
        self.done(&claim("warung", "evt", "body"), holder.digest(), "its retention is not over").await;
        self.pass(2 * MARGIN).await;
        self.complete(&holder, false, "its retention is over").await;
        self.claim(&claim("warung", "evt", "body"), "its retention is over").await;
        self.complete(&holder, false, "its retention is over, and another holds the entry").await;
    }

    pub(super) async fn the_retention_starts_at_the_completion(&self) {
        let (long, short) = (claim("warung", "long", "body"), claim("warung", "short", "body"));
        self.claim(&long, "there is no entry").await;
        self.claim_for(&short, 10 * LEASE, "there is no entry").await;
        self.pass(LEASE - MARGIN).await;
        self.complete_for(&long, LEASE, true, "it holds the entry").await;
        self.complete_for(&short, LEASE, true, "it holds the entry").await;
        self.pass(LEASE - MARGIN).await;
        self.done(&claim("warung", "long", "body"), long.digest(), "its retention is not over").await;
        self.done(&claim("warung", "short", "body"), short.digest(), "its retention is not over").await;
        self.pass(2 * MARGIN).await;
        self.claim(&claim("warung", "long", "body"), "its retention is over").await;
        self.claim(&claim("warung", "short", "body"), "its retention is over, if its lease would not have been").await;
    }

    pub(super) async fn only_the_holder_can_complete(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.complete(&holder, false, "there is no entry").await;
        self.claim(&rival, "completing what is absent leaves it absent").await;
        self.complete(&holder, false, "another holds it").await;
        self.in_flight(&holder, rival.digest(), "it was not completed by its holder").await;
        self.complete(&rival, true, "it holds the entry").await;
        self.complete(&holder, false, "another completed it").await;
    }

    pub(super) async fn completing_twice_succeeds(&self) {
        let holder = claim("warung", "evt", "body");
        self.claim(&holder, "there is no entry").await;
        self.complete(&holder, true, "it holds the entry").await;
        self.pass(LEASE + MARGIN).await;
        self.complete(&holder, true, "this token completed it").await;
        self.done(&claim("warung", "evt", "body"), holder.digest(), "it was completed, twice").await;
    }

    pub(super) async fn a_lease_ends(&self) {
        let holder = claim("warung", "evt", "body");
        self.claim(&holder, "there is no entry").await;
        self.pass(LEASE + MARGIN).await;
        self.renew(&holder, false, "its lease is over").await;
        self.complete(&holder, false, "its lease is over").await;
        self.release(&holder).await;
        self.claim(&claim("warung", "evt", "body"), "the lease is over").await;
    }

    pub(super) async fn who_lost_a_claim_cannot_touch_the_next_one(&self) {
        let (old, new) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.claim(&old, "there is no entry").await;
        self.pass(LEASE + MARGIN).await;
        self.claim(&new, "the lease is over").await;
        self.renew(&old, false, "another has claimed it since").await;
        self.complete(&old, false, "another has claimed it since").await;
        self.release(&old).await;
        self.in_flight(&old, new.digest(), "another has claimed it since").await;
        self.complete(&new, true, "the old token changes nothing").await;
        self.done(&old, new.digest(), "another has completed it since").await;
    }

    pub(super) async fn what_was_released_can_be_claimed(&self) {
        let (holder, next) = (claim("warung", "evt", "body"), claim("warung", "evt", "other body"));
        self.release(&holder).await;
        self.claim(&holder, "there is no entry").await;
        self.release(&holder).await;
        self.release(&holder).await;
        self.renew(&holder, false, "it was released").await;
        self.complete(&holder, false, "it was released").await;
        self.claim(&next, "it was released").await;
        self.complete(&holder, false, "it was released, and another holds it").await;
        self.in_flight(&holder, next.digest(), "another holds it").await;
    }

    pub(super) async fn only_the_holder_can_release(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        self.release(&rival).await;
        self.in_flight(&rival, holder.digest(), "another token than the holder's released it").await;
        self.complete(&holder, true, "it holds the entry").await;
    }

    pub(super) async fn what_is_done_cannot_be_released(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        self.complete(&holder, true, "it holds the entry").await;
        self.release(&holder).await;
        self.release(&rival).await;
        self.done(&rival, holder.digest(), "releasing does not undo it").await;
    }

    pub(super) async fn a_renewed_lease_starts_anew(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        for _ in 0..3 {
            self.pass(LEASE - MARGIN).await;
            self.renew(&holder, true, "it holds the entry").await;
        }
        self.pass(LEASE - MARGIN).await;
        let remaining = self.in_flight(&rival, holder.digest(), "its lease was renewed").await;
        self.holds(
            within(remaining, MARGIN),
            &format!("{remaining:?} remain {MARGIN:?} before the renewed lease ends"),
        );
        self.pass(2 * MARGIN).await;
        self.renew(&holder, false, "the renewed lease is over").await;
        self.claim(&rival, "the renewed lease is over").await;

        let long = claim("warung", "long", "body");
        self.claim_for(&long, 10 * LEASE, "there is no entry").await;
        self.renew(&long, true, "it holds the entry").await;
        self.pass(LEASE + MARGIN).await;
        self.claim(&claim("warung", "long", "body"), "the lease counts from its renewal, if it was longer before")
            .await;
    }

    pub(super) async fn only_the_holder_can_renew(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.renew(&holder, false, "there is no entry").await;
        self.claim(&holder, "renewing what is absent leaves it absent").await;
        self.pass(LEASE - MARGIN).await;
        self.renew(&rival, false, "another holds it").await;
        self.pass(2 * MARGIN).await;
        self.claim(&rival, "the lease is over, and only its holder can renew it").await;
    }

    pub(super) async fn what_is_done_cannot_be_renewed(&self) {
        let (holder, rival) = (claim("warung", "evt", "body"), claim("warung", "evt", "body"));
        self.claim(&holder, "there is no entry").await;
        self.complete(&holder, true, "it holds the entry").await;
        self.renew(&holder, false, "it is done").await;
        self.renew(&rival, false, "it is done").await;
        self.pass(LEASE + MARGIN).await;
        self.done(&rival, holder.digest(), "renewing does not end its retention").await;
    }

    pub(super) async fn entries_do_not_touch_each_other(&self) {
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
            self.claim(held, "it is an entry of its own").await;
        }
        let [completed, released, held @ ..] = &claims;
        self.complete(completed, true, "it holds the entry").await;
        self.release(released).await;
        for held in held {
            let rival = with_fresh_token(held.key, held.event, held.digest);
            self.in_flight(&rival, held.digest(), "others were completed and released, not this").await;
            self.renew(held, true, "others were completed and released, not this").await;
            self.complete(held, true, "others were completed and released, not this").await;
        }
    }

    pub(super) async fn every_byte_is_kept(&self) {
        let bytes = [0, 0xff, b'\\', b'\'', b'\n', 0x80];
        for (n, byte) in (0_u8..).zip(bytes) {
            let digest = BodyDigest::from([byte; 32]);
            let rival = claim("warung", &format!("evt-{n}"), "body");
            let key = *rival.key().as_bytes();
            let held = Claim::new(key, key, digest, [byte; 16]);
            self.claim(&held, "there is no entry").await;
            self.in_flight(&rival, &digest, "another holds it").await;
            self.complete(&held, true, "it holds the entry").await;
            self.done(&rival, &digest, "it is done").await;
        }
        for byte in bytes {
            // The last byte alone tells these keys and tokens apart.
            let [mut one, mut other] = [[byte; 16]; 2];
            [one[15], other[15]] = [1, 2];
            let held = Claim::new(one, one, BodyDigest::of(b"body"), one);
            let beside = Claim::new(other, other, BodyDigest::of(b"body"), other);
            let rival = Claim::new(one, one, BodyDigest::of(b"body"), other);
            self.claim(&held, "there is no entry").await;
            self.claim(&beside, "it is an entry of its own").await;
            self.in_flight(&rival, held.digest(), "another token holds it").await;
        }
    }
}

/// Whether so much remains where `most` should, give or take what passes by itself and what a clock rounds.
fn within(remaining: Duration, most: Duration) -> bool {
    remaining <= most + Duration::from_secs(1) && remaining + MARGIN > most
}
