//! Support for the benches: child processes with a slower fsync, folders for databases, and the results to print.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use tower_klikit_sqlite::SqliteStore;

/// The environment variable with the delay that the preloaded library adds to each fsync, in microseconds.
const DELAY: &str = "SLOW_FSYNC_US";

/// Returns the delay that is added to each fsync of this process, in microseconds. Returns `None` if this process was
/// not started by [`run_slowed_by`].
pub(crate) fn slowed_by() -> Option<u32> {
    let text = env::var(DELAY).ok()?;
    Some(text.parse().expect("SLOW_FSYNC_US is a number"))
}

/// Runs this bench once for each delay, in a child process whose fsyncs take that many microseconds longer.
pub(crate) fn run_slowed_by(microseconds: &[&str]) {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("slow_fsync.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/slow_fsync/slow_fsync.c");
    let compiled =
        Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(compiled.expect("a C compiler is installed").success(), "slow_fsync.c does not compile");
    for delay in microseconds {
        let mut child = Command::new(env::current_exe().expect("the bench has a path"));
        let status = child.env("LD_PRELOAD", &library).env(DELAY, delay).status();
        assert!(status.expect("the child starts").success(), "the bench failed with a delay of {delay} µs");
    }
}

/// The throughput and the latencies of the calls that succeeded, and the number of calls that failed.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) failed: usize,
}

impl Figures {
    /// Returns the figures of calls with these latencies, where `None` is a failed call. The throughput is the number
    /// of successful calls divided by `total`.
    ///
    /// # Panics
    ///
    /// If no call succeeded.
    pub(crate) fn new(latencies: Vec<Option<Duration>>, total: Duration) -> Self {
        let calls = latencies.len();
        let mut succeeded: Vec<_> = latencies.into_iter().flatten().collect();
        succeeded.sort();
        let percentile = |percent: usize| succeeded[(succeeded.len() - 1) * percent / 100];
        Self {
            per_second: succeeded.len() as f64 / total.as_secs_f64(),
            p50: percentile(50),
            p99: percentile(99),
            failed: calls - succeeded.len(),
        }
    }

    /// Prints the figures on one line that begins with `name`. `unit` is what the throughput counts, such as `claims`.
    pub(crate) fn print(&self, name: &str, unit: &str) {
        let Self { per_second, p50, p99, failed } = self;
        println!(
            "  {name:<26} {per_second:>8.0} {unit}/s   p50 {:>7.2} ms   p99 {:>7.2} ms   {failed} failed",
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3,
        );
    }
}

/// Measures the median time that it takes to sync 4 kB to the disk, including the added delay.
pub(crate) fn fsync() -> Duration {
    let folder = BenchFolder::new();
    let file = fs::File::create(folder.file()).expect("the file can be created");
    let mut times: Vec<_> = (0..21)
        .map(|n| {
            fs::write(folder.file(), [n; 4096]).expect("the file can be written");
            let started = Instant::now();
            file.sync_data().expect("the fsync succeeds");
            started.elapsed()
        })
        .collect();
    times.sort();
    times[10]
}

/// A temporary folder, deleted on drop. It is in the target folder, because the system's folder for temporary files may
/// be in memory, where an fsync takes no time.
pub(crate) struct BenchFolder(PathBuf);

impl BenchFolder {
    pub(crate) fn new() -> Self {
        // Never reuse a name, because a dropped store may still be closing its files.
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ledger-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the folder can be created");
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    pub(crate) fn open(&self) -> SqliteStore {
        SqliteStore::builder().create().open(self.file()).expect("the store opens")
    }
}

impl Drop for BenchFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
