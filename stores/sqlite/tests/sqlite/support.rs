//! Files and claims for these tests.

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

/// The terms of a claim that is absent once its lease is over.
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

    /// Opens a connection that is not the store's.
    pub(crate) fn connect(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).unwrap()
    }

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
        let find =
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name LIKE 'klikit%' ORDER BY name";
        let mut tables = connection.prepare(find).unwrap();
        let names = tables.query_map([], |row| row.get(0)).unwrap();
        names.collect::<Result<_, _>>().unwrap()
    }

    /// Waits until the only store on the file, which was dropped, has closed it: the last connection deletes the log.
    pub(crate) fn closed(&self) {
        until("the log to be deleted", || !with_suffix(&self.file(), "-wal").exists());
    }

    /// Waits until all stores on the file, which were dropped, have closed it. Two that are closed at once may both
    /// leave the log, but a file cannot leave WAL mode while it is open elsewhere.
    pub(crate) fn closed_by_all(&self) {
        until("the file to be closed", || self.connect().pragma_update(None, "journal_mode", "DELETE").is_ok());
    }
}

pub(crate) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Limits the size of this process's files, as a full disk would.
#[cfg(target_os = "linux")]
pub(crate) fn limit_files(limit: &str) {
    let pid = std::process::id().to_string();
    // Only the soft limit, so that it can be raised again.
    let limited = std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status();
    assert!(limited.unwrap().success());
}

/// Runs an ignored test in a process that outlives the signal at a [limit](limit_files). The environment variable
/// `variable` names its folder.
#[cfg(target_os = "linux")]
pub(crate) fn run_within_a_file_limit(test: &str, variable: &str) {
    let folder = Folder::new();
    // Without the trap, the kernel would kill the process at the limit.
    let ended = std::process::Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$@""#, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env(variable, folder.path())
        .status();
    assert!(ended.unwrap().success());
    assert!(folder.path().join("ran").exists());
}

/// Runs an ignored test as a user whom permissions bind: root runs it as another user. The environment variable
/// `variable` names its folder.
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

/// Waits until a condition holds that cannot be awaited.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
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

/// Makes the claim of `token` on event `event`.
pub(crate) fn claim(event: u64, token: u64) -> Claim {
    Claim::new(bytes(event), bytes(event), digest(event), bytes(token))
}

pub(crate) fn digest(event: u64) -> BodyDigest {
    BodyDigest::of(&event.to_be_bytes())
}

/// Makes bytes that are spread over the table, as hashes are.
pub(crate) fn bytes(number: u64) -> [u8; 16] {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(spread) << 64) | u128::from(number)).to_be_bytes()
}

/// Returns whether the claim was renewed.
pub(crate) async fn renew(store: &SqliteStore, claim: &Claim) -> bool {
    store.renew(std::slice::from_ref(claim), &TERMS).await.unwrap()[0]
}

pub(crate) fn kind(error: &StoreError) -> SqliteErrorKind {
    error.source().and_then(|source| source.downcast_ref::<SqliteError>()).expect("an error of the store").kind()
}
