//! Property tests: a forgery gets no cause, and no request makes the diagnosis panic.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use proptest::{collection::vec, prelude::*, sample::select};
use tower_klikit::{
    Keyring, WebhookSecret,
    diagnose::{Cause, Certainty, SupportReport, diagnose},
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
};

use crate::diagnose::{
    deliveries,
    kit::{MIXED, SECRET, diagnose_with, keyring, signed, with_signature},
};

/// Returns the samples of less than 5000 bytes, and [`MIXED`].
fn small_samples() -> Vec<Vec<u8>> {
    let (_, samples) = deliveries::all();
    let small = samples.into_iter().map(|sample| sample.body.to_vec()).filter(|body| body.len() < 5000);
    small.chain([MIXED.into()]).collect()
}

/// Generates bodies of all kinds: noise, JSON, samples, rewritten samples, and samples with one changed byte.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let json = r#"([\[\]{},:" 0-9ea./é<\\u-]|"a"|"orders"|true|\[\]|\{\}|"\\u00e9/"|"\\ud83d"){0,60}"#;
    let rewritten = select(small_samples()).prop_map(|body| {
        let value: serde_json::Value = serde_json::from_slice(&body).expect("samples are JSON");
        serde_json::to_vec_pretty(&value).expect("a value can be serialized")
    });
    let altered = (prop_oneof![select(small_samples()), rewritten.clone()], any::<usize>(), any::<u8>()).prop_map(
        |(mut body, at, byte)| {
            let at = at % body.len();
            body[at] = byte;
            body
        },
    );
    prop_oneof![
        4 => vec(any::<u8>(), 1..300),
        4 => json.prop_map(String::into_bytes),
        1 => select(small_samples()),
        1 => rewritten,
        1 => altered,
    ]
    .prop_filter("an empty body has a cause of its own", |body| !body.is_empty())
}

/// Returns whether the body begins like zstd, which is a shown cause.
fn looks_compressed(body: &[u8]) -> bool {
    body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

/// Generates header values that resemble signatures, lengths and codings, and noise.
fn header_value() -> impl Strategy<Value = HeaderValue> {
    let text = prop_oneof![
        "[0-9a-fA-F]{0,70}",
        "[A-Za-z0-9+/_-]{40,48}={0,2}",
        "(sha256=|t=[0-9]{0,12},v1=|v1=|\"| )?[0-9a-f]{63,65}[\" ]?",
        "[0-9a-f]{64},[0-9a-f]{64}",
        "t=[0-9]{0,30},[a-z0-9=,]{0,20}",
        "gzip|br|deflate|[0-9]{1,30}|application/json",
    ];
    prop_oneof![text.prop_map(String::into_bytes), vec(any::<u8>(), 0..80)]
        .prop_filter_map("the bytes are no valid header value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

/// Generates headers that a diagnosis reads.
fn headers() -> impl Strategy<Value = HeaderMap> {
    let names: Vec<HeaderName> =
        vec![SIGNATURE, EVENT_ID, EVENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_TYPE];
    vec((select(names), header_value()), 0..9).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn well_formed_forgery_has_no_cause(body in body(), by in "[!-~]{0,30}[0-9A-Za-z][!-~]{0,29}", digits in "[0-9a-f]{64}", random in any::<bool>()) {
        prop_assume!(by != SECRET && WebhookSecret::new(&by).is_ok() && !looks_compressed(&body));
        let headers = signed(&by, &body);
        let headers = if random { with_signature(headers, digits) } else { headers };
        let candidates = Keyring::from(WebhookSecret::new("candidate").unwrap());
        for diagnosis in [diagnose(&keyring(SECRET), &headers, &body), diagnose_with(&candidates, keyring(SECRET), &headers, &body)] {
            prop_assert_eq!((diagnosis.cause(), diagnosis.certainty()), (Cause::Unknown, Certainty::Unknown), "{}", diagnosis);
        }
    }

    /// An attacker reuses a captured signature with another body.
    #[test]
    fn captured_signature_has_no_cause(original in select(small_samples()), body in body()) {
        let value = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).ok();
        prop_assume!(original != body && !looks_compressed(&body) && value(&original) != value(&body));
        let headers = with_signature(signed(SECRET, &body), signed(SECRET, &original)[SIGNATURE].as_bytes());
        let diagnosis = diagnose(&keyring(SECRET), &headers, &body);
        prop_assert_eq!((diagnosis.cause(), diagnosis.certainty()), (Cause::Unknown, Certainty::Unknown), "{}", diagnosis);
    }

    #[test]
    fn any_request_is_diagnosed_without_panic(headers in headers(), body in prop_oneof![9 => body(), 1 => Just(Vec::new())], by in vec(any::<u8>(), 1..40)) {
        let Ok(secret) = WebhookSecret::new(&by) else { return Ok(()) };
        let keyring = Keyring::from(secret);
        let diagnosis = diagnose_with(&keyring, keyring.clone(), &headers, &body);
        prop_assert!(diagnosis.certainty() != Certainty::Proven);
        let report = SupportReport::new(&diagnosis, &headers, &body);
        let printed = format!("{diagnosis} {diagnosis:?} {report} {report:?}");
        prop_assert!(printed.bytes().all(|byte| byte == b'\n' || byte >= b' '), "{:?}", printed);
    }

    #[test]
    fn genuine_delivery_of_any_body_verifies(body in prop_oneof![9 => body(), 1 => Just(Vec::new())], by in "[!-~]{8,40}") {
        let diagnosis = diagnose(&keyring(&by), &signed(&by, &body), &body);
        prop_assert_eq!((diagnosis.cause(), diagnosis.certainty()), (Cause::Verifies, Certainty::Proven));
    }
}
