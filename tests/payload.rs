//! Every body that klikit may send is read, and nothing else brings the reader down.
#![cfg(feature = "payload")]

#[path = "support/deliveries.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests share this file")]
mod deliveries;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json, value::RawValue};
use tower_klikit::payload::{Brand, Money, Order, OrderEvent, OrderStatus, OrderType, PaymentStatus};

fn read(body: &str) -> Result<OrderEvent, String> {
    OrderEvent::from_slice(body.as_bytes()).map_err(|error| error.to_string())
}

/// One order with these fields.
fn order(fields: &Value) -> Order {
    let body = json!({ "brand_id": 1, "branch_id": 2, "orders": [fields] }).to_string();
    read(&body).unwrap().orders.remove(0)
}

fn error(body: &str) -> String {
    read(body).unwrap_err()
}

#[test]
fn every_sample_is_read() {
    let (_, samples) = deliveries::all();
    assert_eq!(samples.len(), 10);
    for sample in samples {
        let plain: Value = serde_json::from_slice(&sample.body).unwrap();
        let event: OrderEvent = OrderEvent::from_slice(&sample.body).unwrap();
        assert_eq!(event.brand_id, plain["brand_id"], "{}", sample.file);
        assert_eq!(event.branch_id, plain["branch_id"]);
        assert_eq!(event.orders.len(), plain["orders"].as_array().unwrap().len());
        for (order, plain) in event.orders.iter().zip(plain["orders"].as_array().unwrap()) {
            assert_eq!(order.id(), plain["id"].as_i64());
            assert_eq!(order.status().map(|status| status.0), plain.get("status").and_then(Value::as_i64));
            for (field, value) in plain.as_object().unwrap() {
                assert_eq!(&order.read::<Value>(field).unwrap().unwrap_or(Value::Null), value, "{field}");
            }
            assert_eq!(order.field_names().count(), plain.as_object().unwrap().len());
        }
        // Byte for byte, but for the white space between orders.
        let again: OrderEvent = OrderEvent::from_slice(&serde_json::to_vec(&event).unwrap()).unwrap();
        assert_eq!(again, event);
    }
}

