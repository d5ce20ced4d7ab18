//! Support for the benches: a slower fsync, folders for files, and the figures to print.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use tower_klikit_sqlite::SqliteStore;

/// The environment variable that tells the preloaded library by how many microseconds to slow fsync down.
const SLOW: &str = "SLOW_FSYNC_US";

/// Returns by how many microseconds this process's fsync is slowed down, or `None` if [`run_slowed_by`] has not started
/// this process.
pub(crate) fn slowed_by() -> Option<u32> {
    let text = env::var(SLOW).ok()?;
    Some(text.parse().expect("SLOW_FSYNC_US is a number"))
}

/// Runs this bench in a child process for each delay, with fsync slowed down by this many microseconds.
pub(crate) fn run_slowed_by(microseconds: &[&str]) {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("slow_fsync.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/slow_fsync/slow_fsync.c");
    let compiled =
        Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(compiled.expect("a C compiler is installed").success());
    for slow in microseconds {
        let mut child = Command::new(env::current_exe().expect("the bench has a path"));
        let status = child.env("LD_PRELOAD", &library).env(SLOW, slow).status();
        assert!(status.expect("the child starts").success());
    }
}

/// The throughput, the latencies and the number of failures of many calls.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) failed: usize,
}

impl Figures {
    /// Returns the figures for calls with these latencies, which took `total` altogether. `None` stands for a failed
    /// call.
    pub(crate) fn new(mut times: Vec<Option<Duration>>, total: Duration) -> Self {
        let failed = times.iter().filter(|time| time.is_none()).count();
        times.sort();
        let times: Vec<_> = times.into_iter().flatten().collect();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        Self { per_second: times.len() as f64 / total.as_secs_f64(), p50: at(50), p99: at(99), failed }
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

/// Measures the median time of an fsync, including the delay.
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

/// A folder on the disk of the target folder, deleted on drop.
pub(crate) struct BenchFolder(PathBuf);

impl BenchFolder {
    pub(crate) fn new() -> Self {
        // Use each name only once, since a store that was dropped may still be closing its files.
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
