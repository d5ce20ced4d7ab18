//! Tests of the checks of the inbox.

use tower_klikit::inbox::Pause;

use crate::{report::Report, stores::TestStore};

/// Makes all deliveries older.
async fn age(store: &TestStore, minutes: u32) {
    if store.location.contains("://") {
        let sql = format!("UPDATE klikit_inbox SET accepted_at = accepted_at - interval '{minutes} minutes'");
        store.execute(&sql).await;
    } else {
        let connection = rusqlite::Connection::open(&store.location).unwrap();
        let sql = "UPDATE klikit_inbox SET accepted_at = accepted_at - ?1, since = since - ?1";
        connection.execute(sql, [minutes * 60_000]).unwrap();
    }
}

#[tokio::test]
async fn healthy_service_is_ok() {
    for store in TestStore::each("healthy service is ok").await {
        store.accept(1..=2).await;
        store.work_until_idle().await;
        store.accept([3]).await;
        let report = Report::on(&store, &[]);
        let checks = ["secret", "store", "schema", "dead_letters", "pending", "stored", "pauses", "clock"];
        report.assert_checks("ok", &checks);
        report.assert_row("schema", "ok", "ledger 1, inbox 2");
        report.assert_row("pending", "ok", "1 ready, 0 leased, the oldest accepted ");
        report.assert_row("stored", "ok", "3 of at most 1000000, 2 of them handled");
    }
}

#[tokio::test]
async fn dead_letters_are_a_warning() {
    for store in TestStore::each("dead letters are a warning").await {
        store.accept(1..=2).await;
        store.dead_letter("out of paper").await;
        let report = Report::on(&store, &[]);
        report.assert_row("dead_letters", "warning", "dead letters: 2");
        report.assert_checks("warning", &["dead_letters"]);
    }
}

#[tokio::test]
async fn late_deliveries_are_a_warning() {
    for store in TestStore::each("late deliveries are a warning").await {
        store.accept([1]).await;
        age(&store, 4).await;
        Report::on(&store, &[]).assert_row("pending", "ok", "the oldest accepted 4m ");
        age(&store, 2).await;
        let report = Report::on(&store, &[]);
        report.assert_row("pending", "warning", "1 ready, 0 leased, the oldest accepted 6m ");
        report.assert_checks("warning", &["pending"]);
    }
}

#[tokio::test]
async fn nearly_full_inbox_is_a_warning() {
    for store in TestStore::each("nearly full inbox is a warning").await {
        store.accept(1..=4).await;
        Report::on(&store, &["--max-stored", "5"]).assert_row("stored", "ok", "4 of at most 5");
        let report = Report::on(&store, &["--max-stored", "4"]);
        report.assert_row("stored", "warning", "4 of at most 4, 0 of them handled");
        report.assert_checks("warning", &["stored"]);
    }
}

#[tokio::test]
async fn pauses_are_warnings_with_their_operators() {
    for store in TestStore::each("pauses are warnings with their operators").await {
        let everything = Pause::everything();
        store.service.inbox.operator("ana").pause(&everything).await.unwrap();
        store.service.inbox.operator("budi").pause(&everything.tenant("warung")).await.unwrap();
        let report = Report::on(&store, &[]);
        report.assert_row("pauses", "warning", "everything by ana since 2");
        report.assert_row("pauses", "warning", "tenant=warung by budi since 2");
        report.assert_checks("warning", &["pauses"]);
        assert_eq!(store.service.inbox.pauses().await.unwrap().len(), 2);
    }
}
