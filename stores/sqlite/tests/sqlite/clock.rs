//! Tests of steps of the system clock, which must not affect leases, retries and retention.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::Semaphore;
use tower::service_fn;
use tower_klikit::{
    VerifiedBody,
    dedupe::{ClaimOutcome, ClaimTerms, Ledger, LedgerAdmin},
    inbox::{Inbox, InboxAdmin, InboxStore, LeaseRequest, Settlement},
};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{accept, ids, keep_for, lease, request, reschedule, retry, settle, settled, show},
    support::{Folder, LEASE, RETENTION, TERMS, claim, digest},
    syslog::Log,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A machine whose system clock can be stepped.
#[derive(Clone)]
struct Machine {
    system: Arc<AtomicU64>,
    monotonic: Arc<AtomicU64>,
}

impl Machine {
    fn new() -> Self {
        Self { system: Arc::new(AtomicU64::new(1_700_000_000_000)), monotonic: Arc::default() }
    }

    fn pass(&self, time: Duration) {
        self.monotonic.fetch_add(milliseconds(time), Ordering::SeqCst);
        self.set_ahead(time);
    }

    fn set_ahead(&self, time: Duration) {
        self.system.fetch_add(milliseconds(time), Ordering::SeqCst);
    }

    fn set_back(&self, time: Duration) {
        self.system.fetch_sub(milliseconds(time), Ordering::SeqCst);
    }

