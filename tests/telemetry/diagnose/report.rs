//! Tests of the report for klikit's support.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use http::{HeaderMap, StatusCode, header};
use tower_klikit::{
    diagnose::{SupportReport, diagnose},
    header::{EVENT_ID, SIGNATURE},
};

use crate::diagnose::kit::{
    BODY, MIXED, SECRET, file_by_shell, keyring, run, signature, signed, with, with_signature, without,
};

fn report(headers: &HeaderMap, body: &[u8]) -> SupportReport {
    SupportReport::new(&diagnose(&keyring(SECRET), headers, body), headers, body)
}

/// Returns the SHA-256 by sha256sum(1).
fn digest(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8(run(&["sha256sum"], bytes.as_ref())).unwrap()[..64].to_owned()
}

/// Returns the value of the report's line with this name.
fn line_of(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

#[test]
fn contains_what_support_asks_for() {
    let headers = with(signed(SECRET, BODY.as_bytes()), header::CONTENT_ENCODING, "br");
    let headers = without(headers, &EVENT_ID);
    let headers = with(headers, EVENT_ID, "evt-7");
    let body = run(&["jq", "-S", "."], BODY.as_bytes());
    let text = report(&headers, &body).answered(StatusCode::FORBIDDEN).to_string();
    for (name, value) in [
        ("answered", "403"),
        ("cause", "body_reencoded, proven"),
        ("x-klikit-event-id", "evt-7"),
        ("x-klikit-event-type", "klikit.order.created.v2"),
        ("content-type", "application/json"),
        ("content-length", "49"),
        ("content-encoding", "br"),
        ("transfer-encoding", "missing"),
    ] {
        assert_eq!(line_of(&text, name), value, "{text}");
    }
    assert_eq!(
        line_of(&text, "x-klikit-signature"),
        format!("64 characters, lower-case hex, digest starts with {}", &digest(signature(&headers))[..8])
    );
    let shape = line_of(&text, "body");
    let expected = format!("{} bytes, SHA-256 {}, ASCII, indented JSON", body.len(), digest(&body));
    assert_eq!(shape, format!("{expected}, keys in alphabetical order, a final newline"));
    assert_eq!(line_of(&report(&headers, &body).timed_out().to_string(), "answered"), "nothing within 10 seconds");
    assert!(!report(&headers, &body).to_string().contains("answered"));
}

#[test]
fn describes_bodies() {
    let shape = |body: &[u8]| {
        let shape = line_of(&report(&HeaderMap::new(), body).to_string(), "body");
        shape.split(", ").skip(2).map(str::to_owned).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(shape(b""), "ASCII, not JSON");
    assert_eq!(shape(b"{}"), "ASCII, compact JSON, keys in alphabetical order");
    assert_eq!(shape(MIXED.as_bytes()), "UTF-8 beyond ASCII, compact JSON, keys in another order");
    assert_eq!(shape(br#"{"a": " \n "}"#), "ASCII, spaced JSON, keys in alphabetical order");
    assert_eq!(shape(b"\xff\r\n"), "not UTF-8, not JSON, CRLF, a final newline");
    assert_eq!(
        shape("\u{feff}\u{fffd}".as_bytes()),
        "UTF-8 beyond ASCII, not JSON, a byte order mark, U+FFFD, which replaces bytes that were lost"
    );
}

#[test]
fn describes_signatures() {
    let hex = signature(&signed(SECRET, BODY.as_bytes()));
    let shape = |value: &str| {
        let headers = with_signature(HeaderMap::new(), value);
        line_of(&report(&headers, b"").to_string(), "x-klikit-signature")
    };
    // The digest is that of the lower-case digits, for any case and any text around them.
    let digest = format!("digest starts with {}", &digest(&hex)[..8]);
    assert_eq!(shape(&hex.to_uppercase()), format!("64 characters, upper-case hex, {digest}"));
    assert_eq!(shape(&format!("\"{hex}\"")), format!("66 characters, other characters, {digest}"));
    assert_eq!(shape("aA"), "2 characters, hex of both cases");
    assert_eq!(shape(&hex[..63]), "63 characters, lower-case hex");
    assert_eq!(shape(&format!("{hex}0")), "65 characters, lower-case hex");
    assert_eq!(shape("zeIS2YVK5IK7R2SHoYfuiMS1+T6yRE3jT9clK1zLhm0="), "44 characters, base64 or the like");
    assert_eq!(shape(""), "0 characters, base64 or the like");
    let twice = with(with_signature(HeaderMap::new(), "12345678"), SIGNATURE, "x");
    let text = line_of(&report(&twice, b"").to_string(), "x-klikit-signature");
    assert_eq!(text, "2 times, the first one: 8 characters, lower-case hex");
}

/// A hex secret in the signature header looks like a signature.
#[test]
fn secret_in_the_signature_header_is_not_shown() {
    let long = "9f6be0cc21d37a55c9bd4b1dcd3b7a8a".repeat(4);
    for len in [8, 16, 32, 63, 64, 65, 128] {
        for value in [long[..len].to_owned(), long[..len].to_uppercase(), format!("t=1777777777,v1={}", &long[..len])] {
            let report = report(&with_signature(signed(SECRET, BODY.as_bytes()), &value), BODY.as_bytes());
            let text = format!("{report} {report:?}").to_lowercase();
            for start in 0..len - 4 {
                assert!(!text.contains(&long[start..start + 5]), "{value}: {text}");
            }
        }
    }
}

/// Runs the commands of the report in a shell, and returns the words of their output.
fn run_commands(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let [digest, tag, documented] = lines[..] else { panic!("{text}") };
    let script = format!(
        "cd \"$(mktemp -d)\"; export KLIKIT_WEBHOOK_SECRET={SECRET}; printf %s '{BODY}' > body.bin; {{ {digest}; {tag}; \
         export KLIKIT_WEBHOOK_SECRET=your-webhook-secret; {documented}; {tag}; }} > \"$1\""
    );
    let printed = String::from_utf8(file_by_shell(&script)).unwrap();
    printed.split_whitespace().filter(|word| *word != "body.bin").map(str::to_owned).collect()
}

#[test]
fn commands_print_the_signatures() {
    let tag = signature(&signed(SECRET, BODY.as_bytes()));
    let text = report(&signed(SECRET, BODY.as_bytes()), BODY.as_bytes()).to_string();
    let vector = "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d";
    let starts = [&digest(&tag)[..8], &digest(vector)[..8]];
    assert_eq!(run_commands(&text), [&digest(BODY), &*tag, starts[0], vector, starts[1]]);
    assert!(line_of(&text, "body").contains(&digest(BODY)), "{text}");
    assert!(line_of(&text, "x-klikit-signature").ends_with(starts[0]), "{text}");
    assert_eq!(text.lines().last(), Some(&*format!("the second command prints {vector} {}", starts[1])));
}

#[test]
fn commands_print_timestamped_signatures() {
    let tag = |secret: &str| signature(&signed(secret, format!("1777777777.{BODY}").as_bytes()));
    let headers = with_signature(signed(SECRET, BODY.as_bytes()), format!("t=1777777777,v1={}", tag(SECRET)));
    let text = report(&headers, BODY.as_bytes()).to_string();
    assert_eq!(line_of(&text, "cause"), "signature_timestamped, proven");
    let (tag, vector) = (tag(SECRET), tag("your-webhook-secret"));
    let starts = [&digest(&tag)[..8], &digest(&vector)[..8]];
    assert_eq!(
        line_of(&text, "x-klikit-signature"),
        format!("80 characters, other characters, digest starts with {}, signed at 1777777777", starts[0])
    );
    assert_eq!(run_commands(&text), [&digest(BODY), &*tag, starts[0], &vector, starts[1]]);
    assert_eq!(text.lines().last(), Some(&*format!("the second command prints {vector} {}", starts[1])));
}

#[test]
fn invalid_timestamp_is_not_shown() {
    let hex = signature(&signed(SECRET, BODY.as_bytes()));
    let plain = report(&HeaderMap::new(), b"").to_string();
    let commands = |text: &str| text.split_once("To compare").unwrap().1.to_owned();
    for value in [
        format!("t=,v1={hex}"),
        format!("t=-1,v1={hex}"),
        format!("t=$(id),v1={hex}"),
        format!("t=1;id,v1={hex}"),
        format!("t=177777777700000000000,v1={hex}"),
        format!("t=1777777777,v1={}", &hex[1..]),
        format!("t=1777777777,v0={hex}"),
        "t=1777777777".to_owned(),
    ] {
        let text = report(&with_signature(HeaderMap::new(), &value), b"").to_string();
        assert!(!line_of(&text, "x-klikit-signature").contains("signed at"), "{value}: {text}");
        assert_eq!(commands(&text), commands(&plain), "{value}");
    }
    let text = report(&with_signature(HeaderMap::new(), format!("v1={hex}, t=1777777777000")), b"").to_string();
    assert!(line_of(&text, "x-klikit-signature").ends_with(", signed at 1777777777000"), "{text}");
}

/// If the signature is plain SHA-256 of the body, the body's digest would reveal it.
#[test]
fn body_digest_equal_to_signature_is_not_shown() {
    let digest = digest(BODY);
    let bytes: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&digest[2 * n..2 * n + 2], 16).unwrap()).collect();
    let genuine = signed(SECRET, BODY.as_bytes());
    let sent = |value: &str| with_signature(genuine.clone(), value);
    let cases = [
        sent(&digest),
        sent(&digest.to_uppercase()),
        sent(&format!("sha256={digest}")),
        sent(&format!("\"{digest}\"")),
        sent(&format!("t=1777777777,v1={digest}")),
        sent(&format!("{}, {digest}", "0".repeat(64))),
        sent(&format!("{digest}00")),
        sent(&digest[..40]),
        sent(&Base64::encode_string(&bytes)),
        sent(&Base64::encode_string(digest.as_bytes())),
        sent(&Base64::encode_string(format!("{}\n", digest.to_uppercase()).as_bytes())),
        sent(&format!("sha256={}", Base64UrlUnpadded::encode_string(&bytes))),
        with(genuine.clone(), SIGNATURE, &digest),
        with(with(genuine.clone(), SIGNATURE, "none"), SIGNATURE, &format!("v1={}", digest.to_uppercase())),
    ];
    for headers in &cases {
        let report = report(headers, BODY.as_bytes());
        let text = format!("{report} {report:?}").to_lowercase();
        assert!(line_of(&text, "body").contains("sha-256 the same as the signature"), "{text}");
        assert!(!text.contains(&digest[..9]), "{text}");
    }
    let text = report(&cases[0], BODY.as_bytes()).to_string();
    assert!(line_of(&text, "cause").starts_with("signed_without_secret"), "{text}");
    // Fewer than 16 digits are no part of the digest.
    let text = report(&sent(&digest[..15]), BODY.as_bytes()).to_string();
    assert!(line_of(&text, "body").contains(&digest), "{text}");
}
