//! Faults of the headers.

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::Method,
    middleware::{Next, from_fn},
    routing::post,
};
use http::{HeaderMap, header};
use tower::ServiceExt;
use tower_klikit::{
    Keyring, WebhookSecret,
    diagnose::{Cause, Certainty, Diagnostician, diagnose},
    header::{EVENT_ID, SIGNATURE},
};

use crate::diagnose::kit::{
    BODY, SECRET, assert_found, assert_proven, assert_shown, assert_unknown, keyring, run, signature, signed, with,
    with_signature, without,
};

fn genuine() -> HeaderMap {
    signed(SECRET, BODY.as_bytes())
}

/// Returns the output of `openssl dgst -sha256` for this input.
fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    run(&[&["openssl", "dgst", "-sha256"], arguments].concat(), input)
}

/// Returns the 64 hex digits in the output of openssl.
fn hex_of(line: Vec<u8>) -> String {
    let line = String::from_utf8(line).unwrap();
    line.split_whitespace().find(|word| word.len() == 64).expect("openssl prints 64 digits").to_owned()
}

#[test]
fn genuine_delivery_verifies() {
    let diagnosis = assert_proven(&genuine(), BODY.as_bytes(), Cause::Verifies);
    assert!(diagnosis.further_causes().is_empty());
    assert_eq!(signature(&genuine()), hex_of(openssl(&["-hmac", SECRET], BODY.as_bytes())));
}

#[test]
fn names_the_secret_that_matched() {
    let keyring = Keyring::new("tenant", "old", WebhookSecret::new(SECRET).unwrap());
    keyring.add("new", WebhookSecret::new("another").unwrap()).unwrap();
    let diagnosis = diagnose(&keyring, &genuine(), BODY.as_bytes());
    assert_found(&diagnosis, Cause::Verifies, Certainty::Proven);
    assert_eq!(diagnosis.secret_id(), Some("old"));
}

/// API gateways have a list of allowed headers.
#[tokio::test]
async fn gateway_strips_all_klikit_headers() {
    let strip = from_fn(async |mut request: Request, next: Next| {
        let allowed = [header::CONTENT_TYPE, header::CONTENT_LENGTH];
        let headers = std::mem::take(request.headers_mut());
        let kept = headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
        request.headers_mut().extend(kept.filter(|(name, _)| allowed.contains(name)));
        next.run(request).await
    });
    let handler = async |headers: HeaderMap, body: bytes::Bytes| {
        let diagnosis = assert_shown(&headers, &body, Cause::SignatureMissing);
        assert!(diagnosis.to_string().contains("the request has no x-klikit-* header"), "{diagnosis}");
    };
    let app: Router = Router::new().route("/", post(handler).layer(strip));
    let mut request = Request::new(Body::from(BODY));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = genuine();
    assert_eq!(app.oneshot(request).await.unwrap().status(), 200);
}

#[test]
fn only_the_signature_is_missing() {
    let diagnosis = assert_shown(&without(genuine(), &SIGNATURE), BODY.as_bytes(), Cause::SignatureMissing);
    assert!(diagnosis.to_string().contains("the request has other x-klikit-* headers"), "{diagnosis}");
}

#[test]
fn signature_is_repeated() {
    let hex = signature(&genuine());
    assert_proven(&with(genuine(), SIGNATURE, &hex), BODY.as_bytes(), Cause::SignatureRepeated);
    assert_proven(&with(genuine(), SIGNATURE, &"0".repeat(64)), BODY.as_bytes(), Cause::SignatureRepeated);
    assert_proven(&with_signature(genuine(), format!("{hex},{hex}")), BODY.as_bytes(), Cause::SignatureRepeated);
    assert_shown(&with(genuine(), SIGNATURE, &hex), b"{}", Cause::SignatureRepeated);
    assert_shown(&with_signature(genuine(), format!("{hex}, {hex}")), b"{}", Cause::SignatureRepeated);
    // Joined by a comma, and repeated.
    let twice = with(with_signature(genuine(), format!("{hex},{hex}")), SIGNATURE, &hex);
    assert!(assert_proven(&twice, BODY.as_bytes(), Cause::SignatureRepeated).further_causes().is_empty());
}

