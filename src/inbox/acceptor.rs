use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    capacity::{Capacity, Reservation},
    config::InboxConfig,
    delivery::{NewDelivery, SameAs},
    head::StoredHead,
    ordering::OrderingKeys,
    store::Acceptance,
    target::Target,
    terms::SearchTerm,
};
use crate::{
    deadline::store_call,
    dedupe::{Match, StoreError},
    direct_response::DirectResponse,
    event::Delivery,
    json, telemetry,
    verify::{Replay, ResponseBody, VerifiedBody},
};

/// A service that stores deliveries and acknowledges them: see the [module](super) for the rules. It is always ready.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<InboxConfig>,
    capacity: Arc<Capacity>,
}

/// The future of an [`Acceptor`]. If it is dropped before it is ready, the delivery may have been stored or not:
/// klikit's next attempt is then a duplicate, or is stored.
pub struct AcceptFuture(Pin<Box<dyn Future<Output = DirectResponse> + Send>>);

impl Acceptor {
    pub(super) fn new(config: Arc<InboxConfig>, capacity: Arc<Capacity>) -> Self {
        Self { config, capacity }
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
        AcceptFuture(Box::pin(accept(Arc::clone(&self.config), Arc::clone(&self.capacity), request)))
    }
}

impl Future for AcceptFuture {
    type Output = Result<Response<ResponseBody<String>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(|answer| Ok(answer.into_response()))
    }
}

async fn accept(config: Arc<InboxConfig>, capacity: Arc<Capacity>, request: Request<VerifiedBody>) -> DirectResponse {
    let (parts, body) = request.into_parts();
    if parts.extensions.get::<Replay>().is_some() {
        // Otherwise the response would be "duplicate", and the worker would treat the delivery as handled.
        telemetry::acceptor_is_handler();
        return DirectResponse::Misconfigured;
    }
    let Some(mut delivery) = parts.extensions.get::<Delivery>().cloned() else {
        telemetry::unverified("the inbox's acceptor");
        return DirectResponse::Misconfigured;
    };
    let target = match Target::of(&parts) {
        Ok(target) => target,
        Err(answer) => {
            telemetry::target_rejected(&delivery, answer.status(), &config.policy.log_limits);
            return answer;
        }
    };
    let body = body.into_bytes();
    let claim = config.policy.claim(&delivery, &body);
    if let Err(answer) = config.policy.admit(&mut delivery, &claim) {
        return answer;
    }
    if let Some(bytes) = target.left_out {
        telemetry::query_left_out(&delivery, bytes, &config.policy.log_limits);
    }
    let head = StoredHead::of(target, &delivery);
    let OrderingKeys { keys: ordering_keys, missing } = config.order_by.keys_of(&delivery, &body);
    let terms = SearchTerm::of_body(&delivery, &body);
    let same_as = if config.policy.trusts_event_ids() { SameAs::Any } else { SameAs::Equal };
    let (text, labels) = (head.to_text(), head.labels());
    let new = NewDelivery { claim, head: text, body, labels, ordering_keys, terms, same_as, revives: false };
    let stored = store_call(config.accept_deadline, store(&config, &capacity, new, head, &delivery)).await;
    let answer = stored.unwrap_or_else(|error| {
        telemetry::store_rejected("accept", (&delivery).into(), &error, &config.policy.log_limits);
        DirectResponse::Unsure
    });
    // Once for each delivery, and not for its copies.
    if let (DirectResponse::Received, Some(missing)) = (answer, missing) {
        telemetry::unordered((&delivery).into(), missing);
    }
    answer
}

async fn store(
    config: &Arc<InboxConfig>,
    capacity: &Capacity,
    mut new: NewDelivery,
    mut head: StoredHead,
    delivery: &Delivery,
) -> Result<DirectResponse, StoreError> {
    match capacity.reserve(config).await? {
        Reservation::Made => {}
        Reservation::BacklogFull => {
            telemetry::backlog_full(config.max_backlog, &config.policy.log_limits);
            return Ok(DirectResponse::BacklogFull);
        }
        Reservation::InboxFull => {
            telemetry::inbox_full(config.max_stored, &config.policy.log_limits);
            return Ok(DirectResponse::InboxFull);
        }
    }
    loop {
        let (held, stored_body, answer) = match config.store.accept(&new, config.retention).await? {
            Acceptance::Accepted | Acceptance::Revived => {
                config.wake.notify_one();
                return Ok(DirectResponse::Received);
            }
            Acceptance::Dead { head: stored } => {
                if let Err(answer) = config.policy.admit_revival(delivery, &new.claim) {
                    capacity.cancel();
                    return Ok(answer);
                }
                head.revive(stored.and_then(|stored| StoredHead::from_text(&stored).ok()));
                new = NewDelivery { head: head.to_text(), labels: head.labels(), revives: true, ..new };
                continue;
            }
            Acceptance::Known { digest, body } => (digest, body, DirectResponse::Duplicate),
            Acceptance::InFlight { digest, remaining } => (digest, None, DirectResponse::InFlight { remaining }),
        };
        if !new.is_same_as(&held) && stored_body.is_some_and(|stored| json::is_same(&stored, &new.body)) {
            telemetry::json_rewritten(delivery, &config.policy.log_limits);
            // Accept again with the stored digest: if the stored delivery is dead, this copy revives it.
            new.same_as = SameAs::Digest(held);
            continue;
        }
        let found = match new.is_same_as(&held) {
            true => Match::Same,
            false => config.policy.compare(&new.claim, &held, delivery),
        };
        match found {
            Match::Same => {
                capacity.cancel();
                if matches!(answer, DirectResponse::Duplicate) {
                    telemetry::duplicate(delivery);
                }
                return Ok(answer);
            }
            Match::Rejected => {
                capacity.cancel();
                return Ok(DirectResponse::Conflict);
            }
            Match::Conflict(claim) => {
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
