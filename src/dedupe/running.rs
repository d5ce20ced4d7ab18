//! The claims whose handlers run in this process.

use std::{
    collections::hash_map::Entry,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};

use super::{
    key_map::KeyMap,
    ledger::{BodyDigest, Claim, EventKey},
};
use crate::{event::Delivery, nudge::Nudges, telemetry};

/// The claims of one layer whose handlers are running.
#[derive(Default)]
pub(super) struct RunningClaims(Mutex<State>);

#[derive(Default)]
struct State {
    running: KeyMap<Running>,
    renewal: Option<Renewal>,
}

struct Running {
    claim: Claim,
    /// For the log.
    delivery: Delivery,
    started: Instant,
    /// Whether another token has taken the entry over, the entry was forgotten, or the handler is stuck.
    lost: bool,
}

/// The task that renews the claims, and the thread that keeps the runtime's timers going.
pub(super) struct Renewal {
    pub(super) task: AbortHandle,
    pub(super) _nudges: Option<Nudges>,
}

/// Keeps a claim renewed until it is dropped.
#[must_use]
pub(super) struct Registration {
    list: Arc<RunningClaims>,
    /// The claim that was registered. A copy's claim may have replaced it since.
    pub(super) claim: Claim,
    pub(super) registered_at: Instant,
    has_ended: bool,
}

impl RunningClaims {
    /// Returns the digest of the body that this process is handling under this key.
    ///
    /// The store alone cannot tell: a handler that blocks may have let its claim expire.
    pub(super) fn digest_of(&self, key: &EventKey) -> Option<BodyDigest> {
        self.state().running.get(key).map(|running| running.claim.digest)
    }

    /// Registers a claim. Returns `None` if this process is already handling a delivery under the claim's key: the claim
    /// of that delivery had expired, and its handler takes this one over.
    pub(super) fn register(self: &Arc<Self>, claim: &Claim, delivery: &Delivery) -> Option<Registration> {
        let started = Instant::now();
        match self.state().running.entry(claim.key) {
            Entry::Occupied(mut entry) => {
                let running = entry.get_mut();
                (running.claim, running.lost) = (claim.clone(), false);
                return None;
            }
            Entry::Vacant(entry) => {
                entry.insert(Running { claim: claim.clone(), delivery: delivery.clone(), started, lost: false });
            }
        }
        Some(Registration { list: Arc::clone(self), claim: claim.clone(), registered_at: started, has_ended: false })
    }

    /// Starts the renewal unless it is running. Returns whether it was started.
    pub(super) fn ensure_renewal(&self, start: impl FnOnce() -> Renewal) -> bool {
        let mut state = self.state();
        if state.renewal.as_ref().is_some_and(|renewal| !renewal.task.is_finished()) {
            return false;
        }
        state.renewal = Some(start());
        true
    }

    /// Returns the claims to renew, and reports handlers that have not returned in `limit`: a handler that blocks its
    /// thread cannot be dropped at its deadline. Their claims are no longer renewed, so that other nodes can handle the
    /// deliveries.
    pub(super) fn to_renew(&self, limit: Duration) -> Vec<Claim> {
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
    pub(super) fn lost(&self, claim: &Claim) {
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Returns the claim by which the delivery is held now.
    pub(super) fn current_claim(&self) -> Claim {
        self.list.state().running.get(&self.claim.key).expect("a registration keeps its entry").claim.clone()
    }

    /// Ends the registration, unless a copy's claim has replaced `claim`. Returns that claim.
    pub(super) fn end(&mut self, claim: &Claim) -> Option<Claim> {
        let mut state = self.list.state();
        let newer =
            state.running.get(&claim.key).map(|running| &running.claim).filter(|newer| newer.token != claim.token);
        if newer.is_some() {
            return newer.cloned();
        }
        state.running.remove(&claim.key);
        self.has_ended = true;
        None
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.has_ended {
            self.list.state().running.remove(&self.claim.key);
        }
    }
}

impl Drop for RunningClaims {
    fn drop(&mut self) {
        if let Some(renewal) = self.state().renewal.take() {
            renewal.task.abort();
        }
    }
}

impl fmt::Debug for RunningClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningClaims").field("running", &self.state().running.len()).finish_non_exhaustive()
    }
}
