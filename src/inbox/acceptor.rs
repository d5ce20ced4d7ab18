use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::time::timeout;
use tower_service::Service;

use super::{
    backlog::Backlog, config::Config, delivery::NewDelivery, head::Head, ordering::OrderingKeys, store::Acceptance,
};
use crate::{
    answer::Answer,
    dedupe::{BodyDigest, Found, StoreError},
    event::Delivery,
    telemetry,
    verify::{Replay, ResponseBody, VerifiedBody},
};

/// The service that stores deliveries and acknowledges them: see the [module](super) for the rules.
///
/// It is always ready.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<Config>,
    backlog: Arc<Backlog>,
}

/// The future of an [`Acceptor`]. Dropped before it is ready, it may have stored the delivery or not: klikit's next attempt is then a
/// duplicate, or not.
pub struct AcceptFuture(Pin<Box<dyn Future<Output = Answer> + Send>>);

impl Acceptor {
    pub(super) fn new(config: Arc<Config>, backlog: Arc<Backlog>) -> Self {
        Self { config, backlog }
    }
}

impl Service<Request<VerifiedBody>> for Acceptor {
    type Response = Response<ResponseBody<String>>;
    type Error = Infallible;
    type Future = AcceptFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> AcceptFuture {
        AcceptFuture(Box::pin(accept(Arc::clone(&self.config), Arc::clone(&self.backlog), request)))
    }
}

impl Future for AcceptFuture {
    type Output = Result<Response<ResponseBody<String>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(|answer| Ok(answer.into_response()))
    }
}

async fn accept(config: Arc<Config>, backlog: Arc<Backlog>, request: Request<VerifiedBody>) -> Answer {
    let (parts, body) = request.into_parts();
    if parts.extensions.get::<Replay>().is_some() {
        // It would be its own duplicate, and the worker would take it for handled.
        telemetry::acceptor_is_handler();
        return Answer::Misconfigured;
    }
    let Some(delivery) = parts.extensions.get::<Delivery>() else {
        telemetry::unverified("the inbox's acceptor");
        return Answer::Misconfigured;
    };
    let body = body.into_bytes();
    let claim = config.recognition.claim(delivery, BodyDigest::of(&body));
    let head = Head::of(&parts, delivery);
    let OrderingKeys { keys: ordering_keys, missing } = config.order_by.keys_of(delivery, &body);
    if let Some(missing) = missing {
        telemetry::unordered(delivery.into(), missing);
    }
    let any_body = config.recognition.trusts_event_ids();
    let new = NewDelivery { claim, head: head.to_text(), body, ordering_keys, any_body };
    let stored = timeout(config.accept_deadline, store(&config, &backlog, new, head, delivery)).await;
    stored.unwrap_or_else(|_| Err(StoreError::deadline())).unwrap_or_else(|error| {
        telemetry::store_failed("accept", delivery.into(), &error);
        Answer::Unsure
    })
}

async fn store(
    config: &Arc<Config>,
    backlog: &Arc<Backlog>,
    mut new: NewDelivery,
    mut head: Head,
    delivery: &Delivery,
) -> Result<Answer, StoreError> {
    if !backlog.take_room(config).await? {
        telemetry::backlog_full(config.max_backlog);
        return Ok(Answer::BacklogFull);
    }
    loop {
        let (held, answer) = match config.store.accept(&new, config.retention).await? {
            Acceptance::Accepted | Acceptance::Revived => {
                config.wake.notify_one();
                return Ok(Answer::Received);
            }
            Acceptance::Known { digest } => (digest, Answer::Duplicate),
            Acceptance::InFlight { digest, remaining } => (digest, Answer::InFlight { remaining }),
        };
        match config.recognition.found(&new.claim, &held, delivery) {
            Found::Same => {
                backlog.leave_room();
                if matches!(answer, Answer::Duplicate) {
                    telemetry::duplicate(delivery);
                }
                return Ok(answer);
            }
            Found::Refused => {
                backlog.leave_room();
                return Ok(Answer::Conflict);
            }
            Found::Conflict(claim) => {
                head.conflict = true;
                new = NewDelivery { claim, head: head.to_text(), ..new };
            }
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("config", &self.config).finish()
    }
}

impl fmt::Debug for AcceptFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptFuture").finish_non_exhaustive()
    }
}
