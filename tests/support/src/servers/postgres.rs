//! A Postgres server of one's own: on a free port of 127.0.0.1, its data in a private folder, gone with the test.

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
    processes::{Running, as_server, at_the_end, delete, left_out, private_folder, signal, succeed},
};

/// A server for one test, with an empty database.
pub struct PostgresServer {
    url: String,
    own: Option<Own>,
}

/// The parts of a server that this process has started.
struct Own {
    folder: PathBuf,
    bin: PathBuf,
    port: u16,
    settings: Vec<String>,
    running: Option<Running>,
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
        let own = Own { folder: private_folder(), bin, port: 0, settings, running: None };
        own.fill();
        Some(Self::launched(own))
    }

    /// Starts a replica of a server of one's own, which streams from the server under this `application_name`. Once
    /// promoted, it has the server's settings, except those that the server is given later.
    pub fn replica(&self, application_name: &str) -> Self {
        let Own { bin, settings, port, .. } = self.own();
        let mut settings = settings.clone();
        // It is promoted only between two attempts to reach a server that is gone, which are 5 seconds apart by default.
        settings.push("wal_retrieve_retry_interval=100ms".to_owned());
        let own = Own { folder: private_folder(), bin: bin.clone(), port: 0, settings, running: None };
        let server = format!("host=127.0.0.1 port={port} user=klikit application_name={application_name}");
        succeed(
            as_server(&own.bin.join("pg_basebackup"))
                .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname", &server, "--pgdata"])
                .arg(own.data()),
        );
        Self::launched(own)
    }

    fn launched(mut own: Own) -> Self {
        own.launch();
        let url = format!("postgres://klikit@127.0.0.1:{}/postgres?sslmode=disable", own.port);
        Self { url, own: Some(own) }
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

    /// Makes a replica a server that takes writes. Returns once it does.
    pub fn promote(&self) {
        let Own { bin, .. } = self.own();
        succeed(as_server(&bin.join("pg_ctl")).args(["promote", "--silent", "--wait", "-D"]).arg(self.own().data()));
    }

    /// Counts the processes that serve clients from now on, except those with the pids in `own`.
    pub fn watch_backends(&self, own: Vec<u32>) -> Backends {
        Backends::watch(self.own().family()[0], own)
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
        succeed(as_server(Path::new("cp")).arg("-R").arg(template(&self.bin)).arg(self.data()));
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

    /// Waits for its end.
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

impl Drop for Own {
    fn drop(&mut self) {
        if self.running.is_some() {
            // One that is halted can only be killed.
            for pid in self.family() {
                signal("KILL", pid);
            }
            self.reap();
        }
        delete(&self.folder);
    }
}

/// Where the server and its tools are: on the path, or where Debian keeps them, the newest first.
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

/// The data of a server that has never run.
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
    let done: Result<(), tokio_postgres::Error> = done.join().expect("it does not panic");
    done.expect("KLIKIT_TEST_POSTGRES_URL points at a server that lets tests create schemas");
}
