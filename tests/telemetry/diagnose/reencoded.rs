//! JSON that real programs parse and encode again.

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::Request,
    routing::post,
};
use http::header;
use serde_json::Value;
use tower::ServiceExt;
use tower_klikit::diagnose::{Cause, Certainty, diagnose};

use crate::diagnose::{
    deliveries,
    kit::{MIXED, SECRET, assert_found, assert_proven, assert_unknown, keyring, run, signed, without_length},
};

const PYTHON: &str = "import json, sys; sys.stdout.write(json.dumps(json.load(sys.stdin)))";
const PYTHON_RAW: &str = "import json, sys; sys.stdout.write(json.dumps(json.load(sys.stdin), ensure_ascii=False))";
const PYTHON_COMPACT: &str =
    "import json, sys; sys.stdout.write(json.dumps(json.load(sys.stdin), separators=(',', ':')))";
const PYTHON_4: &str = "import json, sys; sys.stdout.write(json.dumps(json.load(sys.stdin), indent=4))";
const PYTHON_SORTED: &str = "import json, sys; sys.stdout.write(json.dumps(json.load(sys.stdin), sort_keys=True))";
const NODE: &str = "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0))))";
const NODE_2: &str = "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0)), null, 2))";
const PERL: &str = "local $/; print JSON::PP->new->utf8->canonical->encode(JSON::PP->new->utf8->decode(<STDIN>))";
const PHP: &str = "echo json_encode(json_decode(stream_get_contents(STDIN)));";
const PHP_UNICODE: &str = "echo json_encode(json_decode(stream_get_contents(STDIN)), JSON_UNESCAPED_UNICODE);";
const PHP_RAW: &str =
    "echo json_encode(json_decode(stream_get_contents(STDIN)), JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);";
const PHP_4: &str = "echo json_encode(json_decode(stream_get_contents(STDIN)), JSON_PRETTY_PRINT);";
const PHP_ARRAYS: &str = "echo json_encode(json_decode(stream_get_contents(STDIN), true));";
const PHP_ARRAYS_RAW: &str =
    "echo json_encode(json_decode(stream_get_contents(STDIN), true), JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);";
const PHP_ARRAYS_4: &str = "echo json_encode(json_decode(stream_get_contents(STDIN), true), JSON_PRETTY_PRINT);";

const PROGRAMS: [(&str, &[&str]); 17] = [
    ("unchanged", &["cat"]),
    ("python", &["python3", "-c", PYTHON]),
    ("python raw", &["python3", "-c", PYTHON_RAW]),
    ("python compact", &["python3", "-c", PYTHON_COMPACT]),
    ("python indented", &["python3", "-c", PYTHON_4]),
    ("python sorted", &["python3", "-c", PYTHON_SORTED]),
    ("node", &["node", "-e", NODE]),
    ("node indented", &["node", "-e", NODE_2]),
    ("jq -c", &["jq", "-c", "."]),
    ("jq -S", &["jq", "-S", "."]),
    ("jq --tab", &["jq", "--tab", "."]),
    ("jq --indent 4", &["jq", "--indent", "4", "."]),
    ("perl", &["perl", "-MJSON::PP", "-e", PERL]),
    ("php", &["php", "-r", PHP]),
    ("php, unicode", &["php", "-r", PHP_UNICODE]),
    ("php, unicode and slashes", &["php", "-r", PHP_RAW]),
    ("php indented", &["php", "-r", PHP_4]),
];

/// Returns [`MIXED`], a body in klikit's documented order, and a larger sample.
fn bodies() -> Vec<Vec<u8>> {
    let (_, samples) = deliveries::all();
    let named = |file: &str| samples.iter().find(|sample| sample.file == file).unwrap().body.to_vec();
    vec![MIXED.into(), named("documented-example.json"), named("single-item-delivery.json")]
}

#[test]
fn restores_any_program_from_any_other() {
    // The third body takes long and tests nothing more.
    for body in &bodies()[..2] {
        let texts: Vec<_> = PROGRAMS.iter().map(|(name, command)| (*name, run(command, body))).collect();
        let mut differ = 0;
        for (writer, original) in &texts {
            for (rewriter, command) in PROGRAMS {
                let received = run(command, original);
                // Sorting loses the order of undocumented fields, unless they were sorted already.
                let keeps_order = !matches!(rewriter, "python sorted" | "jq -S" | "perl");
                if received == *original || (!keeps_order && has_unknown_order(original)) {
                    continue;
                }
                differ += 1;
                let diagnosis = diagnose(&keyring(SECRET), &without_length(signed(SECRET, original)), &received);
                assert_eq!(diagnosis.certainty(), Certainty::Proven, "{rewriter} of {writer}: {diagnosis}");
                let newline_alone = received.trim_ascii_end() == original.trim_ascii_end();
                let cause = if newline_alone { Cause::BodyFinalNewline } else { Cause::BodyReencoded };
                assert_eq!(diagnosis.cause(), cause, "{rewriter} of {writer}: {diagnosis}");
            }
        }
        assert!(differ > 100, "{differ} of {}", PROGRAMS.len() * PROGRAMS.len());
    }
}

