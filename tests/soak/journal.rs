//! What children have seen, one line each, in a file that no store knows of.
//!
//! A line is one write at the end of the file, and lies within a page of it: of what goes beyond a page, a process that is killed
//! may write the half. It outlives the process that wrote it, and lies behind all lines that were written
//! before it began to be, by whichever process.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_klikit::inbox::Lease;

/// Of a line: a part of a page.
const LENGTH: usize = 128;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The store has leased it.
    Leased,
    /// The store has extended its lease.
    Extended,
    /// The handler was called.
    Begun,
    /// The handler has done what it does, and is about to answer 200.
    Handled,
    /// The store is about to be told to make it ready again, after a pause or at once. It may do so and not be heard.
    Releasing,
    /// The store has postponed it.
    Postponed,
    /// The store has taken it back, and the attempt with it.
    GivenBack,
    /// The store has finished it.
    Finished,
    /// The process has died, and nothing of its comes after this.
    Died,
}

const ALL: [What; 9] = [
    What::Leased,
    What::Extended,
    What::Begun,
    What::Handled,
    What::Releasing,
    What::Postponed,
    What::GivenBack,
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

/// The file, open at its end.
#[derive(Debug, Clone)]
pub(crate) struct Journal(Arc<File>);

impl Journal {
    pub(crate) fn open(path: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().create(true).append(true).open(path).expect("the journal opens")))
    }

    /// Writes down what is seen now, of what was asked for at that time.
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

/// By the clock that all processes share.
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
