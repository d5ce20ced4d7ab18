//! Rules for many calls at once.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Barrier, task::JoinHandle};
use tower_klikit::dedupe::{Claim, ClaimOutcome, Ledger, StoreError};

use super::{
    claim,
    subject::{LEASE, MARGIN, RETENTION, Subject, TERMS},
};

const RIVALS: usize = 64;
const ROUNDS: usize = 16;

/// Makes 64 claims on one delivery at once, 16 times over: one wins, and once it is completed, all others find it done.
///
/// [`check`](super::check) does this too. Call it by itself on a runtime of several threads, where the claims truly meet, and
/// for a store that is shared by several nodes.
///
/// # Panics
///
/// If not exactly one claim wins, or a later claim does not find the delivery done.
pub async fn race<L: Ledger>(store: L) {
    let advance = async |_: &L, _: Duration| {};
    Subject::new("one_of_many_claims_wins", store, &advance).one_of_many_claims_wins().await;
}

impl<L: Ledger, A: AsyncFn(&L, Duration)> Subject<'_, L, A> {
    pub(super) async fn one_of_many_claims_wins(&self) {
        for round in 0..ROUNDS {
            let id = format!("evt-{round}");
            let winner = self.winner(&id).await;
            let complete = |store: Arc<L>, claim: Claim| async move { store.complete(&claim, RETENTION).await };
            let completed = self.all(&rivals(&id), complete).await;
            self.holds(!completed.contains(&true), "complete returned true to a token that does not hold the entry");
            let completed = self.all(&vec![winner.clone(); RIVALS], complete).await;
            self.holds(
                !completed.contains(&false),
                "complete returned false to the holder, which called it many times",
            );
            let done = ClaimOutcome::Done { digest: *winner.digest() };
            for (_, outcome) in self.claim_all(&id).await {
                self.holds(outcome == done, &format!("claim returned {outcome:?} for an entry that is done"));
            }
        }
    }

    pub(super) async fn one_of_many_takes_over(&self) {
        let mut last = self.winner("evt").await;
        for _ in 0..ROUNDS {
            self.advance(LEASE + MARGIN).await;
            let next = self.winner("evt").await;
            self.cannot_complete(&last, "another token has taken the entry over").await;
            last = next;
        }
        self.complete(&last, "the token holds the entry").await;
    }

    pub(super) async fn late_completion_races_with_a_takeover(&self) {
        for round in 0..ROUNDS {
            let id = format!("evt-{round}");
            let holder = claim("warung", &id, "body");
            self.claim(&holder, "there is no entry").await;
            self.advance(LEASE + MARGIN).await;
            let mut calls = rivals(&id);
            // From the first to the last of the calls.
            calls.insert(round * RIVALS / (ROUNDS - 1), holder.clone());
            let token = *holder.token();
            let call = |store: Arc<L>, claim: Claim| async move {
                if *claim.token() == token {
                    store.complete(&claim, RETENTION).await
                } else {
                    Ok(store.claim(&claim, &TERMS).await? == ClaimOutcome::Claimed)
                }
            };
            let succeeded = self.all(&calls, call).await.into_iter().filter(|succeeded| *succeeded).count();
            self.holds(
                succeeded == 1,
                &format!("of {RIVALS} claims and a late completion of one entry, {succeeded} succeeded"),
            );
        }
    }

    /// Makes many claims on one event at once. Returns the one that holds the entry.
    async fn winner(&self, id: &str) -> Claim {
        let mut winners = Vec::new();
        for (claim, outcome) in self.claim_all(id).await {
            match outcome {
                ClaimOutcome::Claimed => winners.push(claim),
                ClaimOutcome::InFlight { digest, .. } if digest == *claim.digest() => {}
                _ => self.broken(&format!("claim returned {outcome:?} for an entry that another token holds")),
            }
        }
        match &winners[..] {
            [winner] => winner.clone(),
            _ => self.broken(&format!("{} of {RIVALS} claims on one entry won", winners.len())),
        }
    }

    async fn claim_all(&self, id: &str) -> Vec<(Claim, ClaimOutcome)> {
        let rivals = rivals(id);
        let claim = |store: Arc<L>, claim: Claim| async move { store.claim(&claim, &TERMS).await };
        let outcomes = self.all(&rivals, claim).await;
        rivals.into_iter().zip(outcomes).collect()
    }

    /// Calls the store with all of these claims at once.
    async fn all<F, T>(&self, claims: &[Claim], call: impl Fn(Arc<L>, Claim) -> F) -> Vec<T>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        let start = Arc::new(Barrier::new(claims.len()));
        let spawn = |claim: &Claim| {
            let (start, called) = (Arc::clone(&start), call(Arc::clone(&self.store), claim.clone()));
            tokio::spawn(async move {
                start.wait().await;
                called.await
            })
        };
        let tasks: Vec<JoinHandle<_>> = claims.iter().map(spawn).collect();
        let mut answers = Vec::with_capacity(tasks.len());
        for task in tasks {
            let answer = task.await.unwrap_or_else(|error| self.broken(&format!("a call panicked: {error}")));
            answers.push(self.answer("a call among many at once", answer));
        }
        answers
    }
}

fn rivals(id: &str) -> Vec<Claim> {
    (0..RIVALS).map(|_| claim("warung", id, "body")).collect()
}
