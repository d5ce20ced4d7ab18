//! Tests of `klikit sign`.

use std::fs;

use serde_json::{Value, from_str, json};
use tower_klikit::WebhookSecret;

use crate::support::{SECRET, assert_documented, klikit};

/// The example of "Webhook security" in klikit's developer documentation.
const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;
const DOCUMENTED: &str = "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d";

fn signature(body: impl AsRef<[u8]>) -> String {
    WebhookSecret::new(SECRET).unwrap().sign(body).to_string()
}

#[test]
fn signs_documented_example() {
    let sign = || klikit(["sign"]).stdin(BODY).env("KLIKIT_WEBHOOK_SECRET", "your-webhook-secret");
    assert_eq!(sign().run().success(), format!("{DOCUMENTED}\n"));
}

#[test]
fn signs_files_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.bin");
    for body in [&b""[..], b"{}\r\n", b"\xff\x00\n", &[b'x'; 300_000]] {
        fs::write(&file, body).unwrap();
        let expected = format!("{}\n", signature(body));
        assert_eq!(klikit(["sign", file.to_str().unwrap()]).run().success(), expected);
        assert_eq!(klikit(["sign", "-"]).stdin(body).run().success(), expected);
    }
}

#[test]
fn prints_json() {
    let signed: Value = from_str(&klikit(["sign", "--json"]).stdin(BODY).run().success()).unwrap();
    assert_eq!(signed, json!({ "signature": signature(BODY), "bytes": BODY.len() }));
    let curl = klikit(["sign", "--json", "--curl", "http://localhost/"]).stdin(BODY).run().success();
    assert_documented("`sign`", &[signed, from_str(&curl).unwrap()]);
}

#[test]
fn curl_command_has_the_given_parts() {
    let url = "http://localhost:8080/webhooks/klikit?a=b";
    let arguments = ["sign", "--curl", url, "--event-id", "evt-1", "--event-type", "klikit.order.cart.updated"];
    let line = klikit(arguments).stdin(BODY).run().success();
    let signature = format!("-H 'x-klikit-signature: {}'", signature(BODY));
    let parts = [url, "-H 'x-klikit-event-id: evt-1'", "klikit.order.cart.updated", &signature, BODY];
    assert!(line.starts_with("curl ") && parts.iter().all(|part| line.contains(part)), "{line}");
    let signed = klikit(arguments.into_iter().chain(["--json"])).stdin(BODY).run().success();
    let signed: Value = from_str(&signed).unwrap();
    assert_eq!(signed["curl"].as_str(), Some(line.trim_end()));
}

#[test]
fn curl_command_keeps_every_byte_of_the_body() {
    let body = "{\"note\":\"\u{1b}[31mit's\u{7f}\"}\r\n";
    let line = klikit(["sign", "--curl", "http://localhost/"]).stdin(body).run().success();
    assert!(line.ends_with(&format!(" --data-raw '{}'\n", body.replace('\'', r"'\''"))), "{line:?}");
}

#[test]
fn secret_file_wins_over_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    for line_ending in ["", "\n", "\r\n"] {
        fs::write(&file, format!("your-webhook-secret{line_ending}")).unwrap();
        let ended = klikit(["sign", "--secret-file", file.to_str().unwrap()]).stdin(BODY).run();
        assert_eq!(ended.success(), format!("{DOCUMENTED}\n"));
    }
    // Only one line ending is ignored.
    fs::write(&file, "your-webhook-secret\n\n").unwrap();
    let ended = klikit(["sign", "--secret-file", file.to_str().unwrap()]).stdin(BODY).run();
    assert_ne!(ended.success(), format!("{DOCUMENTED}\n"));
}

#[test]
fn faulty_secrets_are_errors_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "\n").unwrap();
    let path = file.to_str().unwrap();
    let empty = klikit(["sign", "--secret-file", path]).run();
    empty.assert_error(&format!("{path}: the webhook secret is empty: use the webhook_secret_key that klikit shows"));
    let blank = klikit(["sign"]).env("KLIKIT_WEBHOOK_SECRET", " ").run();
    blank.assert_error(
        "the environment variable KLIKIT_WEBHOOK_SECRET is blank: set it to the webhook_secret_key that klikit shows",
    );
    klikit(["sign"])
        .without_secret()
        .run()
        .assert_error("no webhook secret was given: set KLIKIT_WEBHOOK_SECRET, or name a file with --secret-file");
}

#[test]
fn unreadable_files_are_errors_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    for (file, reason) in [
        (format!("{folder}/absent"), "No such file or directory (os error 2)"),
        (folder.to_owned(), "Is a directory (os error 21)"),
        (format!("{folder}/a\nb"), "No such file or directory (os error 2)"),
    ] {
        let shown = file.replace('\n', "\\n");
        let line = format!("cannot read {shown}: {reason}: name a readable file");
        klikit(["sign", &file]).run().assert_error(&line);
        klikit(["sign", "--secret-file", &file]).run().assert_error(&line);
    }
    let endless = klikit(["sign", "/dev/zero"]).run();
    endless.assert_error("/dev/zero is longer than 64 MiB: name a delivery's file");
}

#[test]
fn faulty_curl_arguments_are_errors_with_a_remedy() {
    let example = "use a URL such as http://localhost:8080/webhooks/klikit";
    for (arguments, line) in [
        (&["--curl", "localhost"][..], format!("the URL is invalid: relative URL without a base: {example}")),
        (&["--curl", "file:///etc/passwd"], format!("the URL begins with file: {example}")),
        (
            &["--curl", "http://user:hunter2@localhost/"],
            "the URL contains a user name or a password, which all users of this machine could see: remove it; `klikit \
             send` and `klikit conform` have --basic for it"
                .into(),
        ),
        (
            &["--event-id", "evt-1"],
            "the following required arguments were not provided: --curl <URL>; see --help".into(),
        ),
        (
            &["--curl", "http://localhost/", "--event-id", "a\nb"],
            "invalid value 'a b' for '--event-id <ID>': a header can hold only visible characters and spaces; see --help"
                .into(),
        ),
    ] {
        klikit(["sign"].into_iter().chain(arguments.iter().copied())).stdin(BODY).run().assert_error(&line);
    }
}
