//! The head of a request as it is stored, and its conversion back to a request.

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use serde::{Deserialize, Serialize};

use super::{labels::Labels, target::Target};
use crate::{
    event::{Delivery, EventId, EventType},
    header::{EVENT_ID, EVENT_TYPE},
    keyring::Signer,
    verify::{Replay, VerifiedBody},
};

/// The stored part of a request's head. It is stored as JSON, so that operators can read it and later versions can add
/// members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredHead {
    pub(super) method: String,
    /// Path and query.
    pub(super) uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) event_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) event_type: Option<String>,
    pub(super) tenant: String,
    pub(super) secret_id: String,
    /// Milliseconds since 1970.
    pub(super) received_at: u64,
    /// Milliseconds since 1970, for deliveries with a timestamped signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signed_at: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) conflict: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) copy: bool,
    /// Whether the delivery was a dead letter before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) revived: bool,
}

impl StoredHead {
    pub(super) fn of(target: Target, delivery: &Delivery) -> Self {
        let Target { method, uri, content_type, left_out: _ } = target;
        Self {
            method,
            uri,
            content_type,
            event_id: delivery.event_id().map(|id| id.as_str().into()),
            event_type: delivery.event_type().map(|event_type| event_type.as_str().into()),
            tenant: delivery.tenant().into(),
            secret_id: delivery.secret_id().into(),
            received_at: milliseconds(delivery.received_at()),
            signed_at: delivery.signed_at().map(milliseconds),
            conflict: false,
            copy: delivery.is_copy(),
            revived: false,
        }
    }

    /// Replaces the event id and the event type with those of the dead letter: klikit signs neither, so a replay must
    /// not change them. The path stays the new one, because the old path may be the reason why the delivery was
    /// dead-lettered.
    pub(super) fn revive(&mut self, dead: Option<Self>) {
        self.revived = true;
        if let Some(dead) = dead {
            self.event_id = dead.event_id;
            self.event_type = dead.event_type;
            self.copy |= dead.copy;
        }
    }

    /// Returns whether the delivery may be a replay of a captured one. Such a delivery blocks no other once it has
    /// failed.
    pub(super) fn may_be_replay(&self) -> bool {
        self.copy || self.revived
    }

    pub(super) fn labels(&self) -> Labels {
        Labels { event_id: self.event_id.clone(), event_type: self.event_type.clone(), tenant: self.tenant.clone() }
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }

    pub(super) fn from_text(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Returns the request that the handler would have received without an inbox. `None` if the head is not one that
    /// this crate has written.
    pub(super) fn request(&self, body: Bytes) -> Option<Request<VerifiedBody>> {
        let delivery = self.delivery()?;
        let mut request = Request::new(());
        *request.method_mut() = Method::from_str(&self.method).ok()?;
        *request.uri_mut() = Uri::from_str(&self.uri).ok()?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        for (name, value) in
            [(header::CONTENT_TYPE, &self.content_type), (EVENT_ID, &self.event_id), (EVENT_TYPE, &self.event_type)]
        {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_str(value).ok()?);
            }
        }
        let (parts, ()) = request.into_parts();
        Some(Replay::new(delivery, body).request(parts))
    }

    /// Returns the event id, if the delivery has one.
    pub(super) fn event_id(&self) -> Option<EventId> {
        EventId::parse(self.event_id.as_ref()?.as_bytes())
    }

    pub(super) fn delivery(&self) -> Option<Delivery> {
        let event_id = match &self.event_id {
            Some(id) => Some(EventId::parse(id.as_bytes())?),
            None => None,
        };
        Some(Delivery {
            event_id,
            event_type: self.event_type.as_deref().map(EventType::from),
            signer: Arc::new(Signer { tenant: self.tenant.as_str().into(), secret_id: self.secret_id.as_str().into() }),
            received_at: time(self.received_at)?,
            signed_at: match self.signed_at {
                Some(milliseconds) => Some(time(milliseconds)?),
                None => None,
            },
            is_copy: self.copy,
        })
    }
}

/// Returns the milliseconds since 1970.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(milliseconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}
