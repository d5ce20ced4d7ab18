//! Tests of `klikit explain`.

use std::fs;

use serde_json::{Value, from_str, json};
use tower_klikit::{WebhookSecret, testing::SignedDelivery};

use crate::support::{SECRET, assert_documented, klikit};

const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"note":"for Contoh"}]}"#;
const REWRITTEN: &str = r#"{"branch_id": 2, "brand_id": 1, "orders": [{"id": 42, "note": "for Contoh"}]}"#;

fn signature(secret: &str, body: &str) -> String {
    WebhookSecret::new(secret).unwrap().sign(body).to_string()
}

/// Returns a raw request with the signature of [`BODY`].
fn dump(body: &str) -> String {
    format!(
        "POST /webhooks/klikit HTTP/1.1\r\nHost: localhost\r\nX-Klikit-Event-Id: evt-1\r\nX-Klikit-Signature: {}\r\n\r\n{body}",
        signature(SECRET, BODY)
    )
}

fn explain_json(options: &[&str], dump: &str) -> (Option<i32>, Value) {
    let ended = klikit(["explain", "--json"].into_iter().chain(options.iter().copied())).stdin(dump).run();
    assert_eq!(ended.stderr, "", "{ended}");
    (ended.code, from_str(&ended.stdout).unwrap())
}

#[test]
fn genuine_delivery_verifies() {
    let ended = klikit(["explain"]).stdin(dump(BODY)).run();
    assert!(ended.stdout.starts_with("The delivery verifies.\n"), "{ended}");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

#[test]
fn cause_and_remedy_are_named() {
    let ended = klikit(["explain"]).stdin(dump(REWRITTEN)).run();
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""));
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "The delivery does not verify.");
    for (line, start) in
        lines[2..].iter().zip(["cause       the body's JSON was rewritten", "what to do  verify the bytes"])
    {
        assert!(line.starts_with(start), "{ended}");
    }
    assert!(ended.stdout.contains("\ncertainty   proven\n"), "{ended}");
}

#[test]
fn json_has_stable_names() {
    let (code, mut explanation) = explain_json(&[], &dump(REWRITTEN));
    assert_documented("`explain`", &[explanation.clone(), explain_json(&["--report"], &dump(REWRITTEN)).1]);
    let fix = explanation["fix"].take();
    let detail = explanation["detail"].take();
    assert!(fix.is_string() && detail.is_string());
    let expected = json!({
        "verifies": false, "cause": "body_reencoded", "further_causes": [], "certainty": "proven", "detail": null,
        "secret_id": "default", "fix": null, "complete": true,
    });
    assert_eq!((code, explanation), (Some(1), expected));
}

#[test]
fn two_causes_are_both_named() {
    let text = dump(&format!("\u{feff}{}\r\n", BODY.replace(',', ",\r\n")));
    let signed = BODY.replace(',', ",\n") + "\n";
    let text = text.replace(&signature(SECRET, BODY), &signature(SECRET, &signed));
    let (code, explanation) = explain_json(&[], &text);
    assert_eq!((code, explanation["further_causes"].as_array().unwrap().len()), (Some(1), 1), "{explanation}");
    let ended = klikit(["explain"]).stdin(text).run();
    assert_eq!(ended.stdout.matches("\nwhat to do  ").count(), 2, "{ended}");
}

#[test]
fn reads_headers_and_body_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let (headers, body) = (folder.path().join("headers"), folder.path().join("body"));
    fs::write(&headers, format!("x-klikit-event-id: evt-1\nx-klikit-signature: {}\n", signature(SECRET, BODY)))
        .unwrap();
    let arguments = ["explain", "--json", "--headers", headers.to_str().unwrap(), "--body", body.to_str().unwrap()];
    for (content, cause) in [(BODY.to_owned(), "verifies"), (format!("{BODY}\n"), "body_final_newline")] {
        fs::write(&body, content).unwrap();
        let explanation: Value = from_str(&klikit(arguments).run().stdout).unwrap();
        assert_eq!(explanation["cause"], cause);
    }
}

#[test]
fn candidates_are_named_by_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["old", "partner-api"].map(|name| folder.path().join(name));
    files.iter().for_each(|file| fs::write(file, format!("{}\n", file.display())).unwrap());
    let [old, partner] = files.each_ref().map(|file| file.to_str().unwrap());
    let text = dump(BODY).replace(&signature(SECRET, BODY), &signature(partner, BODY));
    assert_eq!(explain_json(&[], &text).1["cause"], "unknown");
    let options = ["--candidate-file", old, "--candidate-file", partner];
    let (code, explanation) = explain_json(&options, &text);
    assert_eq!(
        (code, &explanation["cause"], &explanation["secret_id"]),
        (Some(1), &json!("other_secret"), &json!(partner))
    );
    let ended = klikit(["explain"].into_iter().chain(options)).stdin(text).run();
    assert!(ended.stdout.contains(&format!("\nsecret      {partner}\n")), "{ended}");

    let twice = klikit(["explain", "--candidate-file", old, "--candidate-file", old]).stdin(dump(BODY)).run();
    assert!(twice.stderr.ends_with(": pass fewer or other candidates\n") && twice.code == Some(2), "{twice}");
}

