//! The report for klikit's support.

use http::{HeaderMap, StatusCode, header};
use tower_klikit::{
    diagnose::{SupportReport, diagnose},
    header::{EVENT_ID, SIGNATURE},
};

use crate::kit::{BODY, MIXED, SECRET, file_by_shell, keyring, run, signature, signed, with, with_signature, without};

fn report(headers: &HeaderMap, body: &[u8]) -> SupportReport {
    SupportReport::new(&diagnose(&keyring(SECRET), headers, body), headers, body)
}

fn line_of(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

#[test]
fn it_says_what_support_asks_for() {
    let headers = with(signed(SECRET, BODY.as_bytes()), header::CONTENT_ENCODING, "br");
    let headers = without(headers, &EVENT_ID);
    let headers = with(headers, EVENT_ID, "evt-7");
    let body = run(&["jq", "-S", "."], BODY.as_bytes());
    let text = report(&headers, &body).answered(StatusCode::FORBIDDEN).to_string();
    let digest = String::from_utf8(run(&["sha256sum"], &body)).unwrap();
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
        format!("64 characters, lower-case hex, beginning {}", &signature(&headers)[..8])
    );
    let shape = line_of(&text, "body");
    let expected = format!("{} bytes, SHA-256 {}, ASCII, indented JSON", body.len(), &digest[..64]);
    assert_eq!(shape, format!("{expected}, keys in alphabetical order, a final newline"));
    assert_eq!(line_of(&report(&headers, &body).timed_out().to_string(), "answered"), "nothing within 10 seconds");
    assert!(!report(&headers, &body).to_string().contains("answered"));
}

#[test]
fn it_describes_bodies() {
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
        "UTF-8 beyond ASCII, not JSON, a byte order mark, U+FFFD, which stands for bytes that were lost"
    );
}

#[test]
fn it_describes_signatures() {
    let hex = signature(&signed(SECRET, BODY.as_bytes()));
    let shape = |value: &str| {
        let headers = with_signature(HeaderMap::new(), value);
        line_of(&report(&headers, b"").to_string(), "x-klikit-signature")
    };
    assert_eq!(
        shape(&hex.to_uppercase()),
        format!("64 characters, upper-case hex, beginning {}", hex[..8].to_uppercase())
    );
    assert_eq!(shape("aA"), "2 characters, hex of both cases, beginning a");
    assert_eq!(shape("zeIS2YVK5IK7R2SHoYfuiMS1+T6yRE3jT9clK1zLhm0="), "44 characters, base64 or the like");
    assert_eq!(shape(&format!("\"{hex}\"")), "66 characters, other characters");
    assert_eq!(shape(""), "0 characters, base64 or the like");
    let twice = with(with_signature(HeaderMap::new(), "12345678"), SIGNATURE, "x");
    let text = line_of(&report(&twice, b"").to_string(), "x-klikit-signature");
    assert_eq!(text, "2 times, the first of them 8 characters, lower-case hex, beginning 1234");
}

/// The lines of the report, run by a shell.
#[test]
fn its_lines_run() {
    let text = report(&signed(SECRET, BODY.as_bytes()), BODY.as_bytes()).to_string();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let [digest, tag, documented] = lines[..] else { panic!("{text}") };
    let script = format!(
        "cd \"$(mktemp -d)\"; export KLIKIT_WEBHOOK_SECRET={SECRET}; printf %s '{BODY}' > body.bin; {{ {digest}; {tag}; \
         export KLIKIT_WEBHOOK_SECRET=your-webhook-secret; {documented}; {tag}; }} > \"$1\""
    );
    let printed = String::from_utf8(file_by_shell(&script)).unwrap();
    let words: Vec<&str> = printed.split_whitespace().filter(|word| word.len() == 64).collect();
    let vector = text.lines().last().unwrap().strip_prefix("the second prints ").unwrap();
    assert_eq!(words[1..], [&signature(&signed(SECRET, BODY.as_bytes()))[..], vector]);
    assert!(line_of(&text, "body").contains(words[0]), "{printed}");
}

/// Plain SHA-256 in place of a signature is the body's digest too.
#[test]
fn a_digest_that_is_the_signature_is_not_shown() {
    let digest = String::from_utf8(run(&["sha256sum"], BODY.as_bytes())).unwrap();
    let headers = with_signature(signed(SECRET, BODY.as_bytes()), &digest[..64]);
    let text = report(&headers, BODY.as_bytes()).to_string();
    assert!(line_of(&text, "cause").starts_with("signed_without_secret"), "{text}");
    assert!(line_of(&text, "body").contains("SHA-256 the same as the signature"), "{text}");
    assert!(!text.contains(&digest[..9]), "{text}");
}
