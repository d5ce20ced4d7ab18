//! Tests of errors: they name the field, have a kind, and quote nothing.

use std::collections::HashMap;

use tower_klikit::{
    FailureReason,
    payload::{PayloadError, PayloadErrorKind},
};

use super::*;

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
        (r#"{"brand_id":"","branch_id":2,"orders":[]}"#, "brand_id is a string, not an integer"),
        (r#"{"brand_id":"+1","branch_id":2,"orders":[]}"#, "brand_id is a string, not an integer"),
        (r#"{"brand_id":{},"branch_id":2,"orders":[]}"#, "brand_id is an object, not an integer"),
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
fn error_names_the_invalid_order() {
    assert_eq!(error(report!("null-beside-an-order")), "orders[1] is null, not an object");
    assert_eq!(error(report!("id-twice-beside-an-order")), "`orders[1].id` is there twice");
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
fn error_is_plain_in_debug_and_as_reason() {
    let error = read_error(r#"{"brand_id":1,"branch_id":2}"#);
    assert_eq!(format!("{error:?}"), "`orders` is missing");
    assert_eq!(FailureReason::from(error).as_str(), "`orders` is missing");
}

fn read_error(body: &str) -> PayloadError {
    OrderEvent::<Order>::from_slice(body.as_bytes()).unwrap_err()
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
