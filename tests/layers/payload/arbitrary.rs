//! Property tests: arbitrary orders, arbitrary JSON, and arbitrary bytes.

use std::collections::HashMap;

use proptest::{collection::vec, prelude::*};
use serde::de::IgnoredAny;
use tower_klikit::payload::Money;
use tower_klikit_test_support::deliveries;

use super::*;

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
            let id = match &plain["id"] {
                Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                    Some(number.to_string().trim_end_matches(".0").to_owned())
                }
                Value::String(text) if !text.is_empty() => Some(text.clone()),
                _ => None,
            };
            prop_assert_eq!(order.id().map(|id| id.to_string()), id);
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
