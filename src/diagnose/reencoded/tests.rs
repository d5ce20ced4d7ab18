use super::*;
use crate::{diagnose::budget::MAX_PASSES, keyring::Keyring, secret::WebhookSecret};

/// Returns all possible originals of this body, without a limit in effect.
fn texts(body: &str) -> Vec<String> {
    let mut texts = Vec::new();
    each_text(body.as_bytes(), &mut SearchBudget::for_body(1 << 20), |text, _, _| {
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        true
    });
    texts
}

/// Returns the body in one style.
fn rewritten(body: &str, layout: Layout, strings: StringStyle, order: KeyOrder) -> String {
    let tree = JsonTree::parse(body.as_bytes()).unwrap();
    let mut out = Vec::new();
    assert!(layout::write(&tree, &order.children(&tree), layout, strings, usize::MAX, &mut out));
    String::from_utf8(out).unwrap()
}

/// Returns the text as compact JSON with its strings in one style.
fn as_written_by(strings: StringStyle, text: &str) -> String {
    rewritten(text, Layout::Compact, strings, KeyOrder::Received)
}

/// The expected texts are the output of those languages.
#[test]
fn strings_are_written_as_each_language_does() {
    let all = "\"é/<>&'+`\\\"\\\\ \u{7f}\u{2028}😀\\b\\t\\n\\f\\r\\u001f\"";
    // PHP 8: json_encode($all), and with JSON_UNESCAPED_UNICODE.
    assert_eq!(
        as_written_by(StringStyle::Php, all),
        "\"\\u00e9\\/<>&'+`\\\"\\\\ \u{7f}\\u2028\\ud83d\\ude00\\b\\t\\n\\f\\r\\u001f\""
    );
    assert_eq!(
        as_written_by(StringStyle::PhpUnicode, all),
        "\"é\\/<>&'+`\\\"\\\\ \u{7f}\\u2028😀\\b\\t\\n\\f\\r\\u001f\""
    );
    // Go: json.Marshal(all).
    assert_eq!(
        as_written_by(StringStyle::Go, all),
        "\"é/\\u003c\\u003e\\u0026'+`\\\"\\\\ \u{7f}\\u2028😀\\b\\t\\n\\f\\r\\u001f\""
    );
    // Python: json.dumps(all).
    assert_eq!(
        as_written_by(StringStyle::Ascii, all),
        "\"\\u00e9/<>&'+`\\\"\\\\ \\u007f\\u2028\\ud83d\\ude00\\b\\t\\n\\f\\r\\u001f\""
    );
    // .NET: JsonSerializer.Serialize(all).
    assert_eq!(
        as_written_by(StringStyle::DotNet, all),
        "\"\\u00E9/\\u003C\\u003E\\u0026\\u0027\\u002B\\u0060\\u0022\\\\ \\u007F\\u2028\\uD83D\\uDE00\\b\\t\\n\\f\\r\\u001F\""
    );
    assert_eq!(as_written_by(StringStyle::Raw, all), all);
    assert_eq!(as_written_by(StringStyle::Received, all), all);
}

