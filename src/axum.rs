//! Extractors for axum handlers.
//!
//! A handler behind [`KlikitVerifyLayer`](crate::KlikitVerifyLayer), or the handler of an inbox's worker, can take
//! [`EventId`], [`Delivery`], [`OrderEvent`] and [`KlikitEvent`] as arguments:
//!
//! ```
//! use axum::{Router, routing::post};
//! use tower_klikit::{
//!     Delivery, EventType, KlikitVerifyLayer, axum::KlikitEvent, payload::PayloadError,
//! };
//!
//! async fn order(delivery: Delivery, event: KlikitEvent) -> Result<(), PayloadError> {
//!     if event.event_type == Some(EventType::OrderCreated) {
//!         for order in &event.payload.orders {
//!             let id = order.require_id()?;
//!             println!("{} at {:?}: order {id}", event.id, delivery.received_at());
//!         }
//!     }
//!     Ok(())
//! }
//!
//! let verify = KlikitVerifyLayer::new("your-webhook-secret");
//! let app: Router = Router::new().route("/webhooks/klikit", post(order).layer(verify));
//! ```
//!
//! If an extractor fails, the response has one of these statuses:
//!
//! | status | cause |
//! |---|---|
//! | 500 | the request was not verified, because the verify layer is missing. An error is logged |
//! | 400 | the handler takes an [`EventId`] or a [`KlikitEvent`], and the delivery has [no id](crate::KlikitVerifyLayer::allow_missing_event_id) |
//! | 400 | the body could not be read |
//! | 413 | the body is over axum's own limit, 2 MB by default |
//! | 422 | the body is signed and is not an [`OrderEvent`]. The response names the field and never quotes the body |
//!
//! The response has a [`FailureReason`] with the text of the [`KlikitRejection`] in its extensions, which an inbox's
//! worker logs and stores. Your handler can do the same: return a [`PayloadError`], which is a response with the status 422, or
//! a [`FailureReason`] as a part of the response.
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
//! `Option<EventId>` is `None` if the delivery has no id. `Option<Delivery>` is `None` if the request was not verified,
//! for a handler that serves other requests as well.

use std::{borrow::Cow, convert::Infallible, error::Error, fmt};

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

/// The id, the type and the payload of a delivery.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KlikitEvent<O = Order> {
    /// The id for de-duplication.
    pub id: EventId,
    /// The type, if the delivery has exactly one valid type header. klikit does not sign the type.
    pub event_type: Option<EventType>,
    /// The parsed order event: the body, or the `data` in its envelope if the signature is timestamped.
    pub payload: OrderEvent<O>,
}

/// The error of an extractor. The [module](self) lists its responses.
#[derive(Debug)]
pub struct KlikitRejection(ExtractError);

/// The cause of a [`KlikitRejection`].
#[derive(Debug)]
enum ExtractError {
    Unverified,
    MissingEventId,
    Body(BytesRejection),
    Payload(PayloadError),
}

impl KlikitRejection {
    fn unverified() -> Self {
        telemetry::unverified("a handler");
        Self(ExtractError::Unverified)
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        match &self.0 {
            ExtractError::Unverified => StatusCode::INTERNAL_SERVER_ERROR,
            ExtractError::MissingEventId => StatusCode::BAD_REQUEST,
            ExtractError::Body(rejection) => rejection.status(),
            ExtractError::Payload(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// Returns the error of the payload, if the payload is the cause.
    pub fn payload_error(&self) -> Option<&PayloadError> {
        match &self.0 {
            ExtractError::Payload(error) => Some(error),
            _ => None,
        }
    }

    /// Returns the text for the sender, in the words of the verify layer's responses.
    fn response_text(&self) -> Cow<'static, str> {
        match &self.0 {
            ExtractError::Unverified => "misconfigured".into(),
            ExtractError::MissingEventId => "missing klikit headers".into(),
            ExtractError::Body(_) if self.is_too_large() => "body too large".into(),
            ExtractError::Body(_) => "body unreadable".into(),
            ExtractError::Payload(error) => error.to_string().into(),
        }
    }

    fn is_too_large(&self) -> bool {
        self.status() == StatusCode::PAYLOAD_TOO_LARGE
    }
}

impl fmt::Display for KlikitRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ExtractError::Unverified => f.write_str("the request was not verified: KlikitVerifyLayer is missing"),
            ExtractError::MissingEventId => f.write_str("the delivery has no event id"),
            ExtractError::Body(_) if self.is_too_large() => f.write_str("the body is over axum's limit"),
            ExtractError::Body(_) => f.write_str("the body could not be read"),
            ExtractError::Payload(error) => error.fmt(f),
        }
    }
}

impl Error for KlikitRejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            ExtractError::Body(rejection) => Some(rejection),
            ExtractError::Payload(error) => Some(error),
            ExtractError::Unverified | ExtractError::MissingEventId => None,
        }
    }
}

impl IntoResponse for KlikitRejection {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.response_text() }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        response.extensions_mut().insert(FailureReason::new(self.to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// Builds the response of an extractor that fails with this error: 422, with the text as its [`FailureReason`].
impl IntoResponse for PayloadError {
    fn into_response(self) -> Response {
        KlikitRejection(ExtractError::Payload(self)).into_response()
    }
}

/// Inserts the reason into the extensions of the response.
impl IntoResponseParts for FailureReason {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}

/// Builds an empty response with status 200 and the reason in its extensions. For another status, return `(status,
/// reason)`.
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
        delivery.event_id().cloned().ok_or(KlikitRejection(ExtractError::MissingEventId))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for EventId {
    type Rejection = KlikitRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, KlikitRejection> {
        let delivery: &Delivery = parts.extensions.get().ok_or_else(KlikitRejection::unverified)?;
        Ok(delivery.event_id().cloned())
    }
}

/// Parses the body of a verified request, or the `data` in its envelope if its signature is timestamped.
impl<S: Send + Sync, O: FromOrder> FromRequest<S> for OrderEvent<O> {
    type Rejection = KlikitRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, KlikitRejection> {
        let delivery: &Delivery = request.extensions().get().ok_or_else(KlikitRejection::unverified)?;
        let has_envelope = delivery.signed_at().is_some();
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|rejection| KlikitRejection(ExtractError::Body(rejection)))?;
        let event = if has_envelope {
            TimestampedEvent::from_bytes(&body).and_then(|event| event.payload())
        } else {
            Self::from_bytes(&body)
        };
        event.map_err(|error| KlikitRejection(ExtractError::Payload(error)))
    }
}

impl<S: Send + Sync, O: FromOrder> FromRequest<S> for KlikitEvent<O> {
    type Rejection = KlikitRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, KlikitRejection> {
        let delivery: &Delivery = request.extensions().get().ok_or_else(KlikitRejection::unverified)?;
        let id = delivery.event_id().cloned().ok_or(KlikitRejection(ExtractError::MissingEventId))?;
        let event_type = delivery.event_type().cloned();
        Ok(Self { id, event_type, payload: OrderEvent::from_request(request, state).await? })
    }
}
