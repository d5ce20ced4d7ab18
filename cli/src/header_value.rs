//! Values of headers on the command line.

use http::HeaderValue;

/// Parses the value of an option that becomes a header.
pub(crate) fn parse(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "a header can hold only visible characters and spaces".into())
}
