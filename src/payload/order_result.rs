use bytes::Bytes;
use serde_json::value::RawValue;

use super::{error::PayloadError, from_order::FromOrder, order::Order};

/// An order, or the error of an order that cannot be read as `O`. An [`OrderEvent`](super::OrderEvent) of this type holds the other
/// orders nevertheless. The error's path begins within the order.
///
/// ```
/// use tower_klikit::payload::{OrderEvent, OrderResult};
///
/// let body = br#"{"brand_id": 1, "branch_id": 2, "orders": [null, {"id": 42}]}"#;
/// for OrderResult(order) in OrderEvent::<OrderResult>::from_slice(body)?.orders {
///     match order {
///         Ok(order) => println!("order {:?}", order.id()),
///         Err(error) => println!("an unreadable order: {error}"),
///     }
/// }
/// # Ok::<(), tower_klikit::payload::PayloadError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderResult<O = Order>(
    /// The order.
    pub Result<O, PayloadError>,
);

impl<O: FromOrder> FromOrder for OrderResult<O> {
    fn from_order(json: &RawValue, body: &Bytes) -> Result<Self, PayloadError> {
        Ok(Self(O::from_order(json, body)))
    }
}
