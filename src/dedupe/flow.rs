//! The way of one delivery through the layer, from its claim to its response.

use std::{
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
    keeper::{Keeper, Registration},
    ledger::{Claim, ClaimOutcome},
    policy::Match,
};
use crate::{
    answer::Answer,
    blocking::{self, WatchPolls},
    deadline::{store_call, within},
    event::Delivery,
    telemetry::{self, LogContext},
    verify::{ResponseBody, VerifiedBody},
};

/// The longest pause between attempts to complete a claim whose delivery was handled.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Claims the delivery, calls the handler, and settles the claim.
///
/// The claim is settled before the response is returned: klikit's next attempt may come at once.
pub(super) async fn run<S, ResBody>(
    // In a box of its own, so that this future is small: a large one costs more to allocate than everything else here.
    mut call: Pin<Box<Call<S, Request<VerifiedBody>>>>,
    delivery: Delivery,
    claim: Claim,
    config: Arc<Config>,
) -> Outcome<ResBody, S::Error>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
{
    let (claim, registration) = match claim_in_time(&config, &delivery, claim).await {
        Ok(claimed) => claimed,
        Err(answer) => return Outcome::Responded(answer.into_response()),
    };
    if let Some(request) = call.as_mut().request_mut() {
        request.extensions_mut().insert(claim);
    }
    let outcome = handle(call.as_mut(), &delivery, &config).await;
    // User code: it may panic when it is dropped, too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
    if !outcome.is_success() {
        release(&config, &registration.claim(), (&delivery).into()).await;
    } else if !complete(&config, &registration, (&delivery).into()).await {
        tokio::spawn(telemetry::in_current_span(complete_later(config, delivery, registration)));
    }
    outcome
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
            Outcome::Responded(Answer::HandlerHung.into_response())
        }
    }
}

/// Claims the delivery within the deadline, or returns the answer to give without the handler.
async fn claim_in_time(
    config: &Arc<Config>,
    delivery: &Delivery,
    claim: Claim,
) -> Result<(Claim, Registration), Answer> {
    let started = Instant::now();
    let mut claiming = Box::pin(claim_or_answer(Arc::clone(config), claim, delivery.clone()));
    if let Some(claimed) = within(config.claim_deadline, &mut claiming).await {
        let (claim, registration) = claimed?;
        // The answer may have waited on a blocked thread until the claim had expired.
        if started.elapsed() >= config.lease && !renew(config, &claim, delivery.into()).await {
            return Err(Answer::InFlight { remaining: config.lease });
        }
        return Ok((claim, registration));
    }
    telemetry::store_failed("claim", delivery.into(), &StoreError::deadline());
    let (config, delivery) = (Arc::clone(config), delivery.clone());
    tokio::spawn(telemetry::in_current_span(async move {
        // The store may yet claim the delivery, and nobody would handle it.
        if let Ok(Ok((late, _registration))) = timeout(config.lease, claiming).await {
            release(&config, &late, (&delivery).into()).await;
        }
    }));
    Err(Answer::Unsure)
}

/// Claims the delivery, under a key of its own if it is a conflict.
async fn claim_or_answer(
    config: Arc<Config>,
    mut claim: Claim,
    delivery: Delivery,
) -> Result<(Claim, Registration), Answer> {
    loop {
        let (held, answer) = match find(&config, &claim, &delivery).await? {
            ClaimOutcome::Claimed => match Keeper::register(&config, &claim, &delivery).await {
                Some(registration) => return Ok((claim, registration)),
                // Another copy of this delivery is already running here. It takes over this claim.
                None => return Err(Answer::InFlight { remaining: config.lease }),
            },
            ClaimOutcome::InFlight { digest, remaining } => (digest, Answer::InFlight { remaining }),
            ClaimOutcome::Done { digest } => (digest, Answer::Duplicate),
        };
        claim = match config.policy.compare(&claim, &held, &delivery) {
            Match::Same => {
                if matches!(answer, Answer::Duplicate) {
                    telemetry::duplicate(&delivery);
                }
                return Err(answer);
            }
            Match::Rejected => return Err(Answer::Conflict),
            Match::Conflict(own) => own,
        };
    }
}

/// Looks for the entry among the running handlers, and then claims it in the store.
async fn find(config: &Config, claim: &Claim, delivery: &Delivery) -> Result<ClaimOutcome, Answer> {
    if let Some(digest) = config.keeper.running(claim.key()) {
        return Ok(ClaimOutcome::InFlight { digest, remaining: config.lease });
    }
    match config.ledger.claim(claim, &config.claim_terms()).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            telemetry::store_failed("claim", delivery.into(), &error);
            // The store may have claimed it all the same.
            release(config, claim, delivery.into()).await;
            Err(Answer::Unsure)
        }
    }
}

/// If this fails, the claim expires by itself.
async fn release(config: &Config, claim: &Claim, context: LogContext<'_>) {
    if let Err(error) = store_call(config.claim_deadline, config.ledger.release(claim)).await {
        telemetry::store_failed("release", context, &error);
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
    loop {
        let claim = registration.claim();
        match store_call(config.claim_deadline, config.ledger.complete(&claim, config.retention)).await {
            Ok(true) => return true,
            // A copy's claim has been taken over since.
            Ok(false) if registration.claim() != claim => {}
            Ok(false) => {
                telemetry::completion_lost(context);
                return true;
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
