//! The trait for types that orders can be read as.

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::error::PayloadError;

/// A type that an order of an [`OrderEvent`](super::OrderEvent) can be read as. All types that implement
/// [`serde::de::DeserializeOwned`] implement this trait.
pub trait FromOrder: Sized {
    /// Reads one order. `json` is a part of `body`, so the result can share the bytes of `body`.
    ///
    /// # Errors
    ///
    /// Returns an error if `json` cannot be read as this type.
    fn from_order(json: &RawValue, body: &Bytes) -> Result<Self, PayloadError>;
}

impl<T: DeserializeOwned> FromOrder for T {
    fn from_order(json: &RawValue, _: &Bytes) -> Result<Self, PayloadError> {
        read(json.get())
    }
}

/// Reads JSON. Explains an error in a second pass, which is slower than reading.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, PayloadError> {
    serde_json::from_str(json).map_err(|error| PayloadError::of::<T>(error, json))
}
