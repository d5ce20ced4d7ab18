//! Measures the gain of group commit: 64 clients claim distinct deliveries through `SqliteStore`, compared with one
//! commit per insert.
//!
//! Each case runs with the disk's own fsync, and with a slower fsync.
//!
//! Run it with `cargo bench -p tower-klikit-sqlite --bench ledger_sqlite`. It needs a C compiler for the library that
//! slows fsync down, and a system that can preload libraries.
#![allow(missing_docs)]

#[path = "support/disk.rs"]
mod disk;

use std::{
    fs,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use disk::{BenchFolder, Figures, fsync, run_slowed_by, slowed_by};
use rusqlite::{Connection, params};
use tokio::runtime::Runtime;
use tower_klikit::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, Ledger};

const CLIENTS: u64 = 64;
const ROUNDS: usize = 3;
const TERMS: ClaimTerms = ClaimTerms { lease: Duration::from_secs(3600), grace: Duration::from_secs(3600) };
const RETENTION: Duration = Duration::from_secs(35 * 24 * 3600);

fn main() {
    match slowed_by() {
        Some(slow) => measure(slow),
        None => {
            run_slowed_by(&["0", "1000", "5000"]);
            size();
        }
    }
}

fn measure(slow: u32) {
    println!("fsync slowed down by {slow} µs: takes {} µs in total", fsync().as_micros());
    let mut rounds: Vec<[Figures; 3]> =
        (0..ROUNDS).map(|_| [one_by_one(slow), grouped(CLIENTS, 1), grouped(CLIENTS, 2)]).collect();
    let names = ["one commit per insert", "SqliteStore", "two of them on one file"];
    let mut medians = [0.0; 3];
    for (case, name) in names.iter().enumerate() {
        rounds.sort_by(|a, b| a[case].per_second.total_cmp(&b[case].per_second));
        let figures = rounds[ROUNDS / 2][case];
        medians[case] = figures.per_second;
        figures.print(name, "claims");
    }
    println!("  {:<26} {:>8.1} times the throughput", "SqliteStore / one by one", medians[1] / medians[0]);
    println!();
}

/// Measures inserts on one connection behind a mutex, with the store's settings and table.
fn one_by_one(slow: u32) -> Figures {
    let folder = BenchFolder::new();
    drop(folder.open());
    let connection = Connection::open(folder.file()).expect("the file was just created");
    let settings = "
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        ";
    connection.execute_batch(settings).expect("SQLite applies the settings");
    let connection = Mutex::new(connection);
    let each = if slow == 0 { 300 } else { 20 };
    let started = Instant::now();
    let times = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let connection = &connection;
                scope.spawn(move || (0..each).map(|n| Some(insert(connection, client * each + n))).collect::<Vec<_>>())
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("the client does not panic")).collect()
    });
    Figures::new(times, started.elapsed())
}

fn insert(connection: &Mutex<Connection>, event: u64) -> Duration {
    let claim = claim(event);
    let started = Instant::now();
    let connection = connection.lock().expect("no client panics");
    let mut insert = connection
        .prepare_cached(
            "
            INSERT INTO klikit_ledger (key, digest, token, state, until, claimed_at)
            VALUES (?1, ?2, ?3, 0, ?4, ?4)
            ON CONFLICT DO NOTHING
            ",
        )
        .expect("the statement is valid");
    let values =
        params![claim.key().as_bytes(), claim.digest().as_bytes(), claim.token().as_bytes(), 1_800_000_000_000_i64];
    assert_eq!(insert.execute(values).expect("the insert succeeds"), 1);
    started.elapsed()
}

/// Measures claims through this many stores on one file.
fn grouped(clients: u64, stores: usize) -> Figures {
    let folder = BenchFolder::new();
    let stores: Vec<_> = (0..stores).map(|_| folder.open()).collect();
    let each = 300;
    Runtime::new().expect("the runtime starts").block_on(async {
        let started = Instant::now();
        let clients: Vec<_> = (0..clients)
            .zip(stores.iter().cycle())
            .map(|(client, store)| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut times = vec![];
                    for n in 0..each {
                        let claim = claim(client * each + n);
                        let started = Instant::now();
                        let outcome = store.claim(&claim, &TERMS).await;
                        times.push(outcome.is_ok().then(|| started.elapsed()));
                        assert!(outcome.map_or(true, |outcome| outcome == ClaimOutcome::Claimed));
                    }
                    times
                })
            })
            .collect();
        let mut times = vec![];
        for client in clients {
            times.extend(client.await.expect("the client does not panic"));
        }
        Figures::new(times, started.elapsed())
    })
}

/// Prints the size of the file per delivery, after all deliveries were claimed and completed.
fn size() {
    const EVENTS: u64 = 200_000;
    let folder = BenchFolder::new();
    let store = folder.open();
    Runtime::new().expect("the runtime starts").block_on(async {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in 0..EVENTS / CLIENTS {
                        let claim = claim(n * CLIENTS + client);
                        store.claim(&claim, &TERMS).await.expect("the claim succeeds");
                        store.complete(&claim, RETENTION).await.expect("the completion succeeds");
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.expect("the client does not panic");
        }
    });
    drop(store);
    let connection = Connection::open(folder.file()).expect("the file opens");
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    let _: i64 = connection.query_row(checkpoint, [], |row| row.get(0)).expect("the checkpoint succeeds");
    let bytes = fs::metadata(folder.file()).expect("the file exists").len();
    println!("{EVENTS} completed deliveries: {:.1} bytes each", bytes as f64 / EVENTS as f64);
}

/// Returns the claim on an event. Its key and its token are as random as hashes.
fn claim(event: u64) -> Claim {
    let digest = BodyDigest::of(&event.to_be_bytes());
    let (mut key, mut token) = ([0; 16], [0; 16]);
    key.copy_from_slice(&digest.as_bytes()[..16]);
    token.copy_from_slice(&digest.as_bytes()[16..]);
    Claim::new(key, key, digest, token)
}
