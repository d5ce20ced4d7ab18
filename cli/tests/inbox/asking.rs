//! Tests of the question before an action, on a terminal.

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
async fn ctrl_c_at_the_question_changes_nothing() {
    let (store, mut terminal) = asked("inbox retry --all", "Retry 3 deliveries in STORE? [y/N] ").await;
    terminal.input("\u{3}");
    let (code, shown) = terminal.end();
    assert!(code == Some(130) && !shown.contains("error"), "{code:?} {shown}");
    assert_eq!(store.service.inbox.counts().await.unwrap().dead, 3);
}