    fn system(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.system.load(Ordering::SeqCst))
    }

    fn open(&self, folder: &Folder) -> SqliteStore {
        let (one, other) = (self.clone(), self.clone());
        let monotonic = move || Duration::from_millis(other.monotonic.load(Ordering::SeqCst));
        SqliteStore::builder().create().clocks(move || one.system(), monotonic).open(folder.file()).unwrap()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

async fn oldest(store: &SqliteStore) -> Option<Duration> {
    store.counts().await.unwrap().oldest
}

#[tokio::test]
async fn set_back_does_not_delay_pending_deliveries() {
    for step in [HOUR, TEN_YEARS] {
        let (folder, machine, log) = (Folder::new(), Machine::new(), Log::default());
        let _listening = log.listen();
        let store = machine.open(&folder);
        accept(&store, "evt-1", &["key"]).await;
        machine.pass(SECOND);
        machine.set_back(step);
        assert_eq!(oldest(&store).await, Some(SECOND));
        machine.pass(SECOND);
        assert_eq!(oldest(&store).await, Some(2 * SECOND));
        assert_eq!(ids(&lease(&store, 10, 5).await), [1]);
        let line = format!("the system clock was set back by {} s", step.as_secs());
        assert_eq!(log.text().matches(&line).count(), 1, "{}", log.text());
    }
}

#[tokio::test]
async fn oldest_is_not_zero_while_deliveries_are_pending() {
    let (folder, machine) = (Folder::new(), Machine::new());
    let store = machine.open(&folder);
    assert_eq!(oldest(&store).await, None);
    accept(&store, "evt-1", &[]).await;
    assert_eq!(oldest(&store).await, Some(Duration::from_millis(1)));
    machine.set_back(HOUR);
    assert_eq!(oldest(&store).await, Some(Duration::from_millis(1)));
}

#[tokio::test]
async fn accepting_while_ten_years_ahead_delays_nothing() {
    let (folder, machine, log) = (Folder::new(), Machine::new(), Log::default());
    let _listening = log.listen();
    let store = machine.open(&folder);
    accept(&store, "evt-1", &[]).await;
    machine.set_ahead(TEN_YEARS);
    accept(&store, "evt-2", &[]).await;
    machine.set_back(TEN_YEARS);
    machine.pass(SECOND);
    assert_eq!(oldest(&store).await, Some(SECOND));
    assert_eq!(ids(&lease(&store, 10, 5).await), [1, 2]);
    assert_eq!(log.text().matches("the system clock was set ahead by 315360000 s").count(), 1, "{}", log.text());
    assert_eq!(log.text().matches("the system clock was set back by 315360000 s").count(), 1, "{}", log.text());
}

#[tokio::test]
async fn clock_set_right_while_down_delays_nothing() {
    let (folder, machine) = (Folder::new(), Machine::new());
    machine.set_ahead(TEN_YEARS);
    let store = machine.open(&folder);
    accept(&store, "evt-1", &[]).await;
    machine.pass(10 * SECOND);
    accept(&store, "evt-2", &[]).await;
    let leased = lease(&store, 1, 5).await;
    settled(&store, &leased[0], reschedule(60 * SECOND)).await;
    drop(store);
    folder.closed();
    machine.set_back(TEN_YEARS);

    let log = Log::default();
    let _listening = log.listen();
    let store = machine.open(&folder);
    assert_eq!(ids(&lease(&store, 10, 5).await), [2]);
    assert!(oldest(&store).await.unwrap() >= 10 * SECOND);
    machine.pass(60 * SECOND);
    assert_eq!(
        ids(&lease(&store, 10, 5).await),
        [2, 1],
        "the lease of delivery 2 has expired, and the delay of delivery 1 is over"
    );
    assert_eq!(log.text().matches("the system clock was set back by").count(), 1, "{}", log.text());
    drop(store);
    folder.closed();

    // The file has the offset, so opening it again logs nothing.
    let log = Log::default();
    let _listening = log.listen();
    let store = machine.open(&folder);
    assert!(lease(&store, 10, 5).await.is_empty());
    machine.pass(LEASE);
    assert_eq!(lease(&store, 10, 5).await.len(), 2);
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn steps_do_not_change_retry_delays() {
    for ahead in [false, true] {
        let (folder, machine) = (Folder::new(), Machine::new());
        let store = machine.open(&folder);
        accept(&store, "evt-1", &[]).await;
        settled(&store, &lease(&store, 1, 5).await[0], reschedule(60 * SECOND)).await;
        if ahead {
            machine.set_ahead(HOUR)
        } else {
            machine.set_back(HOUR)
        }
        machine.pass(59 * SECOND);
        assert!(lease(&store, 1, 5).await.is_empty());
        machine.pass(SECOND);
        assert_eq!(ids(&lease(&store, 1, 5).await), [1]);
    }
}

#[tokio::test]
async fn steps_do_not_change_leases_and_claims() {
    for ahead in [false, true] {
        let (folder, machine) = (Folder::new(), Machine::new());
        let store = machine.open(&folder);
        accept(&store, "evt-1", &[]).await;
        let leased = lease(&store, 1, 5).await;
        let terms = ClaimTerms { grace: LEASE, ..TERMS };
        assert_eq!(store.claim(&claim(1, 1), &terms).await.unwrap(), ClaimOutcome::Claimed);
        if ahead {
            machine.set_ahead(HOUR)
        } else {
            machine.set_back(HOUR)
        }
        machine.pass(LEASE - SECOND);
        assert!(lease(&store, 1, 5).await.is_empty());
        let in_flight = ClaimOutcome::InFlight { digest: digest(1), remaining: SECOND };
        assert_eq!(store.claim(&claim(1, 2), &terms).await.unwrap(), in_flight);
        machine.pass(SECOND);
        assert_eq!(store.purge(10).await.unwrap(), 0, "the grace is not over");
        assert_eq!(store.claim(&claim(1, 2), &terms).await.unwrap(), ClaimOutcome::Claimed);
        assert!(lease(&store, 1, 5).await[0].lease().token() > leased[0].lease().token());
    }
}

#[tokio::test]
async fn jump_ahead_and_back_forgets_nothing() {
    let (folder, machine) = (Folder::new(), Machine::new());
    let store = machine.open(&folder);
    assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(store.complete(&claim(1, 1), RETENTION).await.unwrap());
    accept(&store, "evt-1", &[]).await;
    settled(&store, &lease(&store, 1, 5).await[0], keep_for(HOUR)).await;
    machine.set_ahead(TEN_YEARS);
    // Each claim also purges expired rows.
    assert_eq!(store.claim(&claim(2, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!((store.purge(10).await.unwrap(), store.purge_done(10).await.unwrap()), (0, 0));
    let done = ClaimOutcome::Done { digest: digest(1) };
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), done);
    machine.set_back(TEN_YEARS);
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), done);
    machine.pass(HOUR);
    assert_eq!((store.purge(10).await.unwrap(), store.purge_done(10).await.unwrap()), (1, 1));
    machine.pass(RETENTION);
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
}

#[tokio::test]
async fn operators_see_the_system_clock() {
    let (folder, machine) = (Folder::new(), Machine::new());
    let store = machine.open(&folder);
    accept(&store, "evt-1", &[]).await;
    machine.set_back(HOUR);
    let start = machine.system();
    accept(&store, "evt-2", &[]).await;
    let shown = show(&store, 2).await.unwrap();
    assert_eq!(shown.accepted_at, start);
    let listed = store.entries(&(start..start + SECOND).into(), None, 10).await.unwrap();
    let times: Vec<_> = listed.iter().map(|entry| (entry.claimed_at, entry.until)).collect();
    assert_eq!(times, [(start, start + RETENTION)]);
    for leased in lease(&store, 2, 5).await {
        settled(&store, &leased, keep_for(RETENTION)).await;
    }
    assert_eq!(store.forget_keys(&(start..start + SECOND).into()).await.unwrap(), 1);
    assert_eq!(show(&store, 2).await.map(|entry| entry.id), None);
    assert_eq!(store.forget(&(start + HOUR..start + HOUR + SECOND).into()).await.unwrap(), 1);
}

#[tokio::test]
async fn stores_on_one_file_compensate_a_step_once() {
    let (folder, machine, log) = (Folder::new(), Machine::new(), Log::default());
    let _listening = log.listen();
    let (one, other) = (machine.open(&folder), machine.open(&folder));
    accept(&one, "evt-1", &[]).await;
    accept(&other, "evt-2", &[]).await;
    let leased = lease(&one, 1, 5).await;
    machine.set_ahead(HOUR);
    // The other store does not know the first store's held leases, so its time must be right.
    assert_eq!(ids(&lease(&other, 10, 5).await), [2]);
    machine.pass(SECOND);
    assert!(lease(&one, 10, 5).await.is_empty());
    assert_eq!(settle(&one, leased[0].lease(), Settlement::Release).await, tower_klikit::inbox::SettleOutcome::Settled);
    assert_eq!(ids(&lease(&other, 10, 5).await), [1]);
    assert_eq!(log.text().matches("the system clock was set").count(), 1, "{}", log.text());
}

#[tokio::test]
async fn held_leases_are_extended_and_not_leased_again() {
    let (folder, machine) = (Folder::new(), Machine::new());
    let store = machine.open(&folder);
    accept(&store, "evt-1", &["key"]).await;
    accept(&store, "evt-2", &["key"]).await;
    let leased = lease(&store, 10, 1).await;
    assert_eq!(ids(&leased), [1]);
    let held = [*leased[0].lease()];
    machine.pass(LEASE);
    let batch = store.lease(&LeaseRequest { held: &held, ..request(10, 1) }).await.unwrap();
    assert!(batch.leased.is_empty() && batch.dead_lettered.is_empty(), "{batch:?}");
    // The lease was extended, so other workers do not lease the delivery either.
    machine.pass(LEASE - SECOND);
    assert!(lease(&store, 10, 1).await.is_empty());
    machine.pass(SECOND);
    assert_eq!(ids(&lease(&store, 10, 5).await), [1]);
}

#[tokio::test]
async fn retried_delivery_waits_for_a_held_one_behind_it() {
    let (folder, machine) = (Folder::new(), Machine::new());
    let store = machine.open(&folder);
    accept(&store, "evt-1", &["key"]).await;
    accept(&store, "evt-2", &["key"]).await;
    settled(&store, &lease(&store, 1, 5).await[0], crate::deliveries::dead_letter("400")).await;
    let second = lease(&store, 1, 5).await;
    assert_eq!(ids(&second), [2]);
    assert!(retry(&store, 1).await);
    machine.pass(LEASE);
    let held = [*second[0].lease()];
    let batch = store.lease(&LeaseRequest { held: &held, ..request(10, 5) }).await.unwrap();
    assert!(batch.leased.is_empty(), "{batch:?}");
}

#[tokio::test]
async fn leasing_a_lost_lease_again_counts_no_attempt() {
    let (folder, machine) = (Folder::new(), Machine::new());
    let store = machine.open(&folder);
    accept(&store, "evt-1", &[]).await;
    let first = lease(&store, 1, 5).await;
    machine.pass(LEASE);
    assert_eq!(lease(&store, 1, 5).await[0].lease().attempt(), 2);
    machine.pass(LEASE);
    let held = [*first[0].lease()];
    let batch = store.lease(&LeaseRequest { held: &held, ..request(10, 5) }).await.unwrap();
    assert_eq!(batch.leased[0].lease().attempt(), 2);
    assert!(batch.leased[0].is_after_expired_lease());
}

/// Uses a real worker, which polls while its handler runs.
#[tokio::test]
async fn running_delivery_is_handled_once() {
    for step in [HOUR, TEN_YEARS] {
        for back in [false, true] {
            let (folder, machine) = (Folder::new(), Machine::new());
            let store = machine.open(&folder);
            accept(&store, "evt-1", &[]).await;
            let (begun, end) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
            let handler = {
                let (begun, end) = (Arc::clone(&begun), Arc::clone(&end));
                service_fn(move |_: http::Request<VerifiedBody>| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let end = Arc::clone(&end);
                    async move {
                        end.acquire().await.unwrap().forget();
                        Ok::<_, std::convert::Infallible>(http::Response::new(()))
                    }
                })
            };
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let worker = Inbox::new(store.clone()).worker(handler).poll_interval(Duration::from_millis(10));
            let worker = tokio::spawn(worker.run_until(stopped));
            let begins = async |times: u32| {
                while begun.load(Ordering::SeqCst) < times {
                    tokio::task::yield_now().await;
                }
            };
            begins(1).await;
            if back {
                machine.set_back(step)
            } else {
                machine.set_ahead(step)
            }
            // When the worker has leased this delivery, it has polled since the step.
            accept(&store, "evt-2", &[]).await;
            begins(2).await;
            accept(&store, "evt-3", &[]).await;
            begins(3).await;
            end.add_permits(3);
            while store.backlog(1).await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
            drop(stop);
            worker.await.unwrap();
            assert_eq!(begun.load(Ordering::SeqCst), 3, "{step:?}, back: {back}");
        }
    }
}
