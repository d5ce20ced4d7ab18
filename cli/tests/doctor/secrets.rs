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
fn old_secret_is_checked() {
    const OLD: &str = "KLIKIT_WEBHOOK_SECRET_OLD";
    let replace = format!("put the secret before the rotation into {OLD}, or remove the variable");
    let correct = format!("correct the secret in {OLD}");
    let line_end = format!("{SECRET}\n");
    for (old, result, seen, action) in [
        ("Jc4mYh7sKd1PgE9a", "ok", "KLIKIT_WEBHOOK_SECRET and KLIKIT_WEBHOOK_SECRET_OLD hold plausible secrets", None),
        (SECRET, "warning", "KLIKIT_WEBHOOK_SECRET_OLD holds the same secret", Some(&replace)),
        ("", "blocker", "KLIKIT_WEBHOOK_SECRET_OLD is empty", Some(&replace)),
        (" \t ", "blocker", "KLIKIT_WEBHOOK_SECRET_OLD is blank", Some(&replace)),
        ("your-webhook-secret", "blocker", r#"id "old" is a placeholder"#, Some(&correct)),
        ("q8Zr", "warning", r#"id "old" is shorter than 16 bytes"#, Some(&correct)),
        (&*line_end, "blocker", r#"id "old", next to "default", differs only by white space"#, Some(&correct)),
    ] {
        let report = Report::of(doctor(&[]).env(OLD, old));
        report.assert_row("secret", result, seen);
        assert_eq!(report.row("secret")["action"].as_str(), action.map(String::as_str), "for {old:?}");
        report.assert_hides(SECRET);
        report.assert_hides("Jc4m");
    }
    let report = Report::of(doctor(&[]).env("KLIKIT_WEBHOOK_SECRET", "changeme").env(OLD, "'quoted-old-secret'"));
    report.assert_row("secret", "blocker", r#"id "default" is a placeholder"#);
    report.assert_row("secret", "blocker", r#"id "old" has quotes around it"#);
    let action = format!("correct the secret in KLIKIT_WEBHOOK_SECRET and in {OLD}");
    assert_eq!(report.row("secret")["action"], action);
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
    // A file replaces both variables.
    let report = Report::of(doctor(&["--secret-file", name]).env("KLIKIT_WEBHOOK_SECRET_OLD", ""));
    assert_eq!(report.row("secret")["action"], format!("correct the secret in {name}"));
}

#[test]
fn unreadable_secret_file_is_an_error() {
    let ended = klikit(["doctor", "--secret-file", "/nonexistent/secret"]).run();
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended}");
    assert!(ended.stderr.starts_with("error: cannot read /nonexistent/secret: "), "{ended}");
    assert!(ended.stderr.ends_with(": name a readable file\n"), "{ended}");
}
