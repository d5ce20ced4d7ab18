//! Rules for many at once.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::Barrier;

use super::{
    book::{Book, RIVALS},
    delivery,
    subject::{LEASE, MANY_ATTEMPTS, RETENTION, Subject},
};
use crate::{
    dedupe::{Ledger, StoreError},
    inbox::{Acceptance, DeliveryState, InboxStore, Lease, NewDelivery},
};

const ROUNDS: usize = 8;
const KEYS: usize = 4;
const WORKERS: usize = 12;

/// Has 64 copies of one delivery race, and many workers for what was accepted: one copy is stored, each delivery is leased
/// once, and of those that share an ordering key one at a time.
///
/// [`check`](super::check) does this too. Call it by itself on a runtime of several threads, where the calls truly meet. The
/// store has to be empty.
///
/// # Panics
///
/// When a delivery is stored or leased twice, or never.
pub async fn race<S: InboxStore + Ledger>(store: S) {
    race_between([store]).await;
}

/// The same for several handles on one store, as several nodes have them, each with connections of its own. The calls go to
/// one after the other.
///
/// # Panics
///
/// When a delivery is stored or leased twice, or never, and when there is no handle.
pub async fn race_between<S: InboxStore + Ledger>(handles: impl IntoIterator<Item = S>) {
    let advance = async |_: &S, _: Duration| {};
    let mut handles = handles.into_iter();
    let store = handles.next().expect("there has to be a store");
    let subject = Subject::new("one_of_many_copies_is_accepted", store, &advance).with_others(handles);
    subject.one_of_many_copies_is_accepted().await;
    let subject = subject.renamed("each_is_leased_once");
    subject.each_is_leased_once().await;
    let subject = subject.renamed("those_that_share_a_key_are_leased_one_after_the_other");
    subject.those_that_share_a_key_are_leased_one_after_the_other().await;
    subject.renamed("one_of_many_ends_a_lease").one_of_many_ends_a_lease().await;
}

