//! Tests of ctrl-c after the question.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimTerms, EventKey, Ledger},
    inbox::Pause,
};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_test_support::{large_table::large_table, servers::postgres::PostgresServer};

use crate::{
    stores::TestStore,
    support::{Ended, Running, klikit},
};

/// The advisory lock that a process holds while it migrates.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(x'6b6c696b6974'::bigint)";

/// A lock on Postgres that another session holds.
struct Lock(Client);

impl Lock {
    /// Takes a lock with a statement.
    async fn take(url: &str, statement: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("BEGIN; {statement}")).await.unwrap();
        Self(client)
    }

    /// Sends ctrl-c to a command once it waits for the lock. Asserts that ctrl-c ends it, and returns its report.
    async fn interrupt(self, running: Running) -> (Ended, Value) {
        let waiting = "SELECT FROM pg_locks WHERE NOT granted";
        let started = Instant::now();
        while self.0.query(waiting, &[]).await.unwrap().is_empty() {
            assert!(started.elapsed() < Duration::from_secs(60), "the command does not wait for the lock");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        interrupt(running, "-INT")
    }
}

/// Sends a signal to a command. Asserts that the signal ends it, and returns its report.
fn interrupt(running: Running, signal: &str) -> (Ended, Value) {
    running.signal(signal);
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{ended}");
    let report = serde_json::from_str(&ended.stdout).unwrap_or(Value::Null);
    (ended, report)
}

/// Returns the values of a field of the audit lines.
fn audited(ended: &Ended, field: &str) -> Vec<u64> {
    let values = ended.stderr.lines().filter_map(|line| line.split_once(&format!(" {field}=")));
    values.map(|(_, value)| value.parse().unwrap()).collect()
}

#[tokio::test]
async fn slow_retry_tells_what_it_changed() {
    for store in TestStore::each("slow retry tells what it changed").await {
        store.accept(1..=3).await;
        for (options, signal) in [(&["--all", "--json"][..], "-INT"), (&["1", "2", "3"], "-TERM")] {
            store.dead_letter("out of paper").await;
            let retry = ["inbox", "retry"].iter().chain(options).copied();
            let running = store.klikit(retry.chain(["--rate", "1", "--yes"])).start();
            store.service.until("the first is retried", |counts| counts.ready >= 1).await;
            let (ended, report) = interrupt(running, signal);
            let ready = store.service.inbox.counts().await.unwrap().ready;
            assert!(ready < 3, "{ended}");
            if report.is_null() {
                let line = format!("Interrupted. Retried {ready} of 3 deliveries.\n");
                assert_eq!(ended.stdout, line, "{ended}");
            } else {
                assert_eq!((&report["selected"], &report["changed"]), (&json!(3), &json!(ready)), "{ended}");
            }
            assert_eq!(audited(&ended, "deliveries").iter().sum::<u64>(), ready, "{ended}");
        }
    }
}

#[tokio::test]
async fn forgetting_does_not_tell_a_number() {
    let Some(store) = TestStore::postgres("forgetting does not tell a number").await else { return };
    store.accept(1..=2).await;
    store.work_until_idle().await;
    let forget = ["ledger", "forget", "--accepted", "2026-01-01T00:00:00Z..2100-01-01T00:00:00Z", "--yes"];
    let lock = Lock::take(&store.location, "SELECT FROM klikit_ledger FOR UPDATE").await;
    let (ended, report) = lock.interrupt(store.klikit(forget.into_iter().chain(["--json"])).start()).await;
    assert_eq!((&report["selected"], &report["changed"]), (&json!(2), &Value::Null), "{ended}");
    assert_eq!(report["applied"], true, "{ended}");
    let window = r#"filter="accepted=2026-01-01T00:00:00Z..2100-01-01T00:00:00Z" deliveries_at_least=0"#;
    assert!(ended.stderr.contains(window), "{ended}");
}

