//! Tests of the documented fields, of other fields, and of user-defined types.

use bytes::Bytes;
use serde_json::value::RawValue;
use tower_klikit::payload::{
    Brand, Money, OrderId, OrderResult, OrderStatus, OrderType, PayloadError, PayloadErrorKind, PaymentStatus,
    TimestampedEvent,
};
use tower_klikit_test_support::deliveries;

use super::*;

#[test]
fn reads_every_sample() {
    let (_, samples) = deliveries::all();
    assert_eq!(samples.len(), 10);
    for sample in samples {
        let plain: Value = serde_json::from_slice(&sample.body).unwrap();
        let event: OrderEvent = OrderEvent::from_slice(&sample.body).unwrap();
        assert_eq!(event.brand_id, plain["brand_id"], "{}", sample.file);
        assert_eq!(event.branch_id, plain["branch_id"]);
        assert_eq!(event.orders.len(), plain["orders"].as_array().unwrap().len());
        for (order, plain) in event.orders.iter().zip(plain["orders"].as_array().unwrap()) {
            assert_eq!(order.id().and_then(|id| id.as_i64()), plain["id"].as_i64());
            assert_eq!(order.status().map(|status| status.0), plain.get("status").and_then(Value::as_i64));
            for (field, value) in plain.as_object().unwrap() {
                assert_eq!(&order.read::<Value>(field).unwrap().unwrap_or(Value::Null), value, "{field}");
            }
            assert_eq!(order.field_names().count(), plain.as_object().unwrap().len());
        }
        // Serializing keeps each order byte for byte.
        let again: OrderEvent = OrderEvent::from_slice(&serde_json::to_vec(&event).unwrap()).unwrap();
        assert_eq!(again, event);
    }
}

