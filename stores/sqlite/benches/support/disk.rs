//! A disk that can be slowed down, files on it, and what is counted.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use tower_klikit_sqlite::SqliteStore;

/// Set for the process that the library is preloaded into, to what it slows fsync down by.
const SLOW: &str = "SLOW_FSYNC_US";

/// By how many microseconds this process's fsync is slowed down, if it is one of those that [`run_slowed_by`] has
/// started.
pub(crate) fn slowed_by() -> Option<u32> {
    let text = env::var(SLOW).ok()?;
    Some(text.parse().expect("a number of microseconds"))
}

/// Runs this bench once for each of these numbers of microseconds, with fsync slowed down by as much.
pub(crate) fn run_slowed_by(microseconds: &[&str]) {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("slow_fsync.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/slow_fsync/slow_fsync.c");
    let compiled =
        Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(compiled.expect("a C compiler").success());
    for slow in microseconds {
        let mut child = Command::new(env::current_exe().expect("the bench's own path"));
        let status = child.env("LD_PRELOAD", &library).env(SLOW, slow).status();
        assert!(status.expect("the bench itself").success());
    }
}

/// The throughput, the latencies and the failures of many calls.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) failed: usize,
}

impl Figures {
    /// Sums up calls that took these times each, and `all` together. A call that failed has no time.
    pub(crate) fn new(mut times: Vec<Option<Duration>>, all: Duration) -> Self {
        let failed = times.iter().filter(|time| time.is_none()).count();
        times.sort();
        let times: Vec<_> = times.into_iter().flatten().collect();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        Self { per_second: times.len() as f64 / all.as_secs_f64(), p50: at(50), p99: at(99), failed }
    }

    pub(crate) fn print(&self, name: &str, unit: &str) {
        let Self { per_second, p50, p99, failed } = self;
        println!(
            "  {name:<26} {per_second:>8.0} {unit}/s   p50 {:>7.2} ms   p99 {:>7.2} ms   {failed} failed",
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3,
        );
    }
}

/// Measures the median of an fsync, slowed down by the library.
pub(crate) fn fsync() -> Duration {
    let folder = BenchFolder::new();
    let file = fs::File::create(folder.file()).expect("a file");
    let mut times: Vec<_> = (0..21)
        .map(|n| {
            fs::write(folder.file(), [n; 4096]).expect("a write");
            let started = Instant::now();
            file.sync_data().expect("an fsync");
            started.elapsed()
        })
        .collect();
    times.sort();
    times[10]
}

/// A folder of its own, which goes with it, on the disk of the target folder.
pub(crate) struct BenchFolder(PathBuf);

impl BenchFolder {
    pub(crate) fn new() -> Self {
        // No name twice: a store that was dropped may still be closing its files.
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ledger-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    pub(crate) fn open(&self) -> SqliteStore {
        SqliteStore::builder().create().open(self.file()).expect("a file that can be written")
    }
}

impl Drop for BenchFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
