//! A Postgres server of one's own: on a free port of 127.0.0.1, its data in a private folder, gone with the test.

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use super::free_port;

/// A server for one test, with an empty database.
pub struct PostgresServer {
    url: String,
    own: Option<Own>,
}

/// What only a server that this process has started has.
struct Own {
    folder: PathBuf,
    bin: PathBuf,
    port: u16,
    settings: Vec<String>,
    running: Option<Running>,
}

struct Running {
    /// `setpriv` becomes what it starts, so this is the server's own pid.
    child: Child,
    /// Ends the server should this process be killed: it waits for the end of this pipe.
    guard: Child,
}

impl PostgresServer {
    /// A server, or what `KLIKIT_TEST_POSTGRES_URL` points at. `None`, and a line on stderr, when there is neither.
    pub fn start(test: &str) -> Option<Self> {
        match env::var("KLIKIT_TEST_POSTGRES_URL") {
            Ok(url) => Some(Self::elsewhere(&url)),
            Err(_) => Self::start_own(test, &[]),
        }
    }

    /// A server that the test may stop, kill and halt, so never one from elsewhere. `settings` are lines for its
    /// configuration.
    pub fn start_own(test: &str, settings: &[&str]) -> Option<Self> {
        if env::var_os("KLIKIT_TEST_POSTGRES_URL").is_some() {
            return left_out(test, "it stops the server, and KLIKIT_TEST_POSTGRES_URL points at one that others use");
        }
        let Some(bin) = programs() else {
            return left_out(test, "there is no Postgres here: install the package `postgresql`");
        };
        let settings = settings.iter().map(|&line| line.to_owned()).collect();
        let mut own = Own { folder: private_folder(), bin, port: 0, settings, running: None };
        own.fill();
        own.launch();
        let url = format!("postgres://klikit@127.0.0.1:{}/postgres?sslmode=disable", own.port);
        Some(Self { url, own: Some(own) })
    }

    /// A schema of its own on a server that was started elsewhere.
    fn elsewhere(url: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        let schema = format!("klikit_test_{now}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        administer(url, format!("CREATE SCHEMA {schema}"));
        let separator = if url.contains('?') { '&' } else { '?' };
        Self { url: format!("{url}{separator}options=-csearch_path%3D{schema}"), own: None }
    }

    /// Where to connect to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port on 127.0.0.1 of a server of one's own.
    pub fn port(&self) -> u16 {
        self.own().port
    }

    /// The folder of a server of one's own.
    pub fn folder(&self) -> &Path {
        &self.own().folder
    }

    /// Ends it as an administrator would who cannot wait: connections are cut.
    pub fn stop(&mut self) {
        self.own_mut().end("INT");
    }

    /// Ends it as the power would.
    pub fn kill(&mut self) {
        let own = self.own_mut();
        for pid in own.family() {
            signal("KILL", pid);
        }
        own.reap();
    }

    /// Starts it again, with the same port and the same data.
    pub fn restart(&mut self) {
        self.own_mut().launch();
    }

    /// Halts it and everything that it has started: connections stay, and are not answered.
    pub fn halt(&self) {
        self.own().family().into_iter().for_each(|pid| signal("STOP", pid));
    }

    /// Has it go on.
    pub fn go_on(&self) {
        self.own().family().into_iter().for_each(|pid| signal("CONT", pid));
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("a server of one's own")
    }

    fn own_mut(&mut self) -> &mut Own {
        self.own.as_mut().expect("a server of one's own")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.own.is_none()
            && let Some((url, schema)) = self.url.rsplit_once(['?', '&'])
            && let Some((_, schema)) = schema.rsplit_once("%3D")
        {
            administer(url, format!("DROP SCHEMA {schema} CASCADE"));
        }
    }
}

impl Own {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Copies what `initdb` makes, which takes a second, and is made once.
    fn fill(&self) {
        let output =
            as_server(Path::new("cp")).arg("-R").arg(template(&self.bin)).arg(self.data()).output().expect("cp runs");
        assert!(output.status.success(), "cp: {}", text(&output));
    }

