//! A Redis server for one test, on a free port and in a temporary folder. It stops when the test ends.
//!
//! If `KLIKIT_TEST_REDIS_URL` is set, tests that do not control their server use that one, each under its own prefix.
//! Tests that cannot run are skipped with a message. If `KLIKIT_TEST_REQUIRE_SERVERS` is set, they fail instead.

use std::{
    collections::hash_map::RandomState,
    env, fs,
    hash::{BuildHasher, Hasher},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use super::free_port;

/// The longest wait for a log line, so that no test hangs indefinitely.
const LOG_TIMEOUT: Duration = Duration::from_secs(120);
const READY: &str = "Ready to accept connections";

/// A server for tests that do not control it, and the prefix of all keys.
pub struct Redis {
    pub url: String,
    pub prefix: String,
    /// The server, if this test started it.
    _server: Option<RedisServer>,
}

/// A server that a test starts, stops and configures.
pub struct RedisServer {
    port: u16,
    /// The scheme of the server's URL.
    scheme: &'static str,
    folder: PathBuf,
    args: Vec<String>,
    running: Option<RunningRedis>,
}

/// A running server, and the lines of its log.
struct RunningRedis {
    child: Child,
    lines: Receiver<String>,
}

/// Returns any server. Returns `None` if this test is skipped.
#[must_use]
pub fn any() -> Option<Redis> {
    match env::var("KLIKIT_TEST_REDIS_URL") {
        Ok(url) => Some(Redis { url, prefix: unique_prefix(), _server: None }),
        Err(_) => own(&[]).map(|server| Redis { url: server.url(), prefix: unique_prefix(), _server: Some(server) }),
    }
}

/// Starts a server for this test, with these arguments. Returns `None` if this test is skipped.
#[must_use]
pub fn own(args: &[&str]) -> Option<RedisServer> {
    prepare(args).map(|mut server| {
        server.start();
        server
    })
}

/// Prepares a server for this test, without starting it. Returns `None` if this test is skipped.
#[must_use]
pub fn prepare(args: &[&str]) -> Option<RedisServer> {
    if env::var_os("KLIKIT_TEST_REDIS_URL").is_some() {
        return skipped("KLIKIT_TEST_REDIS_URL is set, but this test needs to start its own server");
    }
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skipped("there is no redis-server on the PATH, and KLIKIT_TEST_REDIS_URL is not set");
    }
    let folder = tempfile::Builder::new().prefix("tower-klikit-redis-").tempdir().unwrap().keep();
    let args = args.iter().map(ToString::to_string).collect();
    Some(RedisServer { port: free_port(), scheme: "redis", folder, args, running: None })
}

/// Reports a skipped test on stderr directly, because libtest captures the output of `eprintln!`.
fn skipped<T>(why: &str) -> Option<T> {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    assert!(env::var_os("KLIKIT_TEST_REQUIRE_SERVERS").is_none(), "{test} must not be skipped: {why}");
    let mut stderr = io::stderr();
    writeln!(stderr, "\n!!! SKIPPED: {test}: {why}\n").unwrap();
    None
}

fn unique_prefix() -> String {
    format!("klikit-test-{:016x}:", random())
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl RedisServer {
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/", self.scheme, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the folder of the server's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds arguments for the next start.
    pub fn add_args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(ToString::to_string));
    }

    /// Enables TLS from the next start on, with `cert.pem` and `key.pem` in the server's folder.
    pub fn use_tls(&mut self) {
        self.scheme = "rediss";
    }

    /// Starts the server, with the same port and data as before.
    pub fn start(&mut self) {
        self.start_until(READY);
    }

    /// Starts the server and waits until a line of its log contains `text`.
    pub fn start_until(&mut self, text: &str) {
        assert!(self.running.is_none(), "the server runs already");
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.current_dir(&self.folder).args(["--bind", "127.0.0.1", "--save", ""]);
        if self.scheme == "rediss" {
            command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
            command.args([
                "--tls-cert-file",
                "cert.pem",
                "--tls-key-file",
                "key.pem",
                "--tls-ca-cert-file",
                "cert.pem",
            ]);
        } else {
            command.args(["--port", &port]);
        }
        let mut child = command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        for output in [
            child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
            child.stderr.take().map(|err| Box::new(err) as _),
        ] {
            let (sender, output) = (sender.clone(), output.unwrap());
            // Keep reading, so that the server never blocks on a full pipe.
            thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
            });
        }
        drop(sender);
        self.running = Some(RunningRedis { child, lines });
        self.wait_for(text);
    }

    /// Waits until a later line of the server's log contains `text`.
    pub fn wait_for(&mut self, text: &str) {
        let running = self.running.as_ref().expect("the server runs");
        let mut log = Vec::new();
        loop {
            match running.lines.recv_timeout(LOG_TIMEOUT) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => log.push(line),
                Err(error) => panic!("redis-server did not log {text:?} ({error}):\n{}", log.join("\n")),
            }
        }
    }

    /// Asks the server to shut down, and waits until it has.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.running.take().unwrap().child.wait().unwrap();
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the server runs");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// Pauses the server until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.running.as_ref().expect("the server runs").child.id();
        // Use the shell's built-in `kill`, because not every system has the program.
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        // A process of the server that writes a snapshot may still add a file, so retry.
        for _ in 0..10_000 {
            if fs::remove_dir_all(&self.folder).is_ok() {
                break;
            }
            thread::yield_now();
        }
    }
}
