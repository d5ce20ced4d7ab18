//! Rules for calls that are made at the same time.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Barrier, task::JoinHandle};
use tower_klikit::dedupe::{Claim, ClaimOutcome, Ledger, LedgerAdmin, StoreError};

use super::{
    claim,
    tested::{LEASE, MARGIN, RETENTION, TERMS, TestedLedger},
};

const RIVALS: usize = 64;
const ROUNDS: usize = 16;

/// Makes 64 claims on one delivery at the same time, and repeats this 16 times. One claim wins each time. After the winner completes
/// the entry, all other claims find it done.
///
/// [`check`](super::check) checks this too. Call `race` on a multi-threaded runtime, where calls run in parallel, and for a store
/// that several nodes share.
///
/// # Panics
///
/// If not exactly one claim wins, or a later claim does not find the delivery done.
pub async fn race<L: Ledger + LedgerAdmin>(store: L) {
    let advance = async |_: &L, _: Duration| {};
    TestedLedger::new("one_of_many_claims_wins", store, &advance).one_of_many_claims_wins().await;
}

impl<L: Ledger + LedgerAdmin, A: AsyncFn(&L, Duration)> TestedLedger<'_, L, A> {
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

    pub(super) async fn one_of_many_claims_takes_over(&self) {
        let mut last = self.winner("evt").await;
        for _ in 0..ROUNDS {
            self.advance(LEASE + MARGIN).await;
            let next = self.winner("evt").await;
            self.cannot_complete(&last, "another token has taken the entry over").await;
            last = next;
        }
        self.complete(&last, "the token holds the entry").await;
    }

    pub(super) async fn late_completion_excludes_a_takeover(&self) {
        for round in 0..ROUNDS {
            let id = format!("evt-{round}");
            let holder = claim("warung", &id, "body");
            self.claim(&holder, "there is no entry").await;
            self.advance(LEASE + MARGIN).await;
            let mut calls = rivals(&id);
            // The completion's place moves from the first call to the last one.
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

    /// Makes many claims on one event at the same time. Returns the winner.
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

    /// Makes this call for all of these claims at the same time.
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
            answers.push(self.answer("a concurrent call", answer));
        }
        answers
    }
}

fn rivals(id: &str) -> Vec<Claim> {
    (0..RIVALS).map(|_| claim("warung", id, "body")).collect()
}
