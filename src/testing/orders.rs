//! Fake orders, in the form of klikit's.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value, json};

use crate::payload::{OrderStatus, OrderType};

/// A fake order with all fields that klikit's orders are known to have, documented or not. The data is made up.
///
/// [`body`] puts orders into the body of a delivery. Each order has another `updated_at`, as klikit's orders do.
/// Otherwise, two bodies might be equal, and the second would count as a [replay](crate::Delivery::is_copy). To send a
/// delivery twice, clone the delivery.
///
/// ```
/// use tower_klikit::{
///     payload::OrderStatus,
///     testing::{SignedDelivery, orders::{FakeOrder, body}},
/// };
///
/// let order = FakeOrder::new(42)
///     .item("Nasi goreng", 2, 25_000)
///     .status(OrderStatus::READY)
///     .field("table_no", "7");
/// let delivery = SignedDelivery::new("secret", body(1, 2, [order]));
/// ```
#[derive(Debug, Clone)]
pub struct FakeOrder {
    fields: Map<String, Value>,
}

/// Returns a different time for each call.
fn unique_time() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Only uniqueness matters.
    let microseconds = CALLS.fetch_add(1, Ordering::Relaxed) % 1_000_000;
    format!("2026-06-25T09:14:11.{microseconds:06}Z")
}

impl FakeOrder {
    /// Creates an order with this number. It is placed and paid, for delivery, in Indonesian rupiah, and has an empty
    /// cart.
    pub fn new(id: i64) -> Self {
        let documented = json!({
            "id": id,
            "external_id": format!("GF-{id}"),
            "short_id": format!("K{:04}", id.rem_euclid(10_000)),
            "business_id": 737,
            "brands": [{ "id": 663, "title": "Warung Contoh", "logo": "/images/663.jpeg" }],
            "branch_id": 2,
            "status": OrderStatus::PLACED.0,
            "type": OrderType::DELIVERY.0,
            "cart": [],
            "cart_v2": [],
            "item_count": 0,
            "unique_item_count": 0,
            "payment_status": 1,
            "payment_channel": 8,
            "payment_method": 14,
        });
        let seen = json!({
            "currency": "IDR",
            "currency_symbol": "Rp",
            "total": "0.00",
            "item_price": 0,
            "final_price": 0,
            "final_price_display": "Rp 0",
            "delivery_fee": 0,
            "discount": 0,
            "created_at": "2026-06-25T09:14:11Z",
            "placed_at": "2026-06-25T09:14:11Z",
            "updated_at": unique_time(),
            "preparation_time": 15,
            "provider_id": 6,
            "source": 6,
            "is_fake": true,
            "auto_accept": false,
            "delivery_address": "Jl. Contoh 1, Denpasar",
            "delivery_comment": "Leave at the lobby",
            "order_comment": "",
            "fulfillment_pickup_pin": "0000",
            "fulfillment_tracking_url": "",
            "table_no": "",
            "user_first_name": "Contoh",
            "user_last_name": "",
            "user_phone": "+620000000000",
            "user_email": "",
            "additional_info": { "vehicle_info": {} },
            "order_applied_promo": {},
            "promos": [],
        });
        let fields = [documented, seen].into_iter().filter_map(|part| match part {
            Value::Object(fields) => Some(fields),
            _ => None,
        });
        Self { fields: fields.flatten().collect() }
    }

    /// Creates a large order of fifteen different items with modifiers, about 20 kB.
    pub fn large(id: i64) -> Self {
        let order =
            (1..=15).fold(Self::new(id), |order, n| order.item(&format!("Paket {n}"), 1 + n % 3, 10_000 + 500 * n));
        let modifiers = |n: usize| {
            let modifier =
                |m: usize| json!({ "id": 100 * n + m, "title": format!("Sambal {m}"), "quantity": 1, "price": 0 });
            (0..8).map(modifier).collect::<Vec<_>>()
        };
        let mut fields = order.fields;
        for cart in ["cart", "cart_v2"] {
            let items = fields.get_mut(cart).and_then(Value::as_array_mut).into_iter().flatten();
            for (n, item) in items.enumerate() {
                item["modifiers"] = modifiers(n).into();
            }
        }
        Self { fields }
    }

    /// Sets the status.
    #[must_use]
    pub fn status(self, status: OrderStatus) -> Self {
        self.field("status", status.0)
    }

    /// Sets the order type, such as delivery or pickup.
    #[must_use]
    pub fn order_type(self, order_type: OrderType) -> Self {
        self.field("type", order_type.0)
    }

    /// Adds an item to the cart and to the total. `price` is the price of one, in rupiah.
    #[must_use]
    pub fn item(mut self, title: &str, quantity: i64, price: i64) -> Self {
        let item = json!({
            "id": self.number("unique_item_count") + 1,
            "name": title,
            "title": title,
            "quantity": quantity,
            "unit_price": price,
            "price": quantity * price,
            "comment": "",
            "modifiers": [],
        });
        for cart in ["cart", "cart_v2"] {
            if let Some(items) = self.fields.get_mut(cart).and_then(Value::as_array_mut) {
                items.push(item.clone());
            }
        }
        let total = self.number("final_price") + quantity * price;
        let (count, unique) = (self.number("item_count") + quantity, self.number("unique_item_count") + 1);
        self.field("item_count", count)
            .field("unique_item_count", unique)
            .field("item_price", total)
            .field("final_price", total)
            .field("final_price_display", format!("Rp {total}"))
            .field("total", format!("{total}.00"))
    }

    /// Sets a field, and replaces its value.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// Removes a field.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.fields.remove(name);
        self
    }

    /// Returns the order as JSON.
    pub fn to_json(&self) -> String {
        Value::from(self.fields.clone()).to_string()
    }

    fn number(&self, field: &str) -> i64 {
        self.fields.get(field).and_then(Value::as_i64).unwrap_or(0)
    }
}

/// Returns the body of a delivery of these orders.
pub fn body(brand_id: i64, branch_id: i64, orders: impl IntoIterator<Item = FakeOrder>) -> String {
    let orders: Vec<_> = orders.into_iter().map(|order| order.to_json()).collect();
    format!(r#"{{"brand_id":{brand_id},"branch_id":{branch_id},"orders":[{}]}}"#, orders.join(","))
}
