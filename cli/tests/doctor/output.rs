//! Tests of the output and the help.

use serde_json::json;

use crate::{
    report::Report,
    stores::TestStore,
    support::{examples, klikit, shell},
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
fn help_has_exit_codes_and_examples_that_run() {
    let store = TestStore::sqlite();
    let help = klikit(["doctor", "--help"]).run().success();
    assert!(help.contains("1 a blocker or a warning"), "{help}");
    for line in examples(["doctor"]) {
        let ended = shell(&line, store.service.folder.path()).run();
        assert!(ended.code == Some(0) && !ended.stdout.is_empty(), "{line}\n{ended}");
    }
}
