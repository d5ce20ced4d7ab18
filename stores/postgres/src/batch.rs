//! Calls that arrive together, and run together.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, task::yield_now};

/// Collects items while others run, and runs what has come in together.
///
/// Nothing waits for more items to come: an item that comes alone runs as soon as other tasks have had their turn.
pub(crate) struct Batches<I, O> {
    limits: Limits<I>,
    state: Mutex<State<I, O>>,
}

/// The limits of batches.
pub(crate) struct Limits<I> {
    /// How many batches run at a time.
    pub(crate) running: usize,
    /// How much the items of a batch weigh together, unless it has a single item.
    pub(crate) weight: usize,
    pub(crate) weight_of: fn(&I) -> usize,
}

struct State<I, O> {
    waiting: VecDeque<Waiting<I, O>>,
    running: usize,
}

struct Waiting<I, O> {
    item: I,
    caller: oneshot::Sender<O>,
}

impl<I, O> Batches<I, O>
where
    I: Send + 'static,
    O: Send + 'static,
{
    pub(crate) fn new(limits: Limits<I>) -> Self {
        Self { limits, state: Mutex::new(State { waiting: VecDeque::new(), running: 0 }) }
    }

    /// Runs an item with `run`, which returns one outcome for each item of its batch, in the same order. Returns `None`
    /// if `run` has panicked.
    ///
    /// If the caller goes away, the item does not run unless it is running already.
    pub(crate) async fn run<F>(self: &Arc<Self>, item: I, run: impl Fn(Vec<I>) -> F + Send + 'static) -> Option<O>
    where
        F: Future<Output = Vec<O>> + Send,
    {
        let (caller, outcome) = oneshot::channel();
        if self.add(Waiting { item, caller }) {
            // Made here, since the task may end before it begins.
            let turn = Turn { batches: Arc::clone(self), is_over: false };
            drop(tokio::spawn(async move {
                // Other tasks that are ready may still add items to the first batch.
                yield_now().await;
                while let Some((items, callers)) = turn.batches.next() {
                    for (caller, outcome) in callers.into_iter().zip(run(items).await) {
                        // A caller that has gone does not want it.
                        drop(caller.send(outcome));
                    }
                }
                turn.end();
            }));
        }
        outcome.await.ok()
    }

    /// Adds an item. Returns whether the caller has to start another task that runs batches.
    fn add(&self, waiting: Waiting<I, O>) -> bool {
        let mut state = self.state();
        // The callers that came first go first. While nothing can run, their items must not pile up.
        while state.waiting.front().is_some_and(|first| first.caller.is_closed()) {
            state.waiting.pop_front();
        }
        state.waiting.push_back(waiting);
        let starts = state.running < self.limits.running;
        state.running += usize::from(starts);
        starts
    }

    /// Takes the next batch. If nothing waits, returns `None` and notes that the task that asks ends.
    fn next(&self) -> Option<(Vec<I>, Vec<oneshot::Sender<O>>)> {
        let mut state = self.state();
        let (mut items, mut callers, mut weight) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(first) = state.waiting.pop_front() {
            if first.caller.is_closed() {
                continue;
            }
            weight = weight.saturating_add((self.limits.weight_of)(&first.item));
            if weight > self.limits.weight && !items.is_empty() {
                state.waiting.push_front(first);
                break;
            }
            items.push(first.item);
            callers.push(first.caller);
        }
        if items.is_empty() {
            state.running -= 1;
            return None;
        }
        Some((items, callers))
    }

    fn state(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that runs batches.
struct Turn<I: Send + 'static, O: Send + 'static> {
    batches: Arc<Batches<I, O>>,
    /// Whether its end was noted, together with the finding that nothing waits.
    is_over: bool,
}

impl<I: Send + 'static, O: Send + 'static> Turn<I, O> {
    fn end(mut self) {
        self.is_over = true;
    }
}

impl<I: Send + 'static, O: Send + 'static> Drop for Turn<I, O> {
    fn drop(&mut self) {
        if !self.is_over {
            self.batches.state().running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    fn batches(weight: usize) -> Arc<Batches<usize, usize>> {
        Arc::new(Batches::new(Limits { running: 1, weight, weight_of: |item| *item }))
    }

    /// Runs each batch once there is a permit, and returns the weight of the batch to each of its items.
    fn weigh(
        gate: &Arc<Semaphore>,
    ) -> impl Fn(Vec<usize>) -> futures_util::future::BoxFuture<'static, Vec<usize>> + use<> {
        let gate = Arc::clone(gate);
        move |items| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                vec![items.iter().sum(); items.len()]
            })
        }
    }

    #[tokio::test]
    async fn items_that_wait_run_together() {
        let (batches, gate) = (batches(10), Arc::new(Semaphore::new(100)));
        let all = [1, 2, 3, 4, 5, 20, 1].map(|item| batches.run(item, weigh(&gate)));
        // No task runs before the last of them waits.
        let outcomes: Vec<_> = join_all(all).await.into_iter().map(Option::unwrap).collect();
        assert_eq!(outcomes, [10, 10, 10, 10, 5, 20, 1]);
    }

    #[tokio::test]
    async fn items_of_callers_that_are_gone_do_not_pile_up() {
        let (batches, gate) = (batches(10), Arc::new(Semaphore::new(0)));
        let first = tokio::spawn({
            let (batches, weigh) = (Arc::clone(&batches), weigh(&gate));
            async move { batches.run(1, weigh).await }
        });
        let is_running = || {
            let state = batches.state();
            state.running == 1 && state.waiting.is_empty()
        };
        while !is_running() {
            yield_now().await;
        }
        for _ in 0..100 {
            let mut gone = Box::pin(batches.run(2, weigh(&gate)));
            assert!(futures_util::poll!(&mut gone).is_pending());
            yield_now().await;
        }
        assert!(batches.state().waiting.len() <= 1);
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Some(1));
        assert_eq!(batches.run(3, weigh(&gate)).await, Some(3));
    }

    #[test]
    fn runs_again_after_a_runtime_has_ended() {
        let (batches, gate) = (batches(10), Arc::new(Semaphore::new(1)));
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime().block_on(async {
            // The task is spawned, and never runs.
            let mut run = Box::pin(batches.run(1, weigh(&gate)));
            assert!(futures_util::poll!(&mut run).is_pending());
        });
        assert_eq!(runtime().block_on(batches.run(2, weigh(&gate))), Some(2));
    }

    #[tokio::test]
    async fn runs_again_after_a_panic() {
        let (batches, gate) = (batches(10), Arc::new(Semaphore::new(1)));
        let panics = |_| async { panic!("on purpose") };
        assert_eq!(batches.run(1, panics).await, None);
        assert_eq!(batches.run(1, weigh(&gate)).await, Some(1));
    }
}
