//! Tests of deeply nested bodies.

use super::*;

#[test]
fn survives_deep_nesting() {
    let unclosed = |start: &str| start.repeat(1 << 20);
    assert!(read(&unclosed("[")).is_err());
    assert!(read(&unclosed(r#"{"a":"#)).is_err());
    for field in ["brand_id", "orders", "x"] {
        assert!(read(&format!(r#"{{"{field}":{}"#, unclosed("["))).is_err());
    }
    assert!(read(&format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{{"x":{}"#, unclosed("["))).is_err());
    // A field that is nested too deeply is an error only when it is read.
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let body = format!(r#"{{"brand_id":1,"branch_id":2,"x":{nested},"orders":[{{"id":5,"cart":{nested}}}]}}"#);
    let order = read(&body).unwrap().orders.remove(0);
    assert_eq!(order.id(), Some(5.into()));
    assert!(order.read::<Value>("cart").is_err());
}

#[test]
fn deep_nesting_is_no_syntax_error() {
    let arrays = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    for (nested, path_in_order, path_in_event) in
        [(&arrays, "x[0][0][0][0]", "orders[0].x[0][0][0]"), (&objects, "x.a.a.a.a", "orders[0].x.a.a.a")]
    {
        let body = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{{"x":{nested}}}]}}"#);
        let error = read(&body).unwrap().orders[0].read::<Value>("x").unwrap_err();
        assert_eq!(error.to_string(), format!("`{path_in_order}` is nested too deeply"));
        let error = OrderEvent::<Value>::from_slice(body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), format!("`{path_in_event}` is nested too deeply"));
    }
}
