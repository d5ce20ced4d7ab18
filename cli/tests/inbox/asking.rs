//! Tests of the question before an action, on a terminal.

use std::{fs, time::Duration};

use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimTerms, EventKey, Ledger},
    inbox::Pause,
};
use tower_klikit_sqlite::SqliteStore;

use crate::{stores::TestStore, terminal::Terminal};

async fn asked(arguments: &str, question: &str) -> (TestStore, Terminal) {
    let store = TestStore::sqlite();
    store.accept(1..=3).await;
    store.dead_letter("out of paper").await;
    let mut terminal = Terminal::start(&format!("{arguments} --store '{}'", store.location), None);
    terminal.wait_for(&question.replace("STORE", &store.name));
    (store, terminal)
}

#[tokio::test]
async fn yes_runs_the_action() {
    let (store, mut terminal) = asked("inbox retry --all", "Retry 3 deliveries in STORE? [y/N] ").await;
    terminal.input("y\n");
    let (code, shown) = terminal.end();
    assert!(code == Some(0) && shown.contains("Retried 3 deliveries."), "{code:?} {shown}");
    assert_eq!(store.service.inbox.counts().await.unwrap().ready, 3);
}

#[tokio::test]
async fn another_answer_changes_nothing() {
    for (arguments, question) in [
        ("inbox retry 2", "Retry 1 delivery in STORE? [y/N] "),
        ("inbox pause --all", "Pause everything in STORE, with 0 deliveries ready? [y/N] "),
        ("inbox pause --tenant default", "Pause tenant=default in STORE, with 0 deliveries ready? [y/N] "),
        ("ledger forget --event-id evt-1", "Forget 1 delivery (the event evt-1 of default) in STORE? [y/N] "),
    ] {
        let (store, mut terminal) = asked(arguments, question).await;
        terminal.input("\n");
        let (code, shown) = terminal.end();
        assert!(code == Some(0) && shown.contains("Nothing was changed."), "{code:?} {shown}");
        assert_eq!(store.service.inbox.counts().await.unwrap().dead, 3);
        assert!(store.service.inbox.pauses().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn resume_names_the_pauses_and_their_operators() {
    let store = TestStore::sqlite();
    for (operator, pause) in [("ana", Pause::everything()), ("budi", Pause::everything().tenant("warung"))] {
        store.service.inbox.operator(operator).pause(&pause).await.unwrap();
    }
    for (answer, left) in [("\n", 2), ("y\n", 0)] {
        let mut terminal = Terminal::start(&format!("inbox resume --all --store '{}'", store.location), None);
        terminal.wait_for(&format!(
            "Resume everything (paused by ana) and tenant=warung (paused by budi) in {}? [y/N] ",
            store.name
        ));
        terminal.input(answer);
        assert_eq!(terminal.end().0, Some(0));
        assert_eq!(store.service.inbox.pauses().await.unwrap().len(), left);
    }
}

#[test]
fn migrate_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("klikit.db");
    fs::write(&path, "").unwrap();
    for (answer, shown) in [("\n", "Nothing was changed."), ("y\n", "Applied ledger 1, inbox 1, inbox 2.")] {
        let mut terminal = Terminal::start(&format!("migrate --store '{}'", path.display()), None);
        terminal.wait_for(&format!("Apply ledger 1, inbox 1, inbox 2 to {}? [y/N] ", path.display()));
        terminal.input(answer);
        let (code, all) = terminal.end();
        assert!(code == Some(0) && all.contains(shown), "{code:?} {all}");
    }
}

/// A ledger without an inbox does not tell which deliveries are pending.
#[tokio::test]
async fn forget_says_that_it_includes_running_handlers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("klikit.db");
    let store = SqliteStore::builder().create().ledger_only().open(&path).unwrap();
    let event = EventKey::of_event("default", "evt-1");
    let claim = Claim::new(*event.as_bytes(), *event.as_bytes(), BodyDigest::of(b"body"), [1; 16]);
    let hour = Duration::from_secs(3600);
    store.claim(&claim, &ClaimTerms { lease: hour, grace: hour }).await.unwrap();
    let mut terminal = Terminal::start(&format!("ledger forget --event-id evt-1 --store '{}'", path.display()), None);
    terminal.wait_for(&format!("in {}, also those that are being handled? [y/N] ", path.display()));
    terminal.input("y\n");
    let (code, shown) = terminal.end();
    assert!(code == Some(0) && shown.contains("Forgot 1 delivery."), "{code:?} {shown}");
}

#[tokio::test]
async fn ctrl_c_at_the_question_changes_nothing() {
    let (store, mut terminal) = asked("inbox retry --all", "Retry 3 deliveries in STORE? [y/N] ").await;
    terminal.input("\u{3}");
    let (code, shown) = terminal.end();
    assert!(code == Some(130) && !shown.contains("error"), "{code:?} {shown}");
    assert_eq!(store.service.inbox.counts().await.unwrap().dead, 3);
}
