//! The handling of one delivery by the layer, from its claim to its response.

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
    config::DedupeConfig,
    error::StoreError,
    future::FlowOutcome,
    ledger::{Claim, ClaimOutcome},
    policy::Match,
    renewal,
    running::ClaimRegistration,
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

/// The longest pause before a failed completion is repeated.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Claims the delivery, calls the handler, and completes or releases the claim.
///
/// Both end before the response is returned, because klikit's next attempt may arrive at once. If the store cannot
/// complete the claim, a separate task repeats that call.
pub(super) fn run<S, ResBody>(
    // Boxed, so that this future is small: allocating a large future would cost more than the rest of the function.
    mut call: Pin<Box<Call<S, Request<VerifiedBody>>>>,
    delivery: Delivery,
    claim: Claim,
    config: Arc<DedupeConfig>,
) -> impl Future<Output = FlowOutcome<ResBody, S::Error>>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
{
    let mut pending = PendingClaim { claim, store_call: None };
    // Not an `async fn`: the future of an `async fn` would hold each argument twice.
    async move {
        let mut registration = match claim_in_time(&config, &delivery, &mut pending).await {
            Ok(registration) => registration,
            Err(answer) => return FlowOutcome::Responded(answer.into_response()),
        };
        if let Some(request) = call.as_mut().request_mut() {
            request.extensions_mut().insert(registration.claim.clone());
        }
        let outcome = handle(call.as_mut(), &delivery, &config).await;
        // Dropping the handler's future runs user code, which may panic.
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
    config: &DedupeConfig,
) -> FlowOutcome<ResBody, S::Error>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
{
    let report = |blocked| telemetry::handler_blocked(delivery.into(), blocked);
    let handled = AssertUnwindSafe(call).catch_unwind();
    let watched = WatchPolls::new(handled, blocking::threshold(config.lease), report);
    match telemetry::time_handler("dedupe", within(config.handler_deadline, watched)).await {
        Ok(Ok(Ok(response))) => FlowOutcome::Responded(response.map(ResponseBody::inner)),
        Ok(Ok(Err(error))) => FlowOutcome::Failed(error),
        Ok(Err(panic)) => FlowOutcome::Panicked(panic),
        Err(_) => {
            telemetry::handler_hung(delivery.into(), config.handler_deadline);
            FlowOutcome::Responded(DirectResponse::HandlerHung.into_response())
        }
    }
}

/// Claims the delivery within the deadline. Returns the response as an error if the handler must not be called.
async fn claim_in_time(
    config: &Arc<DedupeConfig>,
    delivery: &Delivery,
    pending: &mut PendingClaim,
) -> Result<ClaimRegistration, DirectResponse> {
    let started = Instant::now();
    let registration = match within(config.claim_deadline, claim_or_answer(config, delivery, pending)).await {
        Ok(claimed) => claimed?,
        Err(expired) => {
            telemetry::store_rejected("claim", delivery.into(), &StoreError::from(expired), &config.policy.log_limits);
            let late = PendingClaim { claim: pending.claim.clone(), store_call: pending.store_call.take() };
            tokio::spawn(telemetry::in_current_span(late.undo(Arc::clone(config), delivery.clone())));
            return Err(DirectResponse::Unsure);
        }
    };
    // The thread may have been blocked after the store's response, until the claim had expired.
    let is_late = registration.registered_at - started >= config.lease;
    if is_late && !renew(config, &registration.claim, delivery.into()).await {
        return Err(DirectResponse::InFlight { remaining: config.lease });
    }
    Ok(registration)
}

/// Claims the delivery. A conflict is claimed under a key of its own.
async fn claim_or_answer(
    config: &Arc<DedupeConfig>,
    delivery: &Delivery,
    pending: &mut PendingClaim,
) -> Result<ClaimRegistration, DirectResponse> {
    loop {
        let (held, answer) = match find(config, delivery, pending).await? {
            ClaimOutcome::Claimed => match renewal::register(config, &pending.claim, delivery).await {
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

/// Looks for the key among the running handlers. If it is not there, claims the key in the store.
async fn find(
    config: &DedupeConfig,
    delivery: &Delivery,
    pending: &mut PendingClaim,
) -> Result<ClaimOutcome, DirectResponse> {
    if let Some(digest) = config.running.digest_of(pending.claim.key()) {
        return Ok(ClaimOutcome::InFlight { digest, remaining: config.lease });
    }
    match pending.claim_in_store(config).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            telemetry::store_rejected("claim", delivery.into(), &error, &config.policy.log_limits);
            // The store may have made the claim although the call failed.
            release(config, &pending.claim, delivery.into()).await;
            Err(DirectResponse::Unsure)
        }
    }
}

/// A claim, and the store call in progress that makes the claim.
struct PendingClaim {
    claim: Claim,
    /// The call that is in progress. It owns its arguments, so that it can outlive the request.
    store_call: Option<StoreFuture<'static, ClaimOutcome>>,
}

impl PendingClaim {
    async fn claim_in_store(&mut self, config: &DedupeConfig) -> Result<ClaimOutcome, StoreError> {
        let call = Arc::clone(&config.ledger).claim(self.claim.clone(), config.claim_terms());
        let outcome = self.store_call.insert(call).await;
        self.store_call = None;
        outcome
    }

    /// Waits for the store's response, then releases the claim. Otherwise the store might make the claim after the
    /// deadline, and block the delivery although no handler runs.
    async fn undo(self, config: Arc<DedupeConfig>, delivery: Delivery) {
        if let Some(call) = self.store_call {
            match timeout(config.lease, call).await {
                Ok(Ok(ClaimOutcome::Claimed)) => {
                    if renewal::register(&config, &self.claim, &delivery).await.is_none() {
                        // Another copy of this delivery is already running here, and takes over this claim.
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

/// Releases the claim, and each claim of a copy that this delivery has taken over.
async fn release_all(config: &DedupeConfig, registration: &mut ClaimRegistration, context: LogContext<'_>) {
    let mut claim = registration.current_claim();
    loop {
        release(config, &claim, context).await;
        match registration.end(&claim) {
            Some(newer) => claim = newer,
            None => return,
        }
    }
}

/// Releases a claim. If the call fails, the claim expires by itself.
async fn release(config: &DedupeConfig, claim: &Claim, context: LogContext<'_>) {
    if let Err(error) = store_call(config.claim_deadline, config.ledger.release(claim)).await {
        telemetry::store_rejected("release", context, &error, &config.policy.log_limits);
    }
}

/// Renews a claim. Returns `false` if the claim is lost, or may be lost because the store failed.
async fn renew(config: &DedupeConfig, claim: &Claim, context: LogContext<'_>) -> bool {
    let claims = std::slice::from_ref(claim);
    match store_call(config.claim_deadline, config.ledger.renew(claims, &config.claim_terms())).await {
        Ok(renewed) => renewed.first() == Some(&true),
        Err(error) => {
            telemetry::store_failed("renew", context, &error);
            false
        }
    }
}

/// Completes the latest claim on a delivery. Returns `false` if the store failed and the call must be repeated. A lost
/// claim is logged and returns `true`, because repeating the call is useless.
async fn complete(config: &DedupeConfig, registration: &ClaimRegistration, context: LogContext<'_>) -> bool {
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
                // The delivery has taken over the claim of a copy meanwhile.
                claim = current;
            }
            Err(error) => {
                telemetry::store_failed("complete", context, &error);
                return false;
            }
        }
    }
}

/// Repeats the completion of a handled delivery's claim until the store accepts it. The response does not wait for this.
///
/// Stops after the handler's deadline, because the store keeps an expired claim for that time.
async fn complete_later(config: Arc<DedupeConfig>, delivery: Delivery, registration: ClaimRegistration) {
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
