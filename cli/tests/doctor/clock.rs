//! Tests of the check of the clock.

use crate::{report::Report, stores::TestStore};

#[tokio::test]
async fn clock_is_not_checked_without_deliveries() {
    for store in TestStore::each("clock is not checked without deliveries").await {
        let report = Report::on(&store, &[]);
        report.assert_row("clock", "not_checked", "no delivery is stored");
        report.assert_checks("not_checked", &["clock"]);
    }
}

#[tokio::test]
async fn step_of_the_system_clock_is_a_warning() {
    let store = TestStore::sqlite();
    store.accept([1]).await;
    // The system clock was set back by an hour and half a minute after the delivery was accepted.
    let connection = rusqlite::Connection::open(&store.location).unwrap();
    let sql = "UPDATE klikit_clock SET ahead = ahead + 3630000, latest = latest + 3630000, generation = generation + 1";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    let report = Report::on(&store, &[]);
    report.assert_row("clock", "warning", "the store's clock is 1h 0m ahead of this machine's");
    report.assert_row("clock", "warning", "since delivery 1 was accepted");
}

#[tokio::test]
async fn wrong_clock_of_the_server_is_a_warning() {
    let Some(store) = TestStore::postgres("wrong clock of the server is a warning").await else { return };
    store.accept([1]).await;
    for (offset, seen) in [("1 hour", "ahead of this machine's"), ("-1 hour", "behind this machine's")] {
        // A schema in front of pg_catalog replaces the clock for sessions that start from now on.
        let sql = format!(
            "CREATE SCHEMA IF NOT EXISTS wrong;
            CREATE OR REPLACE FUNCTION wrong.statement_timestamp() RETURNS timestamptz LANGUAGE sql
                AS $$ SELECT pg_catalog.statement_timestamp() + interval '{offset}' $$;
            UPDATE klikit_inbox SET accepted_at = accepted_at - interval '2 hours';
            ALTER ROLE CURRENT_USER SET search_path = wrong, pg_catalog, public"
        );
        store.execute(&sql).await;
        Report::on(&store, &[]).assert_row("clock", "warning", seen);
    }
}
