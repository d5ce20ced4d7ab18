//! Rules for bodies, heads, reasons and ordering keys, which a store returns unchanged.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxAdmin, InboxStore, Lease, NewDelivery, Settlement},
};

use super::{
    delivery,
    tested::{KEEP, LEASE, MARGIN, REQUEST, TestedInbox, dead_letter, done, reschedule},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn keeps_every_byte_of_a_body(&self) {
        let every_byte: Vec<u8> = (0..=u8::MAX).collect();
        let long: Vec<u8> = every_byte.iter().copied().cycle().take(1 << 20).collect();
        let bodies: [&[u8]; 7] = [b"", b"\0", b"{}", b" {}\n", &every_byte, b"\xff\xfe\x80\0", &long];
        for (n, body) in bodies.into_iter().enumerate() {
            let new = delivery("warung", &format!("evt-{n}"), body);
            let lease = self.begin(&new).await;
            self.show(lease.id(), &new, DeliveryState::Leased, 1, "the delivery is leased").await;
            self.settle(&lease, done(KEEP)).await;
            self.show(lease.id(), &new, DeliveryState::Done, 1, "the delivery is kept").await;
            let copy = delivery("warung", &format!("evt-{n}"), "other body");
            self.is_known_with(&copy, new.claim().digest(), Some(&new), "the delivery is kept").await;
        }
    }

    pub(super) async fn keeps_every_character_of_a_head(&self) {
        let head = delivery("warung", "evt", "body").head().to_owned();
        let with = |member: &str| head.replacen('{', &format!("{{{member},"), 1);
        let long = "x".repeat(100_000);
        let heads = [
            with(r#""note":"\u0000 \n \\ \" ' ; -- $1 ?1 :a %s {}""#),
            with("\"note\":\"pedas \u{1f336} ปลา \u{202e} e\u{301}\u{7f}\u{feff}\""),
            with("  \"b\" : 1.0 , \"a\" : 1e2, \"a\" : 100000000000000000000 "),
            with(&format!("\"note\":\"{long}\"")),
        ];
        for (n, head) in heads.into_iter().enumerate() {
            let new = delivery("warung", &format!("evt-{n}"), "body").with_head(head);
            let lease = self.begin(&new).await;
            let entry = self.show(lease.id(), &new, DeliveryState::Leased, 1, "the delivery is leased").await;
            self.same("show", &entry.tenant(), &Some("warung"), "the head says so");
            self.same("show", &entry.event_id(), &Some("evt"), "the head says so");
        }
    }

    pub(super) async fn keeps_every_character_of_a_reason(&self) {
        let long = "alasan ".repeat(1000);
        let reasons =
            ["", "500 Internal Server Error", "' \" \\ \n ; -- $1 ?1 % {}", "\u{1f336} ปลา \u{202e} \u{7f}", &long];
        for (n, reason) in reasons.into_iter().enumerate() {
            let found = self.reasons(&delivery("warung", &format!("evt-{n}"), "body"), reason).await;
            let expected = Some(reason.to_owned());
            self.holds(found == [expected.clone(), expected], &format!("the reason {reason:?} became {found:?}"));
        }
        // Postgres cannot store a NUL in text, so a store may replace it.
        let found = self.reasons(&delivery("warung", "evt", "body"), "before \0 after").await;
        let is_kept =
            |found: &String| found.starts_with("before") && found.ends_with("after") && found.chars().count() < 30;
        self.holds(
            found.iter().all(|found| found.as_ref().is_some_and(is_kept)),
            &format!("the reason \"before \\0 after\" became {found:?}"),
        );
    }

    /// Reschedules and then dead-letters a delivery for this reason. Returns the reason that the store shows after each.
    async fn reasons(&self, new: &NewDelivery, reason: &str) -> [Option<String>; 2] {
        let lease = self.begin(new).await;
        let reschedule =
            Settlement::Reschedule { delay: Duration::ZERO, reason: reason.into(), unordered: false, status: None };
        self.settle(&lease, reschedule).await;
        let ready = self.show(lease.id(), new, DeliveryState::Ready, 1, "the delivery was rescheduled").await;
        let lease = self.lease_one(new, "the delivery was rescheduled without a delay").await;
        self.settle(&lease, Settlement::DeadLetter { reason: reason.into(), status: None }).await;
        let dead = self.show(lease.id(), new, DeliveryState::Dead, 2, "the delivery was dead-lettered").await;
        [ready.reason, dead.reason]
    }

    pub(super) async fn returns_the_ordering_keys(&self) {
        let [none, one, many] = [&[][..], &["a"], &["d", "b", "c"]];
        let [none, one, many] = [("none", none), ("one", one), ("many", many)]
            .map(|(id, keys)| delivery("warung", id, "body").with_ordering_keys(keys));
        self.accept_all([&none, &one, &many]).await;
        self.lease_with_keys([&none, &one, &many], "the deliveries were accepted").await;
        self.advance(LEASE + MARGIN).await;
        let [_, one_lease, many_lease] = self.lease_with_keys([&none, &one, &many], "the leases have expired").await;
        self.settle(&one_lease, reschedule(Duration::ZERO)).await;
        self.settle(&many_lease, dead_letter()).await;
        self.retry(many_lease.id()).await;
        self.lease_with_keys([&one, &many], "one was rescheduled, and one retried").await;

        let dead = delivery("warung", "dead", "body").with_ordering_keys(&["e", "f"]);
        self.make_dead(&dead).await;
        let revived = delivery("warung", "dead", "body").with_ordering_keys(&["g"]);
        self.revive(&revived).await;
        self.lease_with_keys([&revived], "the delivery was revived with other ordering keys").await;
    }

    /// Leases every delivery that can be leased. Checks that these are leased, in any order, with their ordering keys.
    async fn lease_with_keys<const N: usize>(&self, expected: [&NewDelivery; N], why: &str) -> [Lease; N] {
        let leased = self.try_lease(&REQUEST).await.leased;
        self.same("lease", &leased.len(), &N, why);
        expected.map(|new| {
            let Some(leased) = leased.iter().find(|leased| leased.head() == new.head()) else {
                self.broken(&format!("lease did not return {new:?}: {why}"))
            };
            self.same("lease", &leased.ordering_keys(), &new.ordering_keys(), why);
            *leased.lease()
        })
    }
}
