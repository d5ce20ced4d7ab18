//! Tests of reading bodies: all bodies that klikit may send, and arbitrary ones.
#![cfg(feature = "payload")]

use std::{borrow::Cow, collections::HashMap, fmt::Debug, num::NonZeroU8};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, json, value::RawValue};
use tower_klikit::payload::{
    Brand, Money, Order, OrderEvent, OrderStatus, OrderType, PayloadError, PayloadErrorKind, PaymentStatus,
    TimestampedEvent,
};
use tower_klikit_test_support::deliveries;

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
            assert_eq!(order.id(), plain["id"].as_i64());
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
        json!({ "id": "7", "external_id": 7, "brands": {}, "status": "READY", "cart": 1, "total": "Rp 5", "payment": 3 }),
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
        (r#"{"customer":{"phone":-62}}"#, "`orders[0].customer.phone` is negative, which is too small for a u64"),
    ] {
        let body = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{order}]}}"#);
        let error = OrderEvent::<Ticket>::from_slice(body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), text, "{body}");
    }
}

#[test]
fn errors_do_not_quote_keys_of_maps() {
    type ByPhone = HashMap<String, u32>;
    let body = r#"{"brand_id":1,"branch_id":2,"orders":[{"+62 812 Ayu":"many"}]}"#;
    let error = OrderEvent::<ByPhone>::from_slice(body.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "orders[0].… is a string, not an integer");
}

#[test]
fn invalid_utf_8_is_an_error() {
    let error =
        OrderEvent::<Order>::from_slice(b"{\"brand_id\":1,\"branch_id\":2,\"orders\":[],\"x\":\"\xff\"}").unwrap_err();
    assert_eq!(error.to_string(), "the body is not UTF-8");
}

