//! One delivery, from its claim to its end, in a task of its own.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use http::{Request, Response};
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::{
    config::Config,
    error::StoreError,
    future::{Outcome, Sender},
    identity::Found,
    ledger::{BodyDigest, Claim, ClaimOutcome},
};
use crate::{
    answer::Answer,
    event::Delivery,
    telemetry::{self, Subject},
    verify::{ResponseBody, VerifiedBody},
};

/// The pause after a renewal that failed.
const RENEWAL_RETRY: Duration = Duration::from_secs(1);

/// The longest pause between attempts to complete a claim whose delivery was handled.
const MAX_PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn run<S, ResBody>(
    inner: S,
    mut request: Request<VerifiedBody>,
    delivery: Delivery,
    config: Arc<Config>,
    answer: Sender<ResBody, S::Error>,
) where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
{
    let digest = BodyDigest::of(request.body().as_ref());
    let task = Task { config: &config, subject: Subject::from(&delivery) };
    let claim = {
        let mut claiming = pin!(task.claim(&delivery, digest));
        match timeout(config.claim_deadline, &mut claiming).await {
            Ok(Ok(claim)) => claim,
            // In what follows, nobody may be left to hear the answer.
            Ok(Err(refusal)) => {
                let _ = answer.send(Outcome::Answered(refusal.into_response()));
                return;
            }
            Err(_) => {
                telemetry::store_failed("claim", task.subject, &StoreError::deadline());
                let _ = answer.send(Outcome::Answered(Answer::Unsure.into_response()));
                // The store may claim it yet, for nobody.
                if let Ok(Ok(late)) = timeout(config.lease, claiming).await {
                    task.release(&late).await;
                }
                return;
            }
        }
    };
    request.extensions_mut().insert(claim.clone());

    let outcome = {
        let handled = AssertUnwindSafe(handle(inner, request)).catch_unwind();
        let handled = timeout(config.handler_deadline, handled);
        match select(pin!(handled), pin!(task.keep_alive(&claim))).await {
            Either::Left((Ok(Ok(Ok(response))), _)) => Outcome::Answered(response.map(ResponseBody::inner)),
            Either::Left((Ok(Ok(Err(error))), _)) => Outcome::Failed(error),
            Either::Left((Ok(Err(panic)), _)) => Outcome::Panicked(panic),
            Either::Left((Err(_), _)) => {
                telemetry::handler_hung(task.subject, config.handler_deadline);
                Outcome::Answered(Answer::HandlerHung.into_response())
            }
            Either::Right((never, _)) => match never {},
        }
    };
    // Settled first and answered then: the next attempt may come at once.
    if matches!(&outcome, Outcome::Answered(response) if response.status().is_success()) {
        let completed = task.complete(&claim).await;
        let _ = answer.send(outcome);
        if !completed {
            task.complete_later(&claim).await;
        }
    } else {
        task.release(&claim).await;
        let _ = answer.send(outcome);
    }
}

pub(crate) async fn handle<S>(mut inner: S, request: Request<VerifiedBody>) -> Result<S::Response, S::Error>
where
    S: Service<Request<VerifiedBody>>,
{
    poll_fn(|cx| inner.poll_ready(cx)).await?;
    inner.call(request).await
}

struct Task<'a> {
    config: &'a Config,
    /// For the log.
    subject: Subject<'a>,
}

impl Task<'_> {
    /// Claims the delivery for this attempt, or tells what is to be answered.
    async fn claim(&self, delivery: &Delivery, digest: BodyDigest) -> Result<Claim, Answer> {
        let config = self.config;
        let mut claim = config.recognition.claim(delivery, digest);
        loop {
            let outcome = match config.ledger.claim(&claim, config.lease).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    telemetry::store_failed("claim", self.subject, &error);
                    // It may have been claimed all the same.
                    self.release(&claim).await;
                    return Err(Answer::Unsure);
                }
            };
            let (held, answer) = match outcome {
                ClaimOutcome::Claimed => return Ok(claim),
                ClaimOutcome::InFlight { digest, remaining } => (digest, Answer::InFlight { remaining }),
                ClaimOutcome::Done { digest } => (digest, Answer::Duplicate),
            };
            claim = match config.recognition.found(&claim, &held, delivery) {
                Found::Same => {
                    if matches!(answer, Answer::Duplicate) {
                        telemetry::duplicate(delivery);
                    }
                    return Err(answer);
                }
                Found::Refused => return Err(Answer::Conflict),
                Found::Conflict(other) => other,
            };
        }
    }

    /// Renews a claim at a third of its lease, until this is dropped.
    async fn keep_alive(&self, claim: &Claim) -> Infallible {
        let lease = self.config.lease;
        let third = (lease / 3).max(Duration::from_millis(1));
        let mut pause = third;
        loop {
            sleep(pause).await;
            let renewed = timeout(self.config.claim_deadline, self.config.ledger.renew(claim, lease)).await;
            pause = match renewed.unwrap_or_else(|_| Err(StoreError::deadline())) {
                Ok(true) => third,
                Ok(false) => {
                    telemetry::claim_lost(self.subject);
                    return pending().await;
                }
                // A store that is back in time is to find the claim still held.
                Err(error) => {
                    telemetry::store_failed("renew", self.subject, &error);
                    third.min(RENEWAL_RETRY)
                }
            };
        }
    }

    /// If this fails, the claim runs out by itself.
    async fn release(&self, claim: &Claim) {
        let released = timeout(self.config.claim_deadline, self.config.ledger.release(claim)).await;
        if let Err(error) = released.unwrap_or_else(|_| Err(StoreError::deadline())) {
            telemetry::store_failed("release", self.subject, &error);
        }
    }

    /// Whether there is nothing left to do: it is complete, or the claim is lost.
    async fn complete(&self, claim: &Claim) -> bool {
        let completed = self.config.ledger.complete(claim, self.config.retention);
        let completed = timeout(self.config.claim_deadline, completed).await;
        match completed.unwrap_or_else(|_| Err(StoreError::deadline())) {
            Ok(true) => true,
            Ok(false) => {
                telemetry::claim_lost(self.subject);
                true
            }
            Err(error) => {
                telemetry::store_failed("complete", self.subject, &error);
                false
            }
        }
    }

    /// klikit has its 2xx: what is left is to remember it, for as long as the claim lasts.
    async fn complete_later(&self, claim: &Claim) {
        let completed = async {
            let mut pause = Duration::from_millis(100);
            loop {
                sleep(pause).await;
                if self.complete(claim).await {
                    return;
                }
                pause = (2 * pause).min(MAX_PAUSE);
            }
        };
        select(pin!(completed), pin!(self.keep_alive(claim))).await;
    }
}