#[test]
fn old_secret_in_environment_verifies() {
    let explain = |old, options: &[&str]| {
        let run = klikit(["explain", "--json"].into_iter().chain(options.iter().copied())).stdin(dump(BODY));
        run.env("KLIKIT_WEBHOOK_SECRET", "the-new-secret").env("KLIKIT_WEBHOOK_SECRET_OLD", old).run()
    };
    let ended = explain(SECRET, &[]);
    let explanation: Value = from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &explanation["secret_id"]), (Some(0), &json!("old")), "{ended}");
    explain("", &[]).assert_error(
        "the environment variable KLIKIT_WEBHOOK_SECRET_OLD is empty: set it to the webhook_secret_key before the \
         rotation, or remove the variable",
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new");
    fs::write(&file, "the-new-secret").unwrap();
    let ended = explain(SECRET, &["--secret-file", file.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended}");
}

#[test]
fn receiver_settings_change_the_verdict() {
    let signed_at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_790_000_000);
    let delivery = SignedDelivery::timestamped(SECRET, signed_at, "evt-1", "order.created", r#"{"id":42}"#);
    let request = delivery.request::<bytes::Bytes>();
    let headers: String =
        (request.headers().iter()).map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    let text = format!("{headers}\n{}", str::from_utf8(request.body()).unwrap());
    assert_eq!(explain_json(&[], &text).1["cause"], "signature_timestamped");
    assert_eq!(explain_json(&["--accept-timestamped"], &text).0, Some(0));

    let text = dump(BODY).replace("X-Klikit-Event-Id: evt-1\r\n", "");
    assert_eq!(explain_json(&[], &text).1["cause"], "event_id_missing");
    assert_eq!(explain_json(&["--allow-missing-event-id"], &text).0, Some(0));
}

#[test]
fn report_has_no_secret_and_no_customer_data() {
    for options in [&["--status", "403"][..], &["--timed-out"]] {
        let arguments = ["explain", "--report"].into_iter().chain(options.iter().copied());
        let ended = klikit(arguments).stdin(dump(REWRITTEN)).run();
        assert_eq!((ended.code, &*ended.stderr), (Some(1), ""));
        let answer = if options.len() == 2 { "answered: 403" } else { "answered: nothing within 10 seconds" };
        let parts = [answer, "cause: body_reencoded, proven", "x-klikit-event-id: evt-1", "SHA-256"];
        assert!(parts.iter().all(|part| ended.stdout.contains(part)), "{ended}");
        let hidden = [SECRET, "Contoh", &signature(SECRET, BODY), &signature(SECRET, REWRITTEN)];
        assert!(!hidden.iter().any(|text| ended.stdout.contains(text)), "{ended}");
    }
    let (_, explanation) = explain_json(&["--report"], &dump(REWRITTEN));
    assert!(explanation["report"].as_str().unwrap().starts_with("A klikit delivery, without customers' data\n"));
}

#[test]
fn faulty_dumps_are_errors_with_a_remedy() {
    let remedy = "name a raw HTTP request, or pass --headers and --body";
    for (text, fault) in [
        ("", "there is no empty line between headers and body"),
        ("a: b\nhunter2\n\n{}", "line 2 is not `name: value`"),
        ("transfer-encoding: chunked\n\n{}", "the chunked body is malformed"),
    ] {
        klikit(["explain"]).stdin(text).run().assert_error(&format!("standard input: {fault}: {remedy}"));
    }
    let binary = klikit(["explain"]).stdin(*b"\xff\xfe\n\n{}").run();
    binary.assert_error(&format!("standard input: line 1 is not `name: value`: {remedy}"));
    let many: String = (0..40_000).map(|number| format!("a{number}: b\n")).collect();
    let many = klikit(["explain"]).stdin(many + "\n{}").run();
    many.assert_error(&format!("standard input: there are too many headers: {remedy}"));
}

#[test]
fn faulty_options_are_errors_with_a_remedy() {
    for (options, line) in [
        (&["--headers", "h"][..], "the following required arguments were not provided: --body <FILE>; see --help"),
        (&["--status", "403"], "the following required arguments were not provided: --report; see --help"),
        (&["--report", "--status", "x"], "invalid value 'x' for '--status <CODE>': a status is 100 to 999; see --help"),
        (&["/absent/dump"], "cannot read /absent/dump: No such file or directory (os error 2): name a readable file"),
    ] {
        klikit(["explain"].into_iter().chain(options.iter().copied())).run().assert_error(line);
    }
    klikit(["explain"])
        .without_secret()
        .stdin(dump(BODY))
        .run()
        .assert_error("no webhook secret was given: set KLIKIT_WEBHOOK_SECRET, or name a file with --secret-file");
}
