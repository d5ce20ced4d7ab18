//! A Postgres server for one test, on a free port of 127.0.0.1 and in a private folder. Both are gone when the test ends.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use super::{
    backends::Backends,
    free_port,
    processes::{
        Running, as_server, at_the_end, delete, private_folder, remove_shared_memory, signal, skipped, succeed,
    },
};

/// A server for one test, with an empty database.
pub struct PostgresServer {
    url: String,
    own: Option<OwnServer>,
}

/// A server that this process started.
struct OwnServer {
    folder: PathBuf,
    bin: PathBuf,
    port: u16,
    settings: Vec<String>,
    running: Option<Running>,
}

impl PostgresServer {
    /// Starts a server, or uses the one that `KLIKIT_TEST_POSTGRES_URL` names. Returns `None`, and writes a line to stderr, if
    /// there is neither.
    pub fn start(test: &str) -> Option<Self> {
        match env::var("KLIKIT_TEST_POSTGRES_URL") {
            Ok(url) => Some(Self::elsewhere(&url)),
            Err(_) => Self::start_own(test, &[]),
        }
    }

    /// Starts a server that the test may stop, kill and pause. `settings` are lines of its configuration. Returns `None`, and
    /// writes a line to stderr, if that is impossible.
    pub fn start_own(test: &str, settings: &[&str]) -> Option<Self> {
        if env::var_os("KLIKIT_TEST_POSTGRES_URL").is_some() {
            return skipped(test, "it stops the server, and KLIKIT_TEST_POSTGRES_URL points at one that others use");
        }
        let Some(bin) = programs() else {
            return skipped(test, "there is no Postgres here: install the package `postgresql`");
        };
        let settings = settings.iter().map(|&line| line.to_owned()).collect();
        let own = OwnServer { folder: private_folder(), bin, port: 0, settings, running: None };
        own.fill();
        Some(Self::launched(own))
    }

    /// Starts a replica, which streams from this server under this `application_name`. The replica has the server's current
    /// settings.
    pub fn replica(&self, application_name: &str) -> Self {
        let OwnServer { bin, settings, port, .. } = self.own();
        let mut settings = settings.clone();
        // A replica is promoted only between two attempts to reach its server, which are 5 seconds apart by default.
        settings.push("wal_retrieve_retry_interval=100ms".to_owned());
        let own = OwnServer { folder: private_folder(), bin: bin.clone(), port: 0, settings, running: None };
        let server = format!("host=127.0.0.1 port={port} user=klikit application_name={application_name}");
        succeed(
            as_server(&own.bin.join("pg_basebackup"))
                .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname", &server, "--pgdata"])
                .arg(own.data()),
        );
        Self::launched(own)
    }

    fn launched(mut own: OwnServer) -> Self {
        own.launch();
        let url = format!("postgres://klikit@127.0.0.1:{}/postgres?sslmode=disable", own.port);
        Self { url, own: Some(own) }
    }

    /// Creates a schema for this test on a server that was started elsewhere.
    fn elsewhere(url: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        let schema = format!("klikit_test_{now}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        administer(url, format!("CREATE SCHEMA {schema}"));
        let separator = if url.contains('?') { '&' } else { '?' };
        Self { url: format!("{url}{separator}options=-csearch_path%3D{schema}"), own: None }
    }

    /// Returns the URL to connect to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.own().port
    }

    /// Returns the server's folder.
    pub fn folder(&self) -> &Path {
        &self.own().folder
    }

    /// Shuts the server down in the fast mode, which closes all connections.
    pub fn stop(&mut self) {
        self.own_mut().end("INT");
    }

    /// Kills the server and its processes, as a power cut would.
    pub fn kill(&mut self) {
        let own = self.own_mut();
        for pid in own.family() {
            signal("KILL", pid);
        }
        own.reap();
    }

    /// Starts the server again, with the same port and data.
    pub fn restart(&mut self) {
        self.own_mut().launch();
    }