#[test]
fn signature_is_base64() {
    let line = ["sh", "-c", "openssl dgst -sha256 -hmac \"$0\" -binary | base64", SECRET];
    // Find a signature with both characters that differ in base64 for URLs.
    let (body, standard) = (0..)
        .map(|n| format!("{{\"id\":{n}}}"))
        .map(|body| (String::from_utf8(run(&line, body.as_bytes())).unwrap().trim().to_owned(), body))
        .find_map(|(tag, body)| (tag.contains('+') && tag.contains('/')).then_some((body, tag)))
        .unwrap();
    let genuine = signed(SECRET, body.as_bytes());
    let of_text = run(&["base64", "-w0"], signature(&genuine).as_bytes());
    let of_text = String::from_utf8(of_text).unwrap();
    let url = standard.replace('+', "-").replace('/', "_");
    for value in [&standard, standard.trim_end_matches('='), &url, url.trim_end_matches('='), &of_text] {
        let headers = with_signature(genuine.clone(), value);
        assert_proven(&headers, body.as_bytes(), Cause::SignatureBase64);
        assert_shown(&headers, b"{}", Cause::SignatureBase64);
    }
}

#[test]
fn signature_has_a_prefix() {
    let hex = signature(&genuine());
    for value in [format!("sha256={hex}"), format!("hmac-sha256={hex}"), format!("v1={hex}"), format!("sha256:{hex}")] {
        let headers = with_signature(genuine(), value);
        let diagnosis = assert_proven(&headers, BODY.as_bytes(), Cause::SignaturePrefixed);
        assert!(diagnosis.further_causes().is_empty());
        assert_shown(&headers, b"{}", Cause::SignaturePrefixed);
    }
}

#[test]
fn signature_is_truncated() {
    let hex = signature(&genuine());
    for len in [16, 17, 32, 63] {
        let headers = with_signature(genuine(), &hex[..len]);
        assert_proven(&headers, BODY.as_bytes(), Cause::SignatureTruncated);
        assert_proven(
            &with_signature(genuine(), hex[..len].to_uppercase()),
            BODY.as_bytes(),
            Cause::SignatureTruncated,
        );
        // Without proof, the header does not show that it was truncated.
        assert_shown(&headers, b"{}", Cause::SignatureMalformed);
    }
    assert_shown(&with_signature(genuine(), &hex[..15]), BODY.as_bytes(), Cause::SignatureMalformed);
    assert_shown(&with_signature(genuine(), &hex[1..]), BODY.as_bytes(), Cause::SignatureMalformed);
}

/// Returns the timestamped signature of [`BODY`], by openssl.
fn stamped(time: &str) -> String {
    hex_of(openssl(&["-hmac", SECRET], format!("{time}.{BODY}").as_bytes()))
}

#[test]
fn signature_is_timestamped() {
    let hex = stamped("1777777777");
    // A delivery with a timestamped signature needs no event id header: the id is in the body.
    let headers = without(with_signature(genuine(), format!("t=1777777777,v1={hex}")), &EVENT_ID);
    let diagnosis = assert_proven(&headers, BODY.as_bytes(), Cause::SignatureTimestamped);
    assert!(diagnosis.fix().contains("KlikitVerifyLayer::accept_timestamped"));
    // The diagnosis has no clock.
    assert!(!diagnosis.to_string().contains("clock"), "{diagnosis}");
    assert_shown(&headers, b"{}", Cause::SignatureTimestamped);
    let other_time = with_signature(genuine(), format!("t=1777777778,v1={hex}"));
    assert_shown(&other_time, BODY.as_bytes(), Cause::SignatureTimestamped);
    // A signature of the body alone does not match as a timestamped signature.
    let of_body = with_signature(genuine(), format!("t=1777777777,v1={}", signature(&genuine())));
    assert_shown(&with(of_body, SIGNATURE, &"0".repeat(64)), BODY.as_bytes(), Cause::SignatureRepeated);
}

