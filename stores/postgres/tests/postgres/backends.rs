//! Tests that a store uses no more backends than its pool has connections, even if the server does not respond.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger},
    inbox::Inbox,
};
use tower_klikit_postgres::PostgresStore;

use crate::{
    RETENTION, TERMS, claim, client, count,
    failover::wait_for_standby,
    senders::{Senders, lost, until},
    servers::postgres::PostgresServer,
};

const POOL: usize = 10;
const SENDERS: usize = 40;

/// Short, so that a sender fails often.
const DEADLINE: Duration = Duration::from_secs(1);

const WAITING_FOR_STANDBY: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

/// A server, a store with a small pool, and separate connections for the test.
struct Scene {
    server: PostgresServer,
    store: PostgresStore,
    admin: tokio_postgres::Client,
    watcher: tokio_postgres::Client,
}

impl Scene {
    async fn new(test: &str) -> Option<Self> {
        let server = PostgresServer::start_own(test, &[])?;
        let store = PostgresStore::builder().max_connections(POOL).deadline(DEADLINE).open(server.url()).await.unwrap();
        let (admin, watcher) = (client(server.url()).await, client(server.url()).await);
        Some(Self { server, store, admin, watcher })
    }

    /// Sends deliveries to the store's acceptor, and claims others, before, during and after a fault.
    async fn deliver_through<A: Future, B: Future>(&self, begin: impl FnOnce() -> A, end: impl FnOnce() -> B) {
        let accepting = Senders::to(&Inbox::new(self.store.clone()), SENDERS / 2);
        let (store, event) = (self.store.clone(), AtomicU64::new(0));
        let claiming = Senders::calling(SENDERS / 2, move |_| {
            let (store, claim) = (store.clone(), claim(event.fetch_add(1, Ordering::SeqCst)));
            async move { store.claim(&claim, &TERMS).await.is_ok() }
        });
        let [acknowledged, _] = self.call_through([accepting, claiming], begin, end).await;
        assert_eq!(lost(&self.admin, &acknowledged).await, [""; 0]);
    }

    /// Keeps senders running before, during and after a fault. Checks that all fail during the fault and recover after it, and
    /// that there are not too many backends.
    async fn call_through<A: Future, B: Future, const N: usize>(
        &self,
        senders: [Senders; N],
        begin: impl FnOnce() -> A,
        end: impl FnOnce() -> B,
    ) -> [Vec<String>; N] {
        let own = join_all([&self.admin, &self.watcher].map(|client| count(client, "SELECT pg_backend_pid()::bigint")));
        let own = own.await.into_iter().map(|pid| u32::try_from(pid).unwrap()).collect();
        let backends = self.server.watch_backends(own);
        join_all(senders.iter().map(Senders::all_succeed)).await;
        begin().await;
        join_all(senders.iter().map(Senders::all_fail)).await;
        end().await;
        join_all(senders.iter().map(Senders::all_succeed)).await;
        let peak = backends.peak();
        assert!((1..=POOL).contains(&peak), "{peak} backends for a pool of {POOL}");
        let stopped = join_all(senders.map(Senders::stop)).await;
        stopped.try_into().expect("there is one result for each")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_table_costs_no_more_backends() {
    let Some(scene) = Scene::new("locked table costs no more backends").await else { return };
    let lock = "BEGIN; LOCK TABLE klikit_ledger IN ACCESS EXCLUSIVE MODE";
    scene.deliver_through(|| scene.admin.batch_execute(lock), || scene.admin.batch_execute("ROLLBACK")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_row_costs_no_more_backends() {
    let Some(scene) = Scene::new("locked row costs no more backends").await else { return };
    let held = claim(1);
    assert_eq!(scene.store.claim(&held, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    let store = scene.store.clone();
    let senders = Senders::calling(SENDERS, move |_| {
        let (store, held) = (store.clone(), held.clone());
        async move { store.complete(&held, RETENTION).await.is_ok_and(|completed| completed) }
    });
    let lock = "BEGIN; SELECT FROM klikit_ledger FOR UPDATE";
    scene.call_through([senders], || scene.admin.batch_execute(lock), || scene.admin.batch_execute("ROLLBACK")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_standby_costs_no_more_backends() {
    let Some(scene) = Scene::new("missing standby costs no more backends").await else { return };
    let begin = || async {
        wait_for_standby(&scene.admin, "nobody").await;
        until(|| async { count(&scene.watcher, WAITING_FOR_STANDBY).await > 0 }).await;
    };
    scene.deliver_through(begin, || wait_for_standby(&scene.admin, "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_server_costs_no_more_backends() {
    let Some(scene) = Scene::new("frozen server costs no more backends").await else { return };
    scene.deliver_through(|| async { scene.server.halt() }, || async { scene.server.go_on() }).await;
}

/// New connections hang during authentication.
#[tokio::test(flavor = "multi_thread")]
async fn hanging_logins_cost_no_more_backends() {
    let Some(scene) = Scene::new("hanging logins cost no more backends").await else { return };
    let lock = "
        BEGIN;
        LOCK TABLE pg_catalog.pg_authid IN ACCESS EXCLUSIVE MODE;
        SELECT pg_terminate_backend(pid)
        FROM pg_stat_activity
        WHERE application_name = 'tower-klikit-postgres'";
    scene.deliver_through(|| scene.admin.batch_execute(lock), || scene.admin.batch_execute("ROLLBACK")).await;
}
