//! Tests of damaged pages of the inbox and the clock.

use std::time::Duration;

use futures_util::future::join_all;
use tower_klikit::inbox::{Acceptance, Filter, InboxAdmin, InboxStore, LeaseRequest, SettleOutcome};

use super::{change, close, damage, dead_lettered, id, leaves};
use crate::{
    deliveries::{
        WORKER, accept, dead_letters, delivery, done, ids, lease, lease_batch, request, reschedule, settled, show,
    },
    support::{Folder, LEASE, RETENTION, TestClock},
};

#[tokio::test]
async fn damaged_body_is_dead_lettered_alone() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    // Large bodies, so that each row has its own page.
    let body = "x".repeat(3000);
    for n in 1..=5 {
        let new = delivery(&format!("evt-{n}"), &body, &["key"]);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox_body");
    assert_eq!(pages.len(), 5);
    damage(&folder, &pages[1..2]);
    let store = clock.open(&folder.file());
    let mut handled = vec![];
    let mut dead = vec![];
    for _ in 0..4 {
        let batch = lease_batch(&store, 1, 5).await;
        dead.extend(dead_lettered(&batch));
        assert!(batch.unreadable.is_empty());
        handled.extend(ids(&batch.leased));
        settled(&store, &batch.leased[0], done()).await;
    }
    assert_eq!((handled, dead), (vec![1, 3, 4, 5], vec![2]));
    let listed = dead_letters(&store, None, 10).await;
    assert_eq!(listed[0].id, id(2));
    assert!(listed[0].reason.as_ref().unwrap().contains("malformed"), "{:?}", listed[0].reason);
    assert_eq!(show(&store, 2).await.unwrap().body, None);

    // klikit sends delivery 2 again.
    let copy = delivery("evt-2", &body, &["key"]);
    let neighbours: Vec<_> = (10..50).map(|n| delivery(&format!("evt-{n}"), &body, &[])).collect();
    let all = join_all([&copy].into_iter().chain(&neighbours).map(|new| store.accept(new, RETENTION))).await;
    let accepted = all.iter().skip(1).filter(|outcome| matches!(outcome, Ok(Acceptance::Accepted))).count();
    assert_eq!(accepted, 40, "{all:?}");
    assert!(matches!(all[0], Ok(Acceptance::Accepted | Acceptance::Revived)), "{:?}", all[0]);
    assert!(lease(&store, 100, 5).await.iter().any(|leased| leased.body() == &body && leased.head() == copy.head()));
}

#[tokio::test]
async fn lists_deliveries_around_a_damaged_page() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    join_all((1..=2000).map(async |n| accept(&store, &format!("evt-{n}"), &[]).await)).await;
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox");
    assert!(pages.len() > 10);
    damage(&folder, &pages[3..4]);
    let store = clock.open(&folder.file());
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.find(&Filter::new(), after, 300).await.unwrap();
        found.extend(page.entries.iter().map(|entry| entry.id));
        let Some(next) = page.next else { break };
        assert!(Some(next) > after);
        after = Some(next);
    }
    assert!(found.is_sorted_by(|one, next| one < next));
    assert!(found.len() > 1800 && found.len() < 2000, "{} were found", found.len());
    assert_eq!((found.first(), found.last()), (Some(&id(1)), Some(&id(2000))));
}

#[tokio::test]
async fn reports_damaged_states_and_leases_the_others() {
    const ALL: i64 = 400;

    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..ALL {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox");
    damage(&folder, &pages[..2]);
    let store = clock.open(&folder.file());
    let mut handled = vec![];
    let unreadable = loop {
        let batch = lease_batch(&store, 50, 5).await;
        assert!(batch.dead_lettered.is_empty());
        let unreadable = batch.unreadable.iter().map(|unreadable| unreadable.id.get()).collect::<Vec<_>>();
        if batch.leased.is_empty() {
            break unreadable;
        }
        let expected = (ALL - handled.len() as i64 - unreadable.len() as i64).min(50);
        assert_eq!(batch.leased.len() as i64, expected, "the batch is not full");
        handled.extend(ids(&batch.leased));
        let settlements: Vec<_> = batch.leased.iter().map(|leased| (*leased.lease(), done())).collect();
        assert_eq!(store.settle(&settlements).await.unwrap().len(), batch.leased.len());
    };
    assert!(unreadable.len() > 20, "{unreadable:?}");
    handled.extend(&unreadable);
    handled.sort_unstable();
    assert_eq!(handled, (1..=ALL).collect::<Vec<_>>());
    // A call for several leases processes the readable ones and returns an error.
    accept(&store, "evt-new", &[]).await;
    let ahead = store.lease(&LeaseRequest { free_handlers: 0, ..request(1, 5) }).await.unwrap().leased;
    let new = *ahead[0].lease();
    assert_eq!(show(&store, new.id().get()).await.unwrap().attempts, 0);
    let damaged = tower_klikit::inbox::Lease::new(id(unreadable[0]), 1, 1);
    assert!(store.start(&[damaged, new], WORKER).await.is_err());
    assert_eq!(show(&store, new.id().get()).await.unwrap().attempts, 1);
    assert!(store.extend(&[damaged, new], LEASE * 2).await.is_err());
    clock.advance(LEASE);
    assert!(lease(&store, 1, 5).await.is_empty());
    assert!(store.settle(&[(damaged, done()), (new, done())]).await.is_err());
    assert_eq!(store.settle(&[(new, done())]).await.unwrap(), [SettleOutcome::Gone]);
}

#[tokio::test]
async fn damaged_clock_row_counts_as_new() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    accept(&store, "evt-1", &[]).await;
    change(&folder, "UPDATE klikit_clock SET ahead = 'x', latest = 9223372036854775807");
    assert_eq!(ids(&lease(&store, 1, 5).await), [1]);
    close(&folder, store);
    let pages = leaves(&folder, "klikit_clock");
    damage(&folder, &pages);
    let store = clock.open(&folder.file());
    accept(&store, "evt-2", &[]).await;
    assert_eq!(ids(&lease(&store, 1, 5).await), [2]);
    clock.advance(LEASE);
    assert_eq!(ids(&lease(&store, 10, 5).await), [1, 2]);
}

#[tokio::test]
async fn damaged_records_do_not_stop_deliveries() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    accept(&store, "evt-1", &[]).await;
    settled(&store, &lease(&store, 1, 5).await[0], reschedule(Duration::ZERO)).await;
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox_attempt");
    damage(&folder, &pages);
    let store = clock.open(&folder.file());
    settled(&store, &lease(&store, 1, 5).await[0], reschedule(Duration::ZERO)).await;
    let shown = show(&store, 1).await.unwrap();
    assert_eq!((shown.attempts, shown.history.len()), (2, 0));
    settled(&store, &lease(&store, 1, 5).await[0], done()).await;
    assert_eq!(folder.count("klikit_inbox"), 0);
}
