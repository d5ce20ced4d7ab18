//! Tests of finding deliveries page by page.

use tower_klikit::inbox::{DeliveryId, Filter, InboxAdmin};

use crate::{
    deliveries::accept,
    support::{Folder, TestClock},
};

#[tokio::test]
async fn page_examines_a_bounded_number() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..2500 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    let last = Filter::new().event_id("evt-2499");
    let (mut pages, mut after) = (0, None);
    let found = loop {
        pages += 1;
        let page = store.find(&last, after, 10).await.unwrap();
        match page.next {
            Some(_) => assert!(page.entries.is_empty()),
            None => break page.entries,
        }
        after = page.next;
    };
    assert_eq!((pages, found.len(), found[0].id), (3, 1, DeliveryId::new(2500)));
}
