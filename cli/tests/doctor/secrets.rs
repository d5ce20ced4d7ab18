//! Tests of the check of the secret.

use std::fs;

use crate::{
    report::{Report, doctor},
    support::{SECRET, klikit},
};

#[test]
fn implausible_secrets_are_found() {
    let line_end = format!("{SECRET}\n");
    let quoted = format!("\"{SECRET}\"");
    for (secret, result, seen) in [
        (SECRET, "ok", "KLIKIT_WEBHOOK_SECRET"),
        ("", "blocker", "KLIKIT_WEBHOOK_SECRET is empty"),
        (" \t ", "blocker", "KLIKIT_WEBHOOK_SECRET is blank"),
        ("your-webhook-secret", "blocker", "is a placeholder"),
        ("changeme", "blocker", "is a placeholder"),
        ("${KLIKIT_SECRET}", "blocker", "a reference to the secret"),
        (&*line_end, "blocker", "has white space"),
        (&*quoted, "blocker", "has quotes around it"),
        ("q8Zr", "warning", "is shorter than 16 bytes"),
        ("q8Zr ", "blocker", "is shorter than 16 bytes"),
    ] {
        let report = Report::of(doctor(&[]).env("KLIKIT_WEBHOOK_SECRET", secret));
        report.assert_row("secret", result, seen);
        if secret.contains("q8Zr") || secret.contains(SECRET) {
            report.assert_hides(secret.trim());
        }
    }
}

#[test]
fn missing_secret_is_a_blocker() {
    let report = Report::of(doctor(&[]).without_secret());
    report.assert_row("secret", "blocker", "KLIKIT_WEBHOOK_SECRET is not set");
}

#[test]
fn secret_in_a_file_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.txt");
    let name = path.to_str().unwrap();
    for (secret, result, seen) in [
        (&*format!("{SECRET}\r\n"), "ok", "secret.txt holds a plausible secret"),
        (&*format!("{SECRET}\n\n"), "blocker", "has white space"),
        ("\n", "blocker", "is empty"),
        ("your-webhook-secret\n", "blocker", "is a placeholder"),
    ] {
        fs::write(&path, secret).unwrap();
        Report::of(doctor(&["--secret-file", name])).assert_row("secret", result, seen);
    }
    let report = Report::of(doctor(&["--secret-file", name]));
    assert_eq!(report.row("secret")["action"], format!("correct the secret in {name}"));
}

#[test]
fn unreadable_secret_file_is_an_error() {
    let ended = klikit(["doctor", "--secret-file", "/nonexistent/secret"]).run();
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended}");
    assert!(ended.stderr.starts_with("error: cannot read /nonexistent/secret: "), "{ended}");
    assert!(ended.stderr.ends_with(": name a readable file\n"), "{ended}");
}
