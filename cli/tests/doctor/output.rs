//! Tests of the output, the help and the README.

use std::{env, path::Path, process::Command};

use serde_json::json;

use crate::{
    report::Report,
    stores::TestStore,
    support::{SECRET, klikit},
};

#[test]
fn json_has_stable_fields() {
    let store = TestStore::sqlite();
    let report = Report::on(&store, &["--max-stored", "10"]);
    let row = |check, result, seen: &str| json!({"check": check, "result": result, "seen": seen, "action": null});
    let expected = json!({
        "store": store.name,
        "blockers": 0,
        "warnings": 0,
        "rows": [
            row("secret", "ok", "KLIKIT_WEBHOOK_SECRET holds a plausible secret"),
            row("store", "ok", "reachable, reads and writes"),
            row("schema", "ok", "ledger 1, inbox 2, the versions of this release"),
            row("dead_letters", "ok", "no dead letters"),
            row("pending", "ok", "no pending deliveries"),
            row("stored", "ok", "0 of at most 10, 0 of them handled"),
            row("pauses", "ok", "no pause is in force"),
            row("clock", "not_checked", "no delivery is stored whose age shows the store's time"),
        ],
    });
    assert_eq!(report.json, expected);
}

#[tokio::test]
async fn table_says_what_to_do() {
    let store = TestStore::sqlite();
    store.accept([1]).await;
    store.dead_letter("out of paper").await;
    let ended = store.klikit(["doctor"]).run();
    assert_eq!((ended.code, &*ended.stderr), (Some(1), &*format!("store: {}\n", store.name)), "{ended}");
    let row = ended.stdout.lines().find(|line| line.starts_with("dead letters")).unwrap();
    assert!(row.contains("warning") && row.contains("`klikit inbox retry`"), "{ended}");
    assert!(ended.stdout.ends_with("\nBlockers: 0. Warnings: 1.\n"), "{ended}");
}

#[test]
fn closed_pipe_ends_quietly() {
    let store = TestStore::sqlite();
    let ended = store.klikit(["doctor"]).run_with_closed_pipe();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), &*format!("store: {}\n", store.name)), "{ended}");
}

#[test]
fn examples_run_and_the_readme_shows_them() {
    let store = TestStore::sqlite();
    let help = klikit(["doctor", "--help"]).run().success();
    assert!(help.contains("1 a blocker or a warning"), "{help}");
    let (_, examples) = help.split_once("\nExamples:\n").expect("examples at the end");
    assert_eq!(examples.lines().count(), 3);
    let programs = Path::new(env!("CARGO_BIN_EXE_klikit")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());
    for line in examples.lines().map(str::trim) {
        assert!(include_str!("../../README.md").contains(&format!("\n{line}\n")), "{line}");
        let mut shell = Command::new("timeout");
        shell.args(["60", "sh", "-c", line]).current_dir(store.service.folder.path());
        let output = shell.env("PATH", &path).env("KLIKIT_WEBHOOK_SECRET", SECRET).output().expect("a shell runs");
        assert!(output.status.success() && !output.stdout.is_empty(), "{line}: {output:?}");
    }
}
