//! What is accepted, and what is left when it is not.

use std::{
    sync::{Mutex, mpsc},
    time::{Duration, SystemTime},
};

use futures_util::{future::join_all, poll};
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, Ledger},
    inbox::{Acceptance, DeliveryId, DeliveryState, InboxStore},
    store::sqlite::{SqliteErrorKind, SqliteOptions},
};

use crate::{
    deliveries::{conflict, delivery},
    support::{Clock, Folder, LEASE, RETENTION, bytes, digest, kind},
};

fn known(body: &str) -> Acceptance {
    Acceptance::Known { digest: BodyDigest::of(body.as_bytes()) }
}

fn id(number: i64) -> DeliveryId {
    DeliveryId::new(number)
}

#[tokio::test]
async fn what_waits_is_known_and_keeps_its_ledger_row() {
    let folder = Folder::new();
    let store = folder.open();
    let new = delivery("evt-1", "one", &[]).await;
    let rival = delivery("evt-1", "another", &[]).await;
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    for copy in [&new, &rival] {
        assert_eq!(store.accept(copy, RETENTION).await.unwrap(), known("one"));
    }
    assert_eq!(store.forget(new.claim().event()).await.unwrap(), 1);
    // The body that is here is what the row is made from again, not that of the copy.
    assert_eq!(store.accept(&rival, RETENTION).await.unwrap(), known("one"));
    let done = ClaimOutcome::Done { digest: *new.claim().digest() };
    assert_eq!(store.claim(rival.claim(), LEASE).await.unwrap(), done);
    assert_eq!(store.counts().await.unwrap().ready, 1);
}

#[tokio::test]
async fn the_ledger_is_one_with_that_of_the_layer() {
    let folder = Folder::new();
    let clock = Clock::new();
    let store = clock.open(&folder.file());
    let new = delivery("evt-1", "one", &[]).await;
    let theirs = Claim::new(*new.claim().key().as_bytes(), *new.claim().key().as_bytes(), digest(7), bytes(7));
    assert_eq!(store.claim(&theirs, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    clock.advance(Duration::from_secs(5));
    let in_flight = Acceptance::InFlight { digest: digest(7), remaining: Duration::from_secs(20) };
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), in_flight);
    assert!(store.complete(&theirs, Duration::from_secs(60)).await.unwrap());
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Known { digest: digest(7) });
    assert_eq!(store.counts().await.unwrap().ready, 0);
    clock.advance(Duration::from_secs(60));
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    let done = ClaimOutcome::Done { digest: *new.claim().digest() };
    assert_eq!(store.claim(&theirs, LEASE).await.unwrap(), done);
}

#[tokio::test]
async fn what_is_dead_is_taken_up_again_by_the_same_delivery() {
    let folder = Folder::new();
    let clock = Clock::new();
    let store = clock.open(&folder.file());
    let new = delivery("evt-1", "one", &["line"]).await;
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    let accepted_at = clock.now();
    let lease = *store.lease(1, LEASE, 5).await.unwrap()[0].lease();
    assert!(store.bury(&lease, "422 Unprocessable Entity").await.unwrap());
    clock.advance(RETENTION);

    let rival = delivery("evt-1", "another", &[]).await;
    assert_eq!(store.accept(&rival, RETENTION).await.unwrap(), known("one"));
    let again = delivery("evt-1", "one", &["line", "other line"]).await;
    assert_eq!(store.accept(&again, RETENTION).await.unwrap(), Acceptance::Revived);
    let entry = store.show(id(1)).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.attempts, entry.reason), (DeliveryState::Ready, 0, None));
    assert_eq!(entry.accepted_at, accepted_at);
    assert_eq!(store.claim(rival.claim(), LEASE).await.unwrap(), ClaimOutcome::Done { digest: *new.claim().digest() });

    // Its new head, and its new place in line.
    let later = delivery("evt-2", "two", &["other line"]).await;
    assert_eq!(store.accept(&later, RETENTION).await.unwrap(), Acceptance::Accepted);
    let leased = store.lease(2, LEASE, 5).await.unwrap();
    assert_eq!(leased.len(), 1);
    assert_eq!(leased[0].head(), again.head());
    assert_eq!((leased[0].lease().id(), leased[0].lease().attempt()), (id(1), 1));
    assert!(leased[0].lease().token() > lease.token());
}

