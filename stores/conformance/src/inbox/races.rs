//! Rules for calls that are made at the same time.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Barrier;
use tower_klikit::{
    dedupe::{Ledger, StoreError},
    inbox::{
        Acceptance, DeliveryId, DeliveryState, InboxAdmin, InboxStore, Lease, LeaseRequest, NewDelivery, SettleOutcome,
        Settlement,
    },
};

use super::{
    delivery,
    tested::{AHEAD, HOUR, KEEP, REQUEST, RETENTION, TestedInbox, WORKER, dead_letter, done, reschedule},
    worklog::{RIVALS, Worklog},
};

const ROUNDS: usize = 8;
const KEYS: usize = 4;
const WORKERS: usize = 12;

/// Checks the rules for calls that are made at the same time, with 64 calls each.
///
/// - Of 64 copies of a delivery one is accepted.
/// - Each delivery is leased once. Deliveries that share an ordering key are leased one at a time.
/// - Each lease is settled once, and each attempt is counted once.
///
/// [`check`](super::check) checks these rules too. Call `race` on a multi-threaded runtime, where calls run in parallel. The store
/// must be empty.
///
/// # Panics
///
/// If the store breaks one of these rules.
pub async fn race<S: InboxStore + InboxAdmin + Ledger>(store: S) {
    race_between([store]).await;
}

