use super::*;
use crate::{diagnose::budget::MAX_PASSES, keyring::Keyring, secret::WebhookSecret};

/// The texts that this body may have been made of, with room for all.
fn texts(body: &str) -> Vec<String> {
    let mut texts = Vec::new();
    each_text(body.as_bytes(), &mut SearchBudget::for_body(1 << 20), |text, _, _| {
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        true
    });
    texts
}

fn rewritten(body: &str, layout: Layout, strings: StringStyle, order: KeyOrder) -> String {
    let tree = JsonTree::parse(body.as_bytes()).unwrap();
    let mut out = Vec::new();
    assert!(layout::write(&tree, &order.children(&tree), layout, strings, usize::MAX, &mut out));
    String::from_utf8(out).unwrap()
}

fn as_written_by(strings: StringStyle, text: &str) -> String {
    rewritten(text, Layout::Compact, strings, KeyOrder::Received)
}

/// The right-hand sides are what those languages print for the string.
#[test]
fn strings_are_written_as_each_language_does() {
    let all = "\"é/<>&'+`\\\"\\\\ \u{7f}\u{2028}😀\\b\\t\\n\\f\\r\\u001f\"";
    // PHP 8: json_encode($it), and with JSON_UNESCAPED_UNICODE.
    assert_eq!(
        as_written_by(StringStyle::Php, all),
        "\"\\u00e9\\/<>&'+`\\\"\\\\ \u{7f}\\u2028\\ud83d\\ude00\\b\\t\\n\\f\\r\\u001f\""
    );
    assert_eq!(
        as_written_by(StringStyle::PhpUnicode, all),
        "\"é\\/<>&'+`\\\"\\\\ \u{7f}\\u2028😀\\b\\t\\n\\f\\r\\u001f\""
    );
    // Go: json.Marshal(it).
    assert_eq!(
        as_written_by(StringStyle::Go, all),
        "\"é/\\u003c\\u003e\\u0026'+`\\\"\\\\ \u{7f}\\u2028😀\\b\\t\\n\\f\\r\\u001f\""
    );
    // Python: json.dumps(it).
    assert_eq!(
        as_written_by(StringStyle::Ascii, all),
        "\"\\u00e9/<>&'+`\\\"\\\\ \\u007f\\u2028\\ud83d\\ude00\\b\\t\\n\\f\\r\\u001f\""
    );
    // .NET: JsonSerializer.Serialize(it).
    assert_eq!(
        as_written_by(StringStyle::DotNet, all),
        "\"\\u00E9/\\u003C\\u003E\\u0026\\u0027\\u002B\\u0060\\u0022\\\\ \\u007F\\u2028\\uD83D\\uDE00\\b\\t\\n\\f\\r\\u001F\""
    );
    assert_eq!(as_written_by(StringStyle::Raw, all), all);
    assert_eq!(as_written_by(StringStyle::Received, all), all);
}

#[test]
fn what_is_escaped_can_be_unescaped_and_the_other_way_round() {
    let raw = "\"Phở \u{2029}<b>/😀\"";
    for strings in [StringStyle::Php, StringStyle::Go, StringStyle::Ascii, StringStyle::DotNet, StringStyle::PhpUnicode]
    {
        let written = as_written_by(strings, raw);
        assert_ne!(written, raw);
        assert_eq!(as_written_by(StringStyle::Raw, &written), raw);
    }
    // Half a character can be written as an escape alone.
    for (half, again) in
        [(r#""\ud83d""#, r#""\ud83d""#), (r#""\uD83Dx\uDE00\ud83d\u0041""#, r#""\ud83dx\ude00\ud83dA""#)]
    {
        assert_eq!(as_written_by(StringStyle::Raw, half), again);
    }
}

#[test]
fn numbers_duplicates_and_order_stay_as_they_came() {
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
        written(KeyOrder::SeenAndSorted),
        r#"{"brand_id":5,"branch_id":6,"orders":[{"brands":[{"id":3,"logo":"y","title":"x"}],"id":4,"status":2,"z":1}]}"#
    );
    let seen = r#"{"orders":[{"zz":1,"cart":[{"groups":[{"modifiers":[{"id":1,"price":2,"title":3}],"title":4}]}]}],"brand_id":5}"#;
    assert_eq!(
        rewritten(seen, Layout::Compact, StringStyle::Received, KeyOrder::Seen),
        r#"{"brand_id":5,"orders":[{"zz":1,"cart":[{"groups":[{"title":4,"modifiers":[{"id":1,"title":3,"price":2}]}]}]}]}"#
    );
    // By what a key means, not by how it is written: A, B, C.
    let escaped = rewritten(r#"{"C":1,"\u0042":2,"A":3}"#, Layout::Compact, StringStyle::Received, KeyOrder::Sorted);
    assert_eq!(escaped, r#"{"A":3,"\u0042":2,"C":1}"#);
}

#[test]
fn no_variant_is_made_that_cannot_differ() {
    // One layout, one order, one way to write strings, and one way to have no white space.
    assert_eq!(texts("1"), vec!["1"; 6]);
    // A slash is written in two ways, in five layouts and the one that it has.
    assert_eq!(texts(r#"["/"]"#).len(), 2 * 6);
    assert_eq!(texts("no JSON"), Vec::<String>::new());
    assert_eq!(texts(""), Vec::<String>::new());
}

#[test]
fn work_is_bounded_whatever_the_body_is() {
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

/// Nothing is called klikit's that is documented nowhere.
#[test]
fn an_order_of_samples_is_told_from_a_documented_one() {
    // A sorted map has taken the envelope's order, and that of the groups.
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
fn what_php_emptied_is_told_from_a_list_by_its_name() {
    let received = r#"{"a":[],"lists":[],"cart":[],"b" : [] ,"text":":[]","c":[[]],"d":[1],"e":":[]"}"#;
    let restored = r#"{"a":{},"lists":[],"cart":[],"b" : {} ,"text":":[]","c":[[]],"d":[1],"e":":[]"}"#;
    assert_eq!(restore_empty_objects(received), restored);
    assert!(matches!(restore_empty_objects(r#"{"lists":[],"a":{}}"#), Cow::Borrowed(_)));
    // Few are tried, since they are tried before all others.
    assert_eq!(texts(r#"{"b":1,"a":[]}"#).iter().filter(|text| text.contains("{}")).count(), 1);
}
