//! Tests of accepting, reviving and forgetting deliveries.

use std::{
    sync::{Mutex, mpsc},
    time::{Duration, SystemTime},
};

use futures_util::{future::join_all, poll};
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, Ledger},
    inbox::{Acceptance, DeliveryId, DeliveryState, InboxAdmin, InboxStore, SettleOutcome},
};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore};

use crate::{
    deliveries::{conflict, dead_letter, delivery, done, keep_for, lease, settle, settled, show},
    support::{Folder, RETENTION, TERMS, TestClock, bytes, digest, kind},
};

/// Returns the outcome of accepting a copy of a delivery with this body.
fn known(body: &str) -> Acceptance {
    Acceptance::Known { digest: BodyDigest::of(body.as_bytes()), body: None }
}

/// Returns the outcome of accepting a different body for the event of a stored delivery with this body.
fn known_and_stored(body: &'static str) -> Acceptance {
    Acceptance::Known { digest: BodyDigest::of(body.as_bytes()), body: Some(body.into()) }
}

fn id(number: i64) -> DeliveryId {
    DeliveryId::new(number)
}

#[tokio::test]
async fn restores_ledger_row_of_a_pending_delivery() {
    let folder = Folder::new();
    let store = folder.open();
    let new = delivery("evt-1", "one", &[]);
    let different = delivery("evt-1", "another", &[]);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), known("one"));
    assert_eq!(store.accept(&different, RETENTION).await.unwrap(), known_and_stored("one"));
    assert_eq!(store.forget(&new.claim().event().into()).await.unwrap(), 1);
    // The ledger row is restored from the stored delivery, not from the new one.
    assert_eq!(store.accept(&different, RETENTION).await.unwrap(), known_and_stored("one"));
    let done = ClaimOutcome::Done { digest: *new.claim().digest() };
    assert_eq!(store.claim(different.claim(), &TERMS).await.unwrap(), done);
    assert_eq!(store.counts().await.unwrap().ready, 1);
}

#[tokio::test]
async fn shares_the_ledger_with_the_dedupe_layer() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let new = delivery("evt-1", "one", &[]);
    let dedupe_claim = Claim::new(*new.claim().key().as_bytes(), *new.claim().key().as_bytes(), digest(7), bytes(7));
    assert_eq!(store.claim(&dedupe_claim, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    clock.advance(Duration::from_secs(5));
    let in_flight = Acceptance::InFlight { digest: digest(7), remaining: Duration::from_secs(20) };
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), in_flight);
    assert!(store.complete(&dedupe_claim, Duration::from_secs(60)).await.unwrap());
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Known { digest: digest(7), body: None });
    assert_eq!(store.counts().await.unwrap().ready, 0);
    clock.advance(Duration::from_secs(60));
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    let done = ClaimOutcome::Done { digest: *new.claim().digest() };
    assert_eq!(store.claim(&dedupe_claim, &TERMS).await.unwrap(), done);
}

#[tokio::test]
async fn copy_revives_a_dead_delivery() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let new = delivery("evt-1", "one", &["key"]);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    let accepted_at = clock.now();
    let first = lease(&store, 1, 5).await;
    settled(&store, &first[0], dead_letter("422 Unprocessable Entity")).await;
    clock.advance(RETENTION);

    let different = delivery("evt-1", "another", &[]);
    assert_eq!(store.accept(&different, RETENTION).await.unwrap(), known_and_stored("one"));
    let again = delivery("evt-1", "one", &["key", "other key"]);
    assert_eq!(store.accept(&again, RETENTION).await.unwrap(), Acceptance::Revived);
    let entry = show(&store, 1).await.unwrap();
    assert_eq!((entry.state, entry.attempts, entry.reason), (DeliveryState::Ready, 0, None));
    assert_eq!(entry.accepted_at, accepted_at);
    assert_eq!(
        store.claim(different.claim(), &TERMS).await.unwrap(),
        ClaimOutcome::Done { digest: *new.claim().digest() }
    );

    // The revived delivery has the new head and the new ordering keys.
    let later = delivery("evt-2", "two", &["other key"]);
    assert_eq!(store.accept(&later, RETENTION).await.unwrap(), Acceptance::Accepted);
    let leased = lease(&store, 2, 5).await;
    assert_eq!(leased.len(), 1);
    assert_eq!(leased[0].head(), again.head());
    assert_eq!((leased[0].lease().id(), leased[0].lease().attempt()), (id(1), 1));
    assert!(leased[0].lease().token() > first[0].lease().token());
}

