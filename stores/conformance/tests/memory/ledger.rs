use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tower_klikit::store::MemoryStore;
use tower_klikit_store_tests::ledger;

async fn make() -> MemoryStore {
    MemoryStore::new()
}

async fn advance(_: &MemoryStore, time: Duration) {
    tokio::time::advance(time).await;
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn follows_the_rules() {
    paused().block_on(ledger::check(make, advance));
}

#[test]
fn matches_the_reference() {
    ledger::compare(512, 100, &paused(), make, &advance);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lets_one_of_many_claims_win() {
    for _ in 0..8 {
        ledger::race(MemoryStore::new()).await;
    }
}
