//! One attempt at a delivery, from its lease to its settlement. Each attempt runs in a task of its own.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use http::{Request, Response, StatusCode};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tower_service::Service;

use super::{
    HandlerError,
    backoff::Backoff,
    expiry::Expired,
    misrouted::Misrouted,
    outcome::Outcome,
    running::{Blockers, DeliveryRegistration},
    settings::Settings,
};
use crate::{
    blocking::{self, WatchPolls},
    deadline::{store_call, within},
    dedupe::Call,
    inbox::{DeliveryId, Lease, Leased, SettleOutcome, Settlement, config::InboxConfig, head::StoredHead},
    reason::FailureReason,
    telemetry::{self, LogContext},
    verify::VerifiedBody,
    visible::one_line,
};

/// The longest pause before a failed call to the store is repeated. Short, because a worker that stops waits for it.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The time limit for each call to the store during an attempt. Short, because a worker that stops waits for it.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Information about the current attempt. A worker inserts it into the request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    lease: Lease,
    max_attempts: u32,
    conflict: bool,
}

impl Attempt {
    /// Returns the number of this attempt, from 1.
    pub fn number(&self) -> u32 {
        self.lease.attempt()
    }

    /// Returns whether the delivery is dead-lettered if this attempt fails.
    pub fn is_last(&self) -> bool {
        self.lease.attempt() >= self.max_attempts
    }

    /// Returns whether the event id came with another body before.
    pub fn is_conflict(&self) -> bool {
        self.conflict
    }

    /// Returns the lease, with which a handler can finish the delivery in its own transaction.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }
}

/// The settings and state that all attempts of a worker share.
pub(super) struct WorkerContext {
    pub(super) config: Arc<InboxConfig>,
    pub(super) settings: Settings,
    pub(super) misrouted: Misrouted,
}

/// The stages in which a worker stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopStage {
    Not,
    /// No handler starts any more. Running handlers may finish.
    Draining,
    /// Running handlers are dropped.
    Now,
}

/// A leased delivery that is registered as running and has no handler yet.
pub(super) struct Job {
    pub(super) leased: Leased,
    pub(super) registration: DeliveryRegistration,
    /// The running deliveries that block this one.
    pub(super) blocked: Blockers,
    /// The time at which the store's response came.
    pub(super) leased_at: Instant,
}

/// The outcome of calling the handler.
enum HandlerOutcome {
    Responded {
        status: StatusCode,
        reason: Option<FailureReason>,
    },
    /// The handler returned an error with this text.
    Failed(String),
    Panicked,
    TimedOut,
    /// The worker stopped before the handler started or finished.
    Stopped,
    /// Another worker leased the delivery before the handler started.
    Lost,
    /// The delivery was too old before the handler started.
    Expired,
}

/// Whether a handler may start.
enum Start {
    Started,
    Lost,
    Expired,
}

/// The time at which a delivery expires.
struct ExpiryTime {
    at: Instant,
    delivery: Expired,
}

