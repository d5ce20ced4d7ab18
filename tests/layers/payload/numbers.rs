//! Tests of numbers that are out of range or of another type.

use std::num::NonZeroU8;

use bytes::Bytes;
use tower_klikit::payload::{OrderStatus, TimestampedEvent};

use super::*;

#[test]
fn out_of_range_error_names_the_field() {
    let body = report!("number-too-large-for-f64");
    let event = read(body).unwrap();
    assert_eq!((event.orders[0].id(), event.orders[1].id()), (Some(42.into()), None));
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
    assert_eq!(read(beyond).unwrap().orders[1].id(), Some(9_007_199_254_740_993.into()));
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
fn decimal_is_no_integer_even_if_out_of_range() {
    for number in ["1.5", "1e-400", "0.0", "1e3", "-1.5", "300.5"] {
        assert_eq!(error_of::<i64>(number), "value is a decimal number, not an integer", "{number}");
        assert_eq!(error_of::<u8>("1.5"), "value is a decimal number, not an integer");
    }
    assert_eq!(error_of::<String>("1"), "value is an integer, not a string");
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