#[tokio::test]
async fn accepts_a_done_delivery_again_after_forget() {
    let folder = Folder::new();
    let mut store = folder.open();
    let new = delivery("evt-1", "one", &[]);
    for (round, keep) in [(1, Duration::ZERO), (2, RETENTION), (3, RETENTION), (4, Duration::ZERO), (5, RETENTION)] {
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted, "round {round}");
        let leased = lease(&store, 1, 5).await;
        assert_eq!(leased[0].lease().id(), id(round));
        settled(&store, &leased[0], keep_for(keep)).await;
        let again = if keep.is_zero() { SettleOutcome::Gone } else { SettleOutcome::Settled };
        assert_eq!(settle(&store, leased[0].lease(), keep_for(keep)).await, again);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), known("one"));
        let kept = show(&store, round).await.map(|entry| (entry.state, entry.body.unwrap()));
        assert_eq!(kept, (!keep.is_zero()).then(|| (DeliveryState::Done, "one".into())));
        assert_eq!(folder.count("klikit_inbox"), u32::from(!keep.is_zero()));
        assert_eq!(folder.count("klikit_inbox_body"), u32::from(!keep.is_zero()));
        assert_eq!(store.forget(&new.claim().event().into()).await.unwrap(), 1);
        drop(store);
        store = folder.open();
    }
}

#[tokio::test]
async fn failed_accept_does_not_fail_its_batch() {
    let folder = Folder::new();
    let store = folder.open();
    // When this trigger fails, the rows of the ledger and the inbox are already written.
    let trigger = "
        CREATE TRIGGER reject
            BEFORE INSERT ON klikit_inbox_body
            WHEN CAST(new.body AS TEXT) = 'body 13'
        BEGIN
            SELECT RAISE(ABORT, 'rejected');
        END
        ";
    folder.connect().execute_batch(trigger).unwrap();
    let mut deliveries = vec![];
    for n in 0..40 {
        deliveries.push(delivery(&format!("evt-{n}"), &format!("body {n}"), &["key"]));
    }
    let accepted = join_all(deliveries.iter().map(|new| store.accept(new, RETENTION))).await;
    for (n, accepted) in accepted.iter().enumerate() {
        match accepted {
            Ok(accepted) => assert!(n != 13 && *accepted == Acceptance::Accepted, "{n}: {accepted:?}"),
            Err(error) => assert!(n == 13 && kind(error) == SqliteErrorKind::Statement, "{n}: {error:?}"),
        }
    }
    for table in ["klikit_ledger", "klikit_inbox", "klikit_inbox_body", "klikit_inbox_key"] {
        assert_eq!(folder.count(table), 39, "{table}");
    }
    folder.connect().execute_batch("DROP TRIGGER reject").unwrap();
    assert_eq!(store.accept(&deliveries[13], RETENTION).await.unwrap(), Acceptance::Accepted);
}

