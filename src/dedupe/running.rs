//! The claims whose handlers run in this process.

use std::{
    collections::hash_map::Entry,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};

use super::{
    key::{BodyDigest, EventKey},
    key_map::KeyMap,
    ledger::Claim,
};
use crate::{event::Delivery, nudge::Nudges, telemetry};

/// A list of the claims of one layer whose handlers are running.
#[derive(Default)]
pub(super) struct RunningClaims(Mutex<RunningState>);

#[derive(Default)]
struct RunningState {
    running: KeyMap<RunningClaim>,
    renewal: Option<Renewal>,
}

/// A claim in the list.
struct RunningClaim {
    claim: Claim,
    /// The delivery, for log lines.
    delivery: Delivery,
    started: Instant,
    /// Whether the claim is no longer renewed: another token has the entry, the entry was forgotten, or the handler is
    /// stuck.
    lost: bool,
}

/// The task that renews the claims, and the thread that keeps the runtime's timers going.
pub(super) struct Renewal {
    pub(super) task: AbortHandle,
    pub(super) _nudges: Option<Nudges>,
}

/// A guard for a claim in the list. The claim is renewed until the guard is dropped.
#[must_use]
pub(super) struct ClaimRegistration {
    list: Arc<RunningClaims>,
    /// The claim that was registered. The claim of a copy may have replaced it since.
    pub(super) claim: Claim,
    pub(super) registered_at: Instant,
    has_ended: bool,
}

impl RunningClaims {
    /// Returns the digest of the body that this process is handling under this key.
    ///
    /// Asking the store is not enough, because the claim of a handler that blocks its thread may have expired.
    pub(super) fn digest_of(&self, key: &EventKey) -> Option<BodyDigest> {
        self.state().running.get(key).map(|running| running.claim.digest)
    }

    /// Registers a claim. Returns `None` if this process is already handling a delivery under the claim's key. The
    /// claim of that delivery has expired, and its handler takes over the new claim.
    pub(super) fn register(self: &Arc<Self>, claim: &Claim, delivery: &Delivery) -> Option<ClaimRegistration> {
        let started = Instant::now();
        match self.state().running.entry(claim.key) {
            Entry::Occupied(mut entry) => {
                let running = entry.get_mut();
                (running.claim, running.lost) = (claim.clone(), false);
                return None;
            }
            Entry::Vacant(entry) => {
                entry.insert(RunningClaim { claim: claim.clone(), delivery: delivery.clone(), started, lost: false });
            }
        }
        Some(ClaimRegistration {
            list: Arc::clone(self),
            claim: claim.clone(),
            registered_at: started,
            has_ended: false,
        })
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

    /// Returns the claims to renew, and logs handlers that have not returned within `limit`. Their claims are no longer
    /// renewed, so that other nodes can handle the deliveries.
    ///
    /// Needed because a handler that blocks its thread cannot be dropped at its deadline.
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

    /// Records and logs that a claim could not be renewed.
    pub(super) fn lost(&self, claim: &Claim) {
        let lost = match self.state().running.get_mut(&claim.key) {
            Some(running) if running.claim.token == claim.token => {
                running.lost = true;
                running.delivery.clone()
            }
            // The handler has ended, or has taken over a newer claim.
            _ => return,
        };
        telemetry::claim_lost((&lost).into());
    }

    fn state(&self) -> MutexGuard<'_, RunningState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClaimRegistration {
    /// Returns the latest claim on the delivery.
    pub(super) fn current_claim(&self) -> Claim {
        self.list.state().running.get(&self.claim.key).expect("a registration keeps its entry").claim.clone()
    }

    /// Ends the registration if `claim` is the latest claim on the delivery. Otherwise returns the latest claim.
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

impl Drop for ClaimRegistration {
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
