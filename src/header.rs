//! The names of klikit's headers.

use http::HeaderName;

/// The signature over the raw body, as 64 hex digits.
pub const SIGNATURE: HeaderName = HeaderName::from_static("x-klikit-signature");

/// The id for de-duplication. klikit does not sign it.
pub const EVENT_ID: HeaderName = HeaderName::from_static("x-klikit-event-id");

/// The name of the event. klikit does not sign it.
pub const EVENT_TYPE: HeaderName = HeaderName::from_static("x-klikit-event-type");
