//! Batches of calls that arrive at the same time.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, task::yield_now};

/// A queue of items, which are run in batches.
///
/// Items that arrive while batches run form the next batch. A batch never waits for more items: a single item runs as soon
/// as the tasks that are ready have run.
pub(crate) struct Batches<I, O> {
    limits: Limits<I>,
    state: Mutex<BatchState<I, O>>,
}

/// The limits of batches.
pub(crate) struct Limits<I> {
    /// The number of batches that may run at the same time.
    pub(crate) running: usize,
    /// The largest total weight of a batch. A batch of a single item may weigh more.
    pub(crate) weight: usize,
    pub(crate) weight_of: fn(&I) -> usize,
}

/// The pending items, and the number of tasks that run batches.
struct BatchState<I, O> {
    pending: VecDeque<PendingItem<I, O>>,
    running: usize,
}

/// An item that waits for its batch, and the channel to its caller.
struct PendingItem<I, O> {
    item: I,
    caller: oneshot::Sender<O>,
}

impl<I, O> Batches<I, O>
where
    I: Send + 'static,
    O: Send + 'static,
{
    pub(crate) fn new(limits: Limits<I>) -> Self {
        Self { limits, state: Mutex::new(BatchState { pending: VecDeque::new(), running: 0 }) }
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
        if self.add(PendingItem { item, caller }) {
            // Create the guard here, because the runtime may drop the task before its first poll.
            let task = BatchTask { batches: Arc::clone(self), is_over: false };
            drop(tokio::spawn(async move {
                // Let tasks that are ready add items to the first batch.
                yield_now().await;
                while let Some((items, callers)) = task.batches.next() {
                    for (caller, outcome) in callers.into_iter().zip(run(items).await) {
                        // The caller may be gone.
                        drop(caller.send(outcome));
                    }
                }
                task.end();
            }));
        }
        outcome.await.ok()
    }

    /// Adds an item. Returns whether the caller must start another task that runs batches.
    fn add(&self, pending: PendingItem<I, O>) -> bool {
        let mut state = self.state();
        // Remove items whose callers are gone, so that they do not pile up while no batch can run.
        while state.pending.front().is_some_and(|first| first.caller.is_closed()) {
            state.pending.pop_front();
        }
        state.pending.push_back(pending);
        let starts = state.running < self.limits.running;
        state.running += usize::from(starts);
        starts
    }

    /// Takes the next batch. Returns `None` if there are no items, and counts the calling task as ended.
    fn next(&self) -> Option<(Vec<I>, Vec<oneshot::Sender<O>>)> {
        let mut state = self.state();
        let (mut items, mut callers, mut weight) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(first) = state.pending.pop_front() {
            if first.caller.is_closed() {
                continue;
            }
            weight = weight.saturating_add((self.limits.weight_of)(&first.item));
            if weight > self.limits.weight && !items.is_empty() {
                state.pending.push_front(first);
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

    fn state(&self) -> MutexGuard<'_, BatchState<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that runs batches.
struct BatchTask<I: Send + 'static, O: Send + 'static> {
    batches: Arc<Batches<I, O>>,
    /// Whether `next` has already counted the task as ended.
    is_over: bool,
}

impl<I: Send + 'static, O: Send + 'static> BatchTask<I, O> {
    fn end(mut self) {
        self.is_over = true;
    }
}

impl<I: Send + 'static, O: Send + 'static> Drop for BatchTask<I, O> {
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
    async fn pending_items_run_together() {
        let (batches, gate) = (batches(10), Arc::new(Semaphore::new(100)));
        let all = [1, 2, 3, 4, 5, 20, 1].map(|item| batches.run(item, weigh(&gate)));
        // No task runs before all items are pending.
        let outcomes: Vec<_> = join_all(all).await.into_iter().map(Option::unwrap).collect();
        assert_eq!(outcomes, [10, 10, 10, 10, 5, 20, 1]);
    }

    #[tokio::test]
    async fn items_of_dropped_callers_do_not_pile_up() {
        let (batches, gate) = (batches(10), Arc::new(Semaphore::new(0)));
        let first = tokio::spawn({
            let (batches, weigh) = (Arc::clone(&batches), weigh(&gate));
            async move { batches.run(1, weigh).await }
        });
        let is_running = || {
            let state = batches.state();
            state.running == 1 && state.pending.is_empty()
        };
        while !is_running() {
            yield_now().await;
        }
        for _ in 0..100 {
            let mut gone = Box::pin(batches.run(2, weigh(&gate)));
            assert!(futures_util::poll!(&mut gone).is_pending());
            yield_now().await;
        }
        assert!(batches.state().pending.len() <= 1);
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Some(1));
        assert_eq!(batches.run(3, weigh(&gate)).await, Some(3));
    }

    #[test]
    fn runs_again_after_a_runtime_shutdown() {
        let (batches, gate) = (batches(10), Arc::new(Semaphore::new(1)));
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime().block_on(async {
            // The task is spawned but never runs.
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