    /// Pauses the server and its processes. Connections stay open but get no response.
    pub fn halt(&self) {
        self.own().family().into_iter().for_each(|pid| signal("STOP", pid));
    }

    /// Resumes a paused server.
    pub fn go_on(&self) {
        self.own().family().into_iter().for_each(|pid| signal("CONT", pid));
    }

    /// Promotes a replica, so that it accepts writes. Returns once it does.
    pub fn promote(&self) {
        let OwnServer { bin, .. } = self.own();
        succeed(as_server(&bin.join("pg_ctl")).args(["promote", "--silent", "--wait", "-D"]).arg(self.own().data()));
    }

    /// Starts counting the backends of clients, except those with the pids in `own`.
    pub fn watch_backends(&self, own: Vec<u32>) -> Backends {
        Backends::watch(self.own().family()[0], own)
    }

    fn own(&self) -> &OwnServer {
        self.own.as_ref().expect("this test needs a server that it started itself")
    }

    fn own_mut(&mut self) -> &mut OwnServer {
        self.own.as_mut().expect("this test needs a server that it started itself")
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

impl OwnServer {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Copies the data folder from a template, because `initdb` takes a second.
    fn fill(&self) {
        succeed(as_server(Path::new("cp")).arg("-R").arg(template(&self.bin)).arg(self.data()));
    }

    /// Starts the server and waits until it accepts connections. Tries another port if another process took the first one.
    fn launch(&mut self) {
        assert!(self.running.is_none(), "the server runs already");
        for _ in 0..10 {
            let port = if self.port == 0 { free_port() } else { self.port };
            if let Some(running) = self.launch_on(port) {
                self.running = Some(running);
                self.port = port;
                return;
            }
            // The processes of a killed server may still lock its data.
            thread::sleep(Duration::from_millis(100));
        }
        panic!("Postgres did not start: {}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
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
            // The first line is the server's pid, the last its state. A killed server leaves its file behind, with another pid.
            let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let lines: Vec<_> = state.lines().map(str::trim).collect();
            if lines.last() == Some(&"ready") && lines[0] == child.id().to_string() {
                return Some(Running::new(child, &self.folder));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(&mut self, name: &str) {
        if let Some(running) = &self.running {
            signal(name, running.pid());
            self.reap();
        }
    }

    /// Waits until the server has ended.
    fn reap(&mut self) {
        if let Some(running) = self.running.take() {
            running.reap();
        }
    }

    /// Returns the pids of the server and of the processes that it has started.
    fn family(&self) -> Vec<u32> {
        self.running.as_ref().expect("the server runs").family()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if self.running.is_some() {
            // A paused server reacts to SIGKILL only.
            for pid in self.family() {
                signal("KILL", pid);
            }
            self.reap();
        }
        remove_shared_memory(&self.folder);
        delete(&self.folder);
    }
}

/// Returns the folder of the server and its tools: on the path, or the newest version where Debian installs them.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut debian: Vec<_> = versions.filter_map(|entry| Some(entry.ok()?.path())).collect();
    debian.sort_by_key(|folder| folder.file_name()?.to_str()?.parse::<u32>().ok());
    folders.extend(debian.into_iter().rev().map(|folder| folder.join("bin")));
    let all = ["initdb", "postgres", "pg_basebackup", "pg_ctl"];
    folders.into_iter().find(|folder| all.iter().all(|program| folder.join(program).is_file()))
}

/// Returns the data folder of a server that has never run.
fn template(bin: &Path) -> PathBuf {
    static TEMPLATE: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (folder, _) = TEMPLATE.get_or_init(|| {
        let folder = private_folder();
        let cleaner = at_the_end(r#"read -r _; rm -rf "$1""#, &folder);
        succeed(
            as_server(&bin.join("initdb"))
                .args(["--username=klikit", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
                .arg(folder.join("data")),
        );
        (folder, cleaner)
    });
    folder.join("data")
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
    let done: Result<(), tokio_postgres::Error> = done.join().expect("the thread does not panic");
    done.expect("KLIKIT_TEST_POSTGRES_URL points at a server that lets tests create schemas");
}
