//! The claims whose handlers run in this process, and the task that renews them.

use std::{
    collections::hash_map::Entry,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    task::{AbortHandle, yield_now},
    time::{Instant, sleep},
};

use super::{
    config::Config,
    key_map::KeyMap,
    ledger::{BodyDigest, Claim, EventKey},
};
use crate::{
    deadline::store_call,
    event::Delivery,
    nudge::{NUDGES_PER_LEASE, Nudges},
    telemetry,
};

/// The longest pause after a renewal that failed.
const RETRY: Duration = Duration::from_secs(1);

/// The claims of one layer whose handlers are running.
///
/// One task renews all of them with one call to the store, at a third of the lease. It is a task of its own because a
/// handler may block its thread.
#[derive(Default)]
pub(super) struct Keeper {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: KeyMap<Running>,
    task: Option<AbortHandle>,
    _nudges: Option<Nudges>,
}

struct Running {
    claim: Claim,
    /// For the log.
    delivery: Delivery,
    started: Instant,
    /// Whether another token has taken the entry over, somebody forgot it, or the handler is stuck.
    lost: bool,
}

/// Keeps a claim renewed until it is dropped.
#[must_use]
pub(super) struct Registration {
    keeper: Arc<Keeper>,
    /// The claim that was registered. A copy's claim may have replaced it since.
    pub(super) claim: Claim,
    pub(super) registered_at: Instant,
}

impl Keeper {
    /// Returns the digest of the body that this process is handling under this key.
    ///
    /// The store alone cannot tell: a handler that blocks may have let its claim expire.
    pub(super) fn running(&self, key: &EventKey) -> Option<BodyDigest> {
        self.state().running.get(key).map(|running| running.claim.digest)
    }

    /// Keeps `claim` renewed. Returns `None` if this process is already handling a delivery under the claim's key: the
    /// claim of that delivery had expired, and its handler takes this one over.
    pub(super) async fn register(config: &Arc<Config>, claim: &Claim, delivery: &Delivery) -> Option<Registration> {
        let started = Instant::now();
        let has_spawned = {
            let mut state = config.keeper.state();
            let has_spawned = state.start(config);
            match state.running.entry(claim.key) {
                Entry::Occupied(mut entry) => {
                    let running = entry.get_mut();
                    (running.claim, running.lost) = (claim.clone(), false);
                    return None;
                }
                Entry::Vacant(entry) => {
                    entry.insert(Running { claim: claim.clone(), delivery: delivery.clone(), started, lost: false });
                }
            }
            has_spawned
        };
        let mut registration =
            Registration { keeper: Arc::clone(&config.keeper), claim: claim.clone(), registered_at: started };
        if has_spawned {
            // A task that was just spawned waits in a slot of this thread from which no other thread takes it. Let it
            // set its timer before the handler can block this thread.
            yield_now().await;
            registration.registered_at = Instant::now();
        }
        Some(registration)
    }

    /// Returns the claims to renew, and reports handlers that have not returned in `limit`: a handler that blocks its
    /// thread cannot be dropped at its deadline. Their claims are no longer renewed, so that other nodes can handle the
    /// deliveries.
    fn claims(&self, limit: Duration) -> Vec<Claim> {
        let (mut claims, mut stuck) = (Vec::new(), Vec::new());
        for running in self.state().running.values_mut().filter(|running| !running.lost) {
            if running.started.elapsed() < limit {
                claims.push(running.claim.clone());
            } else {
                running.lost = true;
                stuck.push(running.delivery.clone());
            }
        }
        stuck.iter().for_each(|delivery| telemetry::claim_stuck(delivery.into()));
        claims
    }

    /// Notes that a claim is no longer this process's own.
    fn lost(&self, claim: &Claim) {
        let lost = match self.state().running.get_mut(&claim.key) {
            Some(running) if running.claim.token == claim.token => {
                running.lost = true;
                running.delivery.clone()
            }
            // The handler has ended meanwhile.
            _ => return,
        };
        telemetry::claim_lost((&lost).into());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Starts the task unless it is running. Returns whether it was started.
    fn start(&mut self, config: &Arc<Config>) -> bool {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return false;
        }
        self.task = Some(tokio::spawn(renew(Arc::downgrade(config))).abort_handle());
        self._nudges = Nudges::start(config.lease / NUDGES_PER_LEASE);
        true
    }
}

/// Renews the running claims for as long as the layer or a service of it exists.
async fn renew(config: Weak<Config>) {
    let Some(lease) = config.upgrade().map(|config| config.lease) else { return };
    let third = (lease / 3).max(Duration::from_millis(1));
    let mut pause = third;
    loop {
        sleep(pause).await;
        let Some(config) = config.upgrade() else { return };
        let claims = config.keeper.claims(config.handler_deadline.saturating_add(lease));
        if claims.is_empty() {
            pause = third;
            continue;
        }
        pause = match store_call(third, config.ledger.renew(&claims, &config.claim_terms())).await {
            Ok(renewed) => {
                let lost = claims.iter().zip(renewed).filter(|(_, renewed)| !renewed);
                lost.for_each(|(claim, _)| config.keeper.lost(claim));
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

impl Registration {
    /// Returns the claim by which the delivery is held now.
    pub(super) fn current_claim(&self) -> Claim {
        let state = self.keeper.state();
        state.running.get(&self.claim.key).expect("a registration keeps its entry").claim.clone()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.keeper.state().running.remove(&self.claim.key);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = self.state().task.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("running", &self.state().running.len()).finish_non_exhaustive()
    }
}