/// Checks the rules of [`race`] with several handles on one store, each with its own connections, like several nodes. Calls are
/// distributed over the handles in turn.
///
/// # Panics
///
/// If the store breaks one of these rules, or `handles` is empty.
pub async fn race_between<S: InboxStore + InboxAdmin + Ledger>(handles: impl IntoIterator<Item = S>) {
    let advance = async |_: &S, _: Duration| {};
    let mut handles = handles.into_iter();
    let store = handles.next().expect("race_between needs at least one handle");
    let tested = TestedInbox::new("one_of_many_copies_is_accepted", store, &advance).with_others(handles);
    tested.one_of_many_copies_is_accepted().await;
    let tested = tested.renamed("each_delivery_is_leased_once");
    tested.each_delivery_is_leased_once().await;
    let tested = tested.renamed("ordered_deliveries_are_leased_one_at_a_time");
    tested.ordered_deliveries_are_leased_one_at_a_time().await;
    let tested = tested.renamed("concurrent_settlements_count_once");
    tested.concurrent_settlements_count_once().await;
    let tested = tested.renamed("late_settlement_excludes_a_new_lease");
    tested.late_settlement_excludes_a_new_lease().await;
    tested.renamed("concurrent_starts_count_once").concurrent_starts_count_once().await;
}

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(super) async fn one_of_many_copies_is_accepted(&self) {
        for round in 0..ROUNDS {
            let id = format!("copies-{round}");
            let copies = |_| delivery("warung", &id, "body");
            let accept = |store: Arc<S>, new: NewDelivery| async move { store.accept(&new, RETENTION).await };
            let answers = self.all((0..RIVALS).map(copies).collect(), accept).await;
            self.one_of(&answers, &Acceptance::Accepted, &id);
            let lease = self.lease_one(&copies(0), "one of the copies was accepted").await;
            self.settle(&lease, dead_letter()).await;
            let answers = self.all((0..RIVALS).map(copies).collect(), accept).await;
            self.one_of(&answers, &Acceptance::Revived, &id);
            let lease = self.lease_one(&copies(0), "one of the copies revived the delivery").await;
            self.settle(&lease, done(Duration::ZERO)).await;
        }
    }

    pub(super) async fn each_delivery_is_leased_once(&self) {
        let all: Vec<_> = (0..RIVALS).map(|n| delivery("warung", &format!("leased-{n}"), "body")).collect();
        let accept = |store: Arc<S>, new: NewDelivery| async move { store.accept(&new, RETENTION).await };
        for answer in self.all(all, accept).await {
            self.same("accept", &answer, &Acceptance::Accepted, "the delivery is new");
        }
        let lease = |store: Arc<S>, limit: u32| async move {
            Ok(store.lease(&LeaseRequest { limit, ..REQUEST }).await?.leased)
        };
        let limits: Vec<u32> = (0..16).map(|n| n % 3 + 1).collect();
        let mut seen = HashSet::new();
        let mut leases: Vec<Lease> = Vec::new();
        // Enough rounds even if only one delivery is leased in each.
        for _ in 0..RIVALS {
            for leased in self.all(limits.clone(), lease).await.iter().flatten() {
                let is_first = seen.insert(leased.lease().id()) && leased.lease().attempt() == 1;
                self.holds(
                    is_first,
                    &format!("concurrent calls of lease returned {leased:?}, which had been leased before"),
                );
                leases.push(*leased.lease());
            }
        }
        self.same("lease", &leases.len(), &RIVALS, "all accepted deliveries must be leased");
        let settle = |store: Arc<S>, lease: Lease| async move { store.settle(&[(lease, done(Duration::ZERO))]).await };
        for settled in self.all(leases, settle).await {
            self.same("settle", &settled, &vec![SettleOutcome::Settled], "the lease is current");
        }
        self.counts([0, 0, 0, 0], "all deliveries were handled").await;
    }

    pub(super) async fn ordered_deliveries_are_leased_one_at_a_time(&self) {
        let key = |n: usize| format!("key-{}", n % KEYS);
        let made = |n: usize| {
            let keys = [key(n), key(n + 1)];
            // Every fifth delivery has two keys.
            let keys: Vec<_> = keys.iter().take(1 + usize::from(n.is_multiple_of(5))).map(|key| &**key).collect();
            delivery("warung", &format!("ordered-{n}"), keys.join(" ")).with_ordering_keys(&keys)
        };
        let worklog = Arc::new(Worklog::default());
        let task = |store: Arc<S>, role: Role| {
            let worklog = Arc::clone(&worklog);
            async move {
                match role {
                    Role::Acceptor(new) => worklog.accept(&*store, &new).await,
                    Role::Worker => worklog.work(&*store).await,
                }
            }
        };
        let acceptors = (0..RIVALS).map(|n| Role::Acceptor(Box::new(made(n))));
        let workers = (0..WORKERS).map(|_| Role::Worker);
        self.all(acceptors.chain(workers).collect(), task).await;
        let (handled, wrong) = worklog.result();
        self.holds(wrong.is_none(), wrong.as_deref().unwrap_or_default());
        self.same("lease", &handled, &RIVALS, "all accepted deliveries must be handled");
        self.counts([0, 0, 0, 0], "all deliveries were handled").await;
    }

    /// Uses settlements whose repetition would show: one call deletes the delivery, a release takes one attempt off, and a done
    /// delivery stays done.
    pub(super) async fn concurrent_settlements_count_once(&self) {
        let settle = |store: Arc<S>, (lease, settlement): (Lease, Settlement)| async move {
            store.settle(&[(lease, settlement)]).await
        };
        for round in 0..ROUNDS {
            let new = delivery("warung", &format!("released-{round}"), "body");
            let lease = self.begin(&new).await;
            self.settle(&lease, reschedule(Duration::ZERO)).await;
            let lease = self.lease_one(&new, "the delivery was rescheduled without a delay").await;
            for settled in self.all(vec![(lease, Settlement::Release); RIVALS], settle).await {
                self.same(
                    "settle",
                    &settled,
                    &vec![SettleOutcome::Settled],
                    "many calls released the lease at the same time",
                );
            }
            self.show(lease.id(), &new, DeliveryState::Ready, 1, "a lease is released only once").await;

            let lease = self.lease_one(&new, "the delivery was released").await;
            let each = [done(RETENTION), dead_letter(), Settlement::Release, reschedule(Duration::ZERO)];
            let each = (round..round + RIVALS).map(|n| (lease, each[n % each.len()].clone()));
            for settled in self.all(each.collect(), settle).await {
                self.same("settle", &settled, &vec![SettleOutcome::Settled], "the delivery is kept, and has one token");
            }
            let entry = self.find(lease.id()).await.map(|entry| entry.state);
            self.same("show", &entry, &Some(DeliveryState::Done), "no settlement undoes a success");

            let lease = self.begin(&delivery("warung", &format!("handled-{round}"), "body")).await;
            let settled = self.all(vec![(lease, done(Duration::ZERO)); RIVALS], settle).await;
            let count = |outcome| settled.iter().filter(|settled| **settled == [outcome]).count();
            let (first, others) = (count(SettleOutcome::Settled), count(SettleOutcome::Gone));
            self.holds(
                first == 1 && others == RIVALS - 1,
                &format!("of {RIVALS} calls that delete one delivery {first} were Settled and {others} Gone"),
            );
        }
    }

    pub(super) async fn late_settlement_excludes_a_new_lease(&self) {
        for round in 0..ROUNDS {
            let all = (0..RIVALS / 4).map(|n| delivery("warung", &format!("expired-{round}-{n}"), "body"));
            for new in all {
                self.accept(&new).await;
            }
            let leases: Vec<Lease> =
                self.try_lease(&REQUEST).await.leased.iter().map(|leased| *leased.lease()).collect();
            self.same("lease", &leases.len(), &(RIVALS / 4), "all accepted deliveries must be leased");
            // Let the leases expire now, because `race` cannot advance the time.
            self.extend_all(&leases, Duration::ZERO, &[true; RIVALS / 4], "the leases are current").await;
            let call = |store: Arc<S>, rival: RivalCall| async move {
                match rival {
                    RivalCall::Settle(lease) => {
                        let settled = store.settle(&[(lease, done(KEEP))]).await?;
                        Ok(if settled == [SettleOutcome::Settled] { vec![lease.id()] } else { vec![] })
                    }
                    RivalCall::Lease => {
                        let batch = store.lease(&LeaseRequest { limit: 2, duration: HOUR, ..REQUEST }).await?;
                        Ok(batch.leased.iter().map(|leased| leased.lease().id()).collect())
                    }
                }
            };
            // Settlements and leases alternate, and each comes first in every second round.
            let rivals = leases.iter().flat_map(|lease| [RivalCall::Settle(*lease), RivalCall::Lease]);
            let mut rivals: Vec<RivalCall> = rivals.collect();
            rivals.rotate_left(round % 2);
            let mut taken: HashMap<DeliveryId, usize> = HashMap::new();
            for id in self.all(rivals, call).await.into_iter().flatten() {
                *taken.entry(id).or_default() += 1;
            }
            for lease in &leases {
                let taken = taken.get(&lease.id()).copied().unwrap_or_default();
                self.same("settle and lease", &taken, &1, "either the late settlement counts, or a worker leases anew");
            }
        }
    }

    pub(super) async fn concurrent_starts_count_once(&self) {
        let start = |store: Arc<S>, lease: Lease| async move { store.start(&[lease], WORKER).await };
        let end = |store: Arc<S>, (lease, settlement): (Lease, Option<Settlement>)| async move {
            match settlement {
                Some(settlement) => store.settle(&[(lease, settlement)]).await.map(drop),
                None => store.start(&[lease], WORKER).await.map(drop),
            }
        };
        for round in 0..ROUNDS {
            let new = delivery("warung", &format!("started-{round}"), "body");
            self.accept(&new).await;
            let [lease] = self.lease_as(&AHEAD, [&new], "the delivery was accepted").await;
            for started in self.all(vec![lease; RIVALS], start).await {
                self.same("start", &started, &vec![true], "the lease is current");
            }
            self.show(lease.id(), &new, DeliveryState::Leased, 1, "an attempt counts once").await;
            self.settle(&lease, reschedule(Duration::ZERO)).await;

            // A start after the settlement changes nothing. A release undoes a start before it.
            let endings = [(Settlement::Release, DeliveryState::Ready), (done(RETENTION), DeliveryState::Done)];
            for (settlement, state) in endings {
                let [lease] = self.lease_as(&AHEAD, [&new], "the delivery is due").await;
                let calls = (0..RIVALS).map(|n| (lease, (n == RIVALS / 2).then(|| settlement.clone())));
                self.all(calls.collect(), end).await;
                let found = self.find(lease.id()).await.map(|entry| (entry.state, entry.attempts));
                let is_right = |found: (DeliveryState, u32)| match state {
                    DeliveryState::Ready => found == (state, 1),
                    _ => found.0 == state && matches!(found.1, 1 | 2),
                };
                self.holds(
                    found.is_some_and(is_right),
                    &format!("concurrent starts and one {settlement:?} left {found:?}"),
                );
            }
        }
    }

    /// Checks that one call returned `expected`, and all others `Known`.
    fn one_of(&self, answers: &[Acceptance], expected: &Acceptance, id: &str) {
        let known = Acceptance::Known { digest: *delivery("warung", id, "body").claim().digest(), body: None };
        let winners = answers.iter().filter(|answer| *answer == expected).count();
        let others = answers.iter().filter(|answer| **answer == known).count();
        self.holds(
            winners == 1 && others == RIVALS - 1,
            &format!("of {RIVALS} copies {winners} were {expected:?} and {others} known; the results: {answers:?}"),
        );
    }

    /// Makes all of these calls on the store at the same time.
    async fn all<C, T, F>(&self, calls: Vec<C>, call: impl Fn(Arc<S>, C) -> F) -> Vec<T>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        let start = Arc::new(Barrier::new(calls.len()));
        let spawn = |(of, store): (C, &Arc<S>)| {
            let (start, called) = (Arc::clone(&start), call(Arc::clone(store), of));
            tokio::spawn(async move {
                start.wait().await;
                called.await
            })
        };
        let tasks: Vec<_> = calls.into_iter().zip(self.handles()).map(spawn).collect();
        let mut answers = Vec::with_capacity(tasks.len());
        for task in tasks {
            let answer = task.await.unwrap_or_else(|error| self.broken(&format!("a call panicked: {error}")));
            answers.push(self.answer("a concurrent call", answer));
        }
        answers
    }
}

/// The role of a concurrent task.
enum Role {
    Acceptor(Box<NewDelivery>),
    Worker,
}

/// A call that competes for expired leases.
enum RivalCall {
    Settle(Lease),
    Lease,
}
