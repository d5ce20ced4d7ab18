//! The cases of Graphile Worker, a queue in Postgres whose workers run in Node.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};
use tokio_postgres::types::{ToSql, Type};

use crate::{
    deliveries::{body, event_id, requests, send_all},
    figures::Figures,
    server::{Server, connect},
    textbook::{head, pool, verified},
};

const ADD: &str = "
    SELECT graphile_worker.add_job(
        'order',
        json_build_object('head', $2::json, 'body', convert_from($1, 'UTF8')::json),
        job_key => $3
    )";

const ADD_MANY: &str = "
    SELECT count(*)
    FROM graphile_worker.add_jobs(ARRAY(
        -- The columns: task, payload, queue, run at, most attempts, job key, priority, flags.
        SELECT ROW(
            'order',
            json_build_object('head', head::json, 'body', convert_from(body, 'UTF8')::json),
            NULL,
            NULL,
            NULL,
            key,
            NULL,
            NULL
        )::graphile_worker.job_spec
        FROM unnest($1::bytea[], $2::text[], $3::text[]) AS delivery (body, head, key)
    ))";

/// The settings of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Settings {
    /// Handles one job at a time on each of ten connections.
    Default,
    /// Fetches 500 at a time, and completes in batches.
    Batched,
}

/// A database with Graphile Worker's schema.
pub(crate) struct Graphile {
    url: String,
}

impl Graphile {
    /// Returns the folder in which Graphile Worker is installed. Otherwise prints that its cases are skipped.
    pub(crate) fn folder() -> Option<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphile");
        let node = std::process::Command::new("node").arg("--version").stdout(Stdio::null()).status();
        if node.is_ok_and(|status| status.success()) && folder.join("node_modules/graphile-worker").is_dir() {
            return Some(folder);
        }
        println!("*** SKIPPED: graphile-worker: install Node and run `npm ci --prefix {}` ***", folder.display());
        None
    }

    /// Creates Graphile Worker's schema in this database, with its own program.
    pub(crate) async fn install(folder: &Path, url: &str) {
        let cli = folder.join("node_modules/graphile-worker/dist/cli.js");
        let mut install = Command::new("node");
        install.arg(cli).args(["--schema-only", "--connection", url]).stdout(Stdio::null());
        assert!(install.status().await.expect("node").success());
    }

    pub(crate) fn new(url: String) -> Self {
        Self { url }
    }

    pub(crate) async fn accept(&self, server: &Server, count: usize) -> Figures {
        let requests = requests(count);
        let watch = server.watch(None);
        let times = send_all(requests, self.acceptor()).await;
        let (all, cores) = watch.stop();
        Figures::of_calls(&times, all, cores)
    }

    fn acceptor(&self) -> impl Fn(Request<Full<Bytes>>) -> BoxFuture<'static, bool> + Clone + use<> {
        let pool = pool(&self.url);
        verified(move |id, body| {
            let pool = pool.clone();
            async move {
                let head = head(id.as_str());
                let params: [(&(dyn ToSql + Sync), Type); 3] =
                    [(&&body[..], Type::BYTEA), (&head, Type::TEXT), (&id.as_str(), Type::TEXT)];
                pool.get().await?.query_typed(ADD, &params).await?;
                Ok(true)
            }
        })
    }

    /// Adds jobs in batches, for the events from `from` up to `to`.
    pub(crate) async fn fill(&self, from: usize, to: usize) {
        let client = connect(&self.url).await;
        let events: Vec<_> = (from..to).collect();
        for events in events.chunks(500) {
            let bodies: Vec<_> = events.iter().map(|event| body(*event).to_vec()).collect();
            let keys: Vec<_> = events.iter().map(|event| event_id(*event)).collect();
            let heads: Vec<_> = keys.iter().map(|id| head(id)).collect();
            client.query(ADD_MANY, &[&bodies, &heads, &keys]).await.expect("jobs");
        }
    }

    /// Handles all jobs in the queue. The measurement starts with the first job.
    pub(crate) async fn handle(&self, server: &Server, folder: &Path, settings: Settings, count: usize) -> Figures {
        let client = connect(&self.url).await;
        let left: i64 = client.query_one("SELECT count(*) FROM graphile_worker.jobs", &[]).await.expect("jobs").get(0);
        assert_eq!(usize::try_from(left), Ok(count));
        let mut node = NodeProcess::start(folder, &self.url, settings).await;
        node.said("first").await;
        let watch = server.watch(node.child.id());
        let empty = "SELECT NOT EXISTS (SELECT FROM graphile_worker.jobs)";
        node.said(&format!("handled {count}")).await;
        while !client.query_one(empty, &[]).await.expect("an answer").get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (all, cores) = watch.stop();
        node.child.kill().await.expect("the child can be killed");
        Figures::of_count(count, all, cores)
    }
}

/// A worker in Node.
struct NodeProcess {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl NodeProcess {
    async fn start(folder: &Path, url: &str, settings: Settings) -> Self {
        let settings = match settings {
            Settings::Default => "default",
            Settings::Batched => "batched",
        };
        let mut node = Command::new("node");
        node.arg(folder.join("bench_worker.mjs")).arg(url).arg(settings).kill_on_drop(true);
        let mut child = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut node = Self { child, lines };
        node.said("ready").await;
        node.child.stdin.as_mut().expect("a pipe").write_all(b"go\n").await.expect("a reader");
        node
    }

    /// Waits for this line.
    async fn said(&mut self, line: &str) {
        while self.lines.next_line().await.expect("a pipe").expect("a worker that runs") != line {}
    }
}
