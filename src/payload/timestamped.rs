use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    error::PayloadError,
    event::OrderEvent,
    fields::StringField,
    from_order::{FromOrder, read},
    order::Order,
};

/// The body of a delivery of klikit's older form, which only an older text of klikit's (May 2026) describes:
/// `{event_id, event_type, event_version, created_at, business_id, data}`.
///
/// The layer lets such deliveries in if it is [told to](crate::KlikitVerifyLayer::accept_timestamped). A field that is missing or of
/// another type is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampedEvent {
    body: Bytes,
    /// Any object will do.
    envelope: Order,
}

impl TimestampedEvent {
    /// Reads a verified body, and shares its bytes.
    ///
    /// # Errors
    ///
    /// When the body is no JSON object, or has a field twice.
    pub fn from_bytes(body: &Bytes) -> Result<Self, PayloadError> {
        let text = str::from_utf8(body).map_err(|_| PayloadError::not_utf_8())?;
        let json: &RawValue = read(text)?;
        Ok(Self { body: body.clone(), envelope: Order::from_order(json, body)? })
    }

    /// The event's id.
    pub fn event_id(&self) -> Option<Cow<'_, str>> {
        self.text("event_id")
    }

    /// The event's type.
    pub fn event_type(&self) -> Option<Cow<'_, str>> {
        self.text("event_type")
    }

    /// The version of the type, as JSON.
    pub fn event_version(&self) -> Option<&RawValue> {
        self.envelope.get("event_version")
    }

    /// When klikit made the event, as klikit writes it.
    pub fn created_at(&self) -> Option<Cow<'_, str>> {
        self.text("created_at")
    }

    /// The business.
    pub fn business_id(&self) -> Option<i64> {
        self.envelope.read("business_id").ok().flatten()
    }

    /// The JSON of what the event is about.
    pub fn data(&self) -> Option<&RawValue> {
        self.envelope.get("data")
    }

    /// What the event is about, which is taken to be what a delivery of the current form has as its body.
    ///
    /// # Errors
    ///
    /// When there is no `data`, or it is no [`OrderEvent`].
    pub fn payload<O: FromOrder>(&self) -> Result<OrderEvent<O>, PayloadError> {
        let data = self.data().ok_or_else(|| PayloadError::missing("data"))?;
        let data = self.body.slice_ref(data.get().as_bytes());
        OrderEvent::from_bytes(&data).map_err(|error| error.within("data"))
    }

    fn text(&self, field: &str) -> Option<Cow<'_, str>> {
        self.envelope.read(field).ok().flatten().map(|StringField(text)| text)
    }
}
