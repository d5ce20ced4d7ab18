//! What an axum handler takes as arguments.
//!
//! [`EventId`], [`Delivery`], [`OrderEvent`] and [`KlikitEvent`], behind [`KlikitVerifyLayer`](crate::KlikitVerifyLayer) or in the
//! handler of an inbox's worker:
//!
//! ```
//! use axum::{Router, routing::post};
//! use tower_klikit::{Delivery, EventType, KlikitVerifyLayer, axum::KlikitEvent};
//!
//! async fn order(delivery: Delivery, event: KlikitEvent) {
//!     if event.event_type == Some(EventType::OrderCreated) {
//!         for order in &event.payload.orders {
//!             println!("{} at {:?}: order {:?}", event.id, delivery.received_at(), order.id());
//!         }
//!     }
//! }
//!
//! let verify = KlikitVerifyLayer::new("your-webhook-secret");
//! let app: Router = Router::new().route("/webhooks/klikit", post(order).layer(verify));
//! ```
//!
//! | status | when |
//! |---|---|
//! | 500 | the request was not verified: the layer is missing, and a line of the log says so |
//! | 400 | [`EventId`] or [`KlikitEvent`] of a delivery that was [let in without an id](crate::KlikitVerifyLayer::allow_missing_event_id) |
//! | 413 | the body is over axum's own limit: 2 MB unless set |
//! | 422 | klikit signed the body, and it is no [`OrderEvent`]: the answer names the field, and never quotes the body |
//!
//! A response to a delivery that was not handled carries a [`FailureReason`] with the text of its [`KlikitRejection`], which an
//! inbox's worker logs and keeps. A handler of yours can do the same: return a [`FailureReason`] as a part of the response.
//!
//! ```
//! use axum::response::IntoResponse;
//! use http::StatusCode;
//! use tower_klikit::{FailureReason, axum::KlikitEvent};
//!
//! async fn order(event: KlikitEvent) -> impl IntoResponse {
//!     (StatusCode::CONFLICT, FailureReason::new("printer is out of paper"))
//! }
//! ```
//!
//! As an option, [`EventId`] is `None` where the delivery came without, and [`Delivery`] where the request was not verified: for a
//! handler that serves other requests as well.

use std::{convert::Infallible, error::Error, fmt};

use axum_core::{
    body::Body,
    extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request, rejection::BytesRejection},
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, request::Parts};

use crate::{
    event::{Delivery, EventId, EventType},
    payload::{FromOrder, Order, OrderEvent, PayloadError, TimestampedEvent},
    reason::FailureReason,
    telemetry,
};

/// A delivery's id, type and payload in one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KlikitEvent<O = Order> {
    /// The id for de-duplication.
    pub id: EventId,
    /// The type, if the delivery came with exactly one that can be read. klikit does not sign it.
    pub event_type: Option<EventType>,
    /// The body.
    pub payload: OrderEvent<O>,
}

/// Why a handler's argument could not be had. It is answered as the [module](self) says.
#[derive(Debug)]
pub struct KlikitRejection(Kind);

#[derive(Debug)]
enum Kind {
    Unverified,
    MissingEventId,
    Body(BytesRejection),
    Payload(PayloadError),
}

impl KlikitRejection {
    fn unverified() -> Self {
        telemetry::unverified("a handler");
        Self(Kind::Unverified)
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        match &self.0 {
            Kind::Unverified => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::MissingEventId => StatusCode::BAD_REQUEST,
            Kind::Body(rejection) => rejection.status(),
            Kind::Payload(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// What is wrong with the payload, if that is what it is about.
    pub fn payload_error(&self) -> Option<&PayloadError> {
        match &self.0 {
            Kind::Payload(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for KlikitRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Unverified => f.write_str("misconfigured"),
            Kind::MissingEventId => f.write_str("missing klikit headers"),
            Kind::Body(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                f.write_str("body too large")
            }
            Kind::Body(_) => f.write_str("body unreadable"),
            Kind::Payload(error) => error.fmt(f),
        }
    }
}

impl Error for KlikitRejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Kind::Body(rejection) => Some(rejection),
            Kind::Payload(error) => Some(error),
            Kind::Unverified | Kind::MissingEventId => None,
        }
    }
}

impl IntoResponse for KlikitRejection {
    fn into_response(self) -> Response {
        let text = self.to_string();
        let body = serde_json::json!({ "error": text }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        response.extensions_mut().insert(FailureReason::new(text));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// Inserts the reason into the response's extensions.
impl IntoResponseParts for FailureReason {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}

/// An empty response with the reason in its extensions. Its status is 200; for another one, return `(status, reason)`.
impl IntoResponse for FailureReason {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for Delivery {
    type Rejection = KlikitRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, KlikitRejection> {
        parts.extensions.get().cloned().ok_or_else(KlikitRejection::unverified)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Delivery {
    type Rejection = KlikitRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, KlikitRejection> {
        Ok(parts.extensions.get().cloned())
    }
}

impl<S: Sync> FromRequestParts<S> for EventId {
    type Rejection = KlikitRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, KlikitRejection> {
        let delivery: &Delivery = parts.extensions.get().ok_or_else(KlikitRejection::unverified)?;
        delivery.event_id().cloned().ok_or(KlikitRejection(Kind::MissingEventId))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for EventId {
    type Rejection = KlikitRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, KlikitRejection> {
        let delivery: &Delivery = parts.extensions.get().ok_or_else(KlikitRejection::unverified)?;
        Ok(delivery.event_id().cloned())
    }
}

/// The body of a verified request, or the `data` in its envelope if it has klikit's older form.
impl<S: Send + Sync, O: FromOrder> FromRequest<S> for OrderEvent<O> {
    type Rejection = KlikitRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, KlikitRejection> {
        let delivery: &Delivery = request.extensions().get().ok_or_else(KlikitRejection::unverified)?;
        let in_an_envelope = delivery.signed_at().is_some();
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|rejection| KlikitRejection(Kind::Body(rejection)))?;
        let event = if in_an_envelope {
            TimestampedEvent::from_bytes(&body).and_then(|event| event.payload())
        } else {
            Self::from_bytes(&body)
        };
        event.map_err(|error| KlikitRejection(Kind::Payload(error)))
    }
}

impl<S: Send + Sync, O: FromOrder> FromRequest<S> for KlikitEvent<O> {
    type Rejection = KlikitRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, KlikitRejection> {
        let delivery: &Delivery = request.extensions().get().ok_or_else(KlikitRejection::unverified)?;
        let id = delivery.event_id().cloned().ok_or(KlikitRejection(Kind::MissingEventId))?;
        let event_type = delivery.event_type().cloned();
        Ok(Self { id, event_type, payload: OrderEvent::from_request(request, state).await? })
    }
}
