//! The sweeper, which deletes expired ledger entries in the background.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use crate::connection::{Connections, Sql};

/// The number of completed or accepted entries after which a sweep starts.
///
/// A sweep examines 128 blocks, which contain 8,000 rows and take 10 ms of the server's time. If as many entries expire as
/// are added, about 256 / 8,000, or 3 %, of the table are expired entries. That holds at any size, and needs no index.
const COMPLETIONS: u32 = 256;

/// Counts completions, and starts a sweep after each [`COMPLETIONS`] of them. Clones share the count.
#[derive(Clone)]
pub(crate) struct Sweeper(Arc<SweeperState>);

/// The state that the clones of a sweeper share.
struct SweeperState {
    connections: Connections,
    sql: Sql,
    deadline: Duration,
    completions: AtomicU32,
    is_running: AtomicBool,
}

impl Sweeper {
    /// Makes a sweeper that runs the statement `sql`.
    pub(crate) fn new(connections: Connections, sql: Sql, deadline: Duration) -> Self {
        let (completions, is_running) = (AtomicU32::new(0), AtomicBool::new(false));
        Self(Arc::new(SweeperState { connections, sql, deadline, completions, is_running }))
    }

    /// Counts a completion, and starts a sweep if enough were counted. Does not wait for the sweep.
    pub(crate) fn completed(&self) {
        let count = self.0.completions.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if !count.is_multiple_of(COMPLETIONS) || !self.0.connections.has_free() {
            return;
        }
        if self.0.is_running.swap(true, Ordering::Acquire) {
            return;
        }
        let Self(shared) = self.clone();
        drop(tokio::spawn(async move {
            // Ignore an error: later sweeps examine the same blocks.
            let _ = timeout(shared.deadline, shared.connections.run(&shared.sql, &[])).await;
            shared.is_running.store(false, Ordering::Release);
        }));
    }
}