#[tokio::test]
async fn forgetting_from_a_ledger_does_not_tell_a_number() {
    let Some(server) = PostgresServer::start("forgetting from a ledger does not tell a number") else { return };
    let store = PostgresStore::builder().ledger_only().open(server.url()).await.unwrap();
    let event = EventKey::of_event("default", "evt-1");
    let claim = Claim::new(*event.as_bytes(), *event.as_bytes(), BodyDigest::of(b"body"), [1; 16]);
    let hour = Duration::from_secs(3600);
    store.claim(&claim, &ClaimTerms { lease: hour, grace: hour }).await.unwrap();
    let lock = Lock::take(server.url(), "SELECT FROM klikit_ledger FOR UPDATE").await;
    let forget = klikit(["ledger", "forget", "--event-id", "evt-1", "--yes"]).env("KLIKIT_STORE", server.url());
    let (ended, _) = lock.interrupt(forget.start()).await;
    assert!(ended.stderr.contains(r#"event_id=evt-1" deliveries_at_least=0"#), "{ended}");
    assert_eq!(ended.stdout, "Interrupted. Some, all or none of 1 delivery may be changed.\n");
}

#[tokio::test]
async fn pause_and_resume_stop() {
    let Some(store) = TestStore::postgres("pause and resume stop").await else { return };
    store.service.inbox.operator("ana").pause(&Pause::everything().tenant("warung")).await.unwrap();
    let leasing = "SELECT pg_advisory_xact_lock(x'6b6c6b6c'::int, 'klikit_inbox'::regclass::oid::int)";
    for (action, statement) in [("pause", leasing), ("resume", "SELECT FROM klikit_inbox_pause FOR UPDATE")] {
        let lock = Lock::take(&store.location, statement).await;
        let running = store.klikit(["inbox", action, "--tenant", "warung", "--yes", "--json"]).start();
        let (ended, report) = lock.interrupt(running).await;
        assert_eq!(audited(&ended, "deliveries_at_least"), [0], "{ended}");
        assert_eq!((&report["changed"], &report["applied"]), (&Value::Null, &json!(true)), "{ended}");
    }
}

#[tokio::test]
async fn migrate_stops() {
    let Some(server) = PostgresServer::start("migrate stops") else { return };
    for options in [&["--json"][..], &[]] {
        let lock = Lock::take(server.url(), MIGRATION_LOCK).await;
        let migrate = ["migrate", "--yes"].iter().chain(options).copied();
        let (ended, report) = lock.interrupt(klikit(migrate).env("KLIKIT_STORE", server.url()).start()).await;
        if options.is_empty() {
            let migrations = "ledger 1, inbox 1, inbox 2";
            let line = format!("Interrupted. `klikit migrate --dry-run` shows what is left of {migrations}.\n");
            assert_eq!(ended.stdout, line, "{ended}");
        } else {
            assert_eq!(report.get("applied"), Some(&Value::Null), "{ended}");
        }
    }
}

#[tokio::test]
async fn tail_stops_during_a_look() {
    let Some(store) = TestStore::postgres("tail stops during a look").await else { return };
    let mut running = store.klikit(["inbox", "tail"]).start();
    running.wait_for_note("watching");
    let lock = Lock::take(&store.location, "LOCK TABLE klikit_inbox").await;
    lock.interrupt(running).await;
}

#[tokio::test]
async fn incomplete_backup_is_deleted() {
    let store = TestStore::sqlite();
    // Enough that the copy is not complete before ctrl-c.
    store.execute(&large_table(300_000)).await;
    let folder = store.file("copies");
    fs::create_dir(&folder).unwrap();
    let files = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let running = store.klikit(["inbox", "backup", folder.join("copy.db").to_str().unwrap()]).start();
    while files().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    let (ended, _) = interrupt(running, "-INT");
    assert!(ended.stdout.is_empty(), "{ended}");
    assert!(ended.stderr.ends_with("\nInterrupted. An incomplete copy is deleted.\n"), "{ended}");
    assert!(files().is_empty(), "{:?}", files());
}
