//! The journal: a file to which children append a line for everything that happens to a delivery.
//!
//! A line is one write at the end of the file, and lies within a page: a process that is killed may write half of what crosses a page.
//! A line outlives the process that wrote it, and lies behind all lines that any process had written before.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_klikit::inbox::Lease;

/// The length of a line, which divides that of a page.
const LENGTH: usize = 128;

/// An event in the life of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The store has leased the delivery.
    Leased,
    /// The store has extended the lease.
    Extended,
    /// The handler was called.
    Begun,
    /// The handler has done its work, and is about to answer 200.
    Handled,
    /// The store is about to be told to reschedule or release the delivery. It may do so although its answer is never heard.
    Releasing,
    /// The store has rescheduled the delivery.
    Rescheduled,
    /// The store has released the delivery, so that the attempt does not count.
    Released,
    /// The store has recorded that the delivery is done.
    Finished,
    /// The process has died, and writes nothing after this.
    Died,
}

const ALL: [What; 9] = [
    What::Leased,
    What::Extended,
    What::Begun,
    What::Handled,
    What::Releasing,
    What::Rescheduled,
    What::Released,
    What::Finished,
    What::Died,
];

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) what: What,
    pub(crate) process: u32,
    pub(crate) event: String,
    pub(crate) id: i64,
    pub(crate) token: i64,
    pub(crate) attempt: u32,
    /// When the store was asked, since 1970.
    pub(crate) asked: Duration,
    /// When it had answered.
    pub(crate) told: Duration,
}

/// The file, open for appending.
#[derive(Debug, Clone)]
pub(crate) struct Journal(Arc<File>);

impl Journal {
    pub(crate) fn open(path: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().create(true).append(true).open(path).expect("the journal opens")))
    }

    /// Adds a line about something that was asked for at that time and has happened now.
    pub(crate) fn write(&self, what: What, event: &str, lease: &Lease, asked: Duration) {
        let record = Record {
            what,
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
        self.append(&Record { what: What::Died, process, event, id: 0, token: 0, attempt: 0, asked: told, told });
    }

    fn append(&self, record: &Record) {
        let line = format!("{:<1$}\n", record.to_string(), LENGTH - 1);
        assert_eq!(line.len(), LENGTH, "too long for a line of the journal: {line}");
        let written = (&*self.0).write(line.as_bytes()).expect("the journal can be written");
        assert_eq!(written, line.len(), "half a line in the journal");
    }
}

pub(crate) fn read(path: &Path) -> Vec<Record> {
    fs::read_to_string(path).expect("the journal").lines().map(Record::parse).collect()
}

/// Returns the time by the clock that all processes share.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970")
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, process, event, id, token, attempt, asked, told } = self;
        write!(f, "{what:?} {process} {event} {id} {token} {attempt} {} {}", asked.as_micros(), told.as_micros())
    }
}

impl Record {
    fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [what, process, event, id, token, attempt, asked, told] = fields[..] else { panic!("no record: {line}") };
        let number = |text: &str| text.parse::<i64>().unwrap_or_else(|_| panic!("no number: {line}"));
        let time = |text: &str| Duration::from_micros(number(text).unsigned_abs());
        Self {
            what: ALL.into_iter().find(|known| format!("{known:?}") == what).expect("something that is seen"),
            process: u32::try_from(number(process)).expect("a process"),
            event: event.to_owned(),
            id: number(id),
            token: number(token),
            attempt: u32::try_from(number(attempt)).expect("an attempt"),
            asked: time(asked),
            told: time(told),
        }
    }
}