#[test]
fn escaped_strings_can_be_restored() {
    let raw = "\"Phở \u{2029}<b>/😀\"";
    for strings in [StringStyle::Php, StringStyle::Go, StringStyle::Ascii, StringStyle::DotNet, StringStyle::PhpUnicode]
    {
        let written = as_written_by(strings, raw);
        assert_ne!(written, raw);
        assert_eq!(as_written_by(StringStyle::Raw, &written), raw);
    }
    // Half of a surrogate pair can be written only as an escape.
    for (half, again) in
        [(r#""\ud83d""#, r#""\ud83d""#), (r#""\uD83Dx\uDE00\ud83d\u0041""#, r#""\ud83dx\ude00\ud83dA""#)]
    {
        assert_eq!(as_written_by(StringStyle::Raw, half), again);
    }
}

#[test]
fn keeps_numbers_and_duplicate_keys() {
    let body = r#"{"b":12.50,"a":1e2,"a":-0.0,"c":123456789012345678901234567890,"":[[],{},null,true]}"#;
    assert_eq!(as_written_by(StringStyle::Raw, body), body);
    assert_eq!(
        rewritten(body, Layout::Compact, StringStyle::Received, KeyOrder::Sorted),
        r#"{"":[[],{},null,true],"a":1e2,"a":-0.0,"b":12.50,"c":123456789012345678901234567890}"#
    );
}

#[test]
fn keys_are_put_in_the_documented_order() {
    let body = r#"{"orders":[{"z":1,"status":2,"brands":[{"title":"x","logo":"y","id":3}],"id":4}],"brand_id":5,"branch_id":6}"#;
    let written = |order| rewritten(body, Layout::Compact, StringStyle::Received, order);
    assert_eq!(
        written(KeyOrder::Documented),
        r#"{"brand_id":5,"branch_id":6,"orders":[{"id":4,"brands":[{"id":3,"title":"x","logo":"y"}],"status":2,"z":1}]}"#
    );
    assert_eq!(
        written(KeyOrder::Envelope),
        r#"{"brand_id":5,"branch_id":6,"orders":[{"z":1,"status":2,"brands":[{"title":"x","logo":"y","id":3}],"id":4}]}"#
    );
    assert_eq!(
        written(KeyOrder::SamplesAndSorted),
        r#"{"brand_id":5,"branch_id":6,"orders":[{"brands":[{"id":3,"logo":"y","title":"x"}],"id":4,"status":2,"z":1}]}"#
    );
    let seen = r#"{"orders":[{"zz":1,"cart":[{"groups":[{"modifiers":[{"id":1,"price":2,"title":3}],"title":4}]}]}],"brand_id":5}"#;
    assert_eq!(
        rewritten(seen, Layout::Compact, StringStyle::Received, KeyOrder::Samples),
        r#"{"brand_id":5,"orders":[{"zz":1,"cart":[{"groups":[{"title":4,"modifiers":[{"id":1,"title":3,"price":2}]}]}]}]}"#
    );
    // Keys are sorted by value, not by how they are escaped: A, B, C.
    let escaped = rewritten(r#"{"C":1,"\u0042":2,"A":3}"#, Layout::Compact, StringStyle::Received, KeyOrder::Sorted);
    assert_eq!(escaped, r#"{"A":3,"\u0042":2,"C":1}"#);
}

#[test]
fn skips_styles_that_give_equal_texts() {
    // One order and one style of strings, in each of the six layouts.
    assert_eq!(texts("1"), vec!["1"; 6]);
    // Two ways to write a slash, in each of the six layouts.
    assert_eq!(texts(r#"["/"]"#).len(), 2 * 6);
    assert_eq!(texts("no JSON"), Vec::<String>::new());
    assert_eq!(texts(""), Vec::<String>::new());
}

#[test]
fn work_is_bounded_for_any_body() {
    let nest = |n| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let keys = |n: usize| format!("{{{}}}", (0..n).map(|n| format!("\"é{n}\":{n}")).collect::<Vec<_>>().join(","));
    let bodies = [
        ("nothing", String::new()),
        ("deep arrays", nest(100_000)),
        ("deep objects", format!("{}1{}", "{\"é/\":".repeat(5_000), "}".repeat(5_000))),
        ("all beyond ASCII", format!("\"{}\"", "é".repeat(10_000))),
        ("all slashes", format!("\"{}\"", "/".repeat(20_000))),
        ("all quotes", format!("\"{}\"", "'".repeat(20_000))),
        ("all escapes", format!("\"{}\"", "\\u0000".repeat(4_000))),
        ("many keys", keys(100_000)),
        ("small values", format!("[{}1]", "1,".repeat(20_000))),
        ("small objects", format!("[{}{{}}]", "{},".repeat(10_000))),
        ("no JSON", "{".repeat(100_000)),
    ];
    let keyring = Keyring::from(WebhookSecret::new("secret").unwrap());
    let mut headers = http::HeaderMap::new();
    headers.insert(crate::header::SIGNATURE, http::HeaderValue::from_str(&"0".repeat(64)).unwrap());
    for (name, body) in &bodies {
        let mut budget = SearchBudget::for_body(body.len());
        let (mut count, mut written) = (0, 0);
        each_text(body.as_bytes(), &mut budget, |text, _, _| {
            (count, written) = (count + 1, written + text.len());
            assert!(text.len() <= 4 * body.len() + 1024, "{name}: a text of {} bytes", text.len());
            true
        });
        assert!(
            count <= 7 * 31 && written <= MAX_PASSES * (body.len() + 256),
            "{name}: {count} texts, {written} bytes"
        );
        let diagnosis = crate::diagnose::diagnose(&keyring, &headers, body.as_bytes());
        assert_eq!(diagnosis.cause().as_str(), if body.is_empty() { "body_empty" } else { "unknown" }, "{name}");
    }
}

/// The description must not call an order klikit's that klikit does not document.
#[test]
fn names_order_of_samples_apart_from_documented_order() {
    // A sorted map changed the order of the envelope and of the groups.
    let body =
        r#"{"branch_id":1,"brand_id":2,"orders":[{"cart":[{"groups":[{"modifiers":[],"title":"x"}]}],"z":1,"id":3}]}"#;
    let tree = JsonTree::parse(body.as_bytes()).unwrap();
    let orders = KeyOrder::distinct(&tree, &mut SearchBudget::for_body(1 << 20));
    let mut of_samples = 0;
    for (order, _) in &orders {
        let text = rewritten(body, Layout::Compact, StringStyle::Received, *order);
        let has_samples_order = text.contains(r#"{"title":"x","modifiers":[]}"#);
        let says_so = order.describe().is_some_and(|text| text.contains("this crate's samples"));
        assert_eq!(says_so, has_samples_order, "{:?}: {text}", order.describe());
        of_samples += usize::from(says_so);
    }
    assert_eq!((of_samples, orders.len()), (2, 6));
}

#[test]
fn restores_empty_objects_by_member_name() {
    let received = r#"{"a":[],"lists":[],"cart":[],"b" : [] ,"text":":[]","c":[[]],"d":[1],"e":":[]"}"#;
    let restored = r#"{"a":{},"lists":[],"cart":[],"b" : {} ,"text":":[]","c":[[]],"d":[1],"e":":[]"}"#;
    assert_eq!(restore_empty_objects(received), restored);
    assert!(matches!(restore_empty_objects(r#"{"lists":[],"a":{}}"#), Cow::Borrowed(_)));
    // Only one style is tried, because these come before all others.
    assert_eq!(texts(r#"{"b":1,"a":[]}"#).iter().filter(|text| text.contains("{}")).count(), 1);
}