#[test]
fn timestamp_was_moved_into_the_body() {
    let headers = with_signature(genuine(), stamped("1777777777"));
    let moved = format!("1777777777.{BODY}");
    // If the receiver does not accept timestamped signatures, it is a body like any other.
    assert_proven(&headers, moved.as_bytes(), Cause::Verifies);
    let diagnosis = Diagnostician::new(keyring(SECRET)).accept_timestamped().diagnose(&headers, moved.as_bytes());
    assert_found(&diagnosis, Cause::TimestampInBody, Certainty::Proven);
    assert!(!diagnosis.verifies() && diagnosis.to_string().contains("never accept it"), "{diagnosis}");
}

/// A malformed timestamped signature is a fault, whether the receiver accepts timestamped signatures or not.
#[test]
fn timestamped_signature_is_malformed() {
    let (seconds, millis) = ("1777777777", "1777777777000");
    let (hex, hex_of_millis) = (stamped(seconds), stamped(millis));
    for (value, detail) in [
        (format!("t={seconds}, v1={hex}"), "white space"),
        (format!("t={seconds},v1={hex} "), "white space"),
        (format!("v1={hex},t={seconds}"), "another order"),
        (format!("t={seconds},v0=x,v1={hex}"), "its parts have other names"),
        (format!("t={millis},v1={hex_of_millis}"), "milliseconds"),
    ] {
        let headers = without(with_signature(genuine(), value), &EVENT_ID);
        let diagnostician = Diagnostician::new(keyring(SECRET));
        for diagnostician in [diagnostician.clone(), diagnostician.accept_timestamped()] {
            let (proven, shown) =
                (diagnostician.diagnose(&headers, BODY.as_bytes()), diagnostician.diagnose(&headers, b"{}"));
            for (diagnosis, certainty) in [(proven, Certainty::Proven), (shown, Certainty::Shown)] {
                assert_found(&diagnosis, Cause::SignatureTimestampMalformed, certainty);
                assert!(
                    diagnosis.detail().unwrap().contains(detail) && diagnosis.further_causes().is_empty(),
                    "{diagnosis}"
                );
                assert!(diagnosis.fix().contains("write `t=<seconds since 1970>,v1=<64 hex digits>` and nothing else"));
                assert!(!diagnosis.to_string().contains("clock"), "{diagnosis}");
            }
        }
    }
    // These have no valid time, or no valid signature.
    for value in [format!("t=,v1={hex}"), format!("t=-1,v1={hex}"), format!("t=1, v1={}", &hex[1..]), "t=1, v1=".into()]
    {
        assert_shown(&with_signature(genuine(), value), BODY.as_bytes(), Cause::SignatureMalformed);
    }
}

/// Each timestamped signature contains a comma of its own.
#[test]
fn timestamped_signatures_are_joined_by_commas() {
    let (one, other) = (format!("t=1777777777,v1={}", stamped("1777777777")), format!("t=1,v1={}", "0".repeat(64)));
    for value in
        [format!("{one},{one}"), format!("{one}, {one}"), format!("{other} , {one}"), format!("{one},{other},{other}")]
    {
        let headers = with_signature(genuine(), value);
        let diagnosis = Diagnostician::new(keyring(SECRET)).accept_timestamped().diagnose(&headers, BODY.as_bytes());
        assert_found(&diagnosis, Cause::SignatureRepeated, Certainty::Proven);
        assert!(diagnosis.further_causes().is_empty(), "{diagnosis}");
        assert_shown(&headers, b"{}", Cause::SignatureRepeated);
    }
}

