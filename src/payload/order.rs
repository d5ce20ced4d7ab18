use std::{borrow::Cow, collections::HashSet, fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

use super::{
    codes::{OrderStatus, OrderType, PaymentChannel, PaymentMethod, PaymentStatus},
    error::PayloadError,
    fields::{ObjectFields, StringField},
    from_order::{FromOrder, read},
    integer::{self, IntegerField},
    money::Money,
    order_id::OrderId,
};

/// An order of an [`OrderEvent`](super::OrderEvent): its JSON, and the place of each field in it.
///
/// An order has about a hundred fields, and klikit documents few of them. Each documented field has a method, which reads the field when
/// it is called. For all other fields, use [`get`](Self::get) and [`read`](Self::read). The methods return `None` if the field is
/// missing, `null` or of another type than documented, because klikit adds fields and its own pages disagree on some.
///
/// Cloning is cheap, and only requested fields are copied out of the body. An `Order` keeps the whole body in memory.
///
/// `serde_json` serializes an order as the JSON that it was read from.
#[derive(Clone)]
pub struct Order {
    /// A JSON object in UTF-8.
    json: Bytes,
    fields: Arc<[OrderField]>,
}

/// The name of a field, and the place of its value in the JSON.
#[derive(Debug)]
struct OrderField {
    name: FieldName,
    value: Range<usize>,
}

/// The name of a field.
#[derive(Debug)]
enum FieldName {
    /// The place of the name in the JSON.
    At(Range<usize>),
    /// The value of a name that has escapes in the JSON.
    Escaped(Box<str>),
    /// A name with half of a surrogate pair, replaced by U+FFFD. No field can be requested by such a name.
    NotUnicode(Box<str>),
}

impl FieldName {
    fn is_unicode(&self) -> bool {
        !matches!(self, Self::NotUnicode(_))
    }
}

/// A brand of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Brand {
    /// The id of the brand.
    #[serde(deserialize_with = "integer::deserialize")]
    pub id: i64,
    /// The name that customers see.
    #[serde(default)]
    pub title: String,
}

/// Fields that klikit documents, unless the method says otherwise.
impl Order {
    /// Returns klikit's id of the order.
    pub fn id(&self) -> Option<OrderId> {
        self.typed("id")
    }

    /// Returns the id of the order on the platform where it was placed.
    pub fn external_id(&self) -> Option<Cow<'_, str>> {
        self.typed("external_id").map(|StringField(string)| string)
    }

    /// Returns the id of the business.
    pub fn business_id(&self) -> Option<i64> {
        self.typed("business_id").map(|IntegerField(number)| number)
    }

    /// Returns the brands that the order is for.
    pub fn brands(&self) -> Option<Vec<Brand>> {
        self.typed("brands")
    }

    /// Returns the id of the branch that the order is for. [`OrderEvent`](super::OrderEvent) has one too.
    pub fn branch_id(&self) -> Option<i64> {
        self.typed("branch_id").map(|IntegerField(number)| number)
    }

    /// Returns the status of the order. klikit's pages disagree on some codes: see [`OrderStatus`].
    pub fn status(&self) -> Option<OrderStatus> {
        self.typed("status")
    }

    /// Returns how the customer gets the order. klikit documents the codes; the name of the field, `type`, was observed.
    pub fn order_type(&self) -> Option<OrderType> {
        self.typed("type")
    }

    /// Returns the items of the cart as JSON. The cart is always complete: in `klikit.order.cart.updated` it replaces the previous cart.
    pub fn cart(&self) -> Option<Vec<&RawValue>> {
        self.typed("cart")
    }

    /// Returns the status of the payment: `payment_status`, or the `payment.status` that another page of klikit's documentation
    /// mentions.
    pub fn payment_status(&self) -> Option<PaymentStatus> {
        self.typed("payment_status").or_else(|| self.payment()?.status)
    }

    /// Returns the channel of the payment: `payment_channel`; or the `payment.channel` that another page of klikit's documentation
    /// mentions; or the `payment_channel_id` that klikit's app reads.
    pub fn payment_channel(&self) -> Option<PaymentChannel> {
        let elsewhere = || self.payment()?.channel.or_else(|| self.typed("payment_channel_id"));
        self.typed("payment_channel").or_else(elsewhere).or_else(|| self.typed("payment_channel_id"))
    }

    /// Returns the method of the payment: `payment_method`, or the `payment.method` that another page of klikit's documentation
    /// mentions.
    pub fn payment_method(&self) -> Option<PaymentMethod> {
        self.typed("payment_method").or_else(|| self.payment()?.method)
    }

    /// Returns the time at which the order was placed, as klikit writes it. Observed, not documented.
    pub fn placed_at(&self) -> Option<Cow<'_, str>> {
        self.typed("placed_at").map(|StringField(string)| string)
    }

    /// Returns the time of the last change, as klikit writes it. Observed, not documented.
    pub fn updated_at(&self) -> Option<Cow<'_, str>> {
        self.typed("updated_at").map(|StringField(string)| string)
    }

    /// Returns the code of the currency, such as `IDR`. Observed, not documented.
    pub fn currency(&self) -> Option<Cow<'_, str>> {
        self.typed("currency").map(|StringField(string)| string)
    }

    /// Returns the total price. Observed as a decimal string, not documented. [`Money`] describes what klikit does not specify.
    pub fn total(&self) -> Option<Money> {
        self.money("total")
    }

    fn payment(&self) -> Option<Payment> {
        self.typed("payment")
    }
}

