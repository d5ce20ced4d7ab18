//! Runs the examples that each command's `--help` ends with.

use std::{env, fs, path::Path, process::Command};

use tower_klikit::WebhookSecret;

use crate::{
    receiver::Receiver,
    support::{SECRET, klikit},
};

/// Runs the examples of a command in a shell, in a folder with the files that they name.
fn run_examples(command: &str, home: &Path) {
    let receiver = Receiver::verifying();
    let help = klikit([command, "--help"]).run().success();
    let (_, examples) = help.split_once("\nExamples:\n").expect("examples at the end");
    assert!(!examples.is_empty());
    let programs = Path::new(env!("CARGO_BIN_EXE_klikit")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());
    for example in examples.lines() {
        let line = example.replace("http://localhost:8080/webhooks/klikit", &receiver.url);
        let output = Command::new("timeout")
            .args(["60", "sh", "-c", &line])
            .current_dir(home)
            .envs([("PATH", path.as_str()), ("KLIKIT_WEBHOOK_SECRET", SECRET), ("HOME", home.to_str().unwrap())])
            .output()
            .expect("a shell runs");
        let shown =
            format!("{line}\n{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && output.stderr.is_empty(), "{shown}");
    }
    let expected = if command == "send" { examples.lines().count() } else { 0 };
    assert!(receiver.received().len() >= expected);
}

#[test]
fn completions_examples_run() {
    let home = tempfile::tempdir().unwrap();
    for folder in [".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"] {
        fs::create_dir_all(home.path().join(folder)).unwrap();
    }
    run_examples("completions", home.path());
    assert!(fs::read_to_string(home.path().join(".zfunc/_klikit")).unwrap().starts_with("#compdef klikit"));
}

#[test]
fn sign_examples_run() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("body.json"), "{}").unwrap();
    run_examples("sign", home.path());
}

#[test]
fn send_examples_run() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("order.json"), r#"{"orders":[{"id":1}]}"#).unwrap();
    fs::write(home.path().join("secret-key.txt"), "the partner's secret key").unwrap();
    run_examples("send", home.path());
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
    run_examples("explain", home.path());
    assert!(fs::read_to_string(home.path().join("report.txt")).unwrap().contains("answered: 403"));
}
