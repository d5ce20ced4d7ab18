//! The server of all cases, and the measurement of processor time.

use std::{
    fs, process,
    time::{Duration, Instant},
};

use tokio_postgres::{Client, NoTls};
use tower_klikit_test_support::servers::postgres::PostgresServer;

use crate::figures::{Cores, percentile};

/// The number of connections of each queue.
pub(crate) const CONNECTIONS: usize = 10;

/// The server's settings, which override those of the tests' servers, such as `fsync=off`. The server keeps enough segments of
/// its log to reuse old ones, like a server that has run for a while.
const SETTINGS: [&str; 5] =
    ["fsync=on", "synchronous_commit=on", "shared_buffers=512MB", "min_wal_size=1GB", "max_wal_size=4GB"];

/// A Postgres server, and a connection to it.
pub(crate) struct Server {
    server: PostgresServer,
    admin: Client,
}

impl Server {
    /// Starts the server. Returns `None` if Postgres is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let server = PostgresServer::start_own("inbox_postgres", &SETTINGS)?;
        let admin = connect(server.url()).await;
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let row = admin.query_one(&format!("SHOW {setting}"), &[]).await.expect("a setting");
            assert_eq!(row.get::<_, &str>(0), "on", "{setting}");
        }
        Some(Self { server, admin })
    }

    /// Returns the median duration of a small commit.
    pub(crate) async fn commit(&self) -> Duration {
        self.admin.batch_execute("CREATE TABLE commits (n int)").await.expect("a table");
        let mut times = vec![];
        for _ in 0..51 {
            let started = Instant::now();
            self.admin.batch_execute("INSERT INTO commits VALUES (1)").await.expect("a row");
            times.push(started.elapsed());
        }
        self.admin.batch_execute("DROP TABLE commits").await.expect("a table");
        percentile(&times, 50)
    }

    /// Creates a database, as a copy of `template` if there is one. Returns its URL.
    pub(crate) async fn create(&self, name: &str, template: Option<&str>) -> String {
        let like = template.map(|name| format!("TEMPLATE {name}")).unwrap_or_default();
        self.drop(name).await;
        self.admin.batch_execute(&format!("CREATE DATABASE {name} {like}")).await.expect("a database");
        self.server.url().replace("/postgres?", &format!("/{name}?"))
    }

    /// Drops a database. The server then writes a checkpoint, so that each case starts after one.
    pub(crate) async fn drop(&self, name: &str) {
        self.admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.expect("no database");
    }

    /// Starts to measure the elapsed time and the processor time.
    pub(crate) fn watch(&self, node: Option<u32>) -> Watch<'_> {
        Watch { server: self, node, ticks: self.ticks(node), started: Instant::now() }
    }

    /// Returns the processor time of this process, of the server, of Node, and of the whole machine.
    fn ticks(&self, node: Option<u32>) -> [u64; 4] {
        let text = fs::read_to_string(self.server.folder().join("data/postmaster.pid")).expect("a server that runs");
        let postmaster = text.lines().next().and_then(|line| line.parse().ok()).expect("its pid");
        [of_process(process::id()), of_family(postmaster), node.map_or(0, of_process), of_machine()]
    }
}

/// A running measurement.
pub(crate) struct Watch<'a> {
    server: &'a Server,
    node: Option<u32>,
    ticks: [u64; 4],
    started: Instant,
}

impl Watch<'_> {
    pub(crate) fn stop(&self) -> (Duration, Cores) {
        /// Linux counts processor time in hundredths of a second.
        const TICK: f64 = 0.01;
        let all = self.started.elapsed();
        let now = self.server.ticks(self.node);
        let [bench, server, node, machine] =
            std::array::from_fn(|n| now[n].saturating_sub(self.ticks[n]) as f64 * TICK / all.as_secs_f64());
        let others = (machine - bench - server - node).max(0.0);
        (all, Cores { bench, server, node, others })
    }
}

/// Connects to a database outside any pool.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a server that runs");
    drop(tokio::spawn(connection));
    client
}

/// Returns the processor time of all threads of a process, in ticks.
fn of_process(pid: u32) -> u64 {
    stat(pid).map_or(0, |fields| fields[11] + fields[12])
}

/// Returns the processor time of a process and of its children, including those that have ended.
fn of_family(parent: u32) -> u64 {
    let ended = stat(parent).map_or(0, |fields| fields[11..15].iter().sum());
    let processes = fs::read_dir("/proc").expect("/proc lists the processes");
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let children = pids.filter_map(stat).filter(|fields| fields[1] == u64::from(parent));
    ended + children.map(|fields| fields[11] + fields[12]).sum::<u64>()
}

/// Returns the time for which the machine's processors were not idle, in ticks.
fn of_machine() -> u64 {
    let text = fs::read_to_string("/proc/stat").expect("/proc tells the processors' times");
    let fields = text.lines().next().into_iter().flat_map(str::split_whitespace).skip(1);
    let times: Vec<u64> = fields.map(|field| field.parse().unwrap_or_default()).collect();
    // Leave out the times of being idle, of waiting for a disk, and of guests, which are part of the user time.
    [0, 1, 2, 5, 6, 7].into_iter().filter_map(|n| times.get(n)).sum()
}

/// Returns the fields of a process's `stat` after its name. Fields that are not numbers become zero.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> =
        text.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
    (fields.len() > 15).then_some(fields)
}
