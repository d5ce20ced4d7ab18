//! Tests of stores that are slow, fail or hang, and of callers that drop the response future.

use super::*;

/// A ledger that yields in each call, so that the response future can be dropped there.
#[derive(Clone)]
struct YieldingLedger<L>(L);

impl<L: Ledger> Ledger for YieldingLedger<L> {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        tokio::task::yield_now().await;
        let outcome = self.0.claim(claim, terms).await;
        tokio::task::yield_now().await;
        outcome
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        tokio::task::yield_now().await;
        self.0.complete(claim, retention).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        self.0.release(claim).await
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        self.0.renew(claims, terms).await
    }

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.0.forget(selection).await
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        self.0.purge(limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_response_future_changes_nothing() {
    for polls in 0..12 {
        for reaction in [Reaction::AnswersAfter(seconds(1)), Reaction::Answers(500), Reaction::Panics] {
            let handler = CountingHandler::new(reaction.clone());
            let layer = KlikitDedupeLayer::new(YieldingLedger(MemoryStore::new()));
            let stack = stack(&layer, &handler);
            let mut call = tokio_test::task::spawn(stack.clone().oneshot(delivery().request::<Full<Bytes>>()));
            for _ in 0..polls {
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call.poll().is_ready())).unwrap_or(true) {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(call);
            sleep(seconds(2)).await;
            let succeeded = handler.finished() == 1 && matches!(reaction, Reaction::AnswersAfter(_));
            handler.set_reaction(Reaction::Answers(200));
            if succeeded {
                assert_duplicate(&stack, &delivery()).await;
            } else {
                assert_handled(&stack, &delivery()).await;
            }
        }
    }
}

/// A ledger with a fault that tests can set.
#[derive(Clone)]
struct FaultyLedger {
    store: MemoryStore,
    fault: Arc<Mutex<Option<LedgerFault>>>,
}

#[derive(Clone)]
enum LedgerFault {
    /// Each call fails without an effect.
    Fails,
    /// Each call takes effect and returns an error.
    FailsAfterwards,
    /// Each completion fails without an effect.
    FailsToComplete,
    /// Each call waits for a permit.
    Hangs(Arc<Semaphore>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CallKind {
    Complete,
    Other,
}

impl FaultyLedger {
    fn new() -> Self {
        Self { store: MemoryStore::new(), fault: Arc::default() }
    }

    fn set(&self, fault: impl Into<Option<LedgerFault>>) {
        *self.fault.lock().unwrap() = fault.into();
    }

    /// Performs a call, unless the fault makes it fail or hang.
    async fn with_fault<T>(
        &self,
        kind: CallKind,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = self.fault.lock().unwrap().clone();
        match fault {
            Some(LedgerFault::Fails) => Err(StoreError::new("down")),
            Some(LedgerFault::FailsToComplete) if kind == CallKind::Complete => Err(StoreError::new("down")),
            Some(LedgerFault::FailsAfterwards) => {
                let _ = call.await;
                Err(StoreError::new("the response was lost"))
            }
            Some(LedgerFault::Hangs(permits)) => {
                permits.acquire().await.unwrap().forget();
                call.await
            }
            Some(LedgerFault::FailsToComplete) | None => call.await,
        }
    }
}

impl Ledger for FaultyLedger {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        self.with_fault(CallKind::Other, self.store.claim(claim, terms)).await
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        self.with_fault(CallKind::Complete, self.store.complete(claim, retention)).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        self.with_fault(CallKind::Other, self.store.release(claim)).await
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        self.with_fault(CallKind::Other, self.store.renew(claims, terms)).await
    }

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.with_fault(CallKind::Other, self.store.forget(selection)).await
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        self.with_fault(CallKind::Other, self.store.purge(limit)).await
    }
}

#[tokio::test]
async fn nothing_is_handled_while_the_store_is_down() {
    let (handler, store) = (CountingHandler::new(Reaction::Answers(200)), FaultyLedger::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    store.set(LedgerFault::Fails);
    for _ in 0..3 {
        assert_unavailable(&stack, &delivery(), "store unavailable").await;
    }
    assert_eq!(handler.started(), 0);
    store.set(None);
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn claim_whose_response_was_lost_is_released() {
    let (handler, store) = (CountingHandler::new(Reaction::Answers(200)), FaultyLedger::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    store.set(LedgerFault::FailsAfterwards);
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    assert_eq!(handler.started(), 0);
    store.set(None);
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn slow_store_is_503_and_late_claim_is_released() {
    let (handler, store) = (CountingHandler::new(Reaction::Answers(200)), FaultyLedger::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    let permits = Arc::new(Semaphore::new(0));
    store.set(LedgerFault::Hangs(Arc::clone(&permits)));
    let started = tokio::time::Instant::now();
    assert_unavailable(&stack, &delivery(), "store unavailable").await;
    assert_eq!(started.elapsed(), seconds(2));
    assert_eq!(handler.started(), 0);

    store.set(None);
    permits.add_permits(1);
    sleep(Duration::from_millis(1)).await;
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn success_is_recorded_once_the_store_is_back() {
    let (handler, store) = (CountingHandler::new(Reaction::Answers(200)), FaultyLedger::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    store.set(LedgerFault::FailsToComplete);
    assert_handled(&stack, &delivery()).await;
    for _ in 0..10 {
        assert_unavailable(&stack, &delivery(), "in flight").await;
        sleep(seconds(10)).await;
    }
    store.set(None);
    sleep(seconds(10)).await;
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn short_outage_loses_no_claim() {
    let (handler, store) = (CountingHandler::new(Reaction::AnswersAfter(seconds(60))), FaultyLedger::new());
    let stack = stack(&KlikitDedupeLayer::new(store.clone()), &handler);
    let call = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    sleep(seconds(1)).await;
    store.set(LedgerFault::Fails);
    sleep(seconds(20)).await;
    store.set(None);
    assert_eq!(call.await.unwrap().status, 200);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

/// A ledger whose first claim waits until the second claim is being released.
struct LateClaim {
    store: MemoryStore,
    claims: AtomicUsize,
    /// Has a permit once a claim was released.
    is_released: Arc<Semaphore>,
    /// Has a permit once the first claim was made and its copy has a response.
    is_claimed: Arc<Semaphore>,
}

impl Ledger for LateClaim {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let is_first = self.claims.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first {
            self.is_released.acquire().await.unwrap().forget();
        }
        self.store.claim(claim, terms).await
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        self.store.complete(claim, retention).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        self.store.release(claim).await?;
        self.is_released.add_permits(1);
        // The test adds a permit once the copy has its response.
        self.is_claimed.acquire().await.unwrap().forget();
        Ok(())
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        self.store.renew(claims, terms).await
    }

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.store.forget(selection).await
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        self.store.purge(limit).await
    }
}

/// The delivery takes over the claim of a copy after its handler has failed.
#[tokio::test]
async fn claim_during_a_release_is_released_too() {
    let (is_released, is_claimed) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let store = LateClaim {
        store: MemoryStore::new(),
        claims: AtomicUsize::new(0),
        is_released: Arc::clone(&is_released),
        is_claimed: Arc::clone(&is_claimed),
    };
    let handler = CountingHandler::new(Reaction::Answers(500));
    let stack = stack(&KlikitDedupeLayer::new(store), &handler);
    let copy = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    tokio::task::yield_now().await;
    let first = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    answers::assert_unavailable(&copy.await.unwrap(), "in flight");
    is_claimed.add_permits(2);
    assert_eq!(first.await.unwrap().status, 500);
    handler.set_reaction(Reaction::Answers(200));
    assert_handled(&stack, &delivery()).await;
}
