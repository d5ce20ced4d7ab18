//! Deletes entries whose time is over, now and then and in the background.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use deadpool_postgres::Pool;
use tokio::time::timeout;

use super::{connection::run, store::Shared};

/// How many entries are completed or accepted for each sweep.
///
/// A sweep looks at 128 blocks, which are 8,000 rows and take 10 ms of the server's time. So if as many entries end as are added, the
/// table stays about 256 / 8,000, or 3 %, larger than it has to be, at any size, and no index is needed.
const COMPLETIONS: u32 = 256;

#[derive(Debug, Default)]
pub(super) struct Sweeper {
    completions: AtomicU32,
    running: AtomicBool,
}

/// Notes a completion, and starts a sweep if it is time for one. Waits for nothing.
pub(super) fn completed(shared: &Arc<Shared>) {
    let count = shared.sweeper.completions.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    if !count.is_multiple_of(COMPLETIONS) || !has_room(&shared.pool) {
        return;
    }
    if shared.sweeper.running.swap(true, Ordering::Acquire) {
        return;
    }
    let shared = Arc::clone(shared);
    drop(tokio::spawn(async move {
        // A later sweep finds what is left.
        let _ = timeout(shared.deadline, run(&shared.pool, &shared.sql.sweep, &[])).await;
        shared.sweeper.running.store(false, Ordering::Release);
    }));
}

/// Returns whether a sweep would take a connection that nobody waits for.
fn has_room(pool: &Pool) -> bool {
    let status = pool.status();
    status.waiting == 0 && (status.available > 0 || status.size < status.max_size)
}
