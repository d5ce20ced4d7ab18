use std::{borrow::Cow, collections::HashSet, fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

use super::{
    codes::{OrderStatus, OrderType, PaymentChannel, PaymentMethod, PaymentStatus},
    error::PayloadError,
    fields::{ObjectFields, StringField},
    from_order::{FromOrder, read},
    money::Money,
};

/// One order of an [`OrderEvent`](super::OrderEvent): its JSON, and where in it each field is.
///
/// An order has some hundred fields, few of which klikit documents. The documented ones have a method here, which reads the field
/// when it is called; all others are reached with [`get`](Self::get) and [`read`](Self::read). A field that is missing, `null` or
/// of another type than documented is `None`, never an error: klikit adds fields, and its own pages disagree on some.
///
/// Cloning is cheap, and nothing is copied out of the body but what is asked for. An `Order` keeps the whole body in memory.
///
/// It is written as the JSON that it was read from, by `serde_json`.
#[derive(Clone)]
pub struct Order {
    /// UTF-8, a JSON object.
    json: Bytes,
    fields: Arc<[OrderField]>,
}

#[derive(Debug)]
struct OrderField {
    name: FieldName,
    value: Range<usize>,
}

#[derive(Debug)]
enum FieldName {
    /// Where it is in the JSON.
    At(Range<usize>),
    /// A name that is written with escapes there.
    Escaped(Box<str>),
    /// A name with half of a surrogate pair, with U+FFFD in its place. No field is asked for by such a name.
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
    /// Its number.
    pub id: i64,
    /// Its name, as customers see it.
    #[serde(default)]
    pub title: String,
}

/// Of klikit's documentation of an order, unless said otherwise.
impl Order {
    /// klikit's number of the order.
    pub fn id(&self) -> Option<i64> {
        self.typed("id")
    }

    /// The number that the platform has given it on which it was placed.
    pub fn external_id(&self) -> Option<Cow<'_, str>> {
        self.typed("external_id").map(|StringField(text)| text)
    }

    /// The business.
    pub fn business_id(&self) -> Option<i64> {
        self.typed("business_id")
    }

    /// The brands that it is for.
    pub fn brands(&self) -> Option<Vec<Brand>> {
        self.typed("brands")
    }

    /// The branch that it is for. The envelope has one too.
    pub fn branch_id(&self) -> Option<i64> {
        self.typed("branch_id")
    }

    /// Where it stands. See [`OrderStatus`] for what klikit's pages disagree on.
    pub fn status(&self) -> Option<OrderStatus> {
        self.typed("status")
    }

    /// How the customer gets it. Its number is documented; the field's name was seen.
    pub fn order_type(&self) -> Option<OrderType> {
        self.typed("type")
    }

    /// What was ordered, an item each, as JSON. It is whole: in `klikit.order.cart.updated` it replaces what there was before.
    pub fn cart(&self) -> Option<Vec<&RawValue>> {
        self.typed("cart")
    }

    /// Whether it is paid: `payment_status`, or the `payment.status` that klikit's prose speaks of elsewhere.
    pub fn payment_status(&self) -> Option<PaymentStatus> {
        self.typed("payment_status").or_else(|| self.payment()?.status)
    }

    /// Through whom it is paid: `payment_channel`; or the `payment.channel` that klikit's prose speaks of elsewhere; or the
    /// `payment_channel_id` that its app reads.
    pub fn payment_channel(&self) -> Option<PaymentChannel> {
        let elsewhere = || self.payment()?.channel.or_else(|| self.typed("payment_channel_id"));
        self.typed("payment_channel").or_else(elsewhere).or_else(|| self.typed("payment_channel_id"))
    }

    /// By what it is paid: `payment_method`, or the `payment.method` that klikit's prose speaks of elsewhere.
    pub fn payment_method(&self) -> Option<PaymentMethod> {
        self.typed("payment_method").or_else(|| self.payment()?.method)
    }

    /// When it was placed, as klikit writes it. Seen, not documented.
    pub fn placed_at(&self) -> Option<Cow<'_, str>> {
        self.typed("placed_at").map(|StringField(text)| text)
    }

    /// When it was changed last, as klikit writes it. Seen, not documented.
    pub fn updated_at(&self) -> Option<Cow<'_, str>> {
        self.typed("updated_at").map(|StringField(text)| text)
    }

    /// The code of its currency, such as `IDR`. Seen, not documented.
    pub fn currency(&self) -> Option<Cow<'_, str>> {
        self.typed("currency").map(|StringField(text)| text)
    }

    /// What it costs. Seen as a decimal string, not documented. See [`Money`] for what klikit leaves open.
    pub fn total(&self) -> Option<Money> {
        self.money("total")
    }

    fn payment(&self) -> Option<Payment> {
        self.typed("payment")
    }
}

/// Of every field.
impl Order {
    /// The JSON of the whole order.
    pub fn as_json(&self) -> &str {
        self.text(0..self.json.len())
    }

    /// The JSON of a field, if there is one of this name.
    pub fn get(&self, field: &str) -> Option<&RawValue> {
        let field = self.fields.iter().find(|known| known.name.is_unicode() && self.name(known) == field)?;
        // It was read as JSON before.
        serde_json::from_str(self.text(field.value.clone())).ok()
    }

    /// A field, read as a type of your own. `None` when there is none of this name, or it is `null`.
    ///
    /// # Errors
    ///
    /// When the field is of another type, or the type cannot hold it.
    pub fn read<'a, T: Deserialize<'a>>(&'a self, field: &str) -> Result<Option<T>, PayloadError> {
        let Some(json) = self.get(field).map(RawValue::get) else { return Ok(None) };
        read(json).map_err(|error| error.within(field))
    }

    /// A field that holds an amount of money. `None` when there is none of this name, or it holds something else.
    pub fn money(&self, field: &str) -> Option<Money> {
        Money::from_raw(self.get(field)?)
    }

    /// The names of all fields, in the order in which they were sent. In a name that is not valid Unicode, U+FFFD stands for what is
    /// not.
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
        str::from_utf8(&self.json[at]).expect("it was read as text before")
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

/// Where `part` lies in `whole`, of which it is a slice.
fn within(whole: &str, part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

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

/// The same JSON, byte for byte.
impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Order {}

/// Never the JSON: it holds customers' data.
impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("id", &self.id())
            .field("status", &self.status())
            .field("bytes", &self.json.len())
            .finish_non_exhaustive()
    }
}
