use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    error::PayloadError,
    fields::ObjectFields,
    from_order::{FromOrder, read},
    integer::{self, IntegerField},
    order::Order,
};

/// The body of a delivery. All three events of klikit have this structure.
///
/// Usually there is one order. klikit sends several if they occur in the same tick. Other fields are ignored.
///
/// `O` is the type of an order: [`Order`], a type of your own that implements [`serde::Deserialize`], or
/// `Box<serde_json::value::RawValue>` for its JSON. With [`OrderResult`](super::OrderResult), an order that cannot be
/// read does not hide the others.
///
/// ```
/// use bytes::Bytes;
/// use tower_klikit::payload::{OrderEvent, OrderStatus};
///
/// let body = Bytes::from(r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"status":4}]}"#);
/// let event: OrderEvent = OrderEvent::from_bytes(&body)?;
/// assert_eq!(event.branch_id, 2);
/// assert_eq!(event.orders[0].status(), Some(OrderStatus::READY));
///
/// #[derive(serde::Deserialize)]
/// struct Ticket {
///     id: u64,
/// }
/// let event: OrderEvent<Ticket> = OrderEvent::from_bytes(&body)?;
/// assert_eq!(event.orders[0].id, 42);
/// # Ok::<(), tower_klikit::payload::PayloadError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OrderEvent<O = Order> {
    /// The id of the brand. Required by klikit's documentation, as the other two fields.
    pub brand_id: i64,
    /// The id of the branch that the orders are for.
    pub branch_id: i64,
    /// The orders. May be empty.
    pub orders: Vec<O>,
}

impl<O: FromOrder> OrderEvent<O> {
    /// Reads a verified body. Each [`Order`] shares the bytes of the body.
    ///
    /// # Errors
    ///
    /// Returns an error if the body is not a JSON object, if one of the three fields is missing, repeated or of another type, or if an
    /// order cannot be read as `O`.
    pub fn from_bytes(body: &Bytes) -> Result<Self, PayloadError> {
        let OrderEnvelope { brand_id, branch_id, orders } = OrderEnvelope::from_slice(body)?;
        let orders = orders
            .into_iter()
            .enumerate()
            .map(|(n, order)| O::from_order(order, body).map_err(|error| error.within(&format!("orders[{n}]"))));
        Ok(Self { brand_id, branch_id, orders: orders.collect::<Result<_, _>>()? })
    }

    /// Reads a copy of a verified body, for a body that is not in a [`Bytes`].
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`from_bytes`](Self::from_bytes).
    pub fn from_slice(body: &[u8]) -> Result<Self, PayloadError> {
        Self::from_bytes(&Bytes::copy_from_slice(body))
    }
}

/// The three required fields, with the orders as JSON.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct OrderEnvelope<'a> {
    #[serde(deserialize_with = "integer::deserialize")]
    brand_id: i64,
    #[serde(deserialize_with = "integer::deserialize")]
    branch_id: i64,
    #[serde(borrow)]
    orders: Vec<&'a RawValue>,
}

impl<'a> OrderEnvelope<'a> {
    fn from_slice(body: &'a [u8]) -> Result<Self, PayloadError> {
        // serde would read an array of three elements as an envelope.
        if body.trim_ascii_start().first() == Some(&b'[') {
            return Err(PayloadError::no_object("an array"));
        }
        let text = str::from_utf8(body).map_err(|_| PayloadError::not_utf_8())?;
        serde_json::from_str(text).or_else(|_| Self::field_by_field(text))
    }

    /// Reads an envelope that serde rejects because a field name is not valid Unicode. Slower, with better error texts.
    fn field_by_field(text: &'a str) -> Result<Self, PayloadError> {
        let ObjectFields(fields) = read(text)?;
        let field = |wanted: &str| {
            let mut values = fields.iter().filter(|(name, _)| **name == *wanted.as_bytes());
            match (values.next(), values.next()) {
                (Some((_, value)), None) => Ok(value.get()),
                (None, _) => Err(PayloadError::missing(wanted)),
                (Some(_), Some(_)) => Err(PayloadError::duplicate(wanted)),
            }
        };
        let (brand_id, branch_id, orders) = (field("brand_id")?, field("branch_id")?, field("orders")?);
        let integer = |name: &str, json| match read(json) {
            Ok(IntegerField(number)) => Ok(number),
            Err(error) => Err(error.within(name)),
        };
        Ok(Self {
            brand_id: integer("brand_id", brand_id)?,
            branch_id: integer("branch_id", branch_id)?,
            orders: read(orders).map_err(|error| error.within("orders"))?,
        })
    }
}
