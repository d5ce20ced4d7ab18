//! Tests that a failover to a synchronous replica loses nothing that was acknowledged.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::{sync::oneshot, time::sleep};
use tower::service_fn;
use tower_klikit::{
    VerifiedBody,
    inbox::{Inbox, InboxStore},
};
use tower_klikit_postgres::PostgresStore;

use crate::{
    client, count, ends,
    inbox::send,
    open,
    senders::{Senders, lost, until},
    servers::postgres::PostgresServer,
};

const SENDERS: usize = 20;
const DEADLINE: Duration = Duration::from_millis(500);
const LEASE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// A primary, and the replica that its commits wait for.
struct Cluster {
    primary: PostgresServer,
    replica: PostgresServer,
}

impl Cluster {
    async fn start(test: &str) -> Option<Self> {
        let primary = PostgresServer::start_own(test, &[])?;
        let replica = primary.replica("standby");
        let client = client(primary.url()).await;
        wait_for_standby(&client, "standby").await;
        let is_waited_for = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        until(|| count(&client, is_waited_for).map(|found| found == 1)).await;
        Some(Self { primary, replica })
    }

    /// Returns a URL that names both servers and asks for the one that accepts writes.
    fn url(&self) -> String {
        let (primary, replica) = (self.primary.port(), self.replica.port());
        format!(
            "postgres://klikit@127.0.0.1:{primary},127.0.0.1:{replica}/postgres\
             ?sslmode=disable&target_session_attrs=read-write"
        )
    }

    /// Kills the primary, and promotes its replica, which was cut off before.
    fn fail_over(&mut self) {
        self.primary.kill();
        self.replica.restart();
        self.replica.promote();
    }
}

/// Makes commits wait for the standby of this name, which need not exist. With an empty name, commits wait for none.
pub(crate) async fn wait_for_standby(client: &tokio_postgres::Client, name: &str) {
    client.execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"), &[]).await.unwrap();
    client.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
}

/// Commits that wait for the replica when it is cut off are durable only on the primary.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledges_only_what_the_standby_has() {
    let Some(mut cluster) = Cluster::start("acknowledges only what the standby has").await else { return };
    let store = PostgresStore::builder().deadline(DEADLINE).open(cluster.primary.url()).await.unwrap();
    let senders = Senders::to(&Inbox::new(store), SENDERS);
    senders.all_succeed().await;
    cluster.replica.kill();
    senders.all_fail().await;
    cluster.fail_over();
    let acknowledged = senders.stop().await;
    assert_eq!(lost(&client(cluster.replica.url()).await, &acknowledged).await, [""; 0]);
}

/// Postgres answers a commit with success, and a warning, if its wait for the standby is cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_wait_for_standby_is_not_a_success() {
    let Some(mut cluster) = Cluster::start("cancelled wait for standby is not a success").await else { return };
    let inbox = Inbox::new(open(cluster.primary.url()).await).accept_deadline(Duration::from_secs(50));
    assert_eq!(send(&inbox, "before", "x").await, StatusCode::OK);
    cluster.replica.kill();
    let ids: Vec<_> = (0..SENDERS).map(|n| format!("evt-{n}")).collect();
    let sending = join_all(ids.iter().map(|id| send(&inbox, id, id)));
    let admin = client(cluster.primary.url()).await;
    let cancelling = async {
        let cancel = "
            SELECT pg_cancel_backend(pid)
            FROM pg_stat_activity
            WHERE wait_event = 'SyncRep'";
        loop {
            admin.execute(cancel, &[]).await.unwrap();
            sleep(PAUSE).await;
        }
    };
    let answers = ends(async {
        tokio::select! {
            answers = sending => answers,
            () = cancelling => unreachable!("cancelling continues until all calls return"),
        }
    })
    .await;
    cluster.fail_over();
    let acknowledged = ids.into_iter().zip(answers).filter(|(_, answer)| *answer == StatusCode::OK);
    let acknowledged: Vec<_> = acknowledged.map(|(id, _)| id).chain(["before".to_owned()]).collect();
    assert_eq!(lost(&client(cluster.replica.url()).await, &acknowledged).await, [""; 0]);
}

/// How a primary fails.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The primary is killed, so its port rejects connections.
    Killed,
    /// The primary is paused: it neither answers nor rejects connections.
    Frozen,
}

/// Sends and handles deliveries while the primary fails and the replica takes over.
async fn fails_over(test: &str, failure: Failure) {
    let Some(mut cluster) = Cluster::start(test).await else { return };
    let store = PostgresStore::builder().deadline(DEADLINE).open(&cluster.url()).await.unwrap();
    let inbox = Inbox::new(store.clone());
    let handled = Arc::new(Mutex::new(HashSet::new()));
    let handler = service_fn({
        let handled = Arc::clone(&handled);
        move |request: Request<VerifiedBody>| {
            handled.lock().unwrap().insert(String::from_utf8(request.body().as_ref().to_vec()).unwrap());
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
        }
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(inbox.worker(handler).lease(LEASE).poll_interval(PAUSE).run_until(stopped));
    let handled = || handled.lock().unwrap();

    let senders = Senders::to(&inbox, SENDERS);
    senders.all_succeed().await;
    until(|| async { !handled().is_empty() }).await;
    match failure {
        Failure::Killed => cluster.primary.kill(),
        Failure::Frozen => cluster.primary.halt(),
    }
    senders.all_fail().await;
    let before = handled().len();
    cluster.replica.promote();
    senders.all_succeed().await;
    until(|| async { handled().len() > before }).await;
    let acknowledged = senders.stop().await;
    until(|| async { store.backlog(1).await.is_ok_and(|pending| pending == 0) }).await;
    stop.send(()).unwrap();
    ends(worker).await.unwrap();

    let lost: Vec<_> = acknowledged.iter().filter(|id| !handled().contains(*id)).collect();
    assert!(lost.is_empty(), "{failure:?}: {lost:?}");
    // Handled deliveries are remembered, so that their copies are duplicates.
    let remembered = "SELECT count(*) FROM klikit_ledger WHERE state = 1";
    let promoted = client(cluster.replica.url()).await;
    let remembered = usize::try_from(count(&promoted, remembered).await).unwrap();
    assert!(remembered >= handled().len(), "{failure:?}: {remembered} of {}", handled().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn recovers_on_the_replica_of_a_killed_primary() {
    fails_over("recovers on the replica of a killed primary", Failure::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recovers_on_the_replica_of_a_frozen_primary() {
    fails_over("recovers on the replica of a frozen primary", Failure::Frozen).await;
}