/// Handles a delivery and reports the outcome.
pub(super) async fn run<S, ResBody>(handler: S, job: Job, shared: Arc<WorkerContext>, stop: watch::Receiver<StopStage>)
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
    S::Error: Into<HandlerError>,
{
    let Job { leased, registration, blocked, leased_at } = job;
    let Leased { lease, head, body, after_expired_lease, ordering_keys, age, after_expiry, .. } = leased;
    let head = StoredHead::from_text(&head).ok();
    let expiry = head.as_ref().filter(|_| !after_expiry).and_then(|head| {
        let limit = shared.settings.expiries.limit(head.event_type.as_deref())?;
        let at = leased_at.checked_add(limit.saturating_sub(age))?;
        Some(ExpiryTime { at, delivery: Expired::new(lease.id(), head, age) })
    });
    let loses_order = !ordering_keys.is_empty() && head.as_ref().is_some_and(StoredHead::may_be_replay);
    let event_id = head.as_ref().and_then(StoredHead::event_id);
    let tenant = head.as_ref().map(|head| head.tenant.clone());
    let context = LogContext::new(event_id.as_ref(), tenant.as_deref());
    let task = AttemptTask { shared: &shared, lease, registration: &registration, loses_order, context, expiry };

    let attempt = async {
        if after_expired_lease {
            telemetry::lease_expired(context, lease.id(), lease.attempt());
        }
        let settlement = match head.and_then(|head| Some((head.request(body)?, head.conflict))) {
            // Written by a newer version, perhaps: retry, so that a node running that version can handle it.
            None => Some(task.fail("its head cannot be read".into(), None)),
            // The previous attempt failed. Reschedule the delivery, which removes its ordering keys.
            Some(_) if after_expired_lease && loses_order => Some(task.fail("its lease expired".into(), None)),
            Some((mut request, conflict)) => {
                let max_attempts = shared.settings.max_attempts;
                request.extensions_mut().insert(Attempt { lease, max_attempts, conflict });
                let pause = if after_expired_lease { task.stagger() } else { Duration::ZERO };
                task.settlement(task.handle(handler, request, blocked, pause, stop).await)
            }
        };
        match settlement {
            Some(settlement) => task.settle(settlement).await,
            None => telemetry::not_started(context, lease.id()),
        }
    };
    telemetry::in_attempt(context, lease.id(), lease.attempt(), attempt).await;
}

/// One attempt in progress.
struct AttemptTask<'a> {
    shared: &'a WorkerContext,
    /// The lease with which the attempt began. It has the number of the attempt.
    lease: Lease,
    registration: &'a DeliveryRegistration,
    /// Whether the delivery loses its ordering keys once an attempt has failed.
    loses_order: bool,
    context: LogContext<'a>,
    /// `None` if the delivery does not expire.
    expiry: Option<ExpiryTime>,
}