#[test]
fn documented_fields_are_typed() {
    let order = order(&json!({
        "id": 7_585_310, "external_id": "GF-\"1\"", "business_id": 737, "branch_id": 1062, "status": 4, "type": 2,
        "brands": [{ "id": 663, "title": "Bali Bites", "logo": "/images/663.jpeg" }],
        "cart": [{ "name": "Nasi goreng" }, { "name": "Es teh" }],
        "payment_status": 1, "payment_channel": 8, "payment_method": 14,
        "placed_at": "2026-06-25T09:14:11Z", "updated_at": "2026-06-25T09:15:00Z", "currency": "IDR", "total": "67500.00",
        "final_price": 67500,
    }));
    assert_eq!(order.id(), Some(7_585_310.into()));
    assert_eq!(order.external_id().as_deref(), Some("GF-\"1\""));
    assert_eq!((order.business_id(), order.branch_id()), (Some(737), Some(1062)));
    assert_eq!((order.status(), order.order_type()), (Some(OrderStatus::READY), Some(OrderType::DELIVERY)));
    let brands: Vec<Brand> = order.brands().unwrap();
    assert_eq!((brands[0].id, brands[0].title.as_str()), (663, "Bali Bites"));
    assert_eq!(order.cart().unwrap()[1].get(), r#"{"name":"Es teh"}"#);
    assert_eq!(order.payment_status(), Some(PaymentStatus::PAID));
    assert_eq!(order.payment_channel().map(|channel| channel.0), Some(8));
    assert_eq!(order.payment_method().map(|method| method.0), Some(14));
    assert_eq!(order.placed_at().as_deref(), Some("2026-06-25T09:14:11Z"));
    assert_eq!(order.updated_at().as_deref(), Some("2026-06-25T09:15:00Z"));
    assert_eq!(order.currency().as_deref(), Some("IDR"));
    assert_eq!(order.total().unwrap().as_str(), "67500.00");
    assert_eq!(order.money("final_price").and_then(|price| price.scaled(2)), Some(6_750_000));
}

#[test]
fn finds_payment_in_all_documented_places() {
    let nested = order(&json!({ "payment": { "status": 3, "channel": 8, "method": 14 } }));
    assert_eq!(nested.payment_status(), Some(PaymentStatus::PENDING));
    assert_eq!(nested.payment_channel().map(|channel| channel.0), Some(8));
    assert_eq!(nested.payment_method().map(|method| method.0), Some(14));
    let app = order(&json!({ "payment_channel_id": 9, "payment": { "status": 3 } }));
    assert_eq!(app.payment_channel().map(|channel| channel.0), Some(9));
    let both = order(&json!({ "payment_status": 1, "payment": { "status": 3 } }));
    assert_eq!(both.payment_status(), Some(PaymentStatus::PAID));
}

#[test]
fn missing_null_or_mistyped_field_is_none() {
    for fields in [
        json!({}),
        json!({ "id": null, "external_id": null, "brands": null, "status": null, "cart": null, "total": null }),
        json!({ "id": "", "external_id": 7, "brands": {}, "status": "READY", "cart": 1, "total": "Rp 5", "payment": 3 }),
        json!({ "id": 1.5, "brands": [1], "status": [4], "cart": "", "total": true, "payment": { "status": "paid" } }),
    ] {
        let order = order(&fields);
        assert_eq!((order.id(), order.external_id(), order.brands(), order.status()), (None, None, None, None));
        assert!(order.cart().is_none() && order.total().is_none() && order.payment_status().is_none());
    }
}

#[test]
fn reading_field_as_another_type_is_an_error() {
    let order = order(&json!({ "id": "Ayu", "note": null }));
    assert_eq!(order.read::<i64>("id").unwrap_err().to_string(), "id is a string, not an integer");
    assert_eq!(order.read::<i64>("note"), Ok(None));
    assert_eq!(order.read::<i64>("nothing"), Ok(None));
    assert_eq!(order.get("id").map(RawValue::get), Some("\"Ayu\""));
    assert_eq!(order.get("note").map(RawValue::get), Some("null"));
}

#[test]
fn reads_integers_in_text() {
    let body = r#"{"brand_id":"1","branch_id":"-2","orders":[{
        "id":"202","business_id":"737","branch_id":"1062","brands":[{"id":"663"}],"status":"1","type":"3",
        "payment_status":"2","payment":{"channel":"8","method":"14"}
    }]}"#;
    let event = read(body).unwrap();
    assert_eq!((event.brand_id, event.branch_id), (1, -2));
    let order = &event.orders[0];
    assert_eq!(order.id(), Some(202.into()));
    assert_eq!((order.business_id(), order.branch_id()), (Some(737), Some(1062)));
    assert_eq!(order.brands().unwrap()[0].id, 663);
    assert_eq!((order.status(), order.order_type()), (Some(OrderStatus::PLACED), Some(OrderType::DINE_IN)));
    assert_eq!(order.payment_status(), Some(PaymentStatus::FAILED));
    assert_eq!(order.payment_channel().zip(order.payment_method()).map(|(one, other)| (one.0, other.0)), Some((8, 14)));
    let timestamped = TimestampedEvent::from_bytes(&Bytes::from(r#"{"business_id":"737"}"#)).unwrap();
    assert_eq!(timestamped.business_id(), Some(737));
    // This name makes the envelope be read field by field.
    let event = read(r#"{"\ud83d":1,"brand_id":"1","branch_id":"-2","orders":[]}"#).unwrap();
    assert_eq!((event.brand_id, event.branch_id), (1, -2));
}

#[test]
fn reads_integers_in_text_within_user_types() {
    #[derive(Deserialize, Debug)]
    struct Ticket {
        id: OrderId,
        #[serde(flatten)]
        state: State,
    }
    #[derive(Deserialize, Debug)]
    struct State {
        status: OrderStatus,
    }
    for body in [r#"{"id":"202","status":"1"}"#, r#"{"id":202,"status":1}"#] {
        let ticket: Ticket = serde_json::from_str(body).unwrap();
        assert_eq!((ticket.id, ticket.state.status), (202.into(), OrderStatus::PLACED));
    }
    assert_eq!(serde_json::from_value::<OrderStatus>(json!("4")).unwrap(), OrderStatus::READY);
}

#[test]
fn required_field_says_what_is_wrong() {
    let order = order(&json!({ "id": 42, "status": "READY", "total": "Rp 5", "note": null, "guests": 2 }));
    assert_eq!(order.require_id(), Ok(42.into()));
    assert_eq!(order.require::<u8>("guests"), Ok(2));
    assert_eq!(order.require::<Option<String>>("note"), Ok(None));
    let error = |error: PayloadError| (error.to_string(), error.kind());
    for (actual, text, kind) in [
        (order.require::<u8>("table").unwrap_err(), "`table` is missing", PayloadErrorKind::Missing),
        (order.require_status().unwrap_err(), "status is a string, not an integer", PayloadErrorKind::WrongType),
        (order.require::<u8>("note").unwrap_err(), "note is null, not an integer", PayloadErrorKind::WrongType),
        (order.require::<Vec<u8>>("id").unwrap_err(), "id is an integer, not an array", PayloadErrorKind::WrongType),
        (
            order.require::<Money>("total").unwrap_err(),
            "total is a string, not a decimal number without an exponent",
            PayloadErrorKind::WrongType,
        ),
    ] {
        assert_eq!(error(actual), (text.into(), kind));
    }
    let empty = super::order(&json!({ "id": [], "status": 1.5 }));
    assert_eq!(empty.require_id().unwrap_err().to_string(), "id is an array, not an order id");
    assert_eq!(empty.require_status().unwrap_err().to_string(), "status is a decimal number, not an integer");
    let empty = super::order(&json!({}));
    assert_eq!(error(empty.require_id().unwrap_err()), ("`id` is missing".into(), PayloadErrorKind::Missing));
}

#[test]
fn unreadable_order_does_not_hide_others() {
    let event = OrderEvent::<OrderResult>::from_slice(report!("null-beside-an-order").as_bytes()).unwrap();
    let [OrderResult(Ok(order)), OrderResult(Err(error))] = &event.orders[..] else { panic!("{event:?}") };
    assert_eq!(order.id(), Some(42.into()));
    assert_eq!(error.to_string(), "the body is null, not an object");
}

#[test]
fn finds_field_with_escaped_name() {
    let body = r#"{"brand_id":1,"branch_id":2,"orders":[{"st\u0061tus":4,"n\"ote":"x"}]}"#;
    let order = read(body).unwrap().orders.remove(0);
    assert_eq!(order.status(), Some(OrderStatus::READY));
    assert_eq!(order.get("n\"ote").map(RawValue::get), Some("\"x\""));
    assert_eq!(order.field_names().collect::<Vec<_>>(), ["status", "n\"ote"]);
}

#[test]
fn reads_orders_as_user_types() {
    #[derive(serde::Deserialize, serde::Serialize, PartialEq, Debug)]
    struct Ticket {
        id: u32,
        total: Money,
    }
    let body = r#"{"orders":[{"id":1,"total":"2.50","x":[]}],"brand_id":1,"branch_id":2,"new":{"a":[null]}}"#;
    let event: OrderEvent<Ticket> = OrderEvent::from_slice(body.as_bytes()).unwrap();
    assert_eq!((event.orders[0].id, event.orders[0].total.as_str()), (1, "2.50"));
    let event: OrderEvent<Box<RawValue>> = OrderEvent::from_slice(body.as_bytes()).unwrap();
    assert_eq!(event.orders[0].get(), r#"{"id":1,"total":"2.50","x":[]}"#);
    let event: OrderEvent<Value> = OrderEvent::from_slice(body.as_bytes()).unwrap();
    assert_eq!(event.orders[0]["x"], json!([]));
}

#[test]
fn order_shares_bytes_of_body() {
    let body = Bytes::from(r#"{"brand_id":1,"branch_id":2,"orders":[{"id":1}, {"id":2}]}"#);
    let event: OrderEvent = OrderEvent::from_bytes(&body).unwrap();
    let within = body.as_ptr_range();
    for order in &event.orders {
        assert!(within.contains(&order.as_json().as_ptr()));
        assert!(within.contains(&order.clone().get("id").unwrap().get().as_ptr()));
    }
}

#[test]
fn debug_output_omits_the_body() {
    let event = read(r#"{"brand_id":1,"branch_id":2,"orders":[{"id":1,"user_first_name":"Ayu"}]}"#).unwrap();
    let text = format!("{event:?} {event:#?}");
    assert!(text.contains("branch_id") && !text.contains("Ayu") && !text.contains("user_first_name"), "{text}");
}
