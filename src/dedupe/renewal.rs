//! The task that renews the claims of a layer's running handlers.
//!
//! Every third of the lease, the task renews all claims in one call to the store. It is a separate task, because a
//! handler may block the thread that it runs on.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

use super::{
    config::DedupeConfig,
    ledger::Claim,
    running::{ClaimRegistration, Renewal},
};
use crate::{
    deadline::store_call,
    event::Delivery,
    nudge::{NUDGES_PER_LEASE, Nudges},
    telemetry,
};

/// The longest pause after a renewal that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Registers `claim` for renewal, and starts the renewal task if necessary. Returns `None` if this process is already
/// handling a delivery under the claim's key: that delivery's handler takes over the claim.
pub(super) async fn register(
    config: &Arc<DedupeConfig>,
    claim: &Claim,
    delivery: &Delivery,
) -> Option<ClaimRegistration> {
    let was_started = config.running.ensure_renewal(|| Renewal {
        task: tokio::spawn(renew(Arc::downgrade(config))).abort_handle(),
        _nudges: Nudges::start(config.lease / NUDGES_PER_LEASE),
    });
    let mut registration = config.running.register(claim, delivery)?;
    if was_started {
        // tokio keeps a task that was just spawned in a slot of this thread, from which other threads do not steal. Let
        // the renewal task set its timer before the handler can block this thread.
        yield_now().await;
        registration.registered_at = Instant::now();
    }
    Some(registration)
}

/// Renews the running claims while the layer or one of its services exists.
async fn renew(config: Weak<DedupeConfig>) {
    let Some(lease) = config.upgrade().map(|config| config.lease) else { return };
    let third = (lease / 3).max(Duration::from_millis(1));
    let mut pause = third;
    loop {
        sleep(pause).await;
        let Some(config) = config.upgrade() else { return };
        let claims = config.running.to_renew(config.handler_deadline.saturating_add(lease));
        if claims.is_empty() {
            pause = third;
            continue;
        }
        pause = match store_call(third, config.ledger.renew(&claims, &config.claim_terms())).await {
            Ok(renewed) => {
                let lost = claims.iter().zip(renewed).filter(|(_, renewed)| !renewed);
                lost.for_each(|(claim, _)| config.running.lost(claim));
                third
            }
            // Retry soon, so that the claims survive a short outage.
            Err(error) => {
                telemetry::claims_not_renewed(claims.len(), &error);
                third.min(RETRY)
            }
        };
    }
}
