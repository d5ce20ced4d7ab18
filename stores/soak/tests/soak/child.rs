//! The child process, which accepts deliveries and handles stored ones until it is killed.
//!
//! The child reads lines from its standard input. For an event id, it accepts the event's delivery and prints the
//! status. For `?`, it prints how many deliveries are left. Its own lines begin with `> `. The child exits when its
//! input ends, which also happens when its parent ends.

use std::{
    convert::Infallible, env, fs::OpenOptions, future::pending, io::Write, path::PathBuf, process, sync::Mutex, thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::sleep,
};
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{
    EventId, KlikitVerify, KlikitVerifyLayer, VerifiedBody,
    inbox::{Acceptor, Attempt, Inbox, InboxAdmin, InboxStore, OrderBy, Worker},
};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::{SqliteError, SqliteStore};

use crate::{
    deliveries::{Kind, SECRET, delivery, kind},
    journal::{Journal, Stage, now},
    random,
    recorder::Recorded,
};

/// The environment variable with the [`Orders`] of a child.
const CHILD: &str = "KLIKIT_SOAK_CHILD";

/// The configuration of a child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) store: Place,
    pub(crate) journal: PathBuf,
    /// The file to which children log errors.
    pub(crate) log: PathBuf,
    /// Whether deliveries are ordered by branch.
    pub(crate) by_branch: bool,
    pub(crate) work: Work,
    pub(crate) max_attempts: u32,
    pub(crate) lease: Duration,
}

/// The store of the inbox: a file, or the URL of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

/// The deliveries that a child handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Handles no deliveries: the child has no worker.
    Not,
    All,
    /// Handles all deliveries, but the handler hangs on slow ones.
    AllButSlow,
}

impl Orders {
    /// Returns the command that runs this program as a child.
    pub(crate) fn command(&self) -> process::Command {
        let mut command = process::Command::new(env::current_exe().expect("this program has a path"));
        let orders = serde_json::to_string(self).expect("all paths are UTF-8");
        command.args(["--ignored", "--exact", "--nocapture", "child::child_works"]).env(CHILD, orders);
        command
    }
}

impl Place {
    pub(crate) fn open_sqlite(&self) -> Result<SqliteStore, SqliteError> {
        match self {
            Self::Sqlite(file) => SqliteStore::builder().create().open(file),
            Self::Postgres(_) => unreachable!("callers check that the store is SQLite"),
        }
    }

    /// Opens the inbox without recording its calls.
    pub(crate) async fn inbox(&self) -> Inbox {
        match self {
            Self::Postgres(url) => Inbox::new(PostgresStore::open(url).await.expect("Postgres is running")),
            _ => Inbox::new(self.open_sqlite().expect("the file opens")),
        }
    }
}

#[test]
#[ignore = "other tests run this in child processes"]
fn child_works() {
    let Ok(orders) = env::var(CHILD) else { return };
    let orders: Orders = serde_json::from_str(&orders).expect("the orders are valid");
    let log = OpenOptions::new().create(true).append(true).open(&orders.log).expect("the log opens");
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::ERROR);
    subscriber.with_writer(Mutex::new(log)).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the runtime starts").block_on(async {
        match &orders.store {
            Place::Postgres(url) => {
                let store =
                    PostgresStore::builder().max_connections(8).deadline(Duration::from_secs(30)).open(url).await;
                run(store.expect("Postgres is running"), &orders).await;
            }
            file => run(file.open_sqlite().expect("the file opens"), &orders).await,
        }
    });
}

async fn run(store: impl InboxStore + InboxAdmin, orders: &Orders) {
    let journal = Journal::open(&orders.journal);
    let order_by = if orders.by_branch { OrderBy::branch() } else { OrderBy::nothing() };
    let inbox = Inbox::new(Recorded::new(store, journal.clone())).order_by(order_by);
    let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
    let mut terminated = signal(SignalKind::terminate()).expect("the signal handler can be installed");
    let mut lines = input();
    // Start a new line, because the test harness has printed a part of a line.
    print("\n> ready".into());
    let received = async {
        while let Some(line) = lines.recv().await {
            drop(tokio::spawn(answer(stack.clone(), inbox.clone(), line)));
        }
    };
    let worked = async {
        match orders.work {
            Work::Not => pending().await,
            Work::All | Work::AllButSlow => worker(&inbox, journal, orders, terminated.recv()).await,
        }
    };
    tokio::select! {
        () = received => {}
        () = worked => {}
    }
}

async fn worker(inbox: &Inbox, journal: Journal, orders: &Orders, stopped: impl Future) {
    let Orders { work, max_attempts, lease, .. } = *orders;
    let handler = service_fn(move |request| handle(journal.clone(), work, request));
    let worker: Worker<_> = inbox.worker(handler).lease(lease).max_attempts(max_attempts);
    let worker = worker.poll_interval(Duration::from_millis(50)).drain_deadline(Duration::from_millis(200));
    worker.backoff(Duration::from_millis(1), Duration::from_millis(20)).run_until(stopped).await;
}

async fn handle(
    journal: Journal,
    work: Work,
    request: Request<VerifiedBody>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let event = parts.extensions.get::<EventId>().expect("all deliveries have event ids").to_string();
    let attempt = *parts.extensions.get::<Attempt>().expect("the worker adds the attempt");
    let write = |stage| journal.write(stage, &event, attempt.lease(), now());
    if body.into_bytes() != delivery(&event).body() {
        eprintln!("the body of {event} is wrong");
        process::abort();
    }
    write(Stage::Begun);
    let status = match kind(&event) {
        Kind::Poison => process::abort(),
        Kind::Slow if work == Work::AllButSlow => pending().await,
        Kind::Flaky if attempt.number() == 1 => 500,
        _ => {
            sleep(Duration::from_millis(random(10))).await;
            write(Stage::Handled);
            200
        }
    };
    Ok(Response::builder().status(status).body(Full::default()).expect("the status is valid"))
}

async fn answer(stack: KlikitVerify<Acceptor>, inbox: Inbox, line: String) {
    if line == "?" {
        match inbox.counts().await {
            Ok(counts) => print(format!("> left {}", counts.backlog())),
            Err(error) => eprintln!("cannot count the deliveries: {error}"),
        }
        return;
    }
    let response = stack.oneshot(delivery(&line).request::<Full<Bytes>>()).await.expect("the acceptor cannot fail");
    print(format!("> {} {line}", response.status().as_u16()));
}

fn input() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        process::exit(0);
    });
    receiver
}

/// Prints a line in one write, so that the parent reads all of it or nothing.
fn print(mut line: String) {
    line.push('\n');
    // Writing fails if the parent has ended.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}
