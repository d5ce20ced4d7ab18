//! Verified before, and handed on again: what lets a worker's requests through a router that still holds the layer.

use bytes::Bytes;
use http::{Request, request::Parts};

use super::body::VerifiedBody;
use crate::event::Delivery;

/// Lies in the extensions of a request that is made from a stored delivery. Nobody outside this crate can make one.
#[derive(Clone)]
pub(crate) struct Replay {
    delivery: Delivery,
    /// What was verified. What layers have made of the request's own body is not it.
    body: Bytes,
}

impl Replay {
    pub(crate) fn new(delivery: Delivery, body: Bytes) -> Self {
        Self { delivery, body }
    }

    /// The verified request with this head.
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
