//! A trial, which sends genuine deliveries before, during and after an attack.

use std::{
    env,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::runtime::Runtime;

use crate::{
    attackers::{Attack, Tally},
    child::Child,
    memory::{self, MIB},
    report::{self, Score, is_accepted},
    sender::{Record, Sender},
    shapes::LONG_PAUSE,
};

/// The layer's default budget for unverified bodies.
const BUDGET_BYTES: u64 = 64 * MIB;

/// The memory that a connection needs outside of the layer: its task, and hyper's first buffers for reading and writing.
/// Measured with 5,000 HTTP/1.1 connections and 2,000 HTTP/2 connections, which needed 27 and 24 KiB each.
const CONNECTION_BYTES: u64 = 28 * 1024;

/// The memory that a fast sender's HTTP/1.1 connection needs outside of the layer. hyper's buffer for reading grows to 408 KiB,
/// and the allocator keeps some freed memory. Measured with 256 such senders and a budget of 2 MiB, which needed up to 660 KiB
/// each.
const READ_BUFFER_BYTES: u64 = 660 * 1024;

/// The memory that an HTTP/2 stream needs outside of the layer: its state, its task, and the request's head. Measured with
/// 16,000 streams, which needed 3 KiB each.
const STREAM_BYTES: u64 = 4 * 1024;

/// The memory for genuine deliveries in progress, and for freed memory that the allocator keeps.
const SLACK_BYTES: u64 = 32 * MIB;

/// The percentage of deliveries that must be accepted during an attack, except those with [`LONG_PAUSE`].
const MIN_PERCENT: usize = 99;

/// An attack, and the requirements on the server during the attack.
pub(crate) struct Trial<'a> {
    pub(crate) name: &'a str,
    pub(crate) attack: Attack,
    /// The percentage of deliveries with [`LONG_PAUSE`] that must be accepted during the attack.
    pub(crate) min_slow_percent: usize,
}

/// The resident sizes of the server, in bytes.
pub(crate) struct Memory {
    pub(crate) before: u64,
    /// The peak during the attack.
    pub(crate) peak: u64,
    pub(crate) after: u64,
    pub(crate) allowed: u64,
}

/// The results of a trial.
pub(crate) struct Results {
    /// The genuine deliveries before, during and after the attack.
    pub(crate) before: Vec<Record>,
    pub(crate) during: Vec<Record>,
    pub(crate) after: Vec<Record>,
    pub(crate) tally: Tally,
    pub(crate) memory: Memory,
}

/// The times for which genuine deliveries are sent.
struct Durations {
    before: Duration,
    during: Duration,
    after: Duration,
}

impl Durations {
    fn from_env() -> Self {
        let is_full = env::var_os("KLIKIT_ATTACKS").is_some_and(|value| value == "full");
        let [before, during] = if is_full { [10, 30] } else { [1, 4] }.map(Duration::from_secs);
        Self { before, during, after: Duration::from_millis(500) }
    }
}

impl Trial<'_> {
    /// Attacks a new server, and asserts that genuine deliveries are accepted and that its memory is bounded.
    pub(crate) fn run(&self) -> Tally {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

        let results = Runtime::new().expect("a runtime").block_on(self.attack());
        let table = report::table(self.name, &results);
        if env::var_os("KLIKIT_ATTACKS").is_some() {
            // Write to stdout directly, because the test harness captures the output of `println!`.
            let _ = std::io::stdout().write_all(table.as_bytes());
        }
        self.warn_of_weak_attack(&results.tally);
        self.assert_requirements(&results, &table);
        results.tally
    }

    async fn attack(&self) -> Results {
        let durations = Durations::from_env();
        let mut server = Child::server();
        let port = server.line().parse().expect("a port");
        let sender = Sender::new(port);
        let before = sender.send_for(durations.before).await;
        let memory_before = memory::resident(server.pid());
        memory::reset_peak(server.pid());

        let mut attacker = Child::attacker(port, &self.attack);
        assert_eq!(attacker.line(), "up");
        let during = sender.send_for(durations.during).await;
        let peak = memory::peak(server.pid());
        attacker.stop();
        let tally = serde_json::from_str(&attacker.line()).expect("a tally");
        drop(attacker);

        let after = sender.send_for(durations.after).await;
        let memory = Memory {
            before: memory_before,
            peak,
            after: memory::resident(server.pid()),
            allowed: memory_before + self.allowed_growth(),
        };
        Results { before, during, after, tally, memory }
    }

    /// Returns the bytes by which the server's memory may grow.
    fn allowed_growth(&self) -> u64 {
        let (per_connection, streams) = match &self.attack {
            Attack::Http1(uploads) => (CONNECTION_BYTES + READ_BUFFER_BYTES.min(uploads.bytes as u64), 0),
            Attack::Http2(_) => (CONNECTION_BYTES, self.attack.open_requests() as u64),
        };
        let connections = self.attack.connections() as u64;
        BUDGET_BYTES + connections * per_connection + streams * STREAM_BYTES + SLACK_BYTES
    }

    /// Warns on stderr if the attacker was too slow for a meaningful trial, because the machine is slow or busy.
    fn warn_of_weak_attack(&self, tally: &Tally) {
        let Some(target_rate) = self.attack.target_rate() else { return };
        let share = tally.begun as f64 / tally.time.as_secs_f64() / target_rate;
        if share < 0.7 {
            let (name, percent) = (self.name, share * 100.0);
            let _ = writeln!(
                std::io::stderr(),
                "\n*** WEAK ATTACK: {name}: the attacker sent only {percent:.0} % of its target rate ***"
            );
        }
    }

    fn assert_requirements(&self, results: &Results, table: &str) {
        let Results { before, during, after, memory, .. } = results;
        for Record { shape, outcomes } in before.iter().chain(after) {
            assert!(outcomes.iter().all(is_accepted), "{shape}, without an attack: {outcomes:?}");
        }
        for Record { shape, outcomes } in during {
            let is_rejected = outcomes.iter().any(|outcome| matches!(outcome.answer, Ok(400..=499)));
            assert!(!is_rejected, "{shape}: a genuine delivery was rejected with a 4xx status{table}");
        }
        let (slow, other): (Vec<&Record>, Vec<&Record>) =
            during.iter().partition(|record| record.shape.pause == LONG_PAUSE);
        for (records, min_percent) in [(other, MIN_PERCENT), (slow, self.min_slow_percent)] {
            let score = Score::of(records.into_iter().flat_map(|record| &record.outcomes));
            assert!(score.reaches(min_percent), "accepted {score:?}, which is less than {min_percent} %{table}");
        }
        assert!(memory.peak <= memory.allowed, "too much memory during the attack{table}");
        assert!(memory.after <= memory.allowed, "too much memory after the attack{table}");
    }
}
