use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tower_klikit::store::MemoryStore;
use tower_klikit_store_tests::inbox;

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
    paused().block_on(inbox::check(make, advance));
}

#[test]
fn matches_the_reference() {
    inbox::compare(512, 100, &paused(), make, &advance);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn follows_the_rules_in_races() {
    for _ in 0..8 {
        inbox::race(MemoryStore::new()).await;
    }
}

#[tokio::test]
#[should_panic(expected = "one_of_many_copies_is_accepted")]
async fn race_finds_two_separate_stores() {
    inbox::race_between([MemoryStore::new(), MemoryStore::new()]).await;
}