    /// Starts it and waits until it takes connections. Tries other ports when somebody was faster.
    fn launch(&mut self) {
        assert!(self.running.is_none(), "the server runs already");
        for _ in 0..10 {
            let port = if self.port == 0 { free_port() } else { self.port };
            if let Some(running) = self.launch_on(port) {
                self.running = Some(running);
                self.port = port;
                return;
            }
            // What is left of a server that was killed keeps its data until it has noticed.
            thread::sleep(Duration::from_millis(100));
        }
        panic!("Postgres does not start: {}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }

    fn launch_on(&self, port: u16) -> Option<Running> {
        let log = fs::File::create(self.folder.join("log")).expect("the log can be written");
        let mut command = as_server(&self.bin.join("postgres"));
        command.arg("-D").arg(self.data()).arg("-p").arg(port.to_string());
        let all = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=60"];
        for setting in all.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.arg("-c").arg(setting);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("postgres runs");
        loop {
            if child.try_wait().expect("the state of a child").is_some() {
                return None;
            }
            // What the server writes there: its pid first, and last whether it is ready. A server that was killed has left
            // its own behind.
            let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let lines: Vec<_> = state.lines().map(str::trim).collect();
            if lines.last() == Some(&"ready") && lines[0] == child.id().to_string() {
                let guard = guard(child.id(), &self.folder);
                return Some(Running { child, guard });
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(&mut self, name: &str) {
        if let Some(running) = &self.running {
            signal(name, running.child.id());
            self.reap();
        }
    }

    /// Waits for its end.
    fn reap(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.child.wait().expect("the end of a child");
            // Told so before the pid means somebody else.
            if let Some(mut pipe) = running.guard.stdin.take() {
                pipe.write_all(b"ended\n").expect("the guard reads");
            }
            running.guard.wait().expect("the end of a child");
        }
    }

    /// The server and the processes that it has started.
    fn family(&self) -> Vec<u32> {
        let parent = self.running.as_ref().expect("the server runs").child.id();
        let processes = fs::read_dir("/proc").expect("/proc lists the processes");
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let children = pids.filter(|pid| parent_of(*pid) == Some(parent));
        [parent].into_iter().chain(children).collect()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.running.is_some() {
            // One that is halted can only be killed.
            for pid in self.family() {
                signal("KILL", pid);
            }
            self.reap();
        }
        // Processes whose server was killed may still be writing their last.
        for _ in 0..100 {
            if fs::remove_dir_all(&self.folder).is_ok() || !self.folder.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!("could not delete {}", self.folder.display());
    }
}

/// Says what is not tested. Where nothing may be left out, that is a failure.
fn left_out<T>(test: &str, why: &str) -> Option<T> {
    assert!(env::var_os("KLIKIT_TEST_REQUIRE_SERVERS").is_none_or(|value| value != "1"), "{test}: {why}");
    // Not `eprintln!`, which the test runner would swallow.
    let _ = writeln!(std::io::stderr(), "\n*** LEFT OUT: {test}: {why} ***");
    None
}

/// Where `initdb` and `postgres` are: on the path, or where Debian keeps them, the newest first.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut debian: Vec<_> = versions.filter_map(|entry| Some(entry.ok()?.path())).collect();
    debian.sort_by_key(|folder| folder.file_name()?.to_str()?.parse::<u32>().ok());
    folders.extend(debian.into_iter().rev().map(|folder| folder.join("bin")));
    folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// A command as somebody other than root, whom Postgres refuses to serve: the user that its package has made.
fn as_server(program: &Path) -> Command {
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

/// The data of a server that has never run.
fn template(bin: &Path) -> PathBuf {
    static TEMPLATE: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (folder, _) = TEMPLATE.get_or_init(|| {
        let folder = private_folder();
        let cleaner = at_the_end(r#"read -r _; rm -rf "$1""#, &folder);
        let output = as_server(&bin.join("initdb"))
            .args(["--username=klikit", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(folder.join("data"))
            .output()
            .expect("initdb runs");
        assert!(output.status.success(), "initdb: {}", text(&output));
        (folder, cleaner)
    });
    folder.join("data")
}

/// A folder that belongs to whoever runs the server.
fn private_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("klikit-postgres-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("a folder can be made");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("its mode can be set");
    if is_root() {
        chown(&folder, Some(id(&["-u", "postgres"])), Some(id(&["-g", "postgres"]))).expect("root may give it away");
    }
    folder
}

fn is_root() -> bool {
    id(&["-u"]) == 0
}

fn id(args: &[&str]) -> u32 {
    let output = Command::new("id").args(args).output().expect("id runs");
    text(&output).trim().parse().unwrap_or_else(|_| panic!("id {args:?}: {}", text(&output)))
}

/// Kills the server, and deletes its folder, when this process ends without having said that the server has ended.
fn guard(pid: u32, folder: &Path) -> Child {
    at_the_end(&format!(r#"read -r _ && exit; kill -KILL {pid}; rm -rf "$1" || {{ sleep 1; rm -rf "$1"; }}"#), folder)
}

/// Starts a script that waits for the end of its input, which is the end of this process, also when that is interrupted
/// with everything that it has started.
fn at_the_end(script: &str, folder: &Path) -> Child {
    Command::new("sh")
        .args(["-c", &format!("trap '' HUP INT TERM; {script}"), "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs")
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid} 2>/dev/null")]).status();
    status.expect("sh runs");
}

fn parent_of(pid: u32) -> Option<u32> {
    let mut stat = String::new();
    fs::File::open(format!("/proc/{pid}/stat")).ok()?.read_to_string(&mut stat).ok()?;
    // After the name, which may hold anything, in brackets: the state, and the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Runs a statement on a server that was started elsewhere, from any thread.
fn administer(url: &str, sql: String) {
    let store = url.to_owned();
    let done = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&store, tokio_postgres::NoTls).await?;
            let connection = tokio::spawn(connection);
            client.batch_execute(&sql).await?;
            drop(client);
            connection.await.expect("a connection does not panic")
        })
    });
    let done: Result<(), tokio_postgres::Error> = done.join().expect("it does not panic");
    done.expect("KLIKIT_TEST_POSTGRES_URL points at a server that lets tests create schemas");
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}
