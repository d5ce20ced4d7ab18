//! Runs of this benchmark with a slower fsync, by a preloaded library that the server's processes inherit.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, exit},
};

/// The environment variable that tells the preloaded library how many microseconds to add to fsync.
const SLOW: &str = "SLOW_FSYNC_US";

/// The environment variable that lists, separated by spaces, how many microseconds to add to fsync in each run.
const RUNS: &str = "KLIKIT_BENCH_SLOW_FSYNC_US";

/// Returns how many microseconds are added to fsync in this process. `None` if [`run_slowed`] has not started it.
pub(crate) fn slowed_by() -> Option<u32> {
    let text = env::var(SLOW).ok()?;
    Some(text.parse().expect("a number of microseconds"))
}

/// Runs this benchmark in a child process for each number in [`RUNS`], by default 0 and 1000.
pub(crate) fn run_slowed() {
    // The server may run as a user that cannot read the target folder, so compile the library to a public one.
    let folder = tempfile::tempdir().expect("a temporary folder can be created");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    let library = folder.path().join("slow_fsync.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sqlite/benches/slow_fsync/slow_fsync.c");
    let compiled =
        Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(compiled.expect("a C compiler").success());
    let runs = env::var(RUNS).unwrap_or_else(|_| "0 1000".into());
    for slow in runs.split_whitespace() {
        let mut child = Command::new(env::current_exe().expect("the bench's own path"));
        let status = child.args(env::args_os().skip(1)).env("LD_PRELOAD", &library).env(SLOW, slow).status();
        if !status.expect("the bench itself").success() {
            // `exit` runs no destructors, so delete the folder first.
            drop(folder);
            exit(1);
        }
    }
}
