//! The journal: a file to which children append a line for every event in the life of a delivery.
//!
//! A line is one write at the end of the file, so lines are in the order in which all processes wrote them, and survive
//! the process that wrote them. A line does not cross a page boundary, since a killed process may write half of such a
//! line.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_klikit::inbox::Lease;

/// The length of a line in bytes, a divisor of the page size.
const LENGTH: usize = 128;

/// A stage in the life of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The store has leased the delivery.
    Leased,
    /// The store has extended the lease.
    Extended,
    /// The handler was called.
    Begun,
    /// The handler has done its work, and is about to respond with 200.
    Handled,
    /// The process is about to call the store to reschedule or release the delivery. The call may succeed even if the
    /// process is killed before it returns.
    Releasing,
    /// The store has rescheduled the delivery.
    Rescheduled,
    /// The store has released the delivery, so that the attempt does not count.
    Released,
    /// The store has recorded that the delivery is done.
    Finished,
    /// The process has died. It writes no later lines.
    Died,
}

const ALL: [Stage; 9] = [
    Stage::Leased,
    Stage::Extended,
    Stage::Begun,
    Stage::Handled,
    Stage::Releasing,
    Stage::Rescheduled,
    Stage::Released,
    Stage::Finished,
    Stage::Died,
];

/// A line of the journal.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) stage: Stage,
    pub(crate) process: u32,
    pub(crate) event: String,
    pub(crate) id: i64,
    pub(crate) token: i64,
    pub(crate) attempt: u32,
    /// The time before the call to the store, since 1970.
    pub(crate) asked: Duration,
    /// The time after the call to the store, since 1970.
    pub(crate) told: Duration,
}

/// The file, open for appending.
#[derive(Debug, Clone)]
pub(crate) struct Journal(Arc<File>);

impl Journal {
    pub(crate) fn open(path: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().create(true).append(true).open(path).expect("the journal opens")))
    }

    /// Appends a line about a stage that was reached now, after a call to the store that began at `asked`.
    pub(crate) fn write(&self, stage: Stage, event: &str, lease: &Lease, asked: Duration) {
        let record = Record {
            stage,
            process: std::process::id(),
            event: event.to_owned(),
            id: lease.id().get(),
            token: lease.token(),
            attempt: lease.attempt(),
            asked,
            told: now(),
        };
        self.append(&record);
    }

    pub(crate) fn died(&self, process: u32) {
        let (event, told) = ("-".to_owned(), now());
        self.append(&Record { stage: Stage::Died, process, event, id: 0, token: 0, attempt: 0, asked: told, told });
    }

    fn append(&self, record: &Record) {
        let line = format!("{:<1$}\n", record.to_string(), LENGTH - 1);
        assert_eq!(line.len(), LENGTH, "the line is too long for the journal: {line}");
        let written = (&*self.0).write(line.as_bytes()).expect("the journal can be written");
        assert_eq!(written, line.len(), "only a part of the line was written");
    }
}

pub(crate) fn read(path: &Path) -> Vec<Record> {
    fs::read_to_string(path).expect("the journal can be read").lines().map(Record::parse).collect()
}

/// Returns the system time since 1970. All processes share the system clock.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the system time is after 1970")
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, process, event, id, token, attempt, asked, told } = self;
        write!(f, "{stage:?} {process} {event} {id} {token} {attempt} {} {}", asked.as_micros(), told.as_micros())
    }
}

impl Record {
    fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [stage, process, event, id, token, attempt, asked, told] = fields[..] else {
            panic!("not a record: {line}")
        };
        let number = |text: &str| text.parse::<i64>().unwrap_or_else(|_| panic!("{text} is not a number: {line}"));
        let time = |text: &str| Duration::from_micros(number(text).unsigned_abs());
        Self {
            stage: ALL.into_iter().find(|known| format!("{known:?}") == stage).expect("the stage is known"),
            process: u32::try_from(number(process)).expect("the process id is valid"),
            event: event.to_owned(),
            id: number(id),
            token: number(token),
            attempt: u32::try_from(number(attempt)).expect("the attempt is valid"),
            asked: time(asked),
            told: time(told),
        }
    }
}
