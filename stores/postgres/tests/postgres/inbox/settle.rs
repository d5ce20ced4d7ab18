//! Tests of settling one delivery, and of settling many in one call.

use std::time::Duration;

use tower_klikit::inbox::{
    DeliveryId, DeliveryState, EXPIRED, InboxAdmin, InboxStore, LEASE_EXPIRED, Lease, SettleOutcome, Settlement,
    ShowBody,
};
use tower_klikit_postgres::PostgresStore;

use super::{
    TIME, WORKER, accept, dead, dead_letter, delivery, done, extend, failed, finish, lease, lease_last, lease_one,
    ordered, pass, reschedule, retry, settle,
};
use crate::{client, count, ends, open, patient, proxy::Proxy, servers::postgres::PostgresServer};

/// Accepts and leases this many deliveries. Every other delivery has an ordering key. Returns the leases in the order of their ids.
async fn leases(store: &PostgresStore, name: &str, deliveries: usize) -> Vec<Lease> {
    for n in 0..deliveries {
        let id = format!("{name}-{n}");
        let keys: &[&str] = if n % 2 == 0 { &[] } else { &[&id] };
        accept(store, &ordered(&id, keys).await).await;
    }
    let mut leases: Vec<_> = lease(store, 100).await.iter().map(|leased| *leased.lease()).collect();
    leases.sort_unstable_by_key(Lease::id);
    assert_eq!(leases.len(), deliveries);
    leases
}

async fn state(store: &PostgresStore, lease: &Lease) -> Option<(DeliveryState, u32, Option<String>)> {
    store.show(lease.id(), ShowBody::Include).await.unwrap().map(|entry| (entry.state, entry.attempts, entry.reason))
}