impl AttemptTask<'_> {
    fn id(&self) -> DeliveryId {
        self.lease.id()
    }

    async fn handle<S, ResBody>(
        &self,
        handler: S,
        mut request: Request<VerifiedBody>,
        blocked: Blockers,
        pause: Duration,
        stop: watch::Receiver<StopStage>,
    ) -> HandlerOutcome
    where
        S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
        S::Error: Into<HandlerError>,
    {
        let ready = async {
            self.registration.wait_for(blocked).await;
            if !pause.is_zero() {
                sleep(pause).await;
            }
            self.start().await
        };
        // The stop is polled first, so that no handler starts after it.
        match select(pin!(reached(stop.clone(), StopStage::Draining)), pin!(ready)).await {
            Either::Left(_) => return HandlerOutcome::Stopped,
            Either::Right((Start::Lost, _)) => return HandlerOutcome::Lost,
            Either::Right((Start::Expired, _)) => return HandlerOutcome::Expired,
            Either::Right((Start::Started, _)) => {}
        }
        // The delivery may have been leased again while this attempt waited.
        if let Some(attempt) = request.extensions_mut().get_mut::<Attempt>() {
            attempt.lease = self.registration.lease();
        }
        let mut called = Box::pin(Call::new(handler, request));
        let outcome = match select(pin!(self.call(called.as_mut())), pin!(reached(stop, StopStage::Now))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), _)) => HandlerOutcome::Stopped,
        };
        // User code: dropping it may panic.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(called)));
        outcome
    }

    /// Counts the attempt in the store before the handler starts, so that it counts even if the handler crashes the
    /// process.
    async fn start(&self) -> Start {
        let WorkerContext { config, settings, .. } = self.shared;
        loop {
            if !self.still_has_lease().await {
                return Start::Lost;
            }
            if self.expiry.as_ref().is_some_and(|expiry| expiry.at <= Instant::now()) {
                return Start::Expired;
            }
            if self.registration.is_counted() {
                break;
            }
            let lease = self.registration.lease();
            match store_call(CALL_DEADLINE, config.store.start(&[lease], &settings.name)).await {
                Ok(started) if started.first() == Some(&true) => {
                    self.registration.counted();
                    break;
                }
                // This attempt has taken over a newer lease meanwhile: try again.
                Ok(_) if self.registration.lease() != lease => {}
                Ok(_) => return Start::Lost,
                Err(error) => {
                    telemetry::store_failed("start", self.context, &error);
                    sleep(MAX_PAUSE).await;
                }
            }
        }
        self.registration.started(settings.handler_deadline.saturating_add(settings.lease));
        Start::Started
    }

    /// Returns whether this process still holds the lease. On a blocked thread, a job may wait until its lease has
    /// expired.
    async fn still_has_lease(&self) -> bool {
        let WorkerContext { config, settings, .. } = self.shared;
        while self.registration.may_be_lost(settings.lease) {
            let (asked, lease) = (Instant::now(), self.registration.lease());
            match store_call(CALL_DEADLINE, config.store.extend(&[lease], settings.lease)).await {
                Ok(extended) if extended.first() == Some(&true) => {
                    self.registration.extended(asked);
                    return true;
                }
                // This attempt has taken over a newer lease meanwhile: try again.
                Ok(_) if self.registration.lease() != lease => {}
                Ok(_) => return false,
                Err(error) => {
                    telemetry::store_failed("extend the lease on", self.context, &error);
                    sleep(MAX_PAUSE).await;
                }
            }
        }
        true
    }

    async fn call<S, ResBody>(&self, mut called: Pin<&mut Call<S, Request<VerifiedBody>>>) -> HandlerOutcome
    where
        S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
        S::Error: Into<HandlerError>,
    {
        let WorkerContext { settings, misrouted, .. } = self.shared;
        let route = called.as_mut().request_mut().map(|request| (request.method().clone(), request.uri().clone()));
        // User code: dropping the response's body or formatting an error may panic.
        let handled = async {
            match called.await {
                Ok(mut response) => {
                    let reason = response.extensions_mut().remove();
                    HandlerOutcome::Responded { status: response.status(), reason }
                }
                Err(error) => HandlerOutcome::Failed(one_line(&error.into().to_string())),
            }
        };
        let report = |blocked| telemetry::attempt_blocked(self.context, self.id(), blocked);
        let threshold = blocking::threshold(settings.lease);
        let watched = WatchPolls::new(AssertUnwindSafe(handled).catch_unwind(), threshold, report);
        match telemetry::time_handler("worker", within(settings.handler_deadline, watched)).await {
            Ok(Ok(outcome)) => {
                if let (HandlerOutcome::Responded { status, .. }, Some((method, uri))) = (&outcome, &route) {
                    misrouted.check(*status, method, uri, self.id());
                }
                outcome
            }
            Ok(Err(_)) => HandlerOutcome::Panicked,
            Err(_) => HandlerOutcome::TimedOut,
        }
    }

    /// Returns the settlement to report, or `None` if another worker holds the delivery.
    fn settlement(&self, outcome: HandlerOutcome) -> Option<Settlement> {
        Some(match outcome {
            HandlerOutcome::Responded { status, reason } => self.settle_status(status, reason),
            HandlerOutcome::Failed(reason) => self.fail(reason, None),
            HandlerOutcome::Panicked => self.fail("the handler panicked".into(), None),
            HandlerOutcome::TimedOut => self.fail("the handler timed out".into(), None),
            HandlerOutcome::Expired => Settlement::Expire,
            HandlerOutcome::Stopped => Settlement::Release,
            HandlerOutcome::Lost => return None,
        })
    }

    fn settle_status(&self, status: StatusCode, reason: Option<FailureReason>) -> Settlement {
        let reason = || reason.map_or_else(|| status.to_string(), |reason| reason.as_str().to_owned());
        let InboxConfig { keep_bodies: keep, keep_history: history, .. } = *self.shared.config;
        let code = Some(status.as_u16());
        // User code: it may panic.
        match catch_unwind(AssertUnwindSafe(|| (self.shared.settings.outcome)(status))) {
            Ok(Outcome::Done) => Settlement::Done { keep, history, status: code },
            Ok(Outcome::Retry) => self.fail(reason(), code),
            Ok(Outcome::Dead) => Settlement::DeadLetter { reason: reason(), status: code },
            Err(_) => self.fail(format!("the function that judges outcomes panicked on {status}"), code),
        }
    }

    fn fail(&self, reason: String, status: Option<u16>) -> Settlement {
        // Use the latest lease: an operator may have retried the delivery, and then this attempt has taken over a new
        // lease.
        let attempt = self.registration.lease().attempt();
        if attempt >= self.shared.settings.max_attempts {
            return Settlement::DeadLetter { reason, status };
        }
        let delay = random_pause(self.shared.settings.backoff, attempt);
        telemetry::attempt_failed(self.context, self.id(), attempt, delay, &reason);
        Settlement::Reschedule { delay, reason, unordered: self.loses_order, status }
    }

    /// Returns a random pause before an attempt at a delivery whose last lease expired.
    ///
    /// The worker may have crashed because of another delivery that it was handling at the same time. If all of them
    /// started at once again, the poisonous delivery would take the others with it at every attempt.
    fn stagger(&self) -> Duration {
        let Settings { backoff: Backoff { first, last }, lease, .. } = self.shared.settings;
        random_pause(Backoff { first, last: last.min(lease) }, self.lease.attempt().saturating_sub(1))
    }

    fn report_expired(&self) {
        if let Some(ExpiryTime { delivery, .. }) = &self.expiry {
            telemetry::expired(self.context, delivery.id, &delivery.event_type, delivery.age);
            // User code: it may panic, which ends only this attempt, and the outcome is recorded already.
            self.shared.settings.expiries.report(delivery);
        }
    }

    /// Reports the outcome until the store has recorded it, or until another worker holds the delivery.
    ///
    /// There is no time limit, because a handled delivery must not be handled again. The lease is extended meanwhile.
    async fn settle(&self, settlement: Settlement) {
        let config = &self.shared.config;
        let mut pause = Duration::from_millis(100);
        loop {
            let lease = self.registration.lease();
            let settling = [(lease, settlement.clone())];
            match store_call(CALL_DEADLINE, config.store.settle(&settling))
                .await
                .map(|outcomes| outcomes.first().copied())
            {
                Ok(Some(SettleOutcome::Settled)) => {
                    telemetry::attempt_settled(&settlement);
                    match &settlement {
                        Settlement::DeadLetter { reason, .. } => {
                            telemetry::dead_lettered(self.context, self.id(), lease.attempt(), reason);
                        }
                        Settlement::Expire => self.report_expired(),
                        _ => {}
                    }
                    return;
                }
                Ok(Some(SettleOutcome::Gone)) => {
                    // Without a lost lease, the handler has finished the delivery in its own transaction, or an earlier
                    // settlement was recorded and its response was lost.
                    if self.registration.is_lost() {
                        telemetry::outcome_of_gone(self.context, self.id());
                    } else {
                        telemetry::attempt_settled(&settlement);
                    }
                    return;
                }
                // This attempt has taken over a newer lease meanwhile: try again.
                Ok(_) if self.registration.lease() != lease => continue,
                Ok(_) => return telemetry::outcome_lost(self.context, self.id()),
                Err(error) => telemetry::store_failed("settle", self.context, &error),
            }
            sleep(pause).await;
            pause = (2 * pause).min(MAX_PAUSE);
        }
    }
}

/// Waits until the worker has reached this stage of stopping.
pub(super) async fn reached(mut stop: watch::Receiver<StopStage>, stage: StopStage) {
    if stop.wait_for(|stop| *stop >= stage).await.is_err() {
        // The sender is gone, so no more stages can arrive.
        pending::<()>().await;
    }
}

/// Returns a random pause, or the longest one if the system has no random bytes.
fn random_pause(backoff: Backoff, attempts: u32) -> Duration {
    backoff.pause(attempts, getrandom::u64().unwrap_or(u64::MAX))
}
