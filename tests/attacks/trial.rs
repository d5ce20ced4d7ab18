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

/// The layer's default budget for bodies that are not verified.
const BUDGET: u64 = 64 * MIB;

/// The memory that a connection needs outside of the layer: its task, and hyper's first buffers for reading and writing.
/// Measured with 5,000 HTTP/1.1 connections and 2,000 HTTP/2 connections, which needed 27 and 24 KiB each.
const CONNECTION: u64 = 28 * 1024;

/// The memory that a fast sender's HTTP/1.1 connection needs outside of the layer. hyper's buffer for reading grows to 408 KiB,
/// and the allocator keeps some freed memory. Measured with 256 such senders and a budget of 2 MiB, which needed up to 660 KiB
/// each.
const READ_BUFFER: u64 = 660 * 1024;

/// The memory that an HTTP/2 stream needs outside of the layer: its state, its task, and the request's head. Measured with
/// 16,000 streams, which needed 3 KiB each.
const STREAM: u64 = 4 * 1024;

/// The memory for genuine deliveries in progress, and for memory that the allocator keeps.
const SLACK: u64 = 32 * MIB;

/// An attack, and the requirements on the server during the attack.
pub(crate) struct Trial<'a> {
    pub(crate) name: &'a str,
    pub(crate) attack: Attack,
    /// The percentage of deliveries with long pauses that must be accepted. For other deliveries it is 99.
    pub(crate) long_pauses: usize,
}

/// The resident sizes of the server, in bytes.
pub(crate) struct Memory {
    pub(crate) idle: u64,
    pub(crate) peak: u64,
    pub(crate) after: u64,
    pub(crate) allowed: u64,
}

/// The results of a trial.
struct Findings {
    idle: Vec<Record>,
    attacked: Vec<Record>,
    after: Vec<Record>,
    tally: Tally,
    memory: Memory,
}

/// Returns whether attacks last 30 seconds.
fn is_full() -> bool {
    env::var_os("KLIKIT_ATTACKS").is_some_and(|value| value == "full")
}

impl Trial<'_> {
    /// Attacks a new server, and asserts that genuine deliveries are accepted and that its memory is bounded.
    pub(crate) fn run(&self) -> Tally {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

        let findings = Runtime::new().expect("a runtime").block_on(self.attack());
        let Findings { idle, attacked, tally, memory, .. } = &findings;
        let table = report::table(self.name, idle, attacked, tally, memory);
        if env::var_os("KLIKIT_ATTACKS").is_some() {
            // The test runner captures the output of `println!`.
            let _ = std::io::stdout().write_all(table.as_bytes());
        }
        self.warn_of_weak_attack(tally);
        self.judge(&findings, &table);
        findings.tally
    }

    async fn attack(&self) -> Findings {
        let (idle_time, time) = if is_full() { (10, 30) } else { (1, 4) };
        let [idle_time, time] = [idle_time, time].map(Duration::from_secs);
        let mut server = Child::server();
        let port = server.line().parse().expect("a port");
        let sender = Sender::new(port);
        let idle = sender.send_for(idle_time).await;
        let resident = memory::resident(server.pid());
        memory::reset_peak(server.pid());

        let mut attacker = Child::attacker(port, &self.attack);
        assert_eq!(attacker.line(), "up");
        let attacked = sender.send_for(time).await;
        let peak = memory::peak(server.pid());
        attacker.stop();
        let tally = serde_json::from_str(&attacker.line()).expect("a tally");
        drop(attacker);

        let after = sender.send_for(Duration::from_millis(500)).await;
        let memory =
            Memory { idle: resident, peak, after: memory::resident(server.pid()), allowed: self.allowed(resident) };
        Findings { idle, attacked, after, tally, memory }
    }

    /// Returns the memory that the server may use, in bytes.
    fn allowed(&self, idle: u64) -> u64 {
        let (each, streams) = match &self.attack {
            Attack::Http1(uploads) => (CONNECTION + READ_BUFFER.min(uploads.bytes as u64), 0),
            Attack::Http2(_) => (CONNECTION, self.attack.width() as u64),
        };
        idle + BUDGET + self.attack.connections() as u64 * each + streams * STREAM + SLACK
    }

    /// Warns on stderr if the attacker was too slow for a meaningful trial, because the machine is slow or busy.
    fn warn_of_weak_attack(&self, tally: &Tally) {
        let Some(rate) = self.attack.rate() else { return };
        let share = tally.begun as f64 / tally.time.as_secs_f64() / rate;
        if share < 0.7 {
            let (name, percent) = (self.name, share * 100.0);
            let _ = writeln!(
                std::io::stderr(),
                "\n*** WEAK ATTACK: {name}: the attacker sent only {percent:.0} % of its target rate ***"
            );
        }
    }

    fn judge(&self, findings: &Findings, table: &str) {
        let Findings { idle, attacked, after, memory, .. } = findings;
        for (shape, sent) in idle.iter().chain(after) {
            assert!(sent.iter().all(is_accepted), "{shape}, without an attack: {sent:?}");
        }
        for (shape, sent) in attacked {
            let is_wrong = sent.iter().any(|sent| matches!(sent.answer, Ok(400..=499)));
            assert!(!is_wrong, "{shape}: a genuine delivery was rejected with a 4xx status{table}");
        }
        let (long, short): (Vec<&Record>, Vec<&Record>) =
            attacked.iter().partition(|(shape, _)| shape.pause == LONG_PAUSE);
        for (records, percent) in [(short, 99), (long, self.long_pauses)] {
            let score = Score::of(records.into_iter().flat_map(|(_, sent)| sent));
            assert!(score.reaches(percent), "accepted {score:?}, which is less than {percent} %{table}");
        }
        assert!(memory.peak <= memory.allowed, "too much memory during the attack{table}");
        assert!(memory.after <= memory.allowed, "too much memory after the attack{table}");
    }
}
