//! Connections that keep their slot until the server has answered.
//!
//! A caller may stop waiting at any time, but the server's backend does not notice that: it may wait for a lock, or for
//! a synchronous standby. If the slot became free at once, the next caller would open another backend, until the server
//! rejects everybody. So the slot stays taken, and the connection is used again once it has answered.
//!
//! The time limit of each transaction ends the waits for locks. A statement is cancelled only if there is no answer for
//! long after that, as when the answer was lost on the way, or a synchronous standby is gone. Postgres then answers that
//! it has committed, which no caller sees any more. The connection is closed, because a cancel request that arrives
//! late would hit its next statement.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use deadpool_postgres::{Client, Pool, PoolError};
use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_postgres::CancelToken;

use super::failure::Failure;

/// How many deadlines a call may take that may read a whole table, and how many the answer to a call that has ended.
pub(crate) const PATIENCE: u32 = 30;

/// How long a connection that nobody waits for may take to open. By default Postgres itself ends one that has not
/// authenticated within this time.
const OPENING: Duration = Duration::from_secs(60);

/// How long the backend of a connection that was closed keeps its slot.
const CLOSING: Duration = Duration::from_millis(100);

/// The right to use one connection. There are as many as the pool has connections.
type Slot = OwnedSemaphorePermit;

/// Asks the server to cancel what a connection is doing.
pub(crate) type Cancel =
    Arc<dyn Fn(CancelToken) -> BoxFuture<'static, Result<(), tokio_postgres::Error>> + Send + Sync>;

/// The slots of a pool's connections. Clones share them.
#[derive(Clone)]
pub(super) struct Slots {
    pool: Pool,
    /// As many permits as the pool has connections.
    permits: Arc<Semaphore>,
    cancel: Cancel,
    deadline: Duration,
    /// How many connections were closed without an answer since the last answer.
    unanswered: Arc<AtomicUsize>,
}

impl Slots {
    pub(super) fn new(pool: Pool, cancel: Cancel, deadline: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(pool.status().max_size));
        Self { pool, permits, cancel, deadline, unanswered: Arc::default() }
    }

    pub(super) fn number(&self) -> usize {
        self.pool.status().max_size
    }

    pub(super) fn free(&self) -> usize {
        self.permits.available_permits()
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Waits for a slot, and then for a connection.
    pub(super) async fn lend(&self) -> Result<Lent, Failure> {
        let slot = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let pool = self.pool.clone();
        let opening = Opening { pending: Some((Box::pin(async move { pool.get().await }), slot)) };
        let (client, slot) = opening.await.map_err(Failure::Pool)?;
        Ok(Lent { slots: self.clone(), held: Some((Unsettled::new(client), slot)), reset: "" })
    }

    /// How long an answer may take that nobody waits for any more.
    ///
    /// The time doubles whenever as many connections as there are have gone without an answer. If their backends live on,
    /// as on a volume that hangs, their number grows with the logarithm of the time.
    fn patience(&self) -> Duration {
        let doublings = self.unanswered.load(Ordering::Relaxed) / self.number().max(1);
        let times = 1_u32.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
        self.deadline.saturating_mul(PATIENCE).saturating_mul(times)
    }
}

/// A connection of the pool, with its slot. Dropping it keeps the slot until the server has answered everything.
pub(crate) struct Lent {
    slots: Slots,
    /// The connection and its slot, until the loan ends.
    held: Option<(Unsettled, Slot)>,
    /// The statement that brings the connection back to where it can be used again.
    reset: &'static str,
}

impl Lent {
    pub(crate) fn client(&self) -> &Client {
        let (client, _) = self.held.as_ref().expect("only the end of the loan takes the client");
        client.get()
    }

    /// Notes that a transaction is open that has to be rolled back if the loan ends early.
    pub(crate) fn begun(&mut self) {
        self.reset = "ROLLBACK";
    }

    /// Returns the connection, which has answered everything.
    pub(crate) fn give_back(mut self) {
        if let Some((client, _slot)) = self.held.take() {
            self.slots.unanswered.store(0, Ordering::Relaxed);
            client.give_back();
        }
    }

    /// Ends the loan after an error.
    pub(crate) fn give_back_after(mut self, failure: &Failure) {
        if failure.is_of_connection() {
            self.close();
        } else if failure.code().is_none() {
            // Perhaps not everything was sent.
            self.begun();
        }
    }

    fn close(&mut self) {
        if let Some((client, slot)) = self.held.take() {
            in_background(close(client, slot));
        }
    }
}

/// Closes a connection, and keeps its slot until its backend has probably ended.
async fn close(client: Unsettled, slot: Slot) {
    drop(client);
    sleep(CLOSING).await;
    drop(slot);
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some((client, slot)) = self.held.take() else { return };
        let (slots, reset) = (self.slots.clone(), self.reset);
        in_background(async move {
            match settle(client.get(), reset, &slots).await {
                Settled::Usable => client.give_back(),
                Settled::Over => close(client, slot).await,
            }
        });
    }
}

/// A connection that is closed when it is dropped, also together with a task that never runs. Otherwise it would go back
/// to the pool with a transaction open.
struct Unsettled(Option<Client>);

impl Unsettled {
    fn new(client: Client) -> Self {
        Self(Some(client))
    }

    fn get(&self) -> &Client {
        self.0.as_ref().expect("only its end takes the client")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}

/// The state of a connection whose caller has gone.
enum Settled {
    Usable,
    Over,
}

/// Waits until the connection has answered everything, or has ended.
async fn settle(client: &Client, reset: &str, slots: &Slots) -> Settled {
    let mut answer = pin!(client.batch_execute(reset));
    match timeout(slots.patience(), &mut answer).await {
        Ok(Ok(())) => {
            slots.unanswered.store(0, Ordering::Relaxed);
            return Settled::Usable;
        }
        Ok(Err(_)) => return Settled::Over,
        Err(_) => {}
    }
    match timeout(slots.deadline, (slots.cancel)(client.cancel_token())).await {
        Ok(Ok(())) => {
            if timeout(slots.deadline, answer).await.is_err() {
                slots.unanswered.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Only the end of the connection tells that the backend has ended.
        _ => drop(answer.await),
    }
    Settled::Over
}

type Get = Pin<Box<dyn Future<Output = Result<Client, PoolError>> + Send>>;

/// A connection that is being opened, or taken out of the pool. If nobody waits for it any more, it goes on in the
/// background, because the server may have started a backend for it.
struct Opening {
    pending: Option<(Get, Slot)>,
}

impl Future for Opening {
    type Output = Result<(Client, Slot), PoolError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (get, _) = self.pending.as_mut().expect("not polled after it was ready");
        let Poll::Ready(got) = get.as_mut().poll(context) else { return Poll::Pending };
        let (_, slot) = self.pending.take().expect("it was there before");
        Poll::Ready(got.map(|client| (client, slot)))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some((get, slot)) = self.pending.take() {
            in_background(async move {
                // The connection goes into the pool.
                let _ = timeout(OPENING, get).await;
                drop(slot);
            });
        }
    }
}

fn in_background(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn(work));
    }
}