#[tokio::test]
async fn forget_event_keeps_unfinished_deliveries() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let (new, other) = (delivery("evt-1", "one", &["key"]), conflict("evt-1", "two"));
    let pending = conflict("evt-1", "three");
    for new in [&new, &other] {
        assert_eq!(store.accept(new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    let leased = lease(&store, 2, 5).await;
    assert_eq!(store.accept(&pending, RETENTION).await.unwrap(), Acceptance::Accepted);
    assert_eq!(store.forget_keys(&new.claim().event().into()).await.unwrap(), 0);
    settled(&store, &leased[0], dead_letter("400")).await;
    settled(&store, &leased[1], done()).await;
    let forgotten = store.forget_keys(&other.claim().key().into()).await.unwrap();
    assert_eq!(forgotten, 0, "the key of a conflict is not an event");
    assert_eq!(store.forget_keys(&new.claim().event().into()).await.unwrap(), 2);
    assert_eq!(store.forget_keys(&new.claim().event().into()).await.unwrap(), 0);
    assert_eq!((folder.count("klikit_ledger"), folder.count("klikit_inbox_body")), (1, 1));
    assert_eq!(store.accept(&pending, RETENTION).await.unwrap(), known("three"));
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
}

#[tokio::test]
async fn forget_accepted_forgets_the_window() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let start = clock.now();
    let mut deliveries = vec![];
    // More than the 1024 ledger rows that one transaction examines.
    for n in 0..1100 {
        deliveries.push(delivery(&format!("evt-{n}"), "body", &[]));
    }
    join_all(deliveries.iter().map(|new| store.accept(new, RETENTION))).await;
    assert_eq!(
        store.claim(&crate::support::claim(1, 1), &ClaimTerms { lease: RETENTION, ..TERMS }).await.unwrap(),
        ClaimOutcome::Claimed
    );
    clock.advance(Duration::from_millis(1));
    let end = clock.now();
    let later = delivery("evt-later", "body", &[]);
    assert_eq!(store.accept(&later, RETENTION).await.unwrap(), Acceptance::Accepted);

    let leased = lease(&store, 1101, 5).await;
    assert_eq!(leased.len(), 1101);
    let mut settlements = vec![];
    for (n, leased) in leased.iter().enumerate() {
        let settlement = match n {
            0..400 => dead_letter("400"),
            400..800 => keep_for(RETENTION),
            800..1099 => done(),
            // The last delivery in the window stays leased.
            1099 => continue,
            // The delivery after the window.
            _ => dead_letter("400"),
        };
        settlements.push((*leased.lease(), settlement));
    }
    assert_eq!(store.settle(&settlements).await.unwrap(), [SettleOutcome::Settled; 1100]);
    assert_eq!(store.count_keys(&(start..start).into()).await.unwrap(), 0);
    assert_eq!(store.forget_keys(&(start..start).into()).await.unwrap(), 0);
    assert_eq!(store.count_keys(&(start..end).into()).await.unwrap(), 1099 + 1);
    // The finished deliveries and the claim of the dedupe layer.
    assert_eq!(store.forget_keys(&(start..end).into()).await.unwrap(), 1099 + 1);
    assert_eq!(store.forget_keys(&(start..end).into()).await.unwrap(), 0);
    // The leased delivery, and the one after the window.
    assert_eq!((folder.count("klikit_ledger"), folder.count("klikit_inbox")), (2, 2));
    assert_eq!(folder.count("klikit_inbox_body"), 2);
}

#[tokio::test]
async fn forgets_delivery_and_ledger_row_together() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let new = delivery("evt-1", "one", &[]);
    let start = clock.now();
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    clock.advance(Duration::from_millis(1));
    let end = clock.now();
    // Restore the ledger row after the window.
    assert_eq!(store.forget(&new.claim().event().into()).await.unwrap(), 1);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), known("one"));
    settled(&store, &lease(&store, 1, 5).await[0], dead_letter("400")).await;
    assert_eq!(store.forget_keys(&(start..end).into()).await.unwrap(), 1);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_a_queued_accept_whose_caller_is_gone() {
    let folder = Folder::new();
    let (started_sender, started) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let gate = Mutex::new(Some((started_sender, released)));
    // The store reads the time during its first transaction. The clock blocks that transaction until `release` is dropped.
    let clock = move || {
        if let Some((started, released)) = gate.lock().unwrap().take() {
            started.send(()).unwrap();
            let _ = released.recv();
        }
        SystemTime::now()
    };
    let store = SqliteStore::builder().create().clock(clock).open(folder.file()).unwrap();
    let [first, second] = [delivery("evt-1", "one", &[]), delivery("evt-2", "two", &[])];
    let blocked = tokio::spawn({
        let (store, first) = (store.clone(), first.clone());
        async move { store.accept(&first, RETENTION).await }
    });
    started.recv().unwrap();
    {
        let mut dropped = Box::pin(store.accept(&second, RETENTION));
        assert!(poll!(&mut dropped).is_pending());
    }
    drop(release);
    assert_eq!(blocked.await.unwrap().unwrap(), Acceptance::Accepted);
    // The writer runs its calls in order, so the dropped call would have run before this one.
    assert_eq!(store.accept(&first, RETENTION).await.unwrap(), known("one"));
    assert_eq!(store.counts().await.unwrap().ready, 1);
    assert_eq!(store.accept(&second, RETENTION).await.unwrap(), Acceptance::Accepted);
}
