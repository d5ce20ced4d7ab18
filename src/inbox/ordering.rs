//! Which deliveries are handled one after the other.

use std::{fmt, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use crate::{dedupe::short_hash, event::Delivery};

/// By what deliveries are kept in order: those that share a key are handled one after the other, in the order in which they were
/// accepted. One that fails holds those behind it that share its key, and nobody else's, until it is handled or given up.
///
/// klikit itself guarantees no order: what it sends out of order is handled out of order.
#[derive(Clone, Default)]
pub struct OrderBy(Rule);

#[derive(Clone, Default)]
enum Rule {
    #[default]
    Nothing,
    Branch,
    Order,
    Custom(Arc<Custom>),
}

type Custom = dyn Fn(&Delivery, &[u8]) -> Vec<String> + Send + Sync;

/// What deliveries share that are leased one after the other: 16 bytes of a SHA-256 over the tenant and the user's key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderingKey([u8; 16]);

impl OrderBy {
    /// In no order. The default.
    pub fn nothing() -> Self {
        Self(Rule::Nothing)
    }

    /// By the body's `branch_id`. A delivery without one is in no order.
    pub fn branch() -> Self {
        Self(Rule::Branch)
    }

    /// By the `id` of each order in the body. A delivery of several orders waits for all of them, and one without any is in no
    /// order.
    pub fn order() -> Self {
        Self(Rule::Order)
    }

    /// By keys of your own, made from the delivery and its body. A delivery without a key is in no order. Different tenants share
    /// no keys.
    ///
    /// The function is called while klikit waits for its answer. Should it panic, the delivery is not accepted.
    pub fn keys(keys: impl Fn(&Delivery, &[u8]) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(keys)))
    }

    /// The keys of a delivery, ascending and none twice.
    pub(super) fn keys_of(&self, delivery: &Delivery, body: &[u8]) -> Vec<OrderingKey> {
        let key = |kind: &str, name: &str| OrderingKey::hash(delivery.tenant(), kind, name);
        let mut keys: Vec<_> = match &self.0 {
            Rule::Nothing => return Vec::new(),
            Rule::Branch => {
                let body: Branch = serde_json::from_slice(body).unwrap_or_default();
                name(&body.branch_id).map(|name| key("branch", &name)).into_iter().collect()
            }
            Rule::Order => {
                let body: Orders = serde_json::from_slice(body).unwrap_or_default();
                body.orders.iter().filter_map(|order| name(&order.id)).map(|name| key("order", &name)).collect()
            }
            Rule::Custom(keys) => keys(delivery, body).iter().map(|name| key("custom", name)).collect(),
        };
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl fmt::Debug for OrderBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::Nothing => "nothing",
            Rule::Branch => "branch",
            Rule::Order => "order",
            Rule::Custom(_) => "keys",
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Branch {
    branch_id: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Orders {
    orders: Vec<OrderId>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OrderId {
    id: Value,
}

/// An id as it stands, whether klikit sends it as a number or as text.
fn name(id: &Value) -> Option<String> {
    match id {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

impl OrderingKey {
    fn hash(tenant: &str, kind: &str, name: &str) -> Self {
        Self(short_hash(&[tenant, "\0", kind, "\0", name].map(str::as_bytes)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

#[cfg(feature = "testing")]
impl OrderingKey {
    /// Any key, for the tests of a store.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for OrderingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
