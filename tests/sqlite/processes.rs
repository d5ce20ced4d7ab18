//! Several stores on one file, in one process and in two.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger},
    store::sqlite::SqliteStore,
};

use crate::support::{Folder, LEASE, claim};

/// The file that [`child_claims`] claims in.
const FILE: &str = "TOWER_KLIKIT_TEST_SQLITE_FILE";

/// Has 32 tokens claim an event at once. How many did.
async fn claim_32(stores: &[&SqliteStore], event: u64, first_token: u64) -> usize {
    let claims = (0..32).zip(stores.iter().cycle()).map(|(n, &store)| {
        let store = store.clone();
        tokio::spawn(async move { store.claim(&claim(event, first_token + n), LEASE).await })
    });
    let mut claimed = 0;
    for claim in claims.collect::<Vec<_>>() {
        // A store may not get its turn. It says so, and has not claimed.
        claimed += usize::from(claim.await.unwrap().is_ok_and(|outcome| outcome == ClaimOutcome::Claimed));
    }
    claimed
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_claims_through_two_stores_one_succeeds() {
    let folder = Folder::new();
    let (one, other) = (folder.open(), folder.open());
    for event in 0..50 {
        let stores = [&one, &other];
        let (first, second) = tokio::join!(claim_32(&stores, event, 0), claim_32(&stores, event, 32));
        assert_eq!(first + second, 1, "event {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_claims_in_two_processes_one_succeeds() {
    let folder = Folder::new();
    let store = folder.open();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "processes::child_claims"])
        .env(FILE, folder.file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Ended(child.unwrap());
    let mut orders = child.0.stdin.take().unwrap();
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    // The test harness prints lines of its own.
    let mut answers = lines.map(Result::unwrap).filter_map(|line| line.strip_prefix("> ").map(str::to_owned));
    assert_eq!(answers.next().as_deref(), Some("ready"));

    let mut by_the_child = 0;
    for event in 0..100 {
        writeln!(orders, "{event}").unwrap();
        let here = claim_32(&[&store], event, 0).await;
        let there: usize = answers.next().expect("the child's answer").parse().unwrap();
        assert_eq!(here + there, 1, "event {event}");
        by_the_child += there;
    }
    drop(orders);
    assert!(child.0.wait().unwrap().success());
    println!("{by_the_child} of 100 were claimed by the child");
}

/// Claims each event that a line of standard input asks for.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of another test, in a process of its own"]
async fn child_claims() {
    let Some(file) = env::var_os(FILE) else { return };
    let store = SqliteStore::open(file).unwrap();
    println!("\n> ready");
    for order in std::io::stdin().lines() {
        println!("\n> {}", claim_32(&[&store], order.unwrap().parse().unwrap(), 32).await);
    }
}

/// A child that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