#[test]
fn accepted_deviation_is_no_fault() {
    let older = with_signature(genuine(), format!("t=1777777777,v1={}", stamped("1777777777")));
    let missing = without(genuine(), &EVENT_ID);
    let repeated = |headers: HeaderMap| with(headers, EVENT_ID, "another");
    let plain = Diagnostician::new(keyring(SECRET));
    let timestamped = plain.clone().accept_timestamped();
    let without_id = plain.clone().allow_missing_event_id();
    for (diagnostician, headers, cause) in [
        (&plain, older.clone(), Cause::SignatureTimestamped),
        (&timestamped, older.clone(), Cause::Verifies),
        (&timestamped, without(older.clone(), &EVENT_ID), Cause::Verifies),
        // A timestamped delivery may lack the event id, but not repeat it.
        (&timestamped, repeated(older.clone()), Cause::EventIdRepeated),
        (&timestamped, missing.clone(), Cause::EventIdMissing),
        (&timestamped, genuine(), Cause::Verifies),
        (&plain, missing.clone(), Cause::EventIdMissing),
        (&without_id, missing, Cause::Verifies),
        (&without_id, repeated(genuine()), Cause::EventIdRepeated),
        (&without_id, older.clone(), Cause::SignatureTimestamped),
    ] {
        let diagnosis = diagnostician.diagnose(&headers, BODY.as_bytes());
        assert_found(&diagnosis, cause, Certainty::Proven);
        assert_eq!(diagnosis.verifies(), cause == Cause::Verifies);
    }
    // A repeated header is a fault, but the accepted form is not reported as a second one.
    let twice = with(older, SIGNATURE, "00");
    let diagnosis = timestamped.diagnose(&twice, BODY.as_bytes());
    assert_eq!((diagnosis.cause(), diagnosis.further_causes()), (Cause::SignatureRepeated, &[][..]), "{diagnosis}");
}

#[test]
fn signature_is_in_upper_case() {
    let upper = signature(&genuine()).to_uppercase();
    let diagnosis = assert_proven(&with_signature(genuine(), &upper), BODY.as_bytes(), Cause::SignatureUpperCase);
    assert!(diagnosis.verifies());
    // Upper case verifies here, so it is not reported together with another fault, nor as the cause of a mismatch.
    assert_proven(&with_signature(genuine(), &upper), format!("{BODY}\n").as_bytes(), Cause::BodyFinalNewline);
    assert_unknown(&with_signature(without_length(), &upper), b"{}");
}

fn without_length() -> HeaderMap {
    without(genuine(), &header::CONTENT_LENGTH)
}

#[test]
fn signature_has_quotes_or_white_space() {
    let hex = signature(&genuine());
    for value in
        [format!("\"{hex}\""), format!("'{hex}'"), format!(" {hex}"), format!("{hex}\t"), format!("\" {hex} \"")]
    {
        let headers = with_signature(genuine(), value);
        assert_proven(&headers, BODY.as_bytes(), Cause::SignaturePadded);
        assert_shown(&headers, b"{}", Cause::SignaturePadded);
    }
}

#[test]
fn signature_is_malformed() {
    let sha1 = String::from_utf8(run(&["openssl", "dgst", "-sha1", "-r"], BODY.as_bytes())).unwrap();
    let sha1 = with_signature(genuine(), &sha1[..40]);
    let diagnosis = assert_shown(&sha1, BODY.as_bytes(), Cause::SignatureMalformed);
    assert!(diagnosis.to_string().contains("40 digits, as many as SHA-1 has"), "{diagnosis}");
    for value in ["", "0", "none", "Bearer x", &"0".repeat(65), &"g".repeat(64), "t=1", "sha256=", "==", "\u{e9}"] {
        assert_shown(&with_signature(genuine(), value), BODY.as_bytes(), Cause::SignatureMalformed);
    }
}

#[test]
fn finds_signature_made_without_secret() {
    for arguments in [&["-r"][..], &["-hmac", ""]] {
        let hex = hex_of(openssl(arguments, BODY.as_bytes()));
        let diagnosis = assert_shown(&with_signature(genuine(), hex), BODY.as_bytes(), Cause::SignedWithoutSecret);
        assert!(diagnosis.fix().starts_with("never accept it"));
    }
}

