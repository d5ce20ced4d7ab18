//! A PgBouncer for one test, in front of a Postgres server that the test has started.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    free_port,
    postgres::PostgresServer,
    processes::{Running, as_server, delete, private_folder, signal, skipped},
};

/// The text that PgBouncer logs once it accepts connections.
const READY: &str = "process up";

/// A pooler in transaction mode: each transaction runs on the next of a few connections to the server.
///
/// The pooler does not track named statements, so one client's statements are visible to others. PgBouncer before 1.21 cannot
/// track them, and later versions are configured not to.
pub struct PgBouncer {
    port: u16,
    folder: PathBuf,
    running: Option<Running>,
}

impl PgBouncer {
    /// Starts a pooler with up to `pool_size` connections to `server`. Returns `None`, and writes a line to stderr, if
    /// there is no PgBouncer.
    pub fn in_front_of(test: &str, server: &PostgresServer, pool_size: u32) -> Option<Self> {
        let Some(program) = Program::find() else {
            return skipped(test, "there is no PgBouncer here: install the package `pgbouncer`");
        };
        let folder = private_folder();
        // Try another port if another process took this one first.
        for _ in 0..10 {
            let port = free_port();
            let tracks_statements = program.tracks_statements;
            let settings = Settings { server_port: server.port(), port, pool_size, tracks_statements };
            fs::write(folder.join("pgbouncer.ini"), settings.to_ini()).expect("the settings can be written");
            if let Some(running) = launch(program.path, &folder) {
                return Some(Self { port, folder, running: Some(running) });
            }
        }
        panic!("PgBouncer did not start: {}", log(&folder));
    }

    /// Returns the URL of the server's database behind the pooler.
    pub fn url(&self) -> String {
        format!("postgres://klikit@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            signal("KILL", running.pid());
            running.reap();
        }
        delete(&self.folder);
    }
}

fn launch(program: &str, folder: &Path) -> Option<Running> {
    let output = fs::File::create(folder.join("log")).expect("the log can be written");
    let mut child = as_server(Path::new(program))
        .arg(folder.join("pgbouncer.ini"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .expect("pgbouncer runs");
    while !log(folder).contains(READY) {
        if child.try_wait().expect("the state of a child").is_some() {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Some(Running::new(child, folder))
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// The settings of a pooler that accepts every user, as the server does.
struct Settings {
    server_port: u16,
    port: u16,
    pool_size: u32,
    tracks_statements: bool,
}

impl Settings {
    fn to_ini(&self) -> String {
        let Self { server_port, port, pool_size, tracks_statements } = self;
        let do_not_track = if *tracks_statements { "max_prepared_statements = 0\n" } else { "" };
        format!(
            "[databases]\n\
             postgres = host=127.0.0.1 port={server_port} dbname=postgres user=klikit\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {pool_size}\n\
             server_round_robin = 1\n\
             {do_not_track}"
        )
    }
}

/// An installed PgBouncer.
struct Program {
    path: &'static str,
    /// Whether this version can track named statements.
    tracks_statements: bool,
}

impl Program {
    /// Finds PgBouncer on the path or in `/usr/sbin`, where Debian installs it.
    fn find() -> Option<Self> {
        ["pgbouncer", "/usr/sbin/pgbouncer"].into_iter().find_map(|path| {
            let output = Command::new(path).arg("--version").output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let mut numbers = text.split_whitespace().nth(1)?.split('.').map(|number| number.parse::<u32>().ok());
            let version = (numbers.next()??, numbers.next()??);
            Some(Self { path, tracks_statements: version >= (1, 21) })
        })
    }
}
