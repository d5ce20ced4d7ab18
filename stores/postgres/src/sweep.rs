//! Deletes entries whose time is over, now and then and in the background.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use crate::connection::{Connections, Sql};

/// How many entries are completed or accepted for each sweep.
///
/// A sweep examines 128 blocks, which are 8,000 rows and take 10 ms of the server's time. So if as many entries end as
/// are added, the table is about 256 / 8,000, or 3 %, larger than it has to be, at any size, and no index is needed.
const COMPLETIONS: u32 = 256;

/// Counts completions, and starts a sweep after each [`COMPLETIONS`] of them. Clones share the count.
#[derive(Clone)]
pub(crate) struct Sweeper(Arc<Shared>);

struct Shared {
    connections: Connections,
    sql: Sql,
    deadline: Duration,
    completions: AtomicU32,
    is_running: AtomicBool,
}

impl Sweeper {
    /// `sql` is the statement that sweeps.
    pub(crate) fn new(connections: Connections, sql: Sql, deadline: Duration) -> Self {
        let (completions, is_running) = (AtomicU32::new(0), AtomicBool::new(false));
        Self(Arc::new(Shared { connections, sql, deadline, completions, is_running }))
    }

    /// Notes a completion, and starts a sweep if it is time for one. Waits for nothing.
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
            // A later sweep finds what this one leaves.
            let _ = timeout(shared.deadline, shared.connections.run(&shared.sql, &[])).await;
            shared.is_running.store(false, Ordering::Release);
        }));
    }
}