#[test]
fn signature_is_digest_of_secret_and_body() {
    for input in [format!("{SECRET}{BODY}"), format!("{BODY}{SECRET}")] {
        let hex = hex_of(openssl(&["-r"], input.as_bytes()));
        assert_proven(&with_signature(genuine(), hex), BODY.as_bytes(), Cause::SignedWithoutHmac);
    }
}

#[test]
fn event_id_is_missing_repeated_or_malformed() {
    let missing = without(genuine(), &EVENT_ID);
    let repeated = with(genuine(), EVENT_ID, "another");
    let malformed = with(missing.clone(), EVENT_ID, "two words");
    for (headers, cause) in
        [(missing, Cause::EventIdMissing), (repeated, Cause::EventIdRepeated), (malformed, Cause::EventIdMalformed)]
    {
        assert_proven(&headers, BODY.as_bytes(), cause);
        let upper = signature(&headers).to_uppercase();
        assert_proven(&with_signature(headers.clone(), upper), BODY.as_bytes(), cause);
        // Without a matching signature, the event id is not reported.
        assert_unknown(&with_signature(headers, "0".repeat(64)), BODY.as_bytes());
    }
}

#[test]
fn reports_several_faults_together() {
    let wrapped = |headers: &HeaderMap| format!("sha256={}", signature(headers));
    let headers = with_signature(genuine(), wrapped(&genuine()));
    let diagnosis = assert_proven(&headers, format!("{BODY}\n").as_bytes(), Cause::BodyFinalNewline);
    assert_eq!(diagnosis.further_causes(), [Cause::SignaturePrefixed]);

    let diagnosis = diagnose(&keyring(format!("{SECRET}\n")), &headers, BODY.as_bytes());
    assert_found(&diagnosis, Cause::SecretWhiteSpace, Certainty::Proven);
    assert_eq!(diagnosis.further_causes(), [Cause::SignaturePrefixed]);

    let diagnosis = assert_proven(&without(headers, &EVENT_ID), BODY.as_bytes(), Cause::SignaturePrefixed);
    assert_eq!(diagnosis.further_causes(), [Cause::EventIdMissing]);
}

/// All faults must be fixed before the delivery verifies.
#[test]
fn diagnosis_has_the_fix_of_each_fault() {
    let headers = with_signature(genuine(), format!("sha256={}", signature(&genuine())));
    let diagnosis = diagnose(&keyring(format!("SECRET=\"{SECRET}\"")), &headers, BODY.as_bytes());
    assert_eq!(diagnosis.cause(), Cause::SecretLine);
    assert_eq!(diagnosis.further_causes(), [Cause::SecretQuoted, Cause::SignaturePrefixed]);
    let text = diagnosis.to_string();
    for cause in [Cause::SecretLine, Cause::SecretQuoted, Cause::SignaturePrefixed] {
        assert!(text.contains(cause.fix()), "{cause:?}: {text}");
    }
}

#[test]
fn reports_a_search_that_was_cut_short() {
    let forged = with_signature(without_length(), "0".repeat(64));
    assert!(diagnose(&keyring(SECRET), &forged, BODY.as_bytes()).tried_all());
    let many = Keyring::new("tenant", "0", WebhookSecret::new("a secret of 0").unwrap());
    for n in 1..Keyring::MAX_SECRETS {
        many.add(n.to_string(), WebhookSecret::new(format!("a secret of {n}")).unwrap()).unwrap();
    }
    let body = format!("[{}1]", "\"é/\",".repeat(1000));
    let diagnosis = diagnose(&many, &forged, body.as_bytes());
    assert!(!diagnosis.tried_all() && diagnosis.to_string().contains("the search was cut short"), "{diagnosis}");
    let genuine = signed("a secret of 0", body.as_bytes());
    assert!(diagnose(&many, &genuine, body.as_bytes()).tried_all());
}
