//! Tests of several stores on one file, in one process and in two processes.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
};

use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger},
    inbox::{Acceptance, InboxStore},
};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{delivery, request},
    support::{Folder, RETENTION, TERMS, TestClock, claim},
};

/// The environment variable with the file for a child process.
pub(crate) const FILE: &str = "TOWER_KLIKIT_TEST_SQLITE_FILE";

/// Claims an event with 32 tokens at once. Returns how many succeeded.
async fn claim_32(stores: &[&SqliteStore], event: u64, first_token: u64) -> usize {
    let claims = (0..32).zip(stores.iter().cycle()).map(|(n, &store)| {
        let store = store.clone();
        tokio::spawn(async move { store.claim(&claim(event, first_token + n), &TERMS).await })
    });
    let mut claimed = 0;
    for claim in claims.collect::<Vec<_>>() {
        // Without the lock, the store returns an error and claims nothing.
        claimed += usize::from(claim.await.unwrap().is_ok_and(|outcome| outcome == ClaimOutcome::Claimed));
    }
    claimed
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_64_claims_through_two_stores_succeeds() {
    let folder = Folder::new();
    let (one, other) = (folder.open(), folder.open());
    for event in 0..50 {
        let stores = [&one, &other];
        let (first, second) = tokio::join!(claim_32(&stores, event, 0), claim_32(&stores, event, 32));
        assert_eq!(first + second, 1, "event {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_64_claims_in_two_processes_succeeds() {
    let folder = Folder::new();
    let store = folder.open();
    let (mut child, mut orders, mut answers) = ChildProcess::start("processes::child_claims", &folder);
    let mut by_child = 0;
    for event in 0..100 {
        writeln!(orders, "{event}").unwrap();
        let here = claim_32(&[&store], event, 0).await;
        let there: usize = answers.next().expect("the child answers").parse().unwrap();
        assert_eq!(here + there, 1, "event {event}");
        by_child += there;
    }
    drop(orders);
    assert!(child.0.wait().unwrap().success());
    println!("the child has claimed {by_child} of 100 events");
}

/// Claims the event in each line of standard input.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "another test runs this in a child process"]
async fn child_claims() {
    let Some(file) = env::var_os(FILE) else { return };
    let store = SqliteStore::builder().create().open(file).unwrap();
    println!("\n> ready");
    for order in std::io::stdin().lines() {
        println!("\n> {}", claim_32(&[&store], order.unwrap().parse().unwrap(), 32).await);
    }
}

/// Leases deliveries until none is ready. Returns their ids.
async fn lease_all(store: &SqliteStore) -> Vec<i64> {
    let mut ids = vec![];
    while store.counts().await.is_ok_and(|counts| counts.ready > 0) {
        // Without the lock, the store returns an error and leases nothing.
        let leased = store.lease(&request(4, 3)).await.unwrap_or_default().leased;
        ids.extend(leased.iter().map(|leased| leased.lease().id().get()));
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_lease_no_delivery_twice() {
    const EACH: u64 = 100;
    let folder = Folder::new();
    let store = TestClock::new().open(&folder.file());
    let (mut child, mut orders, mut answers) = ChildProcess::start("processes::child_leases", &folder);
    let (mut ids, mut by_child) = (vec![], 0);
    for round in 0..10 {
        for event in 0..EACH {
            let new = delivery(&format!("evt-{round}-{event}"), "body", &[]);
            assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
        }
        writeln!(orders, "lease").unwrap();
        ids.extend(lease_all(&store).await);
        let theirs = answers.next().expect("the child answers");
        let before = ids.len();
        ids.extend(theirs.split_whitespace().map(|id| id.parse::<i64>().unwrap()));
        by_child += ids.len() - before;
    }
    ids.sort_unstable();
    assert_eq!(ids.windows(2).find(|pair| pair[0] == pair[1]), None, "leased twice");
    assert_eq!(ids.len() as u64, 10 * EACH);
    drop(orders);
    assert!(child.0.wait().unwrap().success());
    println!("the child has leased {by_child} of {} deliveries", ids.len());
}

/// Leases all deliveries for each line of standard input.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "another test runs this in a child process"]
async fn child_leases() {
    let Some(file) = env::var_os(FILE) else { return };
    // The clock stands still, so that no lease expires during the test.
    let store = TestClock::new().open(file.as_ref());
    println!("\n> ready");
    for order in std::io::stdin().lines() {
        order.unwrap();
        let ids: Vec<_> = lease_all(&store).await.iter().map(i64::to_string).collect();
        println!("\n> {}", ids.join(" "));
    }
}

/// A child process that is killed at the end of the test.
pub(crate) struct ChildProcess(pub(crate) Child);

impl ChildProcess {
    /// Runs a test in a child process. Returns the child, its standard input, and the lines with its answers.
    pub(crate) fn start(test: &str, folder: &Folder) -> (Self, ChildStdin, impl Iterator<Item = String> + use<>) {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", test])
            .env(FILE, folder.file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = Self(child.unwrap());
        let orders = child.0.stdin.take().unwrap();
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        // Skip the lines that the test harness prints.
        let mut answers = lines.map(Result::unwrap).filter_map(|line| line.strip_prefix("> ").map(str::to_owned));
        assert_eq!(answers.next().as_deref(), Some("ready"));
        (child, orders, answers)
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
