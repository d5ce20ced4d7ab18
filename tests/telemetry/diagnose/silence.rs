//! Tests that diagnoses and reports contain no secret, no body and no whole signature.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tower_klikit::{Keyring, WebhookSecret, diagnose::SupportReport, header::EVENT_ID};

use crate::diagnose::kit::{diagnose_with, run, signature, signed, with, with_signature, without};

const RIGHT: &str = "MARKED-secret-right";
const CANDIDATE: &str = "MARKED-secret-candidate";
const BODY: &str = r#"{"brand_id":1,"orders":[{"MARKED_key":"MARKED café","phone":"MARKED/62"}]}"#;

/// Returns all texts of a diagnosis and its reports, with a fixed event id.
fn printed(configured: &str, headers: &HeaderMap, body: &[u8]) -> String {
    // By default, a signed delivery has an event id that begins like the signature.
    printed_with_id(configured, &with(without(headers.clone(), &EVENT_ID), EVENT_ID, "evt-7"), body)
}

/// Returns all texts of a diagnosis and its reports.
fn printed_with_id(configured: &str, headers: &HeaderMap, body: &[u8]) -> String {
    let mut headers = headers.clone();
    for name in [header::AUTHORIZATION, header::COOKIE, header::USER_AGENT] {
        headers.insert(name, HeaderValue::from_static("MARKED-credentials"));
    }
    let keyring = Keyring::new("tenant", "first", WebhookSecret::new(configured).unwrap());
    let candidates = Keyring::new("tenant", "second", WebhookSecret::new(CANDIDATE).unwrap());
    let diagnosis = diagnose_with(&candidates, keyring, &headers, body);
    let report = SupportReport::new(&diagnosis, &headers, body);
    let answered = report.clone().answered(StatusCode::FORBIDDEN);
    let (cause, certainty) = (diagnosis.cause(), diagnosis.certainty());
    assert!(!diagnosis.to_string().contains('\n'), "{diagnosis}");
    format!("{diagnosis} {diagnosis:?} {diagnosis:#?} {cause} {cause:?} {certainty} {report} {report:#?} {answered}")
}

#[test]
fn texts_contain_no_secret_body_or_signature() {
    let genuine = signed(RIGHT, BODY.as_bytes());
    let hex = signature(&genuine);
    let pretty = run(&["jq", "-S", "."], BODY.as_bytes());
    let quoted = format!("\"{RIGHT}\"");
    let bodies: [&[u8]; 7] = [
        BODY.as_bytes(),
        b"",
        b"MARKED",
        &pretty,
        &run(&["gzip", "-c"], BODY.as_bytes()),
        &BODY.as_bytes()[..30],
        b"MARKED\xff\n",
    ];
    let values = [
        hex.clone(),
        hex.to_uppercase(),
        format!("sha256={hex}"),
        hex[..20].to_owned(),
        hex[..12].to_owned(),
        format!("{hex},{hex}"),
        format!("t=1,v1={hex}"),
        format!("\"{hex}\""),
        "MARKED".to_owned(),
        "zeIS2YVK5IK7R2SHoYfuiMS1+T6yRE3jT9clK1zLhm0=".to_owned(),
    ];
    let (mut proven, mut checked) = (0, 0);
    for configured in [RIGHT, &quoted, "MARKED-wrong", "MARKED=x"] {
        for body in bodies {
            for value in &values {
                let headers = with_signature(genuine.clone(), value);
                let text = printed(configured, &headers, body);
                assert!(!text.contains("MARKED"), "{text}");
                let right = signature(&signed(RIGHT, body));
                for signature in [&hex, &hex.to_uppercase(), &right, value] {
                    let end = signature.len().min(9);
                    assert!(!text.contains(&signature[..end]), "{value}: {text}");
                }
                proven += usize::from(text.contains("Proven"));
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 4 * 7 * 10);
    // Six values stand for the signature. The right secret proves them for three bodies, the quoted secret for one.
    assert_eq!(proven, 6 * 3 + 6);
}

#[test]
fn never_reveals_the_right_signature() {
    let headers = with_signature(signed(RIGHT, BODY.as_bytes()), "0".repeat(64));
    let right = signature(&signed(RIGHT, BODY.as_bytes()));
    let text = printed(RIGHT, &headers, BODY.as_bytes());
    assert!(!text.contains(&right[..6]), "{text}");
}

#[test]
fn malformed_headers_are_not_quoted() {
    let kind = tower_klikit::header::EVENT_TYPE;
    let mut headers = signed(RIGHT, BODY.as_bytes());

    headers.insert(kind, HeaderValue::from_bytes("MARKED é".as_bytes()).unwrap());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&"MARKED".repeat(50)).unwrap());
    let headers = with(headers, header::CONTENT_ENCODING, "MARKED\u{e9}");
    let headers = with(without(headers, &EVENT_ID), EVENT_ID, "MARKED two words");
    let text = printed_with_id(RIGHT, &headers, BODY.as_bytes());
    assert!(!text.contains("MARKED"), "{text}");
}