#[test]
fn survives_deep_nesting() {
    let deep = |start: &str| start.repeat(1 << 20);
    assert!(read(&deep("[")).is_err());
    assert!(read(&deep(r#"{"a":"#)).is_err());
    for field in ["brand_id", "orders", "x"] {
        assert!(read(&format!(r#"{{"{field}":{}"#, deep("["))).is_err());
    }
    assert!(read(&format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{{"x":{}"#, deep("["))).is_err());
    // A field that is nested too deeply is an error only when it is read.
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let body = format!(r#"{{"brand_id":1,"branch_id":2,"x":{nested},"orders":[{{"id":5,"cart":{nested}}}]}}"#);
    let order = read(&body).unwrap().orders.remove(0);
    assert_eq!(order.id(), Some(5));
    assert!(order.read::<Value>("cart").is_err());
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

macro_rules! report {
    ($file:literal) => {
        include_str!(concat!("../reports/", $file, ".json"))
    };
}

#[test]
fn lone_surrogate_is_not_unicode() {
    let body = report!("lone-surrogate-in-note");
    let order = read(body).unwrap().orders.remove(0);
    assert_eq!((order.id(), order.get("note").map(RawValue::get)), (Some(1), Some(r#""\ud83d""#)));
    #[derive(Deserialize, Debug)]
    struct Ticket {
        #[allow(dead_code, reason = "only to be read")]
        note: String,
    }
    let error = OrderEvent::<Ticket>::from_slice(body.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "`orders[0].note` is not a valid Unicode string");
    assert_eq!(error.path(), "orders[0].note");
    for text in [
        r"\ud83d",
        r"\ude00",
        r"x\uD83D",
        r"\ud83dx",
        r"\ud83d\u0041",
        r"\ud83d\n",
        r"\ud83d\ud83d\ude00",
        r"\ude00\ud83d",
    ] {
        assert_eq!(error_of::<String>(&format!("\"{text}\"")), "`value` is not a valid Unicode string", "{text}");
    }
    let half = r#""\ud83d""#;
    assert_eq!(error_of::<Value>(&format!("[1,[{half}]]")), "`value[1][0]` is not a valid Unicode string");
    assert_eq!(error_of::<Option<Cow<'_, str>>>(half), "`value` is not a valid Unicode string");
    assert_eq!(error_of::<i64>(half), "value is a string, not an integer");
}

#[test]
fn lone_surrogate_in_unknown_name_is_ignored() {
    let order = read(report!("lone-surrogate-in-key")).unwrap().orders.remove(0);
    assert_eq!(order.id(), Some(1));
    assert_eq!(order.field_names().count(), 2);
    for name in ["\u{fffd}", "\u{fffd}\u{fffd}\u{fffd}", ""] {
        assert!(order.get(name).is_none());
    }
    let event =
        read(r#"{"\ud83d":1,"brand_id":1,"branch_id":2,"\ude00":[],"orders":[{"id":7,"\ud83d":1,"\ud83e":2}]}"#)
            .unwrap();
    assert_eq!((event.brand_id, event.orders[0].id()), (1, Some(7)));
    assert_eq!(
        error(r#"{"\ud83d":1,"brand_id":"x","branch_id":2,"orders":[]}"#),
        "brand_id is a string, not an integer"
    );
    assert_eq!(
        error(r#"{"\ud83d":1,"brand_id":1,"brand_id":1,"branch_id":2,"orders":[]}"#),
        "`brand_id` is there twice"
    );
    assert_eq!(error(r#"{"\ud83d":1,"brand_id":1,"branch_id":2}"#), "`orders` is missing");
    let twice = r#"{"brand_id":1,"branch_id":2,"orders":[{"\ud83d":1,"\ud83d":2}]}"#;
    assert_eq!(error(twice), "`orders[0].…` is there twice");
}

#[test]
fn lone_surrogate_in_name_is_not_unicode() {
    let names = r#"{"a":{"\ud83d":1}}"#;
    assert_eq!(error_of::<Value>(names), "a field name in `value.a` is not a valid Unicode string");
    assert_eq!(
        error_of::<HashMap<String, HashMap<String, i64>>>(names),
        "a field name in `value.a` is not a valid Unicode string"
    );
    let error = OrderEvent::<Holder<i64>>::from_slice(report!("lone-surrogate-in-key").as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "a field name in `orders[0]` is not a valid Unicode string");
    assert_eq!(error.path(), "orders[0]");
}

#[test]
fn error_names_the_invalid_order() {
    assert_eq!(error(report!("null-beside-an-order")), "orders[1] is null, not an object");
    assert_eq!(error(report!("id-twice-beside-an-order")), "`orders[1].id` is there twice");
}

#[test]
fn out_of_range_error_names_the_field() {
    let body = report!("number-too-large-for-f64");
    let event = read(body).unwrap();
    assert_eq!((event.orders[0].id(), event.orders[1].id()), (Some(42), None));
    assert_eq!(event.orders[1].read::<i64>("id").unwrap_err().to_string(), "`id` is too large for an i64");
    #[derive(Deserialize, Debug)]
    struct Ticket<N> {
        #[allow(dead_code, reason = "only to be read")]
        id: N,
    }
    let error = OrderEvent::<Ticket<u64>>::from_slice(body.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "`orders[1].id` is too large for a u64");
    let beyond = report!("beyond-i64");
    let error = OrderEvent::<Ticket<i64>>::from_slice(beyond.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "`orders[0].id` is too large for an i64");
    assert_eq!(read(beyond).unwrap().orders[1].id(), Some(9_007_199_254_740_993));
}

#[test]
fn out_of_range_integer_names_the_type() {
    let too_large = |name: &str| format!("`value` is too large for {name}");
    assert_eq!(error_of::<i8>("128"), too_large("an i8"));
    assert_eq!(error_of::<u8>("256"), too_large("a u8"));
    assert_eq!(error_of::<i16>("32768"), too_large("an i16"));
    assert_eq!(error_of::<u16>("65536"), too_large("a u16"));
    assert_eq!(error_of::<i32>("18446744073709551615"), too_large("an i32"));
    assert_eq!(error_of::<u32>("4294967296"), too_large("a u32"));
    assert_eq!(error_of::<usize>("18446744073709551616"), too_large("a usize"));
    assert_eq!(error_of::<isize>("1e400"), too_large("an isize"));
    for number in ["9223372036854775808", "18446744073709551616", "1e30", "1e400", "1e99999999999999999999"] {
        assert_eq!(error_of::<i64>(number), too_large("an i64"), "{number}");
        assert_eq!(error_of::<OrderStatus>(number), too_large("an i64"), "{number}");
    }
    for number in ["-9223372036854775809", "-1e30", "-1e400"] {
        assert_eq!(error_of::<i64>(number), "`value` is too small for an i64", "{number}");
    }
    assert_eq!(error_of::<i8>("-129"), "`value` is too small for an i8");
    for number in ["-1", "-9223372036854775808", "-1e30", "-1e400"] {
        assert_eq!(error_of::<u32>(number), "`value` is negative, which is too small for a u32", "{number}");
    }
    assert_eq!(error_of::<Option<Vec<u8>>>("[1,300]"), "`value[1]` is too large for a u8");
    assert_eq!(error_of::<NonZeroU8>("300"), too_large("a u8"));
    assert_eq!(error_of::<NonZeroU8>("0"), "value is not a nonzero u8");
}

#[test]
fn decimal_is_no_integer_even_if_out_of_range() {
    for number in ["1.5", "1e-400", "0.0", "1e3", "-1.5", "300.5"] {
        assert_eq!(error_of::<i64>(number), "value is a decimal number, not an integer", "{number}");
        assert_eq!(error_of::<u8>("1.5"), "value is a decimal number, not an integer");
    }
    assert_eq!(error_of::<String>("1"), "value is an integer, not a string");
}

#[test]
fn out_of_range_decimal_names_the_type() {
    assert_eq!(error_of::<f64>("1e400"), "`value` is too large for an f64");
    assert_eq!(error_of::<f64>("-1e400"), "`value` is too small for an f64");
    assert_eq!(error_of::<f32>("1e400"), "`value` is too large for an f32");
    assert_eq!(error_of::<f64>(&format!("1{}", "0".repeat(400))), "`value` is too large for an f64");
    // A type that accepts any number reads it as an f64.
    assert_eq!(error_of::<Value>("[1e400]"), "`value[0]` is too large for an f64");
    assert_eq!(error_of::<Vec<(f64, i8)>>("[[1,2],[1e400,2]]"), "`value[1][0]` is too large for an f64");
}

#[test]
fn mistyped_128_bit_integer_is_no_syntax_error() {
    let beyond = "340282366920938463463374607431768211456";
    assert_eq!(error_of::<u128>(beyond), "`value` is too large for a u128");
    assert_eq!(error_of::<i128>(beyond), "`value` is too large for an i128");
    assert_eq!(error_of::<i128>("170141183460469231731687303715884105728"), "`value` is too large for an i128");
    assert_eq!(error_of::<i128>("-170141183460469231731687303715884105729"), "`value` is too small for an i128");
    assert_eq!(error_of::<u128>("-1"), "`value` is negative, which is too small for a u128");
    assert_eq!(error_of::<u128>("1e400"), "`value` is too large for a u128");
    assert_eq!(error_of::<i128>("1.5"), "value is a decimal number, not an integer");
    assert_eq!(error_of::<u128>(r#""Ayu""#), "value is a string, not an integer");
    assert_eq!(error_of::<u128>("true"), "value is a boolean, not an integer");
    assert_eq!(error_of::<i128>("[1]"), "value is an array, not an integer");
}

#[test]
fn mistyped_field_name_is_no_syntax_error() {
    assert_eq!(error_of::<HashMap<u8, i64>>(r#"{"300":1}"#), "a field name in `value` is too large for a u8");
    assert_eq!(error_of::<HashMap<u8, i64>>(r#"{"Ayu":1}"#), "a field name in `value` is not a number");
    assert_eq!(error_of::<HashMap<u8, i8>>(r#"{"1":300}"#), "`value.…` is too large for an i8");
    assert_eq!(error_of::<HashMap<bool, i64>>(r#"{"trouble":1}"#), "a field name in `value` is not what it should be");
}

#[test]
fn mistyped_enum_is_no_syntax_error() {
    #[derive(Deserialize, Debug, PartialEq)]
    enum Channel {
        Grab,
    }
    assert_eq!(error_of::<Channel>("7"), "value is not what it should be");
    assert_eq!(error_of::<Channel>(r#"{"Ayu":1}"#), "a field name in `value` is not what it should be");
    assert_eq!(error_of::<Channel>(r#""Ayu""#), "value is not what it should be");
}

#[test]
fn flattened_and_untagged_types_name_the_field() {
    #[derive(Deserialize, Debug)]
    struct Flat {
        #[serde(flatten)]
        #[allow(dead_code, reason = "only to be read")]
        rest: HashMap<String, Value>,
    }
    #[derive(Deserialize, Debug)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "only to be read")]
    enum Id {
        Number(i64),
        Text(String),
    }
    assert_eq!(error_of::<Flat>(r#"{"a":"\ud83d"}"#), "`value.a` is not a valid Unicode string");
    assert_eq!(error_of::<Id>("1e400"), "`value` is too large for an f64");
    assert_eq!(error_of::<Id>("[]"), "value is not what it should be");
}

#[test]
fn deep_nesting_is_no_syntax_error() {
    let arrays = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    for (nested, by_name, by_type) in
        [(&arrays, "x[0][0][0][0]", "orders[0].x[0][0][0]"), (&objects, "x.a.a.a.a", "orders[0].x.a.a.a")]
    {
        let body = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{{"x":{nested}}}]}}"#);
        let error = read(&body).unwrap().orders[0].read::<Value>("x").unwrap_err();
        assert_eq!(error.to_string(), format!("`{by_name}` is nested too deeply"));
        let error = OrderEvent::<Value>::from_slice(body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), format!("`{by_type}` is nested too deeply"));
    }
}

#[test]
fn out_of_range_error_names_envelope_fields() {
    let body = |brand: &str| format!(r#"{{"branch_id":2,"orders":[{{"id":1}}],"brand_id":{brand}}}"#);
    assert_eq!(error(&body("1e400")), "`brand_id` is too large for an i64");
    assert_eq!(error(&body("-18446744073709551616")), "`brand_id` is too small for an i64");
    assert_eq!(error(&body(r#""\ud83d""#)), "brand_id is a string, not an integer");
    let envelope = Bytes::from(format!(r#"{{"data":{}}}"#, body("1e400")));
    let error = TimestampedEvent::from_bytes(&envelope).unwrap().payload::<Order>().unwrap_err();
    assert_eq!(error.to_string(), "`data.brand_id` is too large for an i64");
}

#[test]
fn errors_have_kinds() {
    use PayloadErrorKind as Kind;
    let kind = |body: &[u8]| OrderEvent::<Holder<i64>>::from_slice(body).unwrap_err().kind();
    assert_eq!(kind(b"Ayu"), Kind::NotJson);
    assert_eq!(kind(b"{"), Kind::NotJson);
    assert_eq!(kind(b"\"\xff\""), Kind::NotJson);
    assert_eq!(kind(b"[]"), Kind::WrongType);
    assert_eq!(kind(b"{}"), Kind::Missing);
    for (order, expected) in [
        ("7", Kind::WrongType),
        ("{}", Kind::Missing),
        (r#"{"value":1,"value":1}"#, Kind::Duplicate),
        (r#"{"value":"1"}"#, Kind::WrongType),
        (r#"{"value":1e400}"#, Kind::OutOfRange),
        (r#"{"value":9223372036854775808}"#, Kind::OutOfRange),
        (r#"{"value":1,"\ud83d":1}"#, Kind::NotUnicode),
    ] {
        let body = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{order}]}}"#);
        assert_eq!(kind(body.as_bytes()), expected, "{order}");
    }
    let nested = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{}{}]}}"#, "[".repeat(200), "]".repeat(200));
    assert_eq!(OrderEvent::<Value>::from_slice(nested.as_bytes()).unwrap_err().kind(), Kind::TooDeep);
}

#[test]
fn long_path_is_truncated() {
    let name = "n".repeat(60);
    let nested = format!("{}null{}", format!(r#"{{"{name}":"#).repeat(100), "}".repeat(100));
    #[derive(Debug)]
    struct Nested;

    impl<'de> Deserialize<'de> for Nested {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            HashMap::<String, Self>::deserialize(deserializer).map(|_| Self)
        }
    }

    let text = error_of::<Nested>(&nested);
    assert_eq!(text, format!("value.{name}.{name}.{name}… is null, not an object"));
}

#[test]
fn syntax_error_wins_over_invalid_values() {
    for (body, text) in [
        (r#"{"brand_id":1e400,,"#, "the body is not JSON, from line 1, column 19 on"),
        (r#"{"brand_id":1e400"#, "the body ends in the middle of its JSON"),
        (r#"{"\ud83d":1,"brand_id":01}"#, "the body is not JSON, from line 1, column 25 on"),
        (r#"{"brand_id":"\ud83d\x"}"#, "the body is not JSON, from line 1, column 21 on"),
    ] {
        assert_eq!(error(body), text, "{body}");
    }
}

#[test]
fn converts_errors_of_serde_json() {
    let error = |json: &str| PayloadError::from(serde_json::from_str::<Value>(json).unwrap_err()).to_string();
    assert_eq!(error(r#""\ud83d""#), "the body is not a valid Unicode string");
    assert_eq!(error(r#""\ude00""#), "the body is not a valid Unicode string");
    assert_eq!(error("1e400"), "the body is too large");
    assert_eq!(error(&"[".repeat(200)), "the body is nested too deeply");
    assert_eq!(error("[1,"), "the body ends in the middle of its JSON");
    assert_eq!(error("[1,]"), "the body is not JSON, from line 1, column 4 on");
}

/// Generates valid JSON that few types can hold: large numbers, lone surrogates, odd names.
fn odd_json() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,45})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?";
    let string = || r#""([a-z]|\\u(d8|dc|00)[0-9a-f]{2}|\\n|-?[0-9]{1,4}|true){0,3}""#;
    let leaf = prop_oneof![number, string(), "true|null|false"];
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let member = (string(), inner.clone()).prop_map(|(name, value)| format!("{name} : {value}"));
        prop_oneof![
            vec(inner, 0..3).prop_map(|values| format!("[{}]", values.join(",\n"))),
            vec(member, 0..3).prop_map(|members| format!("{{{}}}", members.join(", "))),
        ]
    })
}

/// Returns the errors of the types that cannot hold a value.
fn errors_of(value: &str) -> Vec<String> {
    #[derive(Deserialize, PartialEq, Eq, Hash)]
    enum Channel {
        Grab,
    }

    fn error<T: DeserializeOwned>(order: &Order) -> Option<String> {
        order.read::<T>("value").err().map(|error| error.to_string())
    }

    let body = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{{"value":{value}}}]}}"#);
    let order = &read(&body).unwrap().orders[0];
    let errors = [
        error::<Value>(order),
        error::<String>(order),
        error::<i8>(order),
        error::<u64>(order),
        error::<i128>(order),
        error::<u128>(order),
        error::<f64>(order),
        error::<bool>(order),
        error::<Channel>(order),
        error::<Vec<i128>>(order),
        error::<Vec<Channel>>(order),
        error::<HashMap<String, String>>(order),
        error::<HashMap<i16, Value>>(order),
        error::<HashMap<u128, f64>>(order),
        error::<HashMap<bool, Vec<u8>>>(order),
        error::<HashMap<Channel, char>>(order),
        error::<(i64, Money)>(order),
    ];
    errors.into_iter().flatten().collect()
}

/// Generates any JSON without repeated names.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Quarters are exact in binary and in decimal.
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

/// Generates orders with documented and other fields that contain any JSON.
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
    fn reads_any_object_with_the_three_fields(
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
            // These methods must not panic for any value.
            let _ = (order.id(), order.external_id(), order.brands(), order.status(), order.cart(), order.total());
            let _ = (order.payment_status(), order.payment_channel(), order.payment_method(), order.order_type());
            prop_assert_eq!(order.id(), plain["id"].as_i64());
        }
        let again = read(&serde_json::to_string(&event).unwrap()).unwrap();
        prop_assert_eq!(again, event);
    }

    #[test]
    fn valid_json_is_never_called_invalid(value in odd_json()) {
        prop_assert!(serde_json::from_str::<IgnoredAny>(&value).is_ok());
        for error in errors_of(&value) {
            prop_assert!(!error.contains("JSON"), "{}: {}", value, error);
        }
    }

    #[test]
    fn any_body_is_read_without_panic(body: Vec<u8>) {
        let _ = OrderEvent::<Order>::from_slice(&body);
    }

    #[test]
    fn truncated_or_changed_body_is_read_without_panic(at: prop::sample::Index, byte: u8) {
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
