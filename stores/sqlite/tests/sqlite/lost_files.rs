//! Tests of files that are deleted, replaced or truncated while a store has them open.
#![cfg(unix)]

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use tower_klikit::inbox::{Acceptance, InboxStore};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore};

use crate::{
    deliveries::{accept, delivery, show},
    processes::{ChildProcess, FILE},
    support::{Folder, RETENTION, kind, with_suffix},
};

const ACKNOWLEDGED: u64 = 4;

/// Opens a store, accepts some deliveries, and opens the reader's connection.
async fn filled(folder: &Folder) -> SqliteStore {
    let store = folder.open();
    for n in 0..ACKNOWLEDGED {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    assert_eq!(store.backlog(10_000).await.unwrap(), ACKNOWLEDGED);
    store
}

/// Returns how many deliveries the next process would find if this process was killed now.
async fn found_after_kill(folder: &Folder) -> u64 {
    let copy = Folder::new();
    for suffix in ["", "-wal", "-shm"] {
        let file = with_suffix(&folder.file(), suffix);
        // Copy in another process, since closing the file in this process would drop SQLite's locks.
        let copied =
            Command::new("cp").arg(&file).arg(with_suffix(&copy.file(), suffix)).stderr(Stdio::null()).status();
        assert!(copied.unwrap().success() || !file.exists());
    }
    copy.open().backlog(10_000).await.unwrap()
}

/// Tries to accept a delivery until the store has recovered. Returns how many attempts failed.
async fn failures_until_recovered(store: &SqliteStore, event: &str) -> usize {
    let new = delivery(event, event, &[]);
    for failed in 0..10 {
        match store.accept(&new, RETENTION).await {
            Ok(Acceptance::Accepted | Acceptance::Known { .. }) => return failed,
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(kind(&error), SqliteErrorKind::File, "{error:?}"),
        }
    }
    panic!("the store has not recovered after 10 attempts");
}

fn replace(file: &Path) {
    let copy = with_suffix(file, "-copy");
    assert!(Command::new("cp").arg(file).arg(&copy).status().unwrap().success());
    fs::rename(copy, file).unwrap();
}

fn truncate(file: &Path, length: u64) {
    OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

fn is_undamaged(folder: &Folder) -> bool {
    let check = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    folder.connect().query_row("PRAGMA integrity_check", [], check).unwrap() == "ok"
}

#[tokio::test]
async fn recovers_all_deliveries_from_lost_files() {
    for lost in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        for replaced in [false, true] {
            let folder = Folder::new();
            let store = filled(&folder).await;
            for suffix in lost {
                let file = with_suffix(&folder.file(), suffix);
                if replaced { replace(&file) } else { fs::remove_file(&file).unwrap() }
            }
            assert!(
                failures_until_recovered(&store, "evt-new").await >= 1,
                "{lost:?} {replaced}: the loss was not noticed"
            );
            let all = ACKNOWLEDGED + 1;
            assert_eq!(store.backlog(10_000).await.unwrap(), all, "{lost:?} {replaced}");
            assert_eq!(found_after_kill(&folder).await, all, "{lost:?} {replaced}");
            accept(&store, "evt-last", &[]).await;
            drop(store);
            folder.closed();
            assert!(is_undamaged(&folder));
            assert_eq!(folder.open().backlog(10_000).await.unwrap(), all + 1, "{lost:?} {replaced}");
        }
    }
}

#[tokio::test]
async fn reader_notices_lost_files() {
    for lost in ["-wal", "-shm"] {
        let folder = Folder::new();
        let store = filled(&folder).await;
        fs::remove_file(with_suffix(&folder.file(), lost)).unwrap();
        assert_eq!(kind(&store.counts().await.unwrap_err()), SqliteErrorKind::File, "{lost}");
        assert_eq!(store.backlog(10_000).await.unwrap(), ACKNOWLEDGED, "{lost}");
        accept(&store, "evt-new", &[]).await;
        assert_eq!(found_after_kill(&folder).await, ACKNOWLEDGED + 1, "{lost}");
    }
}

#[tokio::test]
async fn all_stores_on_the_file_recover() {
    for lost in [&["-wal"][..], &["-wal", "-shm"]] {
        let folder = Folder::new();
        let (one, other) = (filled(&folder).await, folder.open());
        accept(&other, "evt-other", &[]).await;
        assert_eq!(other.backlog(10_000).await.unwrap(), ACKNOWLEDGED + 1);
        for suffix in lost {
            fs::remove_file(with_suffix(&folder.file(), suffix)).unwrap();
        }
        assert!(failures_until_recovered(&one, "evt-new").await >= 1);
        failures_until_recovered(&other, "evt-newer").await;
        for store in [&one, &other] {
            assert_eq!(store.backlog(10_000).await.unwrap(), ACKNOWLEDGED + 3, "{lost:?}");
        }
        assert_eq!(found_after_kill(&folder).await, ACKNOWLEDGED + 3, "{lost:?}");
    }
}

#[tokio::test]
async fn notices_a_truncated_log() {
    for rest in [0, 100, 5000] {
        let folder = Folder::new();
        let store = filled(&folder).await;
        // Copy the first deliveries into the file, so that the truncation cannot lose them.
        let copy = "PRAGMA wal_checkpoint(TRUNCATE)";
        assert_eq!(folder.connect().query_row(copy, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        for n in 0..ACKNOWLEDGED {
            accept(&store, &format!("evt-log-{n}"), &[]).await;
        }
        truncate(&with_suffix(&folder.file(), "-wal"), rest);
        assert!(failures_until_recovered(&store, "evt-new").await >= 1, "{rest}: the truncation was not noticed");
        accept(&store, "evt-last", &[]).await;
        let found = store.backlog(10_000).await.unwrap();
        assert!(found >= ACKNOWLEDGED + 2, "{rest}: {found}");
        assert_eq!(found_after_kill(&folder).await, found, "{rest}");
        assert!(is_undamaged(&folder), "{rest}");
    }
}

#[tokio::test]
async fn other_programs_may_run_checkpoints() {
    let folder = Folder::new();
    let store = filled(&folder).await;
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE", "TRUNCATE"] {
        let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
        assert_eq!(folder.connect().query_row(&checkpoint, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "{mode}");
        for n in 0..3 {
            accept(&store, &format!("evt-{mode}-{n}-{}", store.backlog(10_000).await.unwrap()), &[]).await;
        }
        let write = "
            CREATE TABLE IF NOT EXISTS t (c);

            INSERT INTO t
            VALUES (1);
            ";
        folder.connect().execute_batch(write).unwrap();
        store.counts().await.unwrap();
    }
}

#[tokio::test]
async fn recovers_when_a_moved_folder_is_back() {
    let folder = Folder::new();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    fs::create_dir(&here).unwrap();
    let store = SqliteStore::builder().create().open(here.join("klikit.db")).unwrap();
    accept(&store, "evt-1", &[]).await;
    assert_eq!(store.backlog(10).await.unwrap(), 1);
    fs::rename(&here, &there).unwrap();
    let new = delivery("evt-2", "two", &[]);
    for _ in 0..3 {
        assert_eq!(kind(&store.accept(&new, RETENTION).await.unwrap_err()), SqliteErrorKind::File);
        assert_eq!(kind(&store.counts().await.unwrap_err()), SqliteErrorKind::File);
    }
    fs::rename(&there, &here).unwrap();
    accept(&store, "evt-3", &[]).await;
    assert!(show(&store, 1).await.is_some());
    drop(store);
    let path = here.join("klikit.db");
    crate::support::until("the file to be closed", || !with_suffix(&path, "-wal").exists());
    assert!(SqliteStore::builder().create().open(path).unwrap().backlog(10).await.unwrap() >= 2);
}

#[tokio::test]
async fn creates_a_lost_file_only_if_told_to() {
    let folder = Folder::new();
    drop(folder.open());
    folder.closed();
    let store = SqliteStore::open(folder.file()).unwrap();
    accept(&store, "evt-1", &[]).await;
    assert_eq!(store.backlog(10).await.unwrap(), 1);
    let away = folder.path().join("away");
    fs::rename(folder.file(), &away).unwrap();
    let new = delivery("evt-2", "two", &[]);
    for expected in [SqliteErrorKind::File, SqliteErrorKind::NotFound, SqliteErrorKind::NotFound] {
        assert_eq!(kind(&store.accept(&new, RETENTION).await.unwrap_err()), expected);
        assert_eq!(kind(&store.counts().await.unwrap_err()), expected);
        assert!(!folder.file().exists());
    }
    fs::rename(&away, folder.file()).unwrap();
    assert_eq!(store.backlog(10).await.unwrap(), 1);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    assert_eq!(store.backlog(10).await.unwrap(), 2);

    // A store with the option `create` continues with an empty file.
    drop(store);
    folder.closed_by_all();
    let store = folder.open();
    accept(&store, "evt-3", &[]).await;
    fs::remove_file(folder.file()).unwrap();
    assert!(failures_until_recovered(&store, "evt-4").await >= 1);
    assert_eq!(store.backlog(10).await.unwrap(), 1);
}

/// SQLite puts the log and its index next to the target of a symbolic link.
#[tokio::test]
async fn finds_the_files_behind_a_symbolic_link() {
    let folder = Folder::new();
    let real = folder.path().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("klikit.db"), []).unwrap();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(real.join("klikit.db"), &link).unwrap();
    let store = SqliteStore::builder().create().open(&link).unwrap();
    accept(&store, "evt-1", &[]).await;
    assert_eq!(store.backlog(10).await.unwrap(), 1);
    fs::remove_file(real.join("klikit.db-wal")).unwrap();
    assert!(failures_until_recovered(&store, "evt-2").await >= 1);
    assert_eq!(store.backlog(10).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_under_load_loses_nothing_acknowledged() {
    let folder = Folder::new();
    let store = folder.open();
    let mut acknowledged = 0;
    for round in 0..8 {
        let accepting = (0..40).map(|n| {
            let (store, event) = (store.clone(), format!("evt-{round}-{n}"));
            tokio::spawn(async move { store.accept(&delivery(&event, &event, &[]), RETENTION).await })
        });
        let accepting: Vec<_> = accepting.collect();
        let _ = fs::remove_file(with_suffix(&folder.file(), "-wal"));
        if round % 2 == 0 {
            let _ = fs::remove_file(with_suffix(&folder.file(), "-shm"));
        }
        for accepted in accepting {
            acknowledged += u64::from(accepted.await.unwrap().is_ok());
        }
        failures_until_recovered(&store, &format!("evt-recovered-{round}")).await;
        acknowledged += 1;
        let found = found_after_kill(&folder).await;
        assert!(found >= acknowledged, "round {round}: {acknowledged} acknowledged, {found} found");
    }
    drop(store);
    folder.closed_by_all();
    assert!(is_undamaged(&folder));
}

/// While this process has another connection to the file, the store cannot close all connections to the lost log.
#[tokio::test]
async fn foreign_connection_loses_nothing_acknowledged() {
    for lost in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let folder = Folder::new();
        let store = filled(&folder).await;
        let foreign = folder.connect();
        foreign.query_row("SELECT count(*) FROM klikit_inbox", [], |row| row.get::<_, u32>(0)).unwrap();
        for suffix in lost {
            fs::remove_file(with_suffix(&folder.file(), suffix)).unwrap();
        }
        let mut acknowledged = ACKNOWLEDGED;
        for n in 0..5 {
            let new = delivery(&format!("evt-new-{n}"), "body", &[]);
            acknowledged += u64::from(store.accept(&new, RETENTION).await.is_ok());
            assert!(found_after_kill(&folder).await >= acknowledged, "{lost:?}");
        }
        drop(foreign);
        failures_until_recovered(&store, "evt-recovered").await;
        assert!(found_after_kill(&folder).await > acknowledged, "{lost:?}");
        assert!(is_undamaged(&folder), "{lost:?}");
    }
}

#[tokio::test]
async fn two_processes_recover() {
    for lost in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let folder = Folder::new();
        let store = filled(&folder).await;
        let (mut child, mut orders, mut answers) = ChildProcess::start("lost_files::child_accepts", &folder);
        let mut ask = |order: &str| {
            writeln!(orders, "{order}").unwrap();
            answers.next().expect("the child answers")
        };
        assert_eq!(ask("evt-child-1"), "0");
        accept(&store, "evt-parent-1", &[]).await;
        for suffix in lost {
            fs::remove_file(with_suffix(&folder.file(), suffix)).unwrap();
        }
        assert!(failures_until_recovered(&store, "evt-parent-2").await >= 1, "{lost:?}");
        assert_eq!(found_after_kill(&folder).await, ACKNOWLEDGED + 3, "{lost:?}");
        let failed: u32 = ask("evt-child-2").parse().unwrap();
        assert!(failed >= 1, "{lost:?}");
        accept(&store, "evt-parent-3", &[]).await;
        assert_eq!(ask("evt-child-3"), "0");
        assert_eq!(store.backlog(10_000).await.unwrap(), ACKNOWLEDGED + 6, "{lost:?}");
        assert_eq!(found_after_kill(&folder).await, ACKNOWLEDGED + 6, "{lost:?}");
        drop(orders);
        assert!(child.0.wait().unwrap().success());
        drop(store);
        folder.closed_by_all();
        assert!(is_undamaged(&folder));
        assert_eq!(folder.open().backlog(10_000).await.unwrap(), ACKNOWLEDGED + 6, "{lost:?}");
    }
}

/// Accepts the event in each line of standard input, and prints how many attempts failed.
#[tokio::test]
#[ignore = "another test runs this in a child process"]
async fn child_accepts() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let store = SqliteStore::builder().create().open(file).unwrap();
    println!("\n> ready");
    for order in std::io::stdin().lines() {
        println!("\n> {}", failures_until_recovered(&store, &order.unwrap()).await);
    }
}

/// Opens a store that runs `fault` during its next transaction whenever the returned flag is set.
fn open_with(folder: &Folder, fault: impl Fn() + Send + Sync + 'static) -> (SqliteStore, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let clock = {
        let armed = Arc::clone(&armed);
        move || {
            // The store reads the time after a transaction has begun.
            if armed.swap(false, Ordering::SeqCst) {
                fault();
            }
            SystemTime::now()
        }
    };
    (SqliteStore::builder().create().clock(clock).open(folder.file()).unwrap(), armed)
}