#[tokio::test]
async fn settles_many_in_one_round_trip() {
    let Some(server) = PostgresServer::start_own("settles many in one round trip", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let client = client(server.url()).await;
    let kinds = [
        done(Duration::ZERO),
        done(TIME),
        failed(TIME, "it's \0 500"),
        dead("400"),
        Settlement::Expire,
        Settlement::Release,
    ];
    for round in 0..3 {
        let leases = leases(&store, &round.to_string(), 24).await;
        let settlements: Vec<_> = leases.iter().copied().zip(kinds.iter().cloned().cycle()).collect();
        let before = proxy.round_trips();
        let outcomes = store.settle(&settlements).await.unwrap();
        // The first call takes more round trips to prepare the statements. Everything is sent at once, but the driver may write
        // it in two pieces.
        assert!(round == 0 || proxy.round_trips() - before <= 2);
        assert_eq!(outcomes, [SettleOutcome::Settled; 24]);
        for (lease, settlement) in &settlements {
            let reason = |reason: &str| Some(reason.to_owned());
            let expected = match settlement {
                Settlement::Done { keep, .. } if keep.is_zero() => None,
                Settlement::Done { .. } => Some((DeliveryState::Done, 1, None)),
                Settlement::Reschedule { .. } => Some((DeliveryState::Ready, 1, reason("it's \u{fffd} 500"))),
                Settlement::DeadLetter { .. } => Some((DeliveryState::Dead, 1, reason("400"))),
                Settlement::Expire => Some((DeliveryState::Dead, 0, reason(EXPIRED))),
                Settlement::Release => Some((DeliveryState::Ready, 0, None)),
            };
            assert_eq!(state(&store, lease).await, expected, "{settlement:?}");
        }
        // Four deliveries were rescheduled and four were released, half of them with ordering keys.
        assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_key").await, 4);
        assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_body").await, 20);
        // READY (0) after a failure, or DONE (3) and kept
        let due_later = "
            SELECT count(*)
            FROM klikit_inbox
            WHERE state IN (0, 3) AND due > now() + interval '50 s'";
        assert_eq!(count(&client, due_later).await, 8);
        assert_eq!(lease(&store, 100).await.len(), 4, "four deliveries were released");
        client
            .batch_execute(
                "
                    DELETE FROM klikit_inbox;
                    DELETE FROM klikit_inbox_body;
                    DELETE FROM klikit_inbox_key",
            )
            .await
            .unwrap();
    }
    assert_eq!(store.settle(&[]).await.unwrap(), []);
}

/// Settling deliveries one by one and in one call has the same outcomes.
#[tokio::test]
async fn outcomes_tell_gone_from_superseded() {
    let Some(server) = PostgresServer::start("outcomes tell gone from superseded") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for together in [false, true] {
        let leases = leases(&store, &together.to_string(), 6).await;
        let [finished, kept, rescheduled, dead_lettered, released, taken] = leases[..] else { panic!("six") };
        finish(&store, &finished, Duration::ZERO).await;
        finish(&store, &kept, TIME).await;
        reschedule(&store, &rescheduled, TIME, "500").await;
        dead_letter(&store, &dead_lettered, "400").await;
        settle(&store, &released, Settlement::Release).await;
        client.execute("UPDATE klikit_inbox SET token = token + 1 WHERE id = $1", &[&taken.id().get()]).await.unwrap();
        let absent = Lease::new(DeliveryId::new(i64::MAX), 1, 1);
        let (settled, gone, superseded) = (SettleOutcome::Settled, SettleOutcome::Gone, SettleOutcome::Superseded);
        let cases = [
            (finished, done(Duration::ZERO), gone),
            (absent, failed(TIME, "late"), gone),
            (taken, done(TIME), superseded),
            // These late settlements change nothing.
            (kept, failed(TIME, "late"), settled),
            (released, Settlement::Release, settled),
            // These late settlements replace the earlier outcome.
            (rescheduled, dead("late"), settled),
            (dead_lettered, done(TIME), settled),
        ];
        let settlements: Vec<_> = cases.iter().map(|(lease, settlement, _)| (*lease, settlement.clone())).collect();
        let expected: Vec<_> = cases.iter().map(|(_, _, outcome)| *outcome).collect();
        for _ in 0..2 {
            if together {
                assert_eq!(store.settle(&settlements).await.unwrap(), expected);
            } else {
                for ((lease, settlement), expected) in settlements.iter().zip(&expected) {
                    assert_eq!(settle(&store, lease, settlement.clone()).await, *expected, "{settlement:?}");
                }
            }
            let reason = |reason: &str| Some(reason.to_owned());
            assert_eq!(state(&store, &kept).await, Some((DeliveryState::Done, 1, None)));
            assert_eq!(state(&store, &released).await, Some((DeliveryState::Ready, 0, None)));
            assert_eq!(state(&store, &rescheduled).await, Some((DeliveryState::Dead, 1, reason("late"))));
            assert_eq!(state(&store, &dead_lettered).await, Some((DeliveryState::Done, 1, None)));
            assert_eq!(state(&store, &taken).await, Some((DeliveryState::Leased, 1, None)));
        }
        client.execute("DELETE FROM klikit_inbox", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn settlements_of_one_delivery_apply_in_order() {
    let Some(server) = PostgresServer::start("settlements of one delivery apply in order") else { return };
    let store = open(server.url()).await;
    let leases = leases(&store, "evt", 3).await;
    let settlements = [
        (leases[0], failed(TIME, "first")),
        (leases[1], Settlement::Release),
        (leases[0], dead("second")),
        (leases[0], done(Duration::ZERO)),
        (leases[1], Settlement::Release),
        (leases[2], failed(TIME, "first")),
        (leases[2], dead("second")),
        (leases[2], failed(TIME, "third")),
    ];
    assert_eq!(store.settle(&settlements).await.unwrap(), [SettleOutcome::Settled; 8]);
    assert_eq!(state(&store, &leases[0]).await, None);
    assert_eq!(state(&store, &leases[1]).await, Some((DeliveryState::Ready, 0, None)));
    // A failure does not reschedule a dead letter, unless it was dead-lettered because its lease expired.
    assert_eq!(state(&store, &leases[2]).await, Some((DeliveryState::Dead, 1, Some("second".into()))));
}

/// Makes the server reject changes to a delivery.
pub(super) async fn reject(client: &tokio_postgres::Client, lease: &Lease) {
    let trigger = format!(
        "
            CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'rejected';
            END
            $$;
            CREATE TRIGGER reject BEFORE UPDATE ON klikit_inbox
            FOR EACH ROW WHEN (old.id = {})
            EXECUTE FUNCTION reject()",
        lease.id()
    );
    client.batch_execute(&trigger).await.unwrap();
}

#[tokio::test]
async fn rejected_settlement_does_not_delay_others() {
    let Some(server) = PostgresServer::start("rejected settlement does not delay others") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let leases = leases(&store, "evt", 5).await;
    reject(&client, &leases[1]).await;
    let kinds = [done(Duration::ZERO), failed(TIME, "500"), dead("400"), Settlement::Release, done(TIME)];
    let settlements: Vec<_> = leases.iter().copied().zip(kinds).collect();
    // The worker repeats a failed call until it succeeds.
    for _ in 0..2 {
        store.settle(&settlements).await.unwrap_err();
        let states: Vec<_> = [
            state(&store, &leases[0]).await,
            state(&store, &leases[1]).await,
            state(&store, &leases[2]).await,
            state(&store, &leases[3]).await,
            state(&store, &leases[4]).await,
        ]
        .into_iter()
        .map(|state| state.map(|(state, ..)| state))
        .collect();
        let expected = [
            None,
            Some(DeliveryState::Leased),
            Some(DeliveryState::Dead),
            Some(DeliveryState::Ready),
            Some(DeliveryState::Done),
        ];
        assert_eq!(states, expected);
    }
    client.batch_execute("DROP TRIGGER reject ON klikit_inbox").await.unwrap();
    let (settled, gone) = (SettleOutcome::Settled, SettleOutcome::Gone);
    assert_eq!(store.settle(&settlements).await.unwrap(), [gone, settled, settled, settled, settled]);
}

/// The rejection rolls the transaction back, so all deliveries are settled one by one. The locked one comes first and times out.
#[tokio::test]
async fn locked_and_rejected_do_not_delay_others() {
    let Some(server) = PostgresServer::start("locked and rejected do not delay others") else { return };
    let patient = open(server.url()).await;
    let store = PostgresStore::builder().deadline(Duration::from_secs(2)).open(server.url()).await.unwrap();
    let mut other = client(server.url()).await;
    let leases = leases(&patient, "evt", 3).await;
    reject(&other, &leases[1]).await;
    let transaction = other.transaction().await.unwrap();
    assert!(patient.finish_in(&transaction, &leases[0]).await.unwrap());
    let settlements: Vec<_> = leases.iter().map(|lease| (*lease, dead("400"))).collect();
    ends(store.settle(&settlements)).await.unwrap_err();
    let expected = [DeliveryState::Leased, DeliveryState::Leased, DeliveryState::Dead];
    for (lease, expected) in leases.iter().zip(expected) {
        assert_eq!(state(&patient, lease).await.unwrap().0, expected);
    }
}

/// A handler's transaction may stay open although its worker has dropped the handler.
#[tokio::test]
async fn locked_delivery_does_not_delay_others() {
    let Some(server) = PostgresServer::start("locked delivery does not delay others") else { return };
    let patient = open(server.url()).await;
    let store = PostgresStore::builder().deadline(Duration::from_secs(2)).open(server.url()).await.unwrap();
    let mut other = client(server.url()).await;
    let leases = leases(&patient, "evt", 3).await;
    let transaction = other.transaction().await.unwrap();
    assert!(patient.finish_in(&transaction, &leases[1]).await.unwrap());
    let settlements: Vec<_> = leases.iter().map(|lease| (*lease, dead("400"))).collect();
    ends(store.settle(&settlements)).await.unwrap_err();
    for (n, lease) in leases.iter().enumerate() {
        let expected = if n == 1 { DeliveryState::Leased } else { DeliveryState::Dead };
        assert_eq!(state(&patient, lease).await.unwrap().0, expected);
    }
    // The transaction ends while the call waits.
    let settling = patient.settle(&settlements);
    let waiting = async {
        let client = client(server.url()).await;
        while count(&client, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await == 0 {}
        transaction.commit().await.unwrap();
    };
    let (outcomes, ()) = ends(async { tokio::join!(settling, waiting) }).await;
    assert_eq!(outcomes.unwrap(), [SettleOutcome::Settled, SettleOutcome::Gone, SettleOutcome::Settled]);
}

#[tokio::test]
async fn settlement_with_a_lost_response_counts_once() {
    let Some(server) = PostgresServer::start_own("settlement with a lost response counts once", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let client = client(server.url()).await;
    accept(&store, &delivery("evt-1", "x").await).await;
    for _ in 0..2 {
        reschedule(&store, lease_one(&store).await.lease(), Duration::ZERO, "500").await;
    }
    let held = *lease_one(&store).await.lease();
    proxy.be_silent(true);
    let cut = async {
        while count(&client, "SELECT count(*) FROM klikit_inbox WHERE state = 0").await == 0 {}
        proxy.be_silent(false);
        proxy.cut();
    };
    let (outcome, ()) = ends(async { tokio::join!(settle(&store, &held, Settlement::Release), cut) }).await;
    assert_eq!(outcome, SettleOutcome::Settled);
    assert_eq!(state(&store, &held).await.unwrap().1, 2, "the release takes one attempt off, not two");
}

/// A lease can expire while its handler runs, for example if the handler blocks the worker's thread.
#[tokio::test]
async fn late_outcome_of_a_dead_letter_counts() {
    let Some(server) = PostgresServer::start("late outcome of a dead letter counts") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let cases = [
        (done(Duration::ZERO), None),
        (done(TIME), Some((DeliveryState::Done, 1, None))),
        (failed(TIME, "500"), Some((DeliveryState::Ready, 1, Some("500".into())))),
        (dead("400"), Some((DeliveryState::Dead, 1, Some("400".into())))),
        (Settlement::Release, Some((DeliveryState::Ready, 0, Some(LEASE_EXPIRED.into())))),
    ];
    for together in [false, true] {
        for (n, (settlement, expected)) in cases.iter().enumerate() {
            let leases = leases(&store, &format!("{together}-{n}"), 2).await;
            pass(&client).await;
            assert_eq!(lease_last(&store, 8).await.dead_lettered.len(), 2, "the expired leases are dead-lettered");
            assert!(!extend(&store, &leases[0]).await, "the delivery is not leased any more");
            if together {
                let settlements = [(leases[0], settlement.clone()), (leases[1], settlement.clone())];
                assert_eq!(store.settle(&settlements).await.unwrap(), [SettleOutcome::Settled; 2]);
            } else {
                for lease in &leases {
                    assert_eq!(settle(&store, lease, settlement.clone()).await, SettleOutcome::Settled);
                }
            }
            for lease in &leases {
                assert_eq!(state(&store, lease).await, *expected, "{settlement:?}");
            }
            client.execute("DELETE FROM klikit_inbox", &[]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn released_attempts_are_never_negative() {
    let Some(server) = PostgresServer::start("released attempts are never negative") else { return };
    let store = open(server.url()).await;
    for keys in [&[][..], &["a"]] {
        accept(&store, &ordered(&format!("evt-{}", keys.len()), keys).await).await;
        let held = *lease_one(&store).await.lease();
        dead_letter(&store, &held, "500").await;
        // An operator retries the delivery, which resets its attempts. Then two late settlements of the old lease arrive.
        assert!(retry(&store, held.id()).await.unwrap());
        dead_letter(&store, &held, LEASE_EXPIRED).await;
        assert_eq!(settle(&store, &held, Settlement::Release).await, SettleOutcome::Settled);
        assert_eq!(state(&store, &held).await, Some((DeliveryState::Ready, 0, Some(LEASE_EXPIRED.into()))));
        let again = lease_one(&store).await;
        assert_eq!((again.lease().id(), again.lease().attempt()), (held.id(), 1));
        finish(&store, again.lease(), Duration::ZERO).await;
    }
}

#[tokio::test]
async fn success_at_first_attempt_writes_no_record() {
    let Some(server) = PostgresServer::start("success at first attempt writes no record") else { return };
    let store = patient().open(server.url()).await.unwrap();
    let client = client(server.url()).await;
    // The server rejects every record.
    client.batch_execute("ALTER TABLE klikit_inbox_attempt ADD CHECK (false)").await.unwrap();
    for id in ["0", "1", "2"] {
        accept(&store, &delivery(id, id).await).await;
    }
    let leased = lease(&store, 3).await;
    let open = store.show(leased[0].lease().id(), ShowBody::Omit).await.unwrap().unwrap();
    assert_eq!((open.history.len(), open.history[0].worker.as_str(), open.body), (1, WORKER, None));
    for (settlement, is_recorded) in [(done(Duration::ZERO), false), (done(TIME), true), (failed(TIME, "500"), true)] {
        let lease = *leased[usize::from(is_recorded)].lease();
        assert_eq!(store.settle(&[(lease, settlement)]).await.is_err(), is_recorded);
    }
}
