//! Rules for many at once.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Barrier, task::JoinHandle};

use super::{
    claim,
    subject::{LEASE, MARGIN, RETENTION, Subject},
};
use crate::dedupe::{Claim, ClaimOutcome, Ledger, StoreError};

const RIVALS: usize = 64;
const ROUNDS: usize = 16;

/// Has 64 claims of one delivery race, 16 times over: one wins, and when it is done, all others know.
///
/// [`check`](super::check) does this too. Call it by itself on a runtime of several threads, where the claims truly meet, and
/// for a store that is shared by several nodes.
///
/// # Panics
///
/// When not exactly one wins, or a later claim does not find it done.
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
            self.holds(!completed.contains(&true), "complete gave true to one that does not hold the claim");
            let completed = self.all(&vec![winner.clone(); RIVALS], complete).await;
            self.holds(
                !completed.contains(&false),
                "complete gave false to the holder, which asked many times at once",
            );
            let done = ClaimOutcome::Done { digest: *winner.digest() };
            for (_, outcome) in self.claim_all(&id).await {
                self.holds(outcome == done, &format!("claim gave {outcome:?} for what is done"));
            }
        }
    }

    pub(super) async fn one_of_many_takes_over_what_is_up(&self) {
        let mut last = self.winner("evt").await;
        for _ in 0..ROUNDS {
            self.pass(LEASE + MARGIN).await;
            let next = self.winner("evt").await;
            self.complete(&last, false, "its lease was over and another has claimed the entry").await;
            last = next;
        }
        self.complete(&last, true, "it holds the entry").await;
    }

    /// Has many claim one event at once. The one that holds it then.
    async fn winner(&self, id: &str) -> Claim {
        let mut winners = Vec::new();
        for (claim, outcome) in self.claim_all(id).await {
            match outcome {
                ClaimOutcome::Claimed => winners.push(claim),
                ClaimOutcome::InFlight { digest, .. } if digest == *claim.digest() => {}
                _ => self.broken(&format!("claim gave {outcome:?} for what another holds")),
            }
        }
        match &winners[..] {
            [winner] => winner.clone(),
            _ => self.broken(&format!("{} of {RIVALS} claims on one entry won", winners.len())),
        }
    }

    async fn claim_all(&self, id: &str) -> Vec<(Claim, ClaimOutcome)> {
        let rivals = rivals(id);
        let claim = |store: Arc<L>, claim: Claim| async move { store.claim(&claim, LEASE).await };
        let outcomes = self.all(&rivals, claim).await;
        rivals.into_iter().zip(outcomes).collect()
    }

    /// Calls the store for all of these claims at once.
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
