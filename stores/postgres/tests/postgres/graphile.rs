//! Tests of handing deliveries to Graphile Worker, with a task in JavaScript.

use std::{
    collections::HashSet,
    env,
    future::{Future, poll_fn},
    io::Write,
    path::{Path, PathBuf},
    pin::pin,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::future::{join, join_all};
use http::StatusCode;
use tokio::process::{Child, Command};
use tokio_postgres::Client;
use tower_klikit::{
    dedupe::EventKey,
    inbox::{Inbox, InboxAdmin},
};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_test_support::{deliveries, random::Random};

use crate::{client, count, ends, inbox::send, patient, servers::postgres::PostgresServer};

/// The statement from the crate's page.
const HAND_OFF: &str = "
    SELECT graphile_worker.add_job(
        'kitchen',
        json_build_object('head', $2::json, 'body', encode($1, 'base64')),
        job_key => $3,
        job_key_mode => 'preserve_run_at'
    )";

/// Tables and triggers that record each job that is added, or added again under its key.
const TABLES: &str = "
    CREATE TABLE handled (event_id text, body bytea);
    CREATE TABLE enqueued (key text);
    CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.enqueued VALUES (NEW.key);
        RETURN NULL;
    END $$;
    CREATE TRIGGER record_new AFTER INSERT ON graphile_worker._private_jobs
        FOR EACH ROW EXECUTE FUNCTION record();
    CREATE TRIGGER record_again AFTER UPDATE ON graphile_worker._private_jobs
        FOR EACH ROW WHEN (NEW.revision <> OLD.revision) EXECUTE FUNCTION record();";

const ENQUEUED: &str = "SELECT count(*) FROM enqueued";
const JOBS: &str = "SELECT count(*) FROM graphile_worker.jobs";
const HANDLED: &str = "SELECT count(*) FROM handled";

/// A server with Graphile Worker's schema.
struct Kitchen {
    server: PostgresServer,
    client: Client,
    folder: PathBuf,
}

impl Kitchen {
    /// Returns `None`, and writes a line to stderr, if Postgres, Node or Graphile Worker is missing.
    async fn start(test: &str) -> Option<Self> {
        let folder = installed(test)?;
        let server = PostgresServer::start_own(test, &[])?;
        let cli = folder.join("node_modules/graphile-worker/dist/cli.js");
        let mut install = Command::new("node");
        install.arg(cli).args(["--schema-only", "--connection", server.url()]).stdout(Stdio::null());
        assert!(ends(install.status()).await.unwrap().success());
        let client = client(server.url()).await;
        client.batch_execute(TABLES).await.unwrap();
        Some(Self { server, client, folder })
    }

    /// Opens a store whose connections have their own `application_name`.
    async fn store(&self) -> PostgresStore {
        patient().hand_off(HAND_OFF).open(&self.url("accepting")).await.unwrap()
    }

    fn url(&self, application: &str) -> String {
        format!("{}&application_name={application}", self.server.url())
    }

    fn start_worker(&self) -> Child {
        let mut worker = Command::new("node");
        worker.arg(self.folder.join("worker.mjs")).arg(self.url("kitchen"));
        worker.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    }

    /// Kills a worker and unlocks its jobs, which no other worker would run for hours.
    async fn kill(&self, mut worker: Child) {
        worker.kill().await.unwrap();
        // The server may still be running the worker's last statement.
        self.wait_for("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kitchen'", |left| left == 0)
            .await;
        let unlock = "
            SELECT graphile_worker.force_unlock_workers(array_agg(DISTINCT locked_by))
            FROM graphile_worker.jobs
            WHERE locked_by IS NOT NULL";
        self.client.query_one(unlock, &[]).await.unwrap();
    }

    async fn wait_for(&self, sql: &str, is_enough: impl Fn(i64) -> bool) {
        ends(async {
            while !is_enough(count(&self.client, sql).await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Closes up to two connections of the store that run a statement or a transaction. Returns their number.
    async fn terminate(&self) -> i64 {
        let terminate = "
            SELECT count(pg_terminate_backend(pid))
            FROM (
                SELECT pid FROM pg_stat_activity
                WHERE application_name = 'accepting' AND state <> 'idle'
                ORDER BY random()
                LIMIT 2
            ) AS busy";
        count(&self.client, terminate).await
    }
}

/// Returns the folder in which Graphile Worker is installed.
fn installed(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphile");
    let node = std::process::Command::new("node").arg("--version").stdout(Stdio::null()).status();
    if node.is_ok_and(|status| status.success()) && folder.join("node_modules/graphile-worker").is_dir() {
        return Some(folder);
    }
    let why = format!("there is no graphile-worker: install Node, and run `npm ci --prefix {}`", folder.display());
    assert!(env::var_os("KLIKIT_TEST_REQUIRE_SERVERS").is_none_or(|value| value != "1"), "{test}: {why}");
    // The test runner captures the output of `eprintln!`.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {test}: {why} ***");
    None
}

/// Polls a call up to `polls` times, and drops it if it is not ready by then.
async fn cut_short<T>(call: impl Future<Output = T>, mut polls: usize) -> Option<T> {
    let mut call = pin!(call);
    poll_fn(move |cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        call.as_mut().poll(cx).map(Some)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn graphile_gets_each_delivery_once_through_kills() {
    const SENDERS: usize = 8;
    const DELIVERIES: usize = 20 * SENDERS;
    const KILLS: i64 = 5;
    let Some(kitchen) = Kitchen::start("graphile gets each delivery once through kills").await else { return };
    let kitchen = Arc::new(kitchen);
    let inbox = Inbox::new(kitchen.store().await);
    let (_, samples) = deliveries::all();
    let bodies: Arc<Vec<String>> =
        Arc::new(samples.iter().map(|sample| String::from_utf8(sample.body.to_vec()).unwrap()).collect());
    let (dropped, terminated) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (kitchen, inbox, bodies) = (Arc::clone(&kitchen), inbox.clone(), Arc::clone(&bodies));
            let (dropped, terminated) = (Arc::clone(&dropped), Arc::clone(&terminated));
            tokio::spawn(async move {
                let mut random = Random(sender as u64);
                for event in (sender..DELIVERIES).step_by(SENDERS) {
                    let (id, body) = (format!("evt-{event}"), &bodies[event % bodies.len()]);
                    loop {
                        let call = send(&inbox, &id, body);
                        let status = match random.below(4) {
                            0 => cut_short(call, 1 + random.below(4)).await,
                            1 => {
                                let (status, closed) = join(call, kitchen.terminate()).await;
                                terminated.fetch_add(usize::try_from(closed).unwrap(), Ordering::Relaxed);
                                Some(status)
                            }
                            _ => Some(call.await),
                        };
                        match status {
                            Some(StatusCode::OK) => break,
                            Some(status) => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
                            None => _ = dropped.fetch_add(1, Ordering::Relaxed),
                        }
                    }
                }
            })
        })
        .collect();
    for kill in 1..=KILLS {
        let worker = kitchen.start_worker();
        kitchen.wait_for(HANDLED, |handled| handled >= 20 * kill).await;
        kitchen.kill(worker).await;
    }
    let _worker = kitchen.start_worker();
    for sender in senders {
        ends(sender).await.unwrap();
    }
    // A job that has failed permanently would remain.
    kitchen.wait_for(JOBS, |left| left == 0).await;
    assert!(dropped.load(Ordering::Relaxed) > 0 && terminated.load(Ordering::Relaxed) > 0);

    let rows = kitchen.client.query("SELECT key, count(*) FROM enqueued GROUP BY key", &[]).await.unwrap();
    assert_eq!(rows.len(), DELIVERIES);
    for row in rows {
        assert_eq!(row.get::<_, i64>(1), 1, "{:?}", row.get::<_, Option<&str>>(0));
    }
    let rows = kitchen.client.query("SELECT event_id, body FROM handled", &[]).await.unwrap();
    let mut handled = HashSet::new();
    for row in rows {
        let (id, body): (&str, &[u8]) = (row.get(0), row.get(1));
        let event: usize = id.strip_prefix("evt-").unwrap().parse().unwrap();
        assert!(body == bodies[event % bodies.len()].as_bytes(), "the body of {id} was changed");
        handled.insert(event);
    }
    assert_eq!(handled, (0..DELIVERIES).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn job_that_graphile_rejects_fails_alone() {
    const DELIVERIES: usize = 48;
    const REJECTED: [usize; 3] = [0, 13, 29];
    let Some(kitchen) = Kitchen::start("job that graphile rejects fails alone").await else { return };
    let reject = "
        CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.payload -> 'head' ->> 'event_id' IN ('evt-0', 'evt-13', 'evt-29') THEN
                RAISE EXCEPTION 'this job is rejected';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER reject BEFORE INSERT ON graphile_worker._private_jobs
            FOR EACH ROW EXECUTE FUNCTION reject()";
    kitchen.client.batch_execute(reject).await.unwrap();
    let inbox = Inbox::new(kitchen.store().await);
    let send_all = async || {
        let sent = (0..DELIVERIES).map(|event| {
            let inbox = inbox.clone();
            tokio::spawn(async move { send(&inbox, &format!("evt-{event}"), &format!("[{event}]")).await })
        });
        join_all(sent).await.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        for (event, status) in send_all().await.into_iter().enumerate() {
            let is_rejected = REJECTED.contains(&event);
            let expected = if is_rejected { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            assert_eq!(status, expected, "evt-{event}");
        }
        let expected = i64::try_from(DELIVERIES - REJECTED.len()).unwrap();
        assert_eq!((count(&kitchen.client, ENQUEUED).await, count(&kitchen.client, JOBS).await), (expected, expected));
    }
    kitchen.client.batch_execute("DROP TRIGGER reject ON graphile_worker._private_jobs").await.unwrap();
    assert!(send_all().await.into_iter().all(|status| status == StatusCode::OK));
    let expected = i64::try_from(DELIVERIES).unwrap();
    assert_eq!((count(&kitchen.client, ENQUEUED).await, count(&kitchen.client, JOBS).await), (expected, expected));
}

/// With `unsafe_dedupe`, the permanently failed job would keep the delivery from being enqueued.
#[tokio::test]
async fn forgotten_delivery_gets_a_job_that_runs() {
    let Some(kitchen) = Kitchen::start("forgotten delivery gets a job that runs").await else { return };
    let store = kitchen.store().await;
    let inbox = Inbox::new(store.clone());
    assert_eq!(send(&inbox, "evt-1", "{}").await, StatusCode::OK);
    let fail = "
        SELECT graphile_worker.permanently_fail_jobs(array_agg(id))
        FROM graphile_worker.jobs";
    kitchen.client.query_one(fail, &[]).await.unwrap();
    assert_eq!(send(&inbox, "evt-1", "{}").await, StatusCode::OK);
    assert_eq!(count(&kitchen.client, ENQUEUED).await, 1, "the second copy is a duplicate");
    assert_eq!(store.forget_keys(&EventKey::of_event("default", "evt-1").into()).await.unwrap(), 1);
    assert_eq!(send(&inbox, "evt-1", "{}").await, StatusCode::OK);
    let waiting = "SELECT count(*) FROM graphile_worker.jobs WHERE attempts < max_attempts";
    assert_eq!(count(&kitchen.client, waiting).await, 1);
    let worker = kitchen.start_worker();
    kitchen.wait_for(HANDLED, |handled| handled == 1).await;
    kitchen.kill(worker).await;
}
