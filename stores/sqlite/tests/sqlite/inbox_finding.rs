//! Tests of finding deliveries page by page.

use tower_klikit::inbox::{Acceptance, Filter, InboxAdmin, InboxStore};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{accept, delivery},
    support::{Folder, RETENTION, TestClock},
};

/// Returns the ids of the deliveries on all pages, and the number of pages.
async fn find_all(store: &SqliteStore, filter: &Filter, limit: u32) -> (Vec<i64>, u32) {
    let (mut found, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = store.find(filter, after, limit).await.unwrap();
        pages += 1;
        found.extend(page.entries.iter().map(|entry| entry.id.get()));
        assert!(page.next.is_none_or(|next| after.is_none_or(|after| after < next)), "{page:?}");
        after = page.next;
        if after.is_none() {
            return (found, pages);
        }
    }
}

async fn accept_with_terms(store: &SqliteStore, event: &str, terms: &[&str]) {
    let new = delivery(event, &format!("body of {event}"), &[]).with_terms(terms);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
}

#[tokio::test]
async fn page_examines_a_bounded_number() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..2500 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    let last = Filter::new().body("body of evt-2499");
    assert_eq!(find_all(&store, &last, 10).await, (vec![2500], 3));
}

#[tokio::test]
async fn finds_orders_alone_and_in_batches() {
    let folder = Folder::new();
    let store = folder.open();
    for n in 1..=1600 {
        let terms = match n % 4 {
            0 => &["branch:7", "order:42"][..],
            1 => &["branch:8", "order:41", "order:42"],
            2 => &["order:41"],
            _ => &["branch:7"],
        };
        accept_with_terms(&store, &format!("evt-{n}"), terms).await;
    }
    let numbers = |is_chosen: fn(i64) -> bool| (1..=1600).filter(|n| is_chosen(*n)).collect::<Vec<_>>();
    for (filter, expected) in [
        (Filter::new().order(42), numbers(|n| n % 4 < 2)),
        (Filter::new().order(41), numbers(|n| n % 4 == 1 || n % 4 == 2)),
        (Filter::new().order(41).branch(8), numbers(|n| n % 4 == 1)),
        (Filter::new().branch(7), numbers(|n| n % 4 == 0 || n % 4 == 3)),
        (Filter::new().event_id("evt-1500"), vec![1500]),
        (Filter::new().event_id("evt-1500").order(41), vec![]),
    ] {
        for limit in [7, 2000] {
            assert_eq!(find_all(&store, &filter, limit).await.0, expected, "{filter}");
        }
    }
}

#[tokio::test]
async fn search_examines_a_bounded_part_of_an_index() {
    let folder = Folder::new();
    let store = folder.open();
    accept_with_terms(&store, "evt-1", &["branch:7"]).await;
    // Each of the copies is in a bucket of its own, as are the last deliveries of a long time.
    let copy = "
        WITH RECURSIVE n (n) AS (
            SELECT 1
            UNION ALL
            SELECT n + 1 FROM n WHERE n < 200
        )
        INSERT INTO klikit_inbox (id, key, state, due, attempts, token, accepted_at, since, tenant, branch)
        SELECT n * 512, randomblob(16), 2, 0, 0, 0, 0, 0, 'default', CASE n WHEN 200 THEN 'branch:7' ELSE 'branch:8' END
        FROM n
        ";
    folder.connect().execute_batch(copy).unwrap();
    assert_eq!(find_all(&store, &Filter::new().branch(7), 10).await, (vec![1, 512 * 200], 2));
}
