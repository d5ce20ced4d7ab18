//! Marks stored deliveries as verified, so that an inbox worker's requests pass a verify layer in the handler's router.

use bytes::Bytes;
use http::{Request, request::Parts};

use super::body::VerifiedBody;
use crate::event::Delivery;

/// An extension of requests that are built from stored deliveries. Only this crate can create it.
#[derive(Clone)]
pub(crate) struct Replay {
    delivery: Delivery,
    /// The verified bytes. Layers may have changed the request's own body.
    body: Bytes,
}

impl Replay {
    pub(crate) fn new(delivery: Delivery, body: Bytes) -> Self {
        Self { delivery, body }
    }

    /// Builds the verified request with this head.
    pub(crate) fn request(self, mut parts: Parts) -> Request<VerifiedBody> {
        match self.delivery.event_id() {
            Some(event_id) => parts.extensions.insert(event_id.clone()),
            None => parts.extensions.remove(),
        };
        parts.extensions.insert(self.delivery.clone());
        let body = VerifiedBody::new(self.body.clone());
        parts.extensions.insert(self);
        Request::from_parts(parts, body)
    }
}
