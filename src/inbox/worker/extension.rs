//! The task that extends the leases of a worker's running handlers.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::running::{WorkerId, WorkerLeases};
use crate::{deadline::store_call, inbox::config::InboxConfig, telemetry};

/// The longest pause after an extension that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Extends the leases of this worker's running handlers after each third of the lease, with one call to the store.
///
/// Runs in a task of its own, because a handler may block its thread.
pub(super) async fn extend_leases(config: Arc<InboxConfig>, worker: WorkerId, lease: Duration) -> Infallible {
    let third = (lease / 3).max(Duration::from_millis(1));
    let mut pause = third;
    loop {
        sleep(pause).await;
        let WorkerLeases { to_extend, stuck } = config.running.leases_of(worker);
        stuck.into_iter().for_each(telemetry::handler_stuck);
        if to_extend.is_empty() {
            pause = third;
            continue;
        }
        let asked = Instant::now();
        pause = match store_call(third, config.store.extend(&to_extend, lease)).await {
            Ok(extended) => {
                for (lease, extended) in to_extend.iter().zip(extended) {
                    if extended {
                        config.running.extended(lease, asked);
                    } else if config.running.lost(lease) {
                        telemetry::lease_lost(lease.id());
                    }
                }
                third
            }
            // Retry soon, so that the leases survive a short outage.
            Err(error) => {
                telemetry::inbox_store_failed("extend the leases on", &error);
                third.min(RETRY)
            }
        };
    }
}
