//! Tests of reading bodies: all bodies that klikit may send, and arbitrary ones.
#![cfg(feature = "payload")]

use std::fmt::Debug;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tower_klikit::payload::{Order, OrderEvent};

/// The body of a report from a user, from `tests/reports`.
macro_rules! report {
    ($file:literal) => {
        include_str!(concat!("../../reports/", $file, ".json"))
    };
}

mod arbitrary;
mod errors;
mod fields;
mod nesting;
mod numbers;
mod unicode;

fn read(body: &str) -> Result<OrderEvent, String> {
    OrderEvent::from_slice(body.as_bytes()).map_err(|error| error.to_string())
}

/// Returns an order with these fields.
fn order(fields: &Value) -> Order {
    let body = json!({ "brand_id": 1, "branch_id": 2, "orders": [fields] }).to_string();
    read(&body).unwrap().orders.remove(0)
}

fn error(body: &str) -> String {
    read(body).unwrap_err()
}

/// A user-defined type of an order with one field.
#[derive(Deserialize, Debug)]
struct Holder<T> {
    #[allow(dead_code, reason = "only to be read")]
    value: T,
}

/// Returns the error for an order whose field `value` has this JSON and is read as `T`. Checks that reading the field by name and
/// reading the order as [`Holder`] give the same text, apart from the path.
fn error_of<T: DeserializeOwned + Debug>(value: &str) -> String {
    let body =
        format!("{{\"brand_id\":1,\"branch_id\":2,\n\"orders\":[{{}}, {{\n\"value\": \t{value},\n\"x\":true}}]}}");
    let event = read(&body).unwrap();
    let by_name = event.orders[1].read::<T>("value").unwrap_err().to_string();
    let body = body.replace("[{}, ", "[");
    let by_type = OrderEvent::<Holder<T>>::from_slice(body.as_bytes()).unwrap_err().to_string();
    assert_eq!(by_type, by_name.replacen("value", "orders[0].value", 1));
    by_name
}