impl<S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Subject<'_, S, A> {
    pub(super) async fn one_of_many_copies_is_accepted(&self) {
        for round in 0..ROUNDS {
            let id = format!("copies-{round}");
            let copies = |_| delivery("warung", &id, "body");
            let accept = |store: Arc<S>, new: NewDelivery| async move { store.accept(&new, RETENTION).await };
            let answers = self.all((0..RIVALS).map(copies).collect(), accept).await;
            self.one_of(&answers, &Acceptance::Accepted, &id);
            let lease = self.lease_one(&copies(0), "one of its copies was accepted").await;
            self.bury(&lease, true, "its lease is held").await;
            let answers = self.all((0..RIVALS).map(copies).collect(), accept).await;
            self.one_of(&answers, &Acceptance::Revived, &id);
            let lease = self.lease_one(&copies(0), "it was revived by one of its copies").await;
            self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
        }
    }

    pub(super) async fn each_is_leased_once(&self) {
        let all: Vec<_> = (0..RIVALS).map(|n| delivery("warung", &format!("leased-{n}"), "body")).collect();
        let accept = |store: Arc<S>, new: NewDelivery| async move { store.accept(&new, RETENTION).await };
        for answer in self.all(all, accept).await {
            self.same("accept", &answer, &Acceptance::Accepted, "many others came at once");
        }
        let lease = |store: Arc<S>, limit: u32| async move { store.lease(limit, LEASE, MANY_ATTEMPTS).await };
        let limits: Vec<u32> = (0..16).map(|n| n % 3 + 1).collect();
        let mut seen = HashSet::new();
        let mut leases: Vec<Lease> = Vec::new();
        // So many calls would be enough if each gave one.
        for _ in 0..RIVALS {
            for leased in self.all(limits.clone(), lease).await.iter().flatten() {
                let is_first = seen.insert(leased.lease().id()) && leased.lease().attempt() == 1;
                self.holds(is_first, &format!("many calls at once gave {leased:?}, which had been leased before"));
                leases.push(*leased.lease());
            }
        }
        self.same("lease", &leases.len(), &RIVALS, "so many were accepted, and leased by many calls at once");
        let finish = |store: Arc<S>, lease: Lease| async move { store.finish(&lease, Duration::ZERO).await };
        let finished = self.all(leases, finish).await;
        self.holds(!finished.contains(&false), "finish gave false to one that holds its lease");
        self.counts([0, 0, 0, 0], "all were finished").await;
    }

    pub(super) async fn those_that_share_a_key_are_leased_one_after_the_other(&self) {
        let key = |n: usize| format!("key-{}", n % KEYS);
        let made = |n: usize| {
            let other = format!("key-{}", (n + 1) % KEYS);
            let keys = [key(n), other];
            // Every fifth has two keys.
            let keys: Vec<_> = keys.iter().take(1 + usize::from(n.is_multiple_of(5))).map(|key| &**key).collect();
            delivery("warung", &format!("ordered-{n}"), keys.join(" ")).with_ordering_keys(&keys)
        };
        let book = Arc::new(Book::default());
        let task = |store: Arc<S>, role: Role| {
            let book = Arc::clone(&book);
            async move {
                match role {
                    // Acceptors and workers are at it together.
                    Role::Acceptor(new) => book.accept(&*store, &new).await,
                    Role::Worker => book.work(&*store).await,
                }
            }
        };
        let acceptors = (0..RIVALS).map(|n| Role::Acceptor(Box::new(made(n))));
        let workers = (0..WORKERS).map(|_| Role::Worker);
        self.all(acceptors.chain(workers).collect(), task).await;
        let (finished, wrong) = book.result();
        self.holds(wrong.is_none(), wrong.as_deref().unwrap_or_default());
        self.same("lease", &finished, &RIVALS, "so many were accepted, and workers asked again and again");
        self.counts([0, 0, 0, 0], "all were finished").await;
    }

    pub(super) async fn one_of_many_ends_a_lease(&self) {
        for round in 0..ROUNDS {
            let new = delivery("warung", &format!("ended-{round}"), "body");
            let lease = self.take_up(&new).await;
            let end = |store: Arc<S>, n: usize| async move {
                match n % 4 {
                    0 => store.finish(&lease, RETENTION).await,
                    1 => store.bury(&lease, "buried").await,
                    2 => store.give_back(&lease).await,
                    _ => store.postpone(&lease, RETENTION, "postponed").await,
                }
            };
            let ended = self.all((round..round + RIVALS).collect(), end).await;
            let winners: Vec<_> = ended.iter().zip(round..).filter(|(ended, _)| **ended).map(|(_, n)| n % 4).collect();
            let [winner] = winners[..] else {
                self.broken(&format!("{} of {RIVALS} calls that end one lease succeeded", winners.len()))
            };
            let (state, attempts) = [
                (DeliveryState::Done, 1),
                (DeliveryState::Dead, 1),
                (DeliveryState::Ready, 0),
                (DeliveryState::Ready, 1),
            ][winner];
            self.show(lease.id(), &new, state, attempts, "one of many calls has ended the lease").await;
            if winner == 2 {
                let lease = self.lease_one(&new, "it was given back").await;
                self.finish(&lease, Duration::ZERO, true, "its lease is held").await;
            }
        }
    }

    /// That one copy got this answer, and all others that it is known.
    fn one_of(&self, answers: &[Acceptance], expected: &Acceptance, id: &str) {
        let known = Acceptance::Known { digest: *delivery("warung", id, "body").claim().digest() };
        let winners = answers.iter().filter(|answer| *answer == expected).count();
        let others = answers.iter().filter(|answer| **answer == known).count();
        self.holds(
            winners == 1 && others == RIVALS - 1,
            &format!("of {RIVALS} copies {winners} were {expected:?} and {others} known; the answers: {answers:?}"),
        );
    }

    /// Calls the store with all of these at once.
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
            answers.push(self.answer("a call among many at once", answer));
        }
        answers
    }
}

enum Role {
    Acceptor(Box<NewDelivery>),
    Worker,
}