#[tokio::test]
async fn notices_a_loss_during_a_transaction() {
    for lost in ["-wal", "-shm"] {
        let folder = Folder::new();
        let file = with_suffix(&folder.file(), lost);
        let (store, armed) = open_with(&folder, move || fs::remove_file(&file).unwrap());
        accept(&store, "evt-1", &[]).await;
        armed.store(true, Ordering::SeqCst);
        let new = delivery("evt-2", "two", &[]);
        assert_eq!(kind(&store.accept(&new, RETENTION).await.unwrap_err()), SqliteErrorKind::File, "{lost}");
        failures_until_recovered(&store, "evt-2").await;
        assert_eq!(found_after_kill(&folder).await, 2);
    }
}

#[tokio::test]
async fn log_with_a_hole_does_not_damage_the_file() {
    let folder = Folder::new();
    let file = with_suffix(&folder.file(), "-wal");
    let (store, armed) = open_with(&folder, move || truncate(&file, 0));
    for n in 0..20 {
        accept(&store, &format!("evt-{n}"), &["key"]).await;
    }
    let copy = "PRAGMA wal_checkpoint(PASSIVE)";
    assert_eq!(folder.connect().query_row(copy, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    // This delivery is only in the log, on its own pages.
    let lost = delivery("evt-lost", &"x".repeat(20_000), &["key"]);
    assert_eq!(store.accept(&lost, RETENTION).await.unwrap(), Acceptance::Accepted);
    armed.store(true, Ordering::SeqCst);
    let new = delivery("evt-new", "new", &["key"]);
    assert_eq!(kind(&store.accept(&new, RETENTION).await.unwrap_err()), SqliteErrorKind::File);
    assert!(failures_until_recovered(&store, "evt-newer").await <= 1);
    assert!(is_undamaged(&folder));
    let found = store.backlog(10_000).await.unwrap();
    assert!(found >= 21, "{found}");
    drop(store);
    folder.closed();
    assert!(is_undamaged(&folder));
}
