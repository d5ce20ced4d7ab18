//! A `redis-server` of one's own: on a free port, in a folder of its own, ended with the test.
//!
//! Where `KLIKIT_TEST_REDIS_URL` is set, the tests that need no server of their own use that one, under a prefix of their own.
//! What cannot run is left out, and says so; where `KLIKIT_TEST_REQUIRE_SERVERS` is set it fails instead.

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

/// Only against tests that would hang indefinitely.
const PATIENCE: Duration = Duration::from_secs(120);
const READY: &str = "Ready to accept connections";

/// A server to run against, and what all keys have to begin with there.
pub struct Redis {
    pub url: String,
    pub prefix: String,
    /// Ends with the test, if it was started for it.
    _server: Option<RedisServer>,
}

/// A server of one's own, to be stopped and started, or started in some way.
pub struct RedisServer {
    port: u16,
    /// By which the URL has to call it.
    scheme: &'static str,
    folder: PathBuf,
    args: Vec<String>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    lines: Receiver<String>,
}

/// Any server. `None`: this test is left out.
#[must_use]
pub fn any() -> Option<Redis> {
    match env::var("KLIKIT_TEST_REDIS_URL") {
        Ok(url) => Some(Redis { url, prefix: unique_prefix(), _server: None }),
        Err(_) => own(&[]).map(|server| Redis { url: server.url(), prefix: unique_prefix(), _server: Some(server) }),
    }
}

/// A server of one's own, started with these arguments. `None`: this test is left out.
#[must_use]
pub fn own(args: &[&str]) -> Option<RedisServer> {
    prepare(args).map(|mut server| {
        server.start();
        server
    })
}

/// A server of one's own that is not started yet. `None`: this test is left out.
#[must_use]
pub fn prepare(args: &[&str]) -> Option<RedisServer> {
    if env::var_os("KLIKIT_TEST_REDIS_URL").is_some() {
        return left_out("KLIKIT_TEST_REDIS_URL is set, and it needs a server of its own");
    }
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        return left_out("there is no redis-server on the PATH, and KLIKIT_TEST_REDIS_URL is not set");
    }
    let folder = tempfile::Builder::new().prefix("tower-klikit-redis-").tempdir().unwrap().keep();
    let args = args.iter().map(ToString::to_string).collect();
    Some(RedisServer { port: free_port(), scheme: "redis", folder, args, running: None })
}

/// Says so past libtest, which would keep it to itself.
fn left_out<T>(why: &str) -> Option<T> {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    assert!(env::var_os("KLIKIT_TEST_REQUIRE_SERVERS").is_none(), "{test} cannot be left out: {why}");
    let mut stderr = io::stderr();
    writeln!(stderr, "\n!!! LEFT OUT: {test}: {why}\n").unwrap();
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

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds arguments for the next start.
    pub fn add_args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(ToString::to_string));
    }

    /// Talks TLS from the next start on, with `cert.pem` and `key.pem` in its folder.
    pub fn use_tls(&mut self) {
        self.scheme = "rediss";
    }

    /// Starts it, as it was: same port, same data.
    pub fn start(&mut self) {
        self.start_until(READY);
    }

    /// Starts it, and waits for a line of its log that has `text`.
    pub fn start_until(&mut self, text: &str) {
        assert!(self.running.is_none(), "it runs");
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
            // Reads on when nobody listens, so that the server never waits.
            thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
            });
        }
        drop(sender);
        self.running = Some(Running { child, lines });
        self.wait_for(text);
    }

    /// Waits for a line of its log that has `text`, after those waited for before.
    pub fn wait_for(&mut self, text: &str) {
        let running = self.running.as_ref().expect("it runs");
        let mut log = Vec::new();
        loop {
            match running.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => log.push(line),
                Err(error) => panic!("redis-server never said {text:?} ({error}):\n{}", log.join("\n")),
            }
        }
    }

    /// Has it end by itself.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.running.take().unwrap().child.wait().unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// Has it hang, until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.running.as_ref().expect("it runs").child.id();
        // The shell's own: not every system has the program.
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
        // A snapshot that the server had begun in a process of its own may yet put a file there.
        for _ in 0..10_000 {
            if fs::remove_dir_all(&self.folder).is_ok() {
                break;
            }
            thread::yield_now();
        }
    }
}
