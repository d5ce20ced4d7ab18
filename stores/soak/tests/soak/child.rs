//! A child, which accepts what it is sent, and handles what is stored, until it is killed.
//!
//! A line of its input is the id of an event, whose delivery the child then receives and answers, or `?`, which asks how many are left.
//! The child answers in lines that begin with `> `. It ends when its input does, which is when its parent is gone.

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
    journal::{Journal, What, now},
    random,
    recorder::Recorded,
};

/// The environment variable that holds the [`Orders`] of a child.
const CHILD: &str = "KLIKIT_SOAK_CHILD";

/// The task of a child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) store: Place,
    pub(crate) journal: PathBuf,
    /// The file to which children log errors.
    pub(crate) log: PathBuf,
    /// Whether deliveries of a branch are kept in order.
    pub(crate) by_branch: bool,
    pub(crate) work: Work,
    pub(crate) max_attempts: u32,
    pub(crate) lease: Duration,
}

/// The store of the inbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

/// Whether to handle deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Only accepts them.
    Not,
    All,
    /// Hangs on those that are slow.
    AllButSlow,
}

impl Orders {
    /// Returns the command that runs this program as the child.
    pub(crate) fn command(&self) -> process::Command {
        let mut command = process::Command::new(env::current_exe().expect("this program has a path"));
        let orders = serde_json::to_string(self).expect("paths are text");
        command.args(["--ignored", "--exact", "--nocapture", "child::as_a_child"]).env(CHILD, orders);
        command
    }
}

impl Place {
    pub(crate) fn open_sqlite(&self) -> Result<SqliteStore, SqliteError> {
        match self {
            Self::Sqlite(file) => SqliteStore::builder().create().open(file),
            Self::Postgres(_) => unreachable!("its callers know what it is"),
        }
    }

    /// Opens the inbox, without a journal.
    pub(crate) async fn inbox(&self) -> Inbox {
        match self {
            Self::Postgres(url) => Inbox::new(PostgresStore::open(url).await.expect("Postgres is there")),
            _ => Inbox::new(self.open_sqlite().expect("the file opens")),
        }
    }
}

#[test]
#[ignore = "a part of other tests, in a process of its own"]
fn as_a_child() {
    let Ok(orders) = env::var(CHILD) else { return };
    let orders: Orders = serde_json::from_str(&orders).expect("orders");
    let log = OpenOptions::new().create(true).append(true).open(&orders.log).expect("the log opens");
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::ERROR);
    subscriber.with_writer(Mutex::new(log)).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        match &orders.store {
            Place::Postgres(url) => {
                let store =
                    PostgresStore::builder().max_connections(8).deadline(Duration::from_secs(30)).open(url).await;
                run(store.expect("Postgres is there"), &orders).await;
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
    let mut terminated = signal(SignalKind::terminate()).expect("signals");
    let mut lines = input();
    // The test harness has begun a line.
    say("\n> ready".into());
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
    let event = parts.extensions.get::<EventId>().expect("all events have ids").to_string();
    let attempt = *parts.extensions.get::<Attempt>().expect("a worker says which attempt it is");
    let write = |what| journal.write(what, &event, attempt.lease(), now());
    if body.into_bytes() != delivery(&event).body() {
        eprintln!("the body of {event} is another");
        process::abort();
    }
    write(What::Begun);
    let status = match kind(&event) {
        Kind::Poison => process::abort(),
        Kind::Slow if work == Work::AllButSlow => pending().await,
        Kind::Flaky if attempt.number() == 1 => 500,
        _ => {
            sleep(Duration::from_millis(random(10))).await;
            write(What::Handled);
            200
        }
    };
    Ok(Response::builder().status(status).body(Full::default()).expect("a status"))
}

async fn answer(stack: KlikitVerify<Acceptor>, inbox: Inbox, line: String) {
    if line == "?" {
        match inbox.counts().await {
            Ok(counts) => say(format!("> left {}", counts.backlog())),
            Err(error) => eprintln!("not counted: {error}"),
        }
        return;
    }
    let response = stack.oneshot(delivery(&line).request::<Full<Bytes>>()).await.expect("it cannot fail");
    say(format!("> {} {line}", response.status().as_u16()));
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

/// Prints a line in one write, so that all of it is there or nothing.
fn say(mut line: String) {
    line.push('\n');
    // The parent may be gone.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}
