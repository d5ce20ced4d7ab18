//! Rules for what is kept as it came.

use std::time::Duration;

use super::{
    delivery,
    subject::{KEEP, Subject},
};
use crate::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxStore, NewDelivery},
};

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn every_byte_of_a_body_is_kept(&self) {
        let every_byte: Vec<u8> = (0..=u8::MAX).collect();
        let long: Vec<u8> = every_byte.iter().copied().cycle().take(1 << 20).collect();
        let bodies: [&[u8]; 7] = [b"", b"\0", b"{}", b" {}\n", &every_byte, b"\xff\xfe\x80\0", &long];
        for (n, body) in bodies.into_iter().enumerate() {
            let new = delivery("warung", &format!("evt-{n}"), body);
            let lease = self.take_up(&new).await;
            self.show(lease.id(), &new, DeliveryState::Leased, 1, "it is leased").await;
            self.finish(&lease, KEEP, true, "its lease is held").await;
            self.show(lease.id(), &new, DeliveryState::Done, 1, "it is kept").await;
        }
    }

    pub(super) async fn every_character_of_a_head_is_kept(&self) {
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
            let lease = self.take_up(&new).await;
            let entry = self.show(lease.id(), &new, DeliveryState::Leased, 1, "it is leased").await;
            self.same("show", &entry.tenant(), &Some("warung"), "its head says so");
            self.same("show", &entry.event_id(), &Some("evt"), "its head says so");
        }
    }

    pub(super) async fn every_character_of_a_reason_is_kept(&self) {
        let long = "alasan ".repeat(1000);
        let reasons =
            ["", "500 Internal Server Error", "' \" \\ \n ; -- $1 ?1 % {}", "\u{1f336} ปลา \u{202e} \u{7f}", &long];
        for (n, reason) in reasons.into_iter().enumerate() {
            let found = self.reasons(&delivery("warung", &format!("evt-{n}"), "body"), reason).await;
            let expected = Some(reason.to_owned());
            self.holds(found == [expected.clone(), expected], &format!("the reason {reason:?} became {found:?}"));
        }
        // No text of Postgres holds this one, so it may be told in another way.
        let found = self.reasons(&delivery("warung", "evt", "body"), "before \0 after").await;
        let is_kept =
            |found: &String| found.starts_with("before") && found.ends_with("after") && found.chars().count() < 30;
        self.holds(
            found.iter().all(|found| found.as_ref().is_some_and(is_kept)),
            &format!("the reason \"before \\0 after\" became {found:?}"),
        );
    }

    /// What is shown when it was postponed, and when it was buried, for this reason.
    async fn reasons(&self, new: &NewDelivery, reason: &str) -> [Option<String>; 2] {
        let lease = self.take_up(new).await;
        let postponed = self.answer("postpone", self.store.postpone(&lease, Duration::ZERO, reason).await);
        self.same("postpone", &postponed, &true, "its lease is held");
        let waiting = self.show(lease.id(), new, DeliveryState::Ready, 1, "it was postponed").await;
        let lease = self.lease_one(new, "it was postponed for no time").await;
        let buried = self.answer("bury", self.store.bury(&lease, reason).await);
        self.same("bury", &buried, &true, "its lease is held");
        let dead = self.show(lease.id(), new, DeliveryState::Dead, 2, "it was buried").await;
        [waiting.reason, dead.reason]
    }
}
