//! Tests of accepting a copy of an unreadable delivery.

use futures_util::future::join_all;
use tower_klikit::{
    dedupe::Ledger,
    inbox::{Acceptance, InboxAdmin, InboxStore},
};
use tower_klikit_sqlite::SqliteErrorKind;

use super::{change, dead_lettered};
use crate::{
    deliveries::{accept, dead_letter, delivery, ids, keep_for, lease, lease_batch, settled},
    support::{Folder, RETENTION, TestClock, kind},
};

#[tokio::test]
async fn accepting_a_copy_of_an_unreadable_one_fails() {
    for statement in [
        "UPDATE klikit_inbox_body SET body = 17",
        "UPDATE klikit_inbox_body SET head = x'00'",
        "UPDATE klikit_inbox_body SET digest = x'00'",
        "UPDATE klikit_inbox_body SET digest = 'text'",
        "DELETE FROM klikit_inbox_body",
    ] {
        let folder = Folder::new();
        let clock = TestClock::new();
        let store = clock.open(&folder.file());
        let body = "body of evt-0";
        accept(&store, "evt-0", &["key"]).await;
        change(&folder, statement);
        let deliveries: Vec<_> = (0..200).map(|n| delivery(&format!("evt-{n}"), body, &[])).collect();
        let accepted = join_all(deliveries.iter().map(|new| store.accept(new, RETENTION))).await;
        for (n, outcome) in accepted.iter().enumerate() {
            match outcome {
                Ok(outcome) => assert!(n != 0 && *outcome == Acceptance::Accepted, "{n}: {outcome:?}: {statement}"),
                Err(error) => assert!(n == 0 && kind(error) == SqliteErrorKind::Unreadable, "{n}: {error:?}"),
            }
        }
        let batch = lease_batch(&store, 1, 5).await;
        if statement.contains("digest") {
            // The delivery can be handled without its digest.
            assert_eq!(ids(&batch.leased), [1]);
            settled(&store, &batch.leased[0], dead_letter("400")).await;
            // Without the digest, the store cannot tell whether the bodies are equal.
            let error = store.accept(&deliveries[0], RETENTION).await.unwrap_err();
            assert_eq!(kind(&error), SqliteErrorKind::Unreadable);
            assert_eq!(store.forget_keys(&deliveries[0].claim().event().into()).await.unwrap(), 1);
            assert_eq!(store.accept(&deliveries[0], RETENTION).await.unwrap(), Acceptance::Accepted);
        } else {
            assert_eq!(dead_lettered(&batch), [1], "{statement}");
            // The next copy from klikit revives the delivery.
            assert_eq!(store.accept(&deliveries[0], RETENTION).await.unwrap(), Acceptance::Revived, "{statement}");
        }
        let leased = lease(&store, 1000, 5).await;
        let found = leased.iter().filter(|leased| leased.head() == deliveries[0].head()).count();
        assert_eq!(found, 1, "{statement}");
    }
}

#[tokio::test]
async fn new_delivery_replaces_an_unreadable_kept_one() {
    for statement in ["UPDATE klikit_inbox_body SET digest = 17, body = 17", "DELETE FROM klikit_inbox_body"] {
        let folder = Folder::new();
        let store = folder.open();
        accept(&store, "evt-1", &[]).await;
        settled(&store, &lease(&store, 1, 5).await[0], keep_for(RETENTION)).await;
        change(&folder, statement);
        let new = delivery("evt-1", "body of evt-1", &[]);
        let known = Acceptance::Known { digest: *new.claim().digest(), body: None };
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), known);
        assert_eq!(store.forget(&new.claim().event().into()).await.unwrap(), 1);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
}
