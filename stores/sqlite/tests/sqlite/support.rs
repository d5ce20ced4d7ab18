//! Files, clocks and claims for the tests.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use tempfile::TempDir;
use tower_klikit::dedupe::{BodyDigest, Claim, ClaimTerms, Ledger, StoreError};
use tower_klikit_sqlite::{SqliteError, SqliteErrorKind, SqliteStore};

pub(crate) const LEASE: Duration = Duration::from_secs(25);
pub(crate) const RETENTION: Duration = Duration::from_secs(35 * 24 * 3600);

/// Terms without a grace: a claim is absent once its lease has expired.
pub(crate) const TERMS: ClaimTerms = ClaimTerms { lease: LEASE, grace: Duration::ZERO };

/// A temporary folder.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path().join("ledger.db")
    }

    pub(crate) fn open(&self) -> SqliteStore {
        SqliteStore::builder().create().open(self.file()).unwrap()
    }

    /// Opens a connection outside of the store.
    pub(crate) fn connect(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).unwrap()
    }

    /// Counts the rows of the ledger.
    pub(crate) fn rows(&self) -> u32 {
        self.count("klikit_ledger")
    }

    /// Counts the rows of a table.
    pub(crate) fn count(&self, table: &str) -> u32 {
        self.connect().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    /// Returns the names of the tables and views.
    pub(crate) fn tables(&self) -> Vec<String> {
        let connection = self.connect();
        let find = "
            SELECT name
            FROM sqlite_schema
            WHERE type IN ('table', 'view') AND name LIKE 'klikit%'
            ORDER BY name
            ";
        let mut tables = connection.prepare(find).unwrap();
        let names = tables.query_map([], |row| row.get(0)).unwrap();
        names.collect::<Result<_, _>>().unwrap()
    }

    /// Waits until a dropped store has closed the file, if it was the only store on it. The last connection deletes the
    /// log.
    pub(crate) fn closed(&self) {
        until("the log to be deleted", || !with_suffix(&self.file(), "-wal").exists());
    }

    /// Waits until several dropped stores have closed the file. If two close it at once, the log may stay. But a file
    /// can leave WAL mode only when no other connection is open.
    pub(crate) fn closed_by_all(&self) {
        until("the file to be closed", || self.connect().pragma_update(None, "journal_mode", "DELETE").is_ok());
    }
}

/// Returns the path with a suffix such as `-wal`.
pub(crate) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Limits the size of this process's files, to simulate a full disk.
#[cfg(target_os = "linux")]
pub(crate) fn limit_files(limit: &str) {
    let pid = std::process::id().to_string();
    // Set only the soft limit, so that it can be raised again.
    let limited = std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status();
    assert!(limited.unwrap().success());
}

/// Runs an ignored test in a child process that can set a [limit](limit_files). Passes a folder in the environment
/// variable `variable`.
#[cfg(target_os = "linux")]
pub(crate) fn run_within_a_file_limit(test: &str, variable: &str) {
    let folder = Folder::new();
    // Ignore the signal with which the kernel kills a process at the limit.
    let ended = std::process::Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$@""#, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env(variable, folder.path())
        .status();
    assert!(ended.unwrap().success());
    assert!(folder.path().join("ran").exists());
}

/// Runs an ignored test in a child process whose user is not root, since permissions do not restrict root. Passes a
/// folder in the environment variable `variable`.
#[cfg(unix)]
pub(crate) fn run_as_nobody(test: &str, variable: &str) {
    use std::{
        fs,
        os::unix::{
            fs::{MetadataExt, chown},
            process::CommandExt,
        },
    };

    const NOBODY: u32 = 65534;

    let folder = Folder::new();
    let program = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut child = std::process::Command::new(program);
    child.args(["--ignored", "--exact", "--nocapture", test]).env(variable, &data);
    if fs::metadata(&data).unwrap().uid() == 0 {
        chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        child.uid(NOBODY).gid(NOBODY).current_dir(&data);
    }
    assert!(child.status().unwrap().success());
    assert!(data.join("ran").exists());
}

/// Polls a condition until it holds. Panics after a minute.
pub(crate) fn until(event: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "timed out waiting for {event}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A clock that the test moves.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_700_000_000_000)))
    }

    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn open(&self, file: &Path) -> SqliteStore {
        let clock = self.clone();
        SqliteStore::builder().create().clock(move || clock.now()).open(file).unwrap()
    }
}

/// Returns a claim with this token on this event.
pub(crate) fn claim(event: u64, token: u64) -> Claim {
    Claim::new(bytes(event), bytes(event), digest(event), bytes(token))
}

pub(crate) fn digest(event: u64) -> BodyDigest {
    BodyDigest::of(&event.to_be_bytes())
}

/// Returns bytes for this number that are spread over the table, as hashes are.
pub(crate) fn bytes(number: u64) -> [u8; 16] {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(spread) << 64) | u128::from(number)).to_be_bytes()
}

/// Renews a claim. Returns whether that succeeded.
pub(crate) async fn renew(store: &SqliteStore, claim: &Claim) -> bool {
    store.renew(std::slice::from_ref(claim), &TERMS).await.unwrap()[0]
}

pub(crate) fn kind(error: &StoreError) -> SqliteErrorKind {
    error.source().and_then(|source| source.downcast_ref::<SqliteError>()).expect("the source is a SqliteError").kind()
}