/// Access to all fields.
impl Order {
    /// Returns the JSON of the whole order.
    pub fn as_json(&self) -> &str {
        self.text(0..self.json.len())
    }

    /// Returns the JSON of the field with this name.
    pub fn get(&self, field: &str) -> Option<&RawValue> {
        let field = self.fields.iter().find(|known| known.name.is_unicode() && self.name(known) == field)?;
        // The text was parsed before, so this does not fail.
        serde_json::from_str(self.text(field.value.clone())).ok()
    }

    /// Reads a field as a type of your own. Returns `None` if there is no field with this name, or if it is `null`.
    ///
    /// # Errors
    ///
    /// Returns an error if the field is of another type, or if its value does not fit the type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self, field: &str) -> Result<Option<T>, PayloadError> {
        let Some(json) = self.get(field).map(RawValue::get) else { return Ok(None) };
        read(json).map_err(|error| error.within(field))
    }

    /// Reads a field that must be there. If the field is `null`, the error says so, unless `T` accepts `null`.
    ///
    /// ```
    /// # use tower_klikit::payload::{Money, OrderEvent};
    /// let body = br#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"final_price":"Rp 5"}]}"#;
    /// let event: OrderEvent = OrderEvent::from_slice(body)?;
    /// let order = &event.orders[0];
    /// assert_eq!(order.require_id()?.as_i64(), Some(42));
    /// assert_eq!(order.require_status().unwrap_err().to_string(), "`status` is missing");
    /// let error = order.require::<Money>("final_price").unwrap_err();
    /// let expected = "final_price is a string, not a decimal number without an exponent";
    /// assert_eq!(error.to_string(), expected);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the field is missing, is of another type, or has a value that does not fit the type.
    pub fn require<'a, T: Deserialize<'a>>(&'a self, field: &str) -> Result<T, PayloadError> {
        let json = self.get(field).ok_or_else(|| PayloadError::missing(field))?;
        read(json.get()).map_err(|error| error.within(field))
    }

    /// Returns klikit's id of the order.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`require`](Self::require).
    pub fn require_id(&self) -> Result<OrderId, PayloadError> {
        self.require("id")
    }

    /// Returns the status of the order.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`require`](Self::require).
    pub fn require_status(&self) -> Result<OrderStatus, PayloadError> {
        self.require("status")
    }

    /// Reads a field as an amount of money. Returns `None` if there is no field with this name, or if it is not an amount.
    pub fn money(&self, field: &str) -> Option<Money> {
        Money::from_raw(self.get(field)?)
    }

    /// Returns the names of all fields in the order in which they were sent. U+FFFD replaces the invalid parts of a name that is not
    /// valid Unicode.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| self.name(field))
    }

    fn typed<'a, T: Deserialize<'a>>(&'a self, field: &str) -> Option<T> {
        serde_json::from_str(self.get(field)?.get()).ok().flatten()
    }

    fn name<'a>(&'a self, field: &'a OrderField) -> &'a str {
        match &field.name {
            FieldName::At(at) => self.text(at.clone()),
            FieldName::Escaped(name) | FieldName::NotUnicode(name) => name,
        }
    }

    fn text(&self, at: Range<usize>) -> &str {
        str::from_utf8(&self.json[at]).expect("the order was read from UTF-8 text")
    }
}

impl FromOrder for Order {
    fn from_order(json: &RawValue, body: &Bytes) -> Result<Self, PayloadError> {
        let text = json.get();
        let ObjectFields(fields) = read(text)?;
        let mut names = HashSet::with_capacity(fields.len());
        let mut index = Vec::with_capacity(fields.len());
        for (name, value) in &fields {
            if !names.insert(&**name) {
                return Err(PayloadError::duplicate(&String::from_utf8_lossy(name)));
            }
            let name = match name {
                Cow::Borrowed(name) => FieldName::At(within(text, name)),
                Cow::Owned(name) => match str::from_utf8(name) {
                    Ok(name) => FieldName::Escaped(name.into()),
                    Err(_) => FieldName::NotUnicode(String::from_utf8_lossy(name).into()),
                },
            };
            index.push(OrderField { name, value: within(text, value.get().as_bytes()) });
        }
        Ok(Self { json: body.slice_ref(text.as_bytes()), fields: index.into() })
    }
}

/// Returns the place of `part` in `whole`. `part` is a slice of `whole`.
fn within(whole: &str, part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// The nested `payment` object of an order.
#[derive(Deserialize)]
struct Payment {
    #[serde(default)]
    status: Option<PaymentStatus>,
    #[serde(default)]
    channel: Option<PaymentChannel>,
    #[serde(default)]
    method: Option<PaymentMethod>,
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.as_json()).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Two orders are equal if their JSON is the same, byte for byte.
impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Order {}

/// Omits the JSON, because it contains customers' data.
impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("id", &self.id())
            .field("status", &self.status())
            .field("bytes", &self.json.len())
            .finish_non_exhaustive()
    }
}