#[tokio::test]
async fn what_is_kept_makes_room_for_the_next_under_a_larger_id() {
    let folder = Folder::new();
    let mut store = folder.open();
    let new = delivery("evt-1", "one", &[]).await;
    for (round, keep) in [(1, Duration::ZERO), (2, RETENTION), (3, RETENTION), (4, Duration::ZERO), (5, RETENTION)] {
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted, "round {round}");
        let leased = store.lease(1, LEASE, 5).await.unwrap();
        assert_eq!(leased[0].lease().id(), id(round));
        assert!(store.finish(leased[0].lease(), keep).await.unwrap());
        assert!(!store.finish(leased[0].lease(), keep).await.unwrap());
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), known("one"));
        let kept = store.show(id(round)).await.unwrap().map(|entry| (entry.state, entry.body.unwrap()));
        assert_eq!(kept, (!keep.is_zero()).then(|| (DeliveryState::Done, "one".into())));
        assert_eq!(folder.count("klikit_inbox"), u32::from(!keep.is_zero()));
        assert_eq!(folder.count("klikit_inbox_delivery"), u32::from(!keep.is_zero()));
        assert_eq!(store.forget(new.claim().event()).await.unwrap(), 1);
        drop(store);
        store = folder.open();
    }
}

#[tokio::test]
async fn a_call_that_fails_half_way_leaves_nothing_and_its_neighbours_alone() {
    let folder = Folder::new();
    let store = folder.open();
    // The ledger's row and the inbox's are written by then.
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON klikit_inbox_delivery
        WHEN CAST(new.body AS TEXT) = 'body 13' BEGIN SELECT RAISE(ABORT, 'refused'); END";
    folder.connect().execute_batch(trigger).unwrap();
    let mut deliveries = vec![];
    for n in 0..40 {
        deliveries.push(delivery(&format!("evt-{n}"), &format!("body {n}"), &["line"]).await);
    }
    let accepted = join_all(deliveries.iter().map(|new| store.accept(new, RETENTION))).await;
    for (n, accepted) in accepted.iter().enumerate() {
        match accepted {
            Ok(accepted) => assert!(n != 13 && *accepted == Acceptance::Accepted, "{n}: {accepted:?}"),
            Err(error) => assert!(n == 13 && kind(error) == SqliteErrorKind::Statement, "{n}: {error:?}"),
        }
    }
    for table in ["klikit_ledger", "klikit_inbox", "klikit_inbox_delivery", "klikit_inbox_ordering"] {
        assert_eq!(folder.count(table), 39, "{table}");
    }
    folder.connect().execute_batch("DROP TRIGGER refuse").unwrap();
    assert_eq!(store.accept(&deliveries[13], RETENTION).await.unwrap(), Acceptance::Accepted);
}

