//! The bodies that deliveries are made from.

use bytes::Bytes;
use http::HeaderValue;

use super::values::Setting;
use crate::{
    error::CliError,
    json_edit::{EditError, JsonPath},
};

/// A body with its event type.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) event_type: HeaderValue,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    /// All deliveries have this body.
    Same(Bytes),
    /// Each delivery has another `orders.0.id` between these two parts.
    Varied { before: String, after: String },
}

/// The changes to a body before it is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changes<'a> {
    pub(crate) settings: &'a [Setting],
    /// Whether all deliveries have the same `orders.0.id`.
    pub(crate) keep_order_id: bool,
}

impl Sample {
    /// Creates a sample from a body. `name` is the file or the fixture.
    pub(crate) fn new(
        name: &str,
        body: Vec<u8>,
        event_type: &HeaderValue,
        changes: Changes<'_>,
    ) -> Result<Self, CliError> {
        let body = if changes.settings.is_empty() && changes.keep_order_id {
            Body::Same(body.into())
        } else {
            changes.apply(name, body)?
        };
        Ok(Self { event_type: event_type.clone(), body })
    }

    /// Returns the body with an order id, unless all deliveries have the same body.
    pub(crate) fn body(&self, order_id: u64) -> Bytes {
        match &self.body {
            Body::Same(body) => body.clone(),
            Body::Varied { before, after } => format!("{before}{order_id}{after}").into(),
        }
    }

    /// Returns a body that differs from the one with this order id, and is as well-formed.
    pub(crate) fn other_body(&self, order_id: u64) -> Bytes {
        match &self.body {
            Body::Same(body) => [body, &b" "[..]].concat().into(),
            Body::Varied { .. } => self.body(order_id ^ 1),
        }
    }
}

impl Changes<'_> {
    fn apply(self, name: &str, body: Vec<u8>) -> Result<Body, CliError> {
        let fault = |error: EditError, remedy: &str| CliError::new(format_args!("{name} {error}: {remedy}"));
        let mut text = String::from_utf8(body).map_err(|_| {
            CliError::new(format_args!("{name} is not UTF-8: send it unchanged, with --same-body and without --set"))
        })?;
        for Setting { path, value } in self.settings {
            text = path.set(&text, value).map_err(|error| fault(error, "correct --set"))?;
        }
        if self.keep_order_id {
            return Ok(Body::Same(text.into()));
        }
        let range = order_id().range(&text).map_err(|error| fault(error, "send it unchanged, with --same-body"))?;
        Ok(Body::Varied { before: text[..range.start].into(), after: text[range.end..].into() })
    }

    /// Returns the first order id, if a setting contains it.
    pub(crate) fn first_order_id(self) -> Result<Option<u64>, CliError> {
        let Some(setting) = self.settings.iter().rfind(|setting| setting.path == order_id()) else { return Ok(None) };
        let id = setting.value.get().parse();
        id.map(Some).map_err(|_| {
            CliError::new(
                "--set orders.0.id is not a whole number, so that deliveries cannot have different ids: pass a whole \
                 number, or add --same-body",
            )
        })
    }
}

fn order_id() -> JsonPath {
    "orders.0.id".parse().expect("the path is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT_TYPE: HeaderValue = HeaderValue::from_static("klikit.order.created.v2");

    #[test]
    fn order_id_varies_and_the_rest_stays() {
        let settings = ["orders.0.status=3".parse().unwrap()];
        let text = br#"{"brand_id": 1.0,"orders":[{"id":7,"status":1}]}"#;
        let changes = Changes { settings: &settings, keep_order_id: false };
        let sample = Sample::new("body.json", text.to_vec(), &EVENT_TYPE, changes).unwrap();
        assert_eq!(sample.body(42), &br#"{"brand_id": 1.0,"orders":[{"id":42,"status":3}]}"#[..]);
        assert_eq!(sample.body(43), &br#"{"brand_id": 1.0,"orders":[{"id":43,"status":3}]}"#[..]);
    }

    #[test]
    fn unchanged_body_can_be_anything() {
        let changes = Changes { settings: &[], keep_order_id: true };
        let sample = Sample::new("body.bin", vec![0xff], &EVENT_TYPE, changes).unwrap();
        assert_eq!(sample.body(42), &[0xff][..]);
    }
}
