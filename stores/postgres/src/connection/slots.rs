//! Slots, which limit the number of backends. A connection keeps its slot until the server has responded.
//!
//! A caller may stop waiting at any time. The server's backend does not notice that, and may still wait for a lock or for
//! a synchronous standby. If the slot became free at once, the next caller would open another backend, until the server
//! rejects all connections. So the slot stays taken, and the connection is reused once the server has responded.
//!
//! The time limit of each transaction ends waits for locks. A statement is cancelled only if there is no response for much
//! longer, for example because the response was lost or a synchronous standby is gone. Postgres may then report a commit,
//! which no caller sees any more. The connection is closed, because a cancel request that arrives late would cancel its
//! next statement.

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

use super::{failure::Failure, transaction::LONG_CALL_DEADLINES};

/// The time to wait for the response to an abandoned call, as a multiple of the deadline. The call may be a long one, so
/// the wait is at least as long as the time limit after which the server ends a long call.
const ABANDONED_CALL_DEADLINES: u32 = LONG_CALL_DEADLINES;

/// The time that a connection may take to open after its caller was dropped. By default Postgres closes a connection that has
/// not authenticated within this time.
const OPENING: Duration = Duration::from_secs(60);

/// The time for which a closed connection keeps its slot, because its backend takes a moment to end.
const CLOSING: Duration = Duration::from_millis(100);

/// The right to use one connection.
type Slot = OwnedSemaphorePermit;

/// A function that asks the server to cancel a connection's statement.
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
    /// The number of connections that were closed without a response since the last response.
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
    pub(super) async fn acquire(&self) -> Result<AcquiredConnection, Failure> {
        let slot = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let pool = self.pool.clone();
        let opening = Opening { pending: Some((Box::pin(async move { pool.get().await }), slot)) };
        let (client, slot) = opening.await.map_err(Failure::Pool)?;
        Ok(AcquiredConnection {
            slots: self.clone(),
            held: Some((CloseOnDrop::new(client), slot)),
            needs_rollback: false,
        })
    }

    /// Returns the time to wait for the response to an abandoned call.
    ///
    /// The time doubles each time that as many connections as the pool has were closed without a response. If their backends
    /// live on, for example because a volume hangs, their number grows only with the logarithm of the time.
    fn response_timeout(&self) -> Duration {
        let doublings = self.unanswered.load(Ordering::Relaxed) / self.number().max(1);
        let times = 1_u32.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
        self.deadline.saturating_mul(ABANDONED_CALL_DEADLINES).saturating_mul(times)
    }
}

/// A connection of the pool, with its slot. After a drop, the slot stays taken until the server has responded to everything.
pub(crate) struct AcquiredConnection {
    slots: Slots,
    /// The connection and its slot, until they are released.
    held: Option<(CloseOnDrop, Slot)>,
    /// Whether a transaction may be open, which must be rolled back before the connection is used again.
    needs_rollback: bool,
}

impl AcquiredConnection {
    pub(crate) fn client(&self) -> &Client {
        let (client, _) = self.held.as_ref().expect("only releasing takes the client");
        client.get()
    }

    /// Records that a transaction may be open. A `ROLLBACK` is then sent if the connection is dropped instead of
    /// [released](Self::release).
    pub(crate) fn require_rollback(&mut self) {
        self.needs_rollback = true;
    }

    /// Returns the connection to the pool. The server must have responded to everything.
    pub(crate) fn release(mut self) {
        if let Some((client, _slot)) = self.held.take() {
            self.slots.unanswered.store(0, Ordering::Relaxed);
            client.release();
        }
    }

    /// Returns or closes the connection after an error.
    pub(crate) fn release_after(mut self, failure: &Failure) {
        if failure.needs_new_connection() {
            self.close();
        } else if failure.code().is_none() {
            // The transaction may be open, because its COMMIT may not have been sent.
            self.require_rollback();
        }
    }

    fn close(&mut self) {
        if let Some((client, slot)) = self.held.take() {
            in_background(close(client, slot));
        }
    }
}

/// Closes a connection, and keeps its slot until its backend has probably ended.
async fn close(client: CloseOnDrop, slot: Slot) {
    drop(client);
    sleep(CLOSING).await;
    drop(slot);
}

impl Drop for AcquiredConnection {
    fn drop(&mut self) {
        let Some((client, slot)) = self.held.take() else { return };
        // The server responds in order, so the response to this statement is the last one. An empty statement does nothing.
        let last = if self.needs_rollback { "ROLLBACK" } else { "" };
        let slots = self.slots.clone();
        in_background(async move {
            match drain(client.get(), last, &slots).await {
                DrainOutcome::Reuse => client.release(),
                DrainOutcome::Close => close(client, slot).await,
            }
        });
    }
}

/// A connection that is closed when it is dropped, even by a task that never runs. Otherwise the connection would return to
/// the pool with an open transaction.
struct CloseOnDrop(Option<Client>);

impl CloseOnDrop {
    fn new(client: Client) -> Self {
        Self(Some(client))
    }

    fn get(&self) -> &Client {
        self.0.as_ref().expect("only releasing and dropping take the client")
    }

    fn release(mut self) {
        drop(self.0.take());
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}

/// The way to release an abandoned connection.
enum DrainOutcome {
    Reuse,
    Close,
}

/// Sends the statement `last`, and waits until the server has responded to it, or the connection has ended.
async fn drain(client: &Client, last: &str, slots: &Slots) -> DrainOutcome {
    let mut answer = pin!(client.batch_execute(last));
    match timeout(slots.response_timeout(), &mut answer).await {
        Ok(Ok(())) => {
            slots.unanswered.store(0, Ordering::Relaxed);
            return DrainOutcome::Reuse;
        }
        Ok(Err(_)) => return DrainOutcome::Close,
        Err(_) => {}
    }
    match timeout(slots.deadline, (slots.cancel)(client.cancel_token())).await {
        Ok(Ok(())) => {
            if timeout(slots.deadline, answer).await.is_err() {
                slots.unanswered.fetch_add(1, Ordering::Relaxed);
            }
        }
        // The statement was not cancelled, so wait for the end of the connection, and with it of the backend.
        _ => drop(answer.await),
    }
    DrainOutcome::Close
}

type Get = Pin<Box<dyn Future<Output = Result<Client, PoolError>> + Send>>;

/// A connection that is being opened or taken out of the pool. If the caller drops it, opening continues in the background,
/// because the server may have started a backend.
struct Opening {
    pending: Option<(Get, Slot)>,
}

impl Future for Opening {
    type Output = Result<(Client, Slot), PoolError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (get, _) = self.pending.as_mut().expect("the future is not polled after it is ready");
        let Poll::Ready(got) = get.as_mut().poll(context) else { return Poll::Pending };
        let (_, slot) = self.pending.take().expect("the pending connection was there above");
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
