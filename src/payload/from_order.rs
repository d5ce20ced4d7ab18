//! How JSON is read, and what an order can be read as.

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::error::PayloadError;

/// What an order can be read as: see [`OrderEvent`](super::OrderEvent). Everything that implements [`serde::de::DeserializeOwned`] is.
pub trait FromOrder: Sized {
    /// Reads one order. `json` lies within `body`, so that what is read can share it.
    ///
    /// # Errors
    ///
    /// When it is not what it should be.
    fn from_order(json: &RawValue, body: &Bytes) -> Result<Self, PayloadError>;
}

impl<T: DeserializeOwned> FromOrder for T {
    fn from_order(json: &RawValue, _: &Bytes) -> Result<Self, PayloadError> {
        read(json.get())
    }
}

/// Reads JSON. An error is explained only once there is one, since that takes longer than reading.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, PayloadError> {
    serde_json::from_str(json).map_err(|error| PayloadError::of::<T>(error, json))
}