#[test]
fn the_documented_fields_are_typed() {
    let order = order(&json!({
        "id": 7_585_310, "external_id": "GF-\"1\"", "business_id": 737, "branch_id": 1062, "status": 4, "type": 2,
        "brands": [{ "id": 663, "title": "Bali Bites", "logo": "/images/663.jpeg" }],
        "cart": [{ "name": "Nasi goreng" }, { "name": "Es teh" }],
        "payment_status": 1, "payment_channel": 8, "payment_method": 14,
        "placed_at": "2026-06-25T09:14:11Z", "updated_at": "2026-06-25T09:15:00Z", "currency": "IDR", "total": "67500.00",
        "final_price": 67500,
    }));
    assert_eq!(order.id(), Some(7_585_310));
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
fn payment_is_found_where_klikits_pages_put_it() {
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
fn what_is_missing_null_or_of_another_type_is_none() {
    for fields in [
        json!({}),
        json!({ "id": null, "external_id": null, "brands": null, "status": null, "cart": null, "total": null }),
        json!({ "id": "7", "external_id": 7, "brands": {}, "status": "READY", "cart": 1, "total": "Rp 5", "payment": 3 }),
        json!({ "id": 1.5, "brands": [1], "status": [4], "cart": "", "total": true, "payment": { "status": "paid" } }),
    ] {
        let order = order(&fields);
        assert_eq!((order.id(), order.external_id(), order.brands(), order.status()), (None, None, None, None));
        assert!(order.cart().is_none() && order.total().is_none() && order.payment_status().is_none());
    }
}

#[test]
fn a_field_of_another_type_is_an_error_for_who_asks_for_the_type() {
    let order = order(&json!({ "id": "Ayu", "note": null }));
    assert_eq!(order.read::<i64>("id").unwrap_err().to_string(), "id is a string, not an integer");
    assert_eq!(order.read::<i64>("note"), Ok(None));
    assert_eq!(order.read::<i64>("nothing"), Ok(None));
    assert_eq!(order.get("id").map(RawValue::get), Some("\"Ayu\""));
    assert_eq!(order.get("note").map(RawValue::get), Some("null"));
}

#[test]
fn a_name_that_is_written_with_escapes_is_the_same_name() {
    let body = r#"{"brand_id":1,"branch_id":2,"orders":[{"st\u0061tus":4,"n\"ote":"x"}]}"#;
    let order = read(body).unwrap().orders.remove(0);
    assert_eq!(order.status(), Some(OrderStatus::READY));
    assert_eq!(order.get("n\"ote").map(RawValue::get), Some("\"x\""));
    assert_eq!(order.field_names().collect::<Vec<_>>(), ["status", "n\"ote"]);
}

#[test]
fn orders_are_what_the_user_says_they_are() {
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
fn errors_name_the_field_and_quote_nothing() {
    #[derive(serde::Deserialize, Debug)]
    #[allow(dead_code, reason = "only to be read")]
    struct Customer {
        phone: u64,
    }
    #[derive(serde::Deserialize, Debug)]
    #[allow(dead_code, reason = "only to be read")]
    struct Ticket {
        customer: Customer,
    }
    for (body, text) in [
        ("", "the body ends in the middle of its JSON"),
        ("{", "the body ends in the middle of its JSON"),
        ("Ayu", "the body is not JSON, from line 1, column 1 on"),
        ("null", "the body is null, not an object"),
        (r#""Ayu""#, "the body is a string, not an object"),
        ("[1,2,[]]", "the body is an array, not an object"),
        (r#"{"branch_id":2,"orders":[]}"#, "`brand_id` is missing"),
        (r#"{"brand_id":1,"orders":[]}"#, "`branch_id` is missing"),
        (r#"{"brand_id":1,"branch_id":2}"#, "`orders` is missing"),
        (r#"{"brand_id":"Ayu","branch_id":2,"orders":[]}"#, "brand_id is a string, not an integer"),
        (r#"{"brand_id":1.5,"branch_id":2,"orders":[]}"#, "brand_id is a decimal number, not an integer"),
        (r#"{"brand_id":1,"branch_id":null,"orders":[]}"#, "branch_id is null, not an integer"),
        (r#"{"brand_id":1,"branch_id":2,"orders":{"Ayu":1}}"#, "orders is an object, not an array"),
        (r#"{"brand_id":1,"branch_id":2,"orders":null}"#, "orders is null, not an array"),
        (r#"{"brand_id":1,"brand_id":1,"branch_id":2,"orders":[]}"#, "`brand_id` is there twice"),
        (r#"{"brand_id":1,"branch_id":2,"orders":[{},7]}"#, "orders[1] is an integer, not an object"),
        (r#"{"brand_id":1,"branch_id":2,"orders":[{"id":1,"id":2}]}"#, "`orders[0].id` is there twice"),
        (r#"{"brand_id":1,"branch_id":2,"orders":[]} Ayu"#, "the body is not JSON, from line 1, column 42 on"),
    ] {
        assert_eq!(error(body), text, "{body}");
    }
    for (order, text) in [
        ("{}", "`orders[0].customer` is missing"),
        (r#"{"customer":{}}"#, "`orders[0].customer.phone` is missing"),
        (r#"{"customer":{"phone":"Ayu, expected Lestari"}}"#, "orders[0].customer.phone is a string, not an integer"),
        (r#"{"customer":{"phone":-62}}"#, "orders[0].customer.phone is not what it should be, not an integer"),
    ] {
        let body = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{order}]}}"#);
        let error = OrderEvent::<Ticket>::from_slice(body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), text, "{body}");
    }
}

#[test]
fn a_key_of_the_bodys_own_is_not_quoted_either() {
    type ByPhone = std::collections::HashMap<String, u32>;
    let body = r#"{"brand_id":1,"branch_id":2,"orders":[{"+62 812 Ayu":"many"}]}"#;
    let error = OrderEvent::<ByPhone>::from_slice(body.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "orders[0].… is a string, not an integer");
}

#[test]
fn a_body_that_is_no_text_is_an_error() {
    let error =
        OrderEvent::<Order>::from_slice(b"{\"brand_id\":1,\"branch_id\":2,\"orders\":[],\"x\":\"\xff\"}").unwrap_err();
    assert_eq!(error.to_string(), "the body is not what it should be, not UTF-8");
}

#[test]
fn deep_nesting_brings_nothing_down() {
    let deep = |what: &str| what.repeat(1 << 20);
    assert!(read(&deep("[")).is_err());
    assert!(read(&deep(r#"{"a":"#)).is_err());
    for field in ["brand_id", "orders", "x"] {
        assert!(read(&format!(r#"{{"{field}":{}"#, deep("["))).is_err());
    }
    assert!(read(&format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{{"x":{}"#, deep("["))).is_err());
    // What is whole and not asked for is passed over; who asks for it gets an error.
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let body = format!(r#"{{"brand_id":1,"branch_id":2,"x":{nested},"orders":[{{"id":5,"cart":{nested}}}]}}"#);
    let order = read(&body).unwrap().orders.remove(0);
    assert_eq!(order.id(), Some(5));
    assert!(order.read::<Value>("cart").is_err());
}

#[test]
fn an_order_shares_the_bytes_of_the_body() {
    let body = Bytes::from(r#"{"brand_id":1,"branch_id":2,"orders":[{"id":1}, {"id":2}]}"#);
    let event: OrderEvent = OrderEvent::from_bytes(&body).unwrap();
    let within = body.as_ptr_range();
    for order in &event.orders {
        assert!(within.contains(&order.as_json().as_ptr()));
        assert!(within.contains(&order.clone().get("id").unwrap().get().as_ptr()));
    }
}

#[test]
fn no_debug_output_holds_a_body() {
    let event = read(r#"{"brand_id":1,"branch_id":2,"orders":[{"id":1,"user_first_name":"Ayu"}]}"#).unwrap();
    let text = format!("{event:?} {event:#?}");
    assert!(text.contains("branch_id") && !text.contains("Ayu") && !text.contains("user_first_name"), "{text}");
}

/// Any JSON, with no name twice.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Those that a decimal number and a binary one have in common.
        any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any::<String>(), inner), 0..6).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// The fields that are documented, seen, or neither, with anything in them.
fn any_order() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        "id|external_id|business_id|brands|branch_id|status|cart|payment_status|payment_channel|payment_method|total|payment",
        any::<String>(),
    ];
    vec((names, any_json()), 0..12).prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_object_with_the_three_fields_is_read(
        brand_id: i64,
        branch_id: i64,
        orders in vec(any_order(), 0..4),
        rest in vec((any::<String>(), any_json()), 0..4),
        pretty: bool,
    ) {
        let mut body: serde_json::Map<_, _> = rest.into_iter().collect();
        body.insert("brand_id".into(), brand_id.into());
        body.insert("branch_id".into(), branch_id.into());
        body.insert("orders".into(), orders.clone().into());
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();

        let event = read(&text).unwrap();
        prop_assert_eq!((event.brand_id, event.branch_id, event.orders.len()), (brand_id, branch_id, orders.len()));
        for (order, plain) in event.orders.iter().zip(&orders) {
            prop_assert_eq!(&serde_json::from_str::<Value>(order.as_json()).unwrap(), plain);
            // None of these may fail, whatever is there.
            let _ = (order.id(), order.external_id(), order.brands(), order.status(), order.cart(), order.total());
            let _ = (order.payment_status(), order.payment_channel(), order.payment_method(), order.order_type());
            prop_assert_eq!(order.id(), plain["id"].as_i64());
        }
        let again = read(&serde_json::to_string(&event).unwrap()).unwrap();
        prop_assert_eq!(again, event);
    }

    #[test]
    fn no_body_brings_the_reader_down(body: Vec<u8>) {
        let _ = OrderEvent::<Order>::from_slice(&body);
    }

    #[test]
    fn a_body_that_was_cut_or_changed_is_read_or_an_error(at: prop::sample::Index, byte: u8) {
        let (_, samples) = deliveries::all();
        let mut body = samples[1].body.to_vec();
        let at = at.index(body.len());
        let _ = OrderEvent::<Order>::from_slice(&body[..at]).map(|event| format!("{event:?}"));
        body[at] = byte;
        if let Ok(event) = OrderEvent::<Order>::from_slice(&body) {
            let _ = format!("{event:?}");
        }
    }
}
