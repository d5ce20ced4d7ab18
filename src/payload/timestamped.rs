use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    error::PayloadError,
    event::OrderEvent,
    fields::StringField,
    from_order::{FromOrder, read},
    integer::IntegerField,
    order::Order,
};

/// The body of a delivery with a timestamped signature:
/// `{event_id, event_type, event_version, created_at, business_id, data}`. Only an older version of klikit's documentation (May 2026)
/// describes it.
///
/// The verify layer accepts such deliveries only with
/// [`accept_timestamped`](crate::KlikitVerifyLayer::accept_timestamped). Each method returns `None` if its field is missing or has
/// another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampedEvent {
    body: Bytes,
    /// The whole body. [`Order`] can hold any JSON object.
    envelope: Order,
}

impl TimestampedEvent {
    /// Reads a verified body. The event shares the bytes of the body.
    ///
    /// # Errors
    ///
    /// Returns an error if the body is not a JSON object, or repeats a field.
    pub fn from_bytes(body: &Bytes) -> Result<Self, PayloadError> {
        let text = str::from_utf8(body).map_err(|_| PayloadError::not_utf_8())?;
        let json: &RawValue = read(text)?;
        Ok(Self { body: body.clone(), envelope: Order::from_order(json, body)? })
    }

    /// Returns the event's id.
    pub fn event_id(&self) -> Option<Cow<'_, str>> {
        self.text("event_id")
    }

    /// Returns the event's type.
    pub fn event_type(&self) -> Option<Cow<'_, str>> {
        self.text("event_type")
    }

    /// Returns the version of the event type, as JSON.
    pub fn event_version(&self) -> Option<&RawValue> {
        self.envelope.get("event_version")
    }

    /// Returns the time at which klikit created the event, as klikit writes it.
    pub fn created_at(&self) -> Option<Cow<'_, str>> {
        self.text("created_at")
    }

    /// Returns the id of the business.
    pub fn business_id(&self) -> Option<i64> {
        self.envelope.read("business_id").ok().flatten().map(|IntegerField(number)| number)
    }

    /// Returns the event's `data`, as JSON.
    pub fn data(&self) -> Option<&RawValue> {
        self.envelope.get("data")
    }

    /// Reads the event's `data` as an [`OrderEvent`]. This assumes that `data` has the structure of the body of a delivery without a
    /// timestamp.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no `data`, or if it is not an [`OrderEvent`].
    pub fn payload<O: FromOrder>(&self) -> Result<OrderEvent<O>, PayloadError> {
        let data = self.data().ok_or_else(|| PayloadError::missing("data"))?;
        let data = self.body.slice_ref(data.get().as_bytes());
        OrderEvent::from_bytes(&data).map_err(|error| error.within("data"))
    }

    fn text(&self, field: &str) -> Option<Cow<'_, str>> {
        self.envelope.read(field).ok().flatten().map(|StringField(string)| string)
    }
}