fn has(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

/// Returns whether the keys are neither in alphabetical order nor in an order that the diagnosis knows.
fn has_unknown_order(text: &[u8]) -> bool {
    let at = |key: &str| text.windows(key.len()).position(|window| window == key.as_bytes());
    // In `MIXED`, the last key would be first in alphabetical order.
    at("\"a_last\"").zip(at("\"external_id\"")).is_some_and(|(last, before)| last > before)
}

/// Sends a body through axum's `Json<Value>`, as most Rust programs do. `serde_json::Value` sorts the keys.
async fn through_axum(body: &[u8]) -> Vec<u8> {
    let app: Router = Router::new().route("/", post(async |Json(body): Json<Value>| body.to_string()));
    let request =
        Request::post("/").header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_vec())).unwrap();
    to_bytes(app.oneshot(request).await.unwrap().into_body(), 1 << 20).await.unwrap().into()
}

#[tokio::test]
async fn restores_keys_sorted_by_serde_json() {
    let (secret, samples) = deliveries::all();
    for sample in samples {
        let received = through_axum(&sample.body).await;
        assert_ne!(received, sample.body);
        let headers = without_length(signed(&secret, &sample.body));
        let diagnosis = diagnose(&keyring(&secret), &headers, &received);
        assert_found(&diagnosis, Cause::BodyReencoded, Certainty::Proven);
        assert!(diagnosis.to_string().contains("in klikit's"), "{}: {diagnosis}", sample.file);
    }
}

#[test]
fn restores_every_sample_from_common_programs() {
    let (secret, samples) = deliveries::all();
    for sample in samples {
        for command in [&["python3", "-c", PYTHON][..], &["jq", "."], &["jq", "-S", "-c", "."], &["jq", "--tab", "."]] {
            let received = run(command, &sample.body);
            let headers = without_length(signed(&secret, &sample.body));
            let diagnosis = diagnose(&keyring(&secret), &headers, &received);
            assert_found(&diagnosis, Cause::BodyReencoded, Certainty::Proven);
        }
    }
}

