//! The names of klikit's headers.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The signature over the raw body, as 64 hex digits.
pub const SIGNATURE: HeaderName = HeaderName::from_static(name::SIGNATURE);

/// The id for de-duplication. klikit does not sign it.
pub const EVENT_ID: HeaderName = HeaderName::from_static(name::EVENT_ID);

/// The name of the event. klikit does not sign it.
pub const EVENT_TYPE: HeaderName = HeaderName::from_static(name::EVENT_TYPE);

/// Returns the value of a header, or `None` if the header is missing or repeated.
pub(crate) fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The names as string constants, for patterns.
pub(crate) mod name {
    pub(crate) const SIGNATURE: &str = "x-klikit-signature";
    pub(crate) const EVENT_ID: &str = "x-klikit-event-id";
    pub(crate) const EVENT_TYPE: &str = "x-klikit-event-type";
}
