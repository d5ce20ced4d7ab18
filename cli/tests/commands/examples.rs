//! Runs the examples that each command's `--help` ends with.

use std::{fs, path::Path};

use tower_klikit::WebhookSecret;

use crate::{
    receiver::Receiver,
    support::{SECRET, examples, shell},
};

/// Runs the examples of a command, or of the whole command line, in a shell, in a folder with the files that they name.
fn run_examples(command: Option<&str>, home: &Path) {
    let receiver = Receiver::verifying();
    let examples = examples(command);
    for example in &examples {
        let line = example.replace("http://localhost:8080/webhooks/klikit", &receiver.url);
        let ended = shell(&line, home).env("HOME", home.to_str().unwrap()).run();
        assert!(ended.code == Some(0) && ended.stderr.is_empty(), "{line}\n{ended}");
    }
    let expected = if command == Some("send") { examples.len() } else { 0 };
    assert!(receiver.received().len() >= expected);
}

#[test]
fn examples_of_the_whole_command_run() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("body.json"), "{}").unwrap();
    run_examples(None, home.path());
}

#[test]
fn completions_examples_run() {
    let home = tempfile::tempdir().unwrap();
    for folder in [".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"] {
        fs::create_dir_all(home.path().join(folder)).unwrap();
    }
    run_examples(Some("completions"), home.path());
    assert!(fs::read_to_string(home.path().join(".zfunc/_klikit")).unwrap().starts_with("#compdef klikit"));
}

#[test]
fn sign_examples_run() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("body.json"), "{}").unwrap();
    run_examples(Some("sign"), home.path());
}

#[test]
fn send_examples_run() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("order.json"), r#"{"orders":[{"id":1}]}"#).unwrap();
    fs::write(home.path().join("secret-key.txt"), "the partner's secret key").unwrap();
    run_examples(Some("send"), home.path());
}

#[test]
fn explain_examples_run() {
    let home = tempfile::tempdir().unwrap();
    let signature = WebhookSecret::new(SECRET).unwrap().sign("{}");
    let headers = format!("x-klikit-event-id: evt-1\nx-klikit-signature: {signature}\n");
    for (file, content) in [
        ("request.txt", &*format!("POST /webhooks/klikit HTTP/1.1\n{headers}\n{{}}")),
        ("headers.txt", &headers),
        ("body.bin", "{}"),
        ("old-secret.txt", "the old secret"),
        ("partner-api.txt", "the partner API's"),
    ] {
        fs::write(home.path().join(file), content).unwrap();
    }
    run_examples(Some("explain"), home.path());
    assert!(fs::read_to_string(home.path().join("report.txt")).unwrap().contains("answered: 403"));
}
