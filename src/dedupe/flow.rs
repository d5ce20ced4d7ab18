//! The way of one delivery through the layer, from its claim to its response.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use http::{Request, Response};
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::{
    call::Call,
    config::Config,
    error::StoreError,
    future::Outcome,
    keeper,
    ledger::{Claim, ClaimOutcome},
    policy::Match,
    running::Registration,
};
use crate::{
    blocking::{self, WatchPolls},
    deadline::{store_call, within},
    direct_response::DirectResponse,
    event::Delivery,
    object_safe::StoreFuture,
    telemetry::{self, LogContext},
    verify::{ResponseBody, VerifiedBody},
};

/// The longest pause between attempts to complete a claim whose delivery was handled.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Claims the delivery, calls the handler, and settles the claim.
///
/// The claim is settled before the response is returned: klikit's next attempt may come at once.
pub(super) fn run<S, ResBody>(
    // In a box of its own, so that this future is small: a large one costs more to allocate than everything else here.
    mut call: Pin<Box<Call<S, Request<VerifiedBody>>>>,
    delivery: Delivery,
    claim: Claim,
    config: Arc<Config>,
) -> impl Future<Output = Outcome<ResBody, S::Error>>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
{
    let mut pending = PendingClaim { claim, call: None };
    // Not an `async fn`: its future would hold its arguments twice.
    async move {
        let mut registration = match claim_in_time(&config, &delivery, &mut pending).await {
            Ok(registration) => registration,
            Err(answer) => return Outcome::Responded(answer.into_response()),
        };
        if let Some(request) = call.as_mut().request_mut() {
            request.extensions_mut().insert(registration.claim.clone());
        }
        let outcome = handle(call.as_mut(), &delivery, &config).await;
        // User code: it may panic when it is dropped, too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
        if !outcome.is_success() {
            release_all(&config, &mut registration, (&delivery).into()).await;
        } else if !complete(&config, &registration, (&delivery).into()).await {
            tokio::spawn(telemetry::in_current_span(complete_later(config, delivery, registration)));
        }
        outcome
    }
}

async fn handle<S, ResBody>(
    call: Pin<&mut Call<S, Request<VerifiedBody>>>,
    delivery: &Delivery,
    config: &Config,
) -> Outcome<ResBody, S::Error>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
{
    let report = |blocked| telemetry::handler_blocked(delivery.into(), blocked);
    let handled = AssertUnwindSafe(call).catch_unwind();
    let watched = WatchPolls::new(handled, blocking::threshold(config.lease), report);
    match within(config.handler_deadline, watched).await {
        Some(Ok(Ok(response))) => Outcome::Responded(response.map(ResponseBody::inner)),
        Some(Ok(Err(error))) => Outcome::Failed(error),
        Some(Err(panic)) => Outcome::Panicked(panic),
        None => {
            telemetry::handler_hung(delivery.into(), config.handler_deadline);
            Outcome::Responded(DirectResponse::HandlerHung.into_response())
        }
    }
}

/// Claims the delivery within the deadline, or returns the answer to give without the handler.
async fn claim_in_time(
    config: &Arc<Config>,
    delivery: &Delivery,
    pending: &mut PendingClaim,
) -> Result<Registration, DirectResponse> {
    let started = Instant::now();
    let Some(claimed) = within(config.claim_deadline, claim_or_answer(config, delivery, pending)).await else {
        telemetry::store_rejected("claim", delivery.into(), &StoreError::deadline(), &config.policy.log_limits);
        let late = PendingClaim { claim: pending.claim.clone(), call: pending.call.take() };
        tokio::spawn(telemetry::in_current_span(late.undo(Arc::clone(config), delivery.clone())));
        return Err(DirectResponse::Unsure);
    };
    let registration = claimed?;
    // The answer may have waited on a blocked thread until the claim had expired.
    let is_late = registration.registered_at - started >= config.lease;
    if is_late && !renew(config, &registration.claim, delivery.into()).await {
        return Err(DirectResponse::InFlight { remaining: config.lease });
    }
    Ok(registration)
}

/// Claims the delivery, under a key of its own if it is a conflict.
async fn claim_or_answer(
    config: &Arc<Config>,
    delivery: &Delivery,
    pending: &mut PendingClaim,
) -> Result<Registration, DirectResponse> {
    loop {
        let (held, answer) = match find(config, delivery, pending).await? {
            ClaimOutcome::Claimed => match keeper::register(config, &pending.claim, delivery).await {
                Some(registration) => return Ok(registration),
                // Another copy of this delivery is already running here. It takes over this claim.
                None => return Err(DirectResponse::InFlight { remaining: config.lease }),
            },
            ClaimOutcome::InFlight { digest, remaining } => (digest, DirectResponse::InFlight { remaining }),
            ClaimOutcome::Done { digest } => (digest, DirectResponse::Duplicate),
        };
        pending.claim = match config.policy.compare(&pending.claim, &held, delivery) {
            Match::Same => {
                if matches!(answer, DirectResponse::Duplicate) {
                    telemetry::duplicate(delivery);
                }
                return Err(answer);
            }
            Match::Rejected => return Err(DirectResponse::Conflict),
            Match::Conflict(own) => own,
        };
    }
}

