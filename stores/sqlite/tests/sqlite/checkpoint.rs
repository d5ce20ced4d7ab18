//! Tests of checkpoints.

use std::fs;

use tower_klikit::inbox::{Acceptance, InboxStore};

use crate::{
    deliveries::delivery,
    support::{Folder, RETENTION, until},
};

#[tokio::test]
async fn copies_the_log_while_the_store_is_open() {
    const BODY: usize = 200 << 10;
    let folder = Folder::new();
    let store = folder.open();
    let body = "o".repeat(BODY);
    for event in 0..100 {
        let new = delivery(&format!("evt-{event}"), &body, &[]);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    // Less than 16 MB: the last deliveries are not copied yet, and some pages are in the log more than once.
    let copied = || fs::metadata(folder.file()).unwrap().len() >= 12 << 20;
    until("the log to be copied", copied);
    assert_eq!(store.counts().await.unwrap().ready, 100);
}