#[test]
fn describes_the_original() {
    let diagnosis = |original: &[u8], received: &[u8]| {
        assert_proven(&without_length(signed(SECRET, original)), received, Cause::BodyReencoded).to_string()
    };
    let body = MIXED.as_bytes();
    let python = run(&["python3", "-c", PYTHON], body);
    assert!(diagnosis(body, &python).contains("the original was compact JSON, with as few characters escaped"));
    assert!(
        diagnosis(&python, body)
            .contains("a space after each comma and colon, with characters outside of ASCII escaped")
    );
    let php = run(&["php", "-r", PHP], br#"{"a":"/\u00e9"}"#);
    assert!(
        diagnosis(&php, br#"{ "a": "/\u00e9" }"#)
            .contains("slashes and characters outside of ASCII escaped, as PHP does")
    );
    let lines = run(&["jq", "."], body);
    assert!(diagnosis(&lines, body).contains("indented by two spaces, with a newline at its end"));
    let sorted = run(&["jq", "-cS", "."], body);
    assert!(diagnosis(&sorted, body).contains("compact JSON, with its keys in alphabetical order, with a newline"));
}

/// With `true`, PHP decodes objects to arrays and writes an empty one as `[]`. The name of the member tells it from a list.
#[test]
fn restores_empty_objects_of_php_arrays() {
    let (_, samples) = deliveries::all();
    let mut restored = 0;
    for body in samples.iter().map(|sample| &sample.body[..]) {
        for command in [PHP_ARRAYS, PHP_ARRAYS_RAW, PHP_ARRAYS_4] {
            let received = run(&["php", "-r", command], body);
            if received == body {
                continue;
            }
            let found = assert_proven(&without_length(signed(SECRET, body)), &received, Cause::BodyReencoded);
            let emptied = has(body, "{}");
            assert_eq!(found.to_string().contains("with `{}` where PHP's json_decode(…, true) left `[]`"), emptied);
            assert!(!has(&received, "{}"));
            restored += usize::from(emptied);
        }
    }
    assert!(restored > 20, "{restored}");
}

/// A plural name is taken for a list.
#[test]
fn empty_object_with_plural_name_is_not_restored() {
    let body = br#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"promos":{}}]}"#;
    let received = run(&["php", "-r", PHP_ARRAYS], body);
    assert_unknown(&without_length(signed(SECRET, body)), &received);
}

/// JavaScript's parsers once took U+2028 for the end of a line, so PHP escapes it even where it escapes no other character.
#[test]
fn restores_line_separator() {
    let body = "{\"line\":\"a\u{2028}b/é\"}";
    let programs =
        PROGRAMS.iter().filter(|(name, _)| matches!(*name, "python" | "python raw") || name.starts_with("php"));
    for (writer, command) in programs.clone() {
        let original = run(command, body.as_bytes());
        let headers = without_length(signed(SECRET, &original));
        for (_, command) in programs.clone().filter(|(rewriter, _)| rewriter != writer) {
            let received = run(command, &original);
            assert_proven(&headers, &received, Cause::BodyReencoded);
        }
    }
}

/// The originals are the recorded output of Go's `encoding/json` and .NET's `System.Text.Json`. Running these programs would need
/// large toolchains.
#[test]
fn restores_json_of_go_and_dot_net() {
    let received = r#"{"brand_id":1,"title":"<Fish & Chips> 'é' +"}"#;
    let go = r#"{"brand_id":1,"title":"\u003cFish \u0026 Chips\u003e 'é' +"}"#;
    let dot_net = r#"{"brand_id":1,"title":"\u003CFish \u0026 Chips\u003E \u0027\u00E9\u0027 \u002B"}"#;
    for original in [go.to_owned(), dot_net.to_owned(), format!("{go}\n")] {
        let headers = without_length(signed(SECRET, original.as_bytes()));
        assert_proven(&headers, received.as_bytes(), Cause::BodyReencoded);
        let spaced = run(&["python3", "-c", PYTHON], original.as_bytes());
        assert_proven(&headers, &spaced, Cause::BodyReencoded);
    }
}

/// Perl writes keys in a random order. The original order is the documented or the alphabetical one.
#[test]
fn restores_random_order_of_keys() {
    const PERL_ANY: &str = "local $/; print JSON::PP->new->utf8->encode(JSON::PP->new->utf8->decode(<STDIN>))";
    for body in &bodies()[1..] {
        for _ in 0..5 {
            let received = run(&["perl", "-MJSON::PP", "-e", PERL_ANY], body);
            assert_proven(&without_length(signed(SECRET, body)), &received, Cause::BodyReencoded);
        }
    }
}

#[test]
fn restores_only_bodies_with_unchanged_numbers() {
    let body = br#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"total":12.50,"tax":1e2,"ratio":-0.0}]}"#;
    let headers = without_length(signed(SECRET, body));
    let spaced = run(&["sed", "s/:/: /g; s/,/, /g"], body);
    assert_proven(&headers, &spaced, Cause::BodyReencoded);
    let rounded = run(&["node", "-e", NODE], body);
    assert!(rounded.windows(5).any(|window| window == b"12.5,"));
    assert_unknown(&headers, &rounded);
    assert_unknown(&headers, &run(&["python3", "-c", PYTHON], body));
    // A parser drops the duplicate, so the original is lost.
    let twice = br#"{"id":1,"id":2}"#;
    assert_unknown(&without_length(signed(SECRET, twice)), &run(&["jq", "-c", "."], twice));
}

/// Sorting an unknown order of keys cannot be undone, but the diagnosis mentions the alphabetical order.
#[test]
fn mentions_keys_sorted_from_unknown_order() {
    let body = br#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"type":2,"currency":"IDR","total":"9.50","a":1}]}"#;
    let headers = without_length(signed(SECRET, body));
    let sorted = run(&["jq", "-cS", "."], body);
    let diagnosis = diagnose(&keyring(SECRET), &headers, &sorted);
    assert_found(&diagnosis, Cause::Unknown, Certainty::Unknown);
    assert!(diagnosis.to_string().contains("all keys of the body are in alphabetical order"), "{diagnosis}");
    // Other orders are not mentioned.
    let forged = diagnose(&keyring("another"), &headers, body);
    assert!(!forged.to_string().contains("alphabetical"), "{forged}");
}
