//! Processes and folders of servers. The servers do not run as root.

use std::{
    env, fs,
    io::{self, Read, Write},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// A server, and the process that ends the server if this process is killed.
pub(super) struct Running {
    /// `setpriv` becomes the program that it starts, so this is the server's own pid.
    child: Child,
    guard: Child,
}

impl Running {
    /// Starts a guard for a running server and its folder.
    pub(super) fn new(child: Child, folder: &Path) -> Self {
        let guard = guard(child.id(), folder);
        Self { child, guard }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the pids of the server and of the processes that it has started.
    pub(super) fn family(&self) -> Vec<u32> {
        [self.pid()].into_iter().chain(children(self.pid())).collect()
    }

    /// Waits for the end of the server.
    pub(super) fn reap(mut self) {
        self.child.wait().expect("the child can be waited for");
        // Tell the guard, because another process may get the pid.
        if let Some(mut pipe) = self.guard.stdin.take() {
            pipe.write_all(b"ended\n").expect("the guard reads");
        }
        self.guard.wait().expect("the child can be waited for");
    }
}

/// Reports a skipped test on stderr. Panics if `KLIKIT_TEST_REQUIRE_SERVERS` is 1.
pub(super) fn skipped<T>(test: &str, why: &str) -> Option<T> {
    assert!(env::var_os("KLIKIT_TEST_REQUIRE_SERVERS").is_none_or(|value| value != "1"), "{test}: {why}");
    // The test runner captures the output of `eprintln!`.
    let _ = writeln!(io::stderr(), "\n*** SKIPPED: {test}: {why} ***");
    None
}

/// Returns a command that runs as the user `postgres` if this process runs as root.
pub(super) fn as_server(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(env::temp_dir());
    command
}

/// Runs a command. Panics if it fails.
pub(super) fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program can be run");
    assert!(output.status.success(), "{command:?}: {}", text(&output));
}

/// Makes a folder that belongs to the server's user.
pub(super) fn private_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("klikit-postgres-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("a folder can be made");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("its mode can be set");
    if is_root() {
        chown(&folder, Some(id(&["-u", "postgres"])), Some(id(&["-g", "postgres"])))
            .expect("root may change the owner");
    }
    folder
}

/// Deletes the folder of a server that has ended. Retries, because processes of the server may still write files.
pub(super) fn delete(folder: &Path) {
    for _ in 0..100 {
        if fs::remove_dir_all(folder).is_ok() || !folder.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    eprintln!("could not delete {}", folder.display());
}

/// Starts a script that reads its input, which ends when this process ends. The script ignores the signals of an interrupted
/// test run.
pub(super) fn at_the_end(script: &str, folder: &Path) -> Child {
    Command::new("sh")
        .args(["-c", &format!("trap '' HUP INT TERM; {script}"), "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs")
}

pub(super) fn signal(name: &str, pid: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid} 2>/dev/null")]).status();
    status.expect("sh runs");
}

/// Returns the pids of a process's children.
pub(super) fn children(parent: u32) -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").expect("/proc lists the processes");
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(move |pid| parent_of(*pid) == Some(parent))
}

/// Starts a process that kills the server and deletes its folder if this process ends before the server does.
fn guard(pid: u32, folder: &Path) -> Child {
    let delete = r#"rm -rf "$1" || { sleep 1; rm -rf "$1"; }"#;
    at_the_end(&format!("read -r _ && exit; kill -KILL {pid}; {REMOVE_SHARED_MEMORY}; {delete}"), folder)
}

/// A script that removes the shared memory segment of a killed Postgres server whose folder is `$1`. The system limits the number
/// of segments, and keeps them after the processes have ended.
const REMOVE_SHARED_MEMORY: &str = r#"id=$(awk 'NR == 7 { print $2 }' "$1/data/postmaster.pid" 2>/dev/null); [ -z "$id" ] || ipcrm -m "$id" 2>/dev/null"#;

/// Removes the shared memory segment of a Postgres server that has ended. A server that was shut down has removed its segment.
pub(super) fn remove_shared_memory(folder: &Path) {
    let status = Command::new("sh").args(["-c", REMOVE_SHARED_MEMORY, "sh"]).arg(folder).status();
    status.expect("sh runs");
}

fn is_root() -> bool {
    id(&["-u"]) == 0
}

fn id(args: &[&str]) -> u32 {
    let output = Command::new("id").args(args).output().expect("id runs");
    text(&output).trim().parse().unwrap_or_else(|_| panic!("id {args:?}: {}", text(&output)))
}

fn parent_of(pid: u32) -> Option<u32> {
    let mut stat = String::new();
    fs::File::open(format!("/proc/{pid}/stat")).ok()?.read_to_string(&mut stat).ok()?;
    // The state and the parent follow the name, which is in brackets and may contain any character.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}
