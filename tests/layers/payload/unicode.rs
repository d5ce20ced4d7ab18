//! Tests of texts and names with lone surrogates, which are JSON but not Unicode.

use std::{borrow::Cow, collections::HashMap};

use serde_json::value::RawValue;

use super::*;

#[test]
fn lone_surrogate_is_not_unicode() {
    let body = report!("lone-surrogate-in-note");
    let order = read(body).unwrap().orders.remove(0);
    assert_eq!((order.id(), order.get("note").map(RawValue::get)), (Some(1.into()), Some(r#""\ud83d""#)));
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
    assert_eq!(order.id(), Some(1.into()));
    assert_eq!(order.field_names().count(), 2);
    for name in ["\u{fffd}", "\u{fffd}\u{fffd}\u{fffd}", ""] {
        assert!(order.get(name).is_none());
    }
    let event =
        read(r#"{"\ud83d":1,"brand_id":1,"branch_id":2,"\ude00":[],"orders":[{"id":7,"\ud83d":1,"\ud83e":2}]}"#)
            .unwrap();
    assert_eq!((event.brand_id, event.orders[0].id()), (1, Some(7.into())));
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