/// Looks for the entry among the running handlers, and then claims it in the store.
async fn find(
    config: &Config,
    delivery: &Delivery,
    pending: &mut PendingClaim,
) -> Result<ClaimOutcome, DirectResponse> {
    if let Some(digest) = config.running.digest_of(pending.claim.key()) {
        return Ok(ClaimOutcome::InFlight { digest, remaining: config.lease });
    }
    match pending.ask(config).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            telemetry::store_rejected("claim", delivery.into(), &error, &config.policy.log_limits);
            // The store may have claimed it all the same.
            release(config, &pending.claim, delivery.into()).await;
            Err(DirectResponse::Unsure)
        }
    }
}

/// A claim, and the call that asks the store for it.
struct PendingClaim {
    claim: Claim,
    /// `None` unless the store has yet to answer. It owns what it needs, so that it can outlive its delivery.
    call: Option<StoreFuture<'static, ClaimOutcome>>,
}

impl PendingClaim {
    async fn ask(&mut self, config: &Config) -> Result<ClaimOutcome, StoreError> {
        let call = Arc::clone(&config.ledger).claim(self.claim.clone(), config.claim_terms());
        let outcome = self.call.insert(call).await;
        self.call = None;
        outcome
    }

    /// Releases the claim after the store's answer: the store may yet claim the delivery, and nobody would handle it.
    async fn undo(self, config: Arc<Config>, delivery: Delivery) {
        if let Some(call) = self.call {
            match timeout(config.lease, call).await {
                Ok(Ok(ClaimOutcome::Claimed)) => {
                    if keeper::register(&config, &self.claim, &delivery).await.is_none() {
                        // Another copy of this delivery is already running here. It takes over this claim.
                        return;
                    }
                }
                Ok(Err(error)) => {
                    telemetry::store_rejected("claim", (&delivery).into(), &error, &config.policy.log_limits)
                }
                Ok(Ok(_)) | Err(_) => return,
            }
        }
        release(&config, &self.claim, (&delivery).into()).await;
    }
}

/// Releases the claim, and then each claim of a copy that was handed to this delivery meanwhile.
async fn release_all(config: &Config, registration: &mut Registration, context: LogContext<'_>) {
    let mut claim = registration.current_claim();
    loop {
        release(config, &claim, context).await;
        match registration.end(&claim) {
            Some(newer) => claim = newer,
            None => return,
        }
    }
}

/// If this fails, the claim expires by itself.
async fn release(config: &Config, claim: &Claim, context: LogContext<'_>) {
    if let Err(error) = store_call(config.claim_deadline, config.ledger.release(claim)).await {
        telemetry::store_rejected("release", context, &error, &config.policy.log_limits);
    }
}

/// Returns whether the claim is still this process's own. If the store fails, it may not be.
async fn renew(config: &Config, claim: &Claim, context: LogContext<'_>) -> bool {
    let claims = std::slice::from_ref(claim);
    match store_call(config.claim_deadline, config.ledger.renew(claims, &config.claim_terms())).await {
        Ok(renewed) => renewed.first() == Some(&true),
        Err(error) => {
            telemetry::store_failed("renew", context, &error);
            false
        }
    }
}

/// Returns `false` if the store failed, so that the call has to be repeated.
async fn complete(config: &Config, registration: &Registration, context: LogContext<'_>) -> bool {
    let mut claim = registration.claim.clone();
    loop {
        match store_call(config.claim_deadline, config.ledger.complete(&claim, config.retention)).await {
            Ok(true) => return true,
            Ok(false) => {
                let current = registration.current_claim();
                if current == claim {
                    telemetry::completion_lost(context);
                    return true;
                }
                // A copy's claim has been taken over since.
                claim = current;
            }
            Err(error) => {
                telemetry::store_failed("complete", context, &error);
                return false;
            }
        }
    }
}

/// Completes the claim once the store is back. klikit has its 2xx, so all that is left is to remember the delivery.
///
/// It gives up after the handler's deadline: for as long, the store keeps a claim that cannot be renewed.
async fn complete_later(config: Arc<Config>, delivery: Delivery, registration: Registration) {
    let started = Instant::now();
    let mut pause = Duration::from_millis(100);
    while started.elapsed() < config.handler_deadline {
        sleep(pause).await;
        if complete(&config, &registration, (&delivery).into()).await {
            return;
        }
        pause = (2 * pause).min(MAX_PAUSE);
    }
    telemetry::completion_lost((&delivery).into());
}
