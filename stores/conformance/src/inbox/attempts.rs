//! Rules for the records of attempts.

use std::time::{Duration, SystemTime};

use tower_klikit::{
    dedupe::Ledger,
    inbox::{
        AttemptRecord, DeliveryId, DeliveryState, InboxAdmin, InboxStore, LeaseRequest, OUTCOME_UNKNOWN, SettleOutcome,
        Settlement, ShowBody,
    },
};

use super::{
    delivery,
    tested::{
        AHEAD, HOUR, KEEP, LEASE, MARGIN, REQUEST, RETENTION, TestedInbox, WORKER, dead_letter, done, reschedule,
    },
};

/// The expected record of an attempt: its number and its outcome.
type Record<'a> = (u32, Outcome<'a>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome<'a> {
    /// The attempt is running.
    Open,
    /// The worker has reported an outcome, with this status and reason.
    Ended(Option<u16>, Option<&'a str>),
    /// The worker has not reported an outcome.
    Unknown,
    /// Anything else.
    Odd,
}

const RESCHEDULED: Outcome<'static> = Outcome::Ended(None, Some("rescheduled"));

fn outcome_of(record: &AttemptRecord) -> Outcome<'_> {
    match (record.ended_at, record.status, record.reason.as_deref()) {
        (None, None, None) => Outcome::Open,
        (None, None, Some(OUTCOME_UNKNOWN)) => Outcome::Unknown,
        (Some(_), status, reason) => Outcome::Ended(status, reason),
        _ => Outcome::Odd,
    }
}

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    async fn records(&self, id: DeliveryId) -> Vec<AttemptRecord> {
        let entry = self.answer("show", self.store.show(id, ShowBody::Omit).await);
        entry.map(|entry| entry.history).unwrap_or_default()
    }

    /// Checks the numbers and outcomes of the recorded attempts, which a worker with this name made.
    async fn has_records_of(&self, worker: &str, id: DeliveryId, expected: &[Record<'_>], why: &str) {
        let history = self.records(id).await;
        let found: Vec<_> = history.iter().map(|record| (record.number, outcome_of(record))).collect();
        self.same("show (history)", &found, &expected.to_vec(), why);
        let names: Vec<_> = history.iter().map(|record| &*record.worker).collect();
        self.same("show (history)", &names, &vec![worker; expected.len()], "the worker has this name");
    }

    async fn has_records(&self, id: DeliveryId, expected: &[Record<'_>], why: &str) {
        self.has_records_of(WORKER, id, expected, why).await;
    }

    /// Checks when the last attempt started and ended, as times before now.
    async fn last_record_is_from(&self, id: DeliveryId, started: Duration, ended: Option<Duration>) {
        let now = SystemTime::now();
        // The clock of a store may differ by 5 minutes.
        let is_near = |time: SystemTime, ago: Duration| {
            let found = now.duration_since(time).unwrap_or_default();
            found.abs_diff(ago) < HOUR / 6
        };
        let Some(last) = self.records(id).await.pop() else { self.broken("show returned no record of an attempt") };
        let has_started = is_near(last.started_at, started);
        self.holds(has_started, &format!("show returned {last:?}, of an attempt that started {started:?} ago"));
        let has_ended = match (last.ended_at, ended) {
            (Some(found), Some(ended)) => is_near(found, ended),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        self.holds(has_ended, &format!("show returned {last:?}, of an attempt that ended {ended:?} ago"));
    }

    pub(super) async fn each_outcome_is_recorded(&self) {
        let [handled, failed, dead] = ["handled", "failed", "dead"].map(|id| delivery("warung", id, "body"));
        let lease = self.begin(&handled).await;
        self.settle(&lease, Settlement::Done { keep: KEEP, history: Duration::ZERO, status: Some(204) }).await;
        self.has_records(lease.id(), &[(1, Outcome::Ended(Some(204), None))], "the first attempt succeeded").await;

        let lease = self.begin(&failed).await;
        let failure = |reason: &str, status| Settlement::Reschedule {
            delay: Duration::ZERO,
            reason: reason.into(),
            unordered: false,
            status,
        };
        self.settle(&lease, failure("busy", Some(503))).await;
        let first = (1, Outcome::Ended(Some(503), Some("busy")));
        self.has_records(lease.id(), &[first], "the first attempt failed").await;
        let lease = self.lease_one(&failed, "the first attempt failed").await;
        self.settle(&lease, failure("panicked", None)).await;
        let second = (2, Outcome::Ended(None, Some("panicked")));
        self.has_records(lease.id(), &[first, second], "two attempts failed").await;
        let lease = self.lease_one(&failed, "two attempts failed").await;
        self.settle(&lease, done(KEEP)).await;
        let third = (3, Outcome::Ended(None, None));
        self.has_records(lease.id(), &[first, second, third], "the third attempt succeeded").await;

        let lease = self.begin(&dead).await;
        self.settle(&lease, Settlement::DeadLetter { reason: "closed".into(), status: Some(410) }).await;
        let record = (1, Outcome::Ended(Some(410), Some("closed")));
        self.has_records(lease.id(), &[record], "the attempt failed for good").await;
    }

    pub(super) async fn records_have_times(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        self.advance(HOUR).await;
        let lease = self.lease_one(&new, "the delivery was accepted").await;
        self.advance(HOUR).await;
        self.last_record_is_from(lease.id(), HOUR, None).await;
        self.settle(&lease, reschedule(Duration::ZERO)).await;
        self.advance(HOUR).await;
        self.last_record_is_from(lease.id(), 2 * HOUR, Some(HOUR)).await;
        let [lease] = self.lease_as(&AHEAD, [&new], "the first attempt failed").await;
        self.advance(HOUR).await;
        self.start(&lease).await;
        self.advance(HOUR).await;
        self.last_record_is_from(lease.id(), HOUR, None).await;
        self.lease_one(&new, "the lease has expired").await;
        self.advance(HOUR).await;
        self.last_record_is_from(lease.id(), HOUR, None).await;
    }

    pub(super) async fn attempt_opens_when_it_starts(&self) {
        let [ahead, counted] = ["ahead", "counted"].map(|id| delivery("warung", id, "body"));
        self.accept(&ahead).await;
        let [lease] = self.lease_as(&AHEAD, [&ahead], "the delivery was accepted").await;
        self.has_records(lease.id(), &[], "the delivery was leased ahead, and its attempt has not started").await;
        for worker in ["kitchen", "counter"] {
            let started = self.answer("start", self.store.start(&[lease], worker).await);
            self.same("start", &started, &vec![true], "the lease is current");
            let why = "the attempt started once, with this worker";
            self.has_records_of("kitchen", lease.id(), &[(1, Outcome::Open)], why).await;
        }
        self.accept(&counted).await;
        let request = LeaseRequest { worker: "kitchen", ..REQUEST };
        let [lease] = self.lease_as(&request, [&counted], "the delivery was accepted").await;
        let why = "the lease counted the attempt";
        self.has_records_of("kitchen", lease.id(), &[(1, Outcome::Open)], why).await;
        self.advance(HOUR).await;
        let started = self.answer("start", self.store.start(&[lease], "counter").await);
        self.same("start", &started, &vec![true], "the lease is the latest one");
        self.has_records_of("kitchen", lease.id(), &[(1, Outcome::Open)], "the attempt has started already").await;
        self.last_record_is_from(lease.id(), HOUR, None).await;
        self.settle(&lease, reschedule(Duration::ZERO)).await;
        self.has_records_of("kitchen", lease.id(), &[(1, RESCHEDULED)], "one attempt was made").await;
    }

    pub(super) async fn untaken_attempt_leaves_no_record(&self) {
        for (id, settlement) in [("released", Settlement::Release), ("expired", Settlement::Expire)] {
            let new = delivery("warung", id, "body");
            let lease = self.begin(&new).await;
            self.settle(&lease, reschedule(Duration::ZERO)).await;
            let lease = self.lease_one(&new, "the first attempt failed").await;
            self.has_records(lease.id(), &[(1, RESCHEDULED), (2, Outcome::Open)], "the second attempt runs").await;
            self.settle(&lease, settlement.clone()).await;
            let why = format!("the first attempt failed, and the second does not count: {settlement:?}");
            self.has_records(lease.id(), &[(1, RESCHEDULED)], &why).await;
            self.dead_letter(&[lease.id()], &[DeliveryState::Ready], u64::from(id == "released"), "by state").await;
        }
    }

    pub(super) async fn lost_attempt_is_recorded(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        let lost = (1, Outcome::Unknown);
        self.advance(LEASE + MARGIN).await;
        self.has_records(lease.id(), &[(1, Outcome::Open)], "its worker may still run the attempt").await;
        let [ahead] = self.lease_as(&REQUEST, [&new], "the lease has expired").await;
        self.has_records(lease.id(), &[lost], "the first attempt is lost, and the second has not started").await;
        self.advance(LEASE + MARGIN).await;
        let [second] = self.lease_as(&REQUEST, [&new], "the lease has expired").await;
        self.has_records(lease.id(), &[lost], "the attempt of the second lease never started").await;
        self.settles(&ahead, done(KEEP), SettleOutcome::Superseded, "the delivery was leased again").await;
        self.start(&second).await;
        self.has_records(lease.id(), &[lost, (2, Outcome::Open)], "the second attempt runs").await;
        self.advance(LEASE + MARGIN).await;
        let batch = self.try_lease(&LeaseRequest { max_attempts: 2, ..REQUEST }).await;
        self.same("lease", &batch.dead_lettered.len(), &1, "the lease expired on the last attempt");
        self.has_records(lease.id(), &[lost, (2, Outcome::Unknown)], "the lease dead-lettered the delivery").await;
    }

    /// The number of attempts begins again when an operator retries a delivery whose attempt is open.
    pub(super) async fn lost_attempt_has_a_number(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        self.dead_letter(&[lease.id()], &[DeliveryState::Leased], 1, "it is leased").await;
        self.retry(lease.id()).await;
        let second = self.lease_one(&new, "the delivery was retried").await;
        let expected = [(1, Outcome::Unknown), (1, Outcome::Open)];
        self.has_records(second.id(), &expected, "the first attempt is lost, and the delivery was retried").await;
    }

    pub(super) async fn late_outcome_replaces_its_record(&self) {
        let settlements = [
            ("kept", done(KEEP), Some(Outcome::Ended(None, None))),
            ("failed", reschedule(KEEP), Some(RESCHEDULED)),
            ("dead", dead_letter(), Some(Outcome::Ended(None, Some("dead-lettered")))),
            ("released", Settlement::Release, None),
            ("expired", Settlement::Expire, None),
        ];
        for (id, settlement, outcome) in settlements {
            let new = delivery("warung", id, "body");
            let lease = self.begin(&new).await;
            self.settle(&lease, reschedule(Duration::ZERO)).await;
            let lease = self.lease_one(&new, "the first attempt failed").await;
            self.advance(LEASE + MARGIN).await;
            let batch = self.try_lease(&LeaseRequest { max_attempts: 2, ..REQUEST }).await;
            self.same("lease", &batch.dead_lettered.len(), &1, "the lease expired on the last attempt");
            self.has_records(lease.id(), &[(1, RESCHEDULED), (2, Outcome::Unknown)], "the attempt is lost").await;
            let why = format!("the worker reported {settlement:?} after all");
            self.settle(&lease, settlement).await;
            let expected: Vec<_> = [Some((1, RESCHEDULED)), outcome.map(|outcome| (2, outcome))].into_iter().collect();
            let expected: Vec<_> = expected.into_iter().flatten().collect();
            self.has_records(lease.id(), &expected, &why).await;
            self.dead_letter(
                &[lease.id()],
                &[DeliveryState::Ready],
                u64::from(id == "failed" || id == "released"),
                &why,
            )
            .await;
        }
    }

    pub(super) async fn failure_of_a_dead_letter_is_recorded(&self) {
        let [failed, released] = ["failed", "released"].map(|id| delivery("warung", id, "body"));
        let [failed_lease, released_lease] = [self.begin(&failed).await, self.begin(&released).await];
        let ids = [failed_lease.id(), released_lease.id()];
        self.dead_letter(&ids, &[DeliveryState::Leased], 2, "both are leased").await;
        self.has_records(ids[0], &[(1, Outcome::Open)], "its handler is still running").await;
        self.settle(&failed_lease, reschedule(Duration::ZERO)).await;
        self.settle(&released_lease, Settlement::Release).await;
        self.has_records(ids[0], &[(1, RESCHEDULED)], "the attempt failed after the delivery was dead-lettered").await;
        self.has_records(ids[1], &[], "the attempt was released after the delivery was dead-lettered").await;
        self.counts([0, 0, 2, 0], "an operator has dead-lettered both").await;
    }

    /// klikit sends a delivery again while its handler is still running.
    pub(super) async fn taken_over_attempt_continues(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        self.dead_letter(&[lease.id()], &[DeliveryState::Leased], 1, "it is leased").await;
        self.revive(&delivery("warung", "evt", "body")).await;
        self.advance(HOUR).await;
        let request = LeaseRequest { held: &[lease], worker: "other", ..REQUEST };
        let [taken_over] = self.lease_as(&request, [&new], "the delivery was revived").await;
        let started = self.answer("start", self.store.start(&[taken_over], "other").await);
        self.same("start", &started, &vec![true], "the lease is current");
        let history = self.records(lease.id()).await;
        let found: Vec<_> = history.iter().map(|record| (&*record.worker, outcome_of(record))).collect();
        self.same("show (history)", &found, &vec![(WORKER, Outcome::Open)], "the handler takes over the lease");
        self.settle(&taken_over, done(KEEP)).await;
        let history = self.records(lease.id()).await;
        let found: Vec<_> = history.iter().map(|record| (&*record.worker, outcome_of(record))).collect();
        let expected = vec![(WORKER, Outcome::Ended(None, None))];
        self.same("show (history)", &found, &expected, "the handler took over the lease, and succeeded");
        self.last_record_is_from(lease.id(), HOUR, Some(Duration::ZERO)).await;
    }

    pub(super) async fn records_survive_retries(&self) {
        let new = delivery("warung", "evt", "body");
        let dead = (1, Outcome::Ended(None, Some("dead-lettered")));
        let lease = self.make_dead(&new).await;
        self.retry(lease.id()).await;
        self.has_records(lease.id(), &[dead], "an operator has retried the delivery").await;
        let lease = self.lease_one(&new, "the delivery was retried").await;
        self.settle(&lease, dead_letter()).await;
        self.revive(&delivery("warung", "evt", "body")).await;
        self.has_records(lease.id(), &[dead, dead], "klikit has sent the delivery again").await;
        let lease = self.lease_one(&new, "the delivery was revived").await;
        self.settle(&lease, done(KEEP)).await;
        let handled = (1, Outcome::Ended(None, None));
        self.has_records(lease.id(), &[dead, dead, handled], "the attempt after the revival succeeded").await;
    }

    pub(super) async fn records_are_deleted_with_the_delivery(&self) {
        let [replaced, deleted] = ["replaced", "deleted"].map(|id| delivery("warung", id, "body"));
        self.handle(&replaced, 2 * RETENTION).await;
        let lease = self.make_dead(&deleted).await;
        self.forget_these(&[lease.id()], &[DeliveryState::Dead], 1, "it is dead").await;
        self.advance(RETENTION + MARGIN).await;
        for id in ["replaced", "deleted"] {
            let new = delivery("warung", id, "body");
            let lease = self.begin(&new).await;
            self.has_records(lease.id(), &[(1, Outcome::Open)], "this delivery is a new one").await;
            self.settle(&lease, reschedule(KEEP)).await;
        }
    }

    pub(super) async fn shows_the_last_records(&self) {
        let shown = u32::try_from(AttemptRecord::SHOWN).unwrap_or(u32::MAX);
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        let mut last = None;
        for _ in 0..shown + 3 {
            let lease = self.lease_one(&new, "all attempts failed").await;
            self.settle(&lease, reschedule(Duration::ZERO)).await;
            last = Some(lease);
        }
        let Some(last) = last else { return };
        let expected: Vec<_> = (4..=shown + 3).map(|number| (number, RESCHEDULED)).collect();
        self.has_records(last.id(), &expected, "the last records are shown, oldest first").await;
        self.lease_one(&new, "all attempts failed").await;
        let records = self.records(last.id()).await;
        self.same("show (history)", &records.len(), &AttemptRecord::SHOWN, "an open attempt counts towards the limit");
        let last = records.last().map(outcome_of);
        self.same("show (history)", &last, &Some(Outcome::Open), "the last attempt runs");
    }

    pub(super) async fn repeated_settlement_adds_no_record(&self) {
        let [handled, failed, dead] = ["handled", "failed", "dead"].map(|id| delivery("warung", id, "body"));
        let cases = [
            (handled, done(KEEP), Outcome::Ended(None, None)),
            (failed, reschedule(HOUR), RESCHEDULED),
            (dead, dead_letter(), Outcome::Ended(None, Some("dead-lettered"))),
        ];
        for (new, settlement, outcome) in cases {
            let lease = self.begin(&new).await;
            for _ in 0..3 {
                self.settle(&lease, settlement.clone()).await;
                self.has_records(lease.id(), &[(1, outcome)], "the settlement was repeated").await;
            }
        }
    }
}