#[tokio::test]
async fn an_event_is_forgotten_unless_it_is_still_to_be_handled() {
    let folder = Folder::new();
    let clock = Clock::new();
    let store = clock.open(&folder.file());
    let (new, other) = (delivery("evt-1", "one", &["line"]).await, conflict("evt-1", "two").await);
    let waiting = conflict("evt-1", "three").await;
    for new in [&new, &other] {
        assert_eq!(store.accept(new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    let leased = store.lease(2, LEASE, 5).await.unwrap();
    assert_eq!(store.accept(&waiting, RETENTION).await.unwrap(), Acceptance::Accepted);
    assert_eq!(store.forget_event(new.claim().event()).await.unwrap(), 0);
    assert!(store.bury(leased[0].lease(), "400").await.unwrap());
    assert!(store.finish(leased[1].lease(), Duration::ZERO).await.unwrap());
    assert_eq!(
        InboxStore::forget_event(&store, other.claim().key()).await.unwrap(),
        0,
        "the key of a conflict is no event"
    );
    assert_eq!(store.forget_event(new.claim().event()).await.unwrap(), 2);
    assert_eq!(store.forget_event(new.claim().event()).await.unwrap(), 0);
    assert_eq!((folder.count("klikit_ledger"), folder.count("klikit_inbox_delivery")), (1, 1));
    assert_eq!(store.accept(&waiting, RETENTION).await.unwrap(), known("three"));
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
}

#[tokio::test]
async fn a_window_is_forgotten_with_all_that_was_accepted_in_it() {
    let folder = Folder::new();
    let clock = Clock::new();
    let store = clock.open(&folder.file());
    let start = clock.now();
    let mut deliveries = vec![];
    // More than a slice.
    for n in 0..300 {
        deliveries.push(delivery(&format!("evt-{n}"), "body", &[]).await);
    }
    join_all(deliveries.iter().map(|new| store.accept(new, RETENTION))).await;
    assert_eq!(store.claim(&crate::support::claim(1, 1), RETENTION).await.unwrap(), ClaimOutcome::Claimed);
    clock.advance(Duration::from_millis(1));
    let end = clock.now();
    let later = delivery("evt-later", "body", &[]).await;
    assert_eq!(store.accept(&later, RETENTION).await.unwrap(), Acceptance::Accepted);

    let leased = store.lease(301, LEASE, 5).await.unwrap();
    assert_eq!(leased.len(), 301);
    for (n, leased) in leased.iter().enumerate() {
        let ended = match n {
            0..100 => store.bury(leased.lease(), "400").await,
            100..200 => store.finish(leased.lease(), RETENTION).await,
            200..299 => store.finish(leased.lease(), Duration::ZERO).await,
            299 => continue,
            _ => store.bury(leased.lease(), "400").await,
        };
        assert!(ended.unwrap());
    }
    assert_eq!(store.forget_accepted(start..start).await.unwrap(), 0);
    assert_eq!(store.forget_accepted(start..end).await.unwrap(), 299 + 1);
    assert_eq!(store.forget_accepted(start..end).await.unwrap(), 0);
    assert_eq!((folder.count("klikit_ledger"), folder.count("klikit_inbox")), (2, 2));
    assert_eq!(folder.count("klikit_inbox_delivery"), 2);
}

#[tokio::test]
async fn a_key_is_forgotten_whole() {
    let folder = Folder::new();
    let clock = Clock::new();
    let store = clock.open(&folder.file());
    let new = delivery("evt-1", "one", &[]).await;
    let start = clock.now();
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    clock.advance(Duration::from_millis(1));
    let end = clock.now();
    // Its ledger row is younger than itself.
    assert_eq!(store.forget(new.claim().event()).await.unwrap(), 1);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), known("one"));
    assert!(store.bury(store.lease(1, LEASE, 5).await.unwrap()[0].lease(), "400").await.unwrap());
    assert_eq!(store.forget_accepted(start..end).await.unwrap(), 1);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_stored_is_left_out_when_its_caller_goes_away() {
    let folder = Folder::new();
    let (entered, entering) = mpsc::channel();
    let (go, going) = mpsc::channel::<()>();
    let gate = Mutex::new(Some((entered, going)));
    // The store asks for the time in the middle of its first transaction, and is kept there.
    let clock = move || {
        if let Some((entered, going)) = gate.lock().unwrap().take() {
            entered.send(()).unwrap();
            let _ = going.recv();
        }
        SystemTime::now()
    };
    let store = SqliteOptions::new().clock(clock).open(folder.file()).unwrap();
    let [first, second] = [delivery("evt-1", "one", &[]).await, delivery("evt-2", "two", &[]).await];
    let held = tokio::spawn({
        let (store, first) = (store.clone(), first.clone());
        async move { store.accept(&first, RETENTION).await }
    });
    entering.recv().unwrap();
    {
        let mut gone = Box::pin(store.accept(&second, RETENTION));
        assert!(poll!(&mut gone).is_pending());
    }
    drop(go);
    assert_eq!(held.await.unwrap().unwrap(), Acceptance::Accepted);
    // Whatever comes later was queued behind it.
    assert_eq!(store.accept(&first, RETENTION).await.unwrap(), known("one"));
    assert_eq!(store.counts().await.unwrap().ready, 1);
    assert_eq!(store.accept(&second, RETENTION).await.unwrap(), Acceptance::Accepted);
}
