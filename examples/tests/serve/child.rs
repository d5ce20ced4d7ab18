//! Child processes of the tests: this program as a server or as slow peers, or one of the examples.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{self, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    memory,
    server::{self, Settings},
};

const ROLE: &str = "KLIKIT_SERVE_ROLE";

/// The time after which a process counts as hanging. No test depends on shorter times.
pub(crate) const HANG_TIMEOUT: Duration = Duration::from_secs(60);

/// The time after which a child ends if its parent has not ended it.
const LIFETIME: Duration = Duration::from_secs(180);

/// The role of a child process.
#[derive(Debug, Serialize, Deserialize)]
enum Role {
    Server(Settings),
    SlowPeers(memory::SlowPeers),
}

/// A child process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    port: u16,
    /// The folder of an example.
    folder: Option<TempDir>,
}

impl Child {
    pub(crate) fn server(settings: &Settings) -> Self {
        Self::server_through(&[], settings)
    }

    /// Starts the server through a launcher, a program that takes a command as its last arguments.
    pub(crate) fn server_through(launcher: &[&str], settings: &Settings) -> Self {
        let mut child = Self::start(launcher, &Role::Server(settings.clone()));
        child.wait_for_port("> serving ");
        child
    }

    pub(crate) fn slow_peers(peers: memory::SlowPeers) -> Self {
        Self::start(&[], &Role::SlowPeers(peers))
    }

    fn start(launcher: &[&str], role: &Role) -> Self {
        let program = env::current_exe().expect("this program has a path");
        let program = program.to_str().expect("the path is UTF-8");
        let words: Vec<_> = launcher.iter().copied().chain([program]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["--exact", "--nocapture", "child::run_role"]);
        command.env(ROLE, serde_json::to_string(role).expect("a role is plain data"));
        Self::spawn(command)
    }

    /// Starts an example, which `cargo test` builds along with this program. Waits until it has printed its address.
    pub(crate) fn example(name: &str, arguments: &[&str]) -> Self {
        Self::start_example(name, arguments, &[("KLIKIT_WEBHOOK_SECRET", "your-webhook-secret")])
    }

    /// Starts an example without a secret in its environment, so that it uses the demo secret.
    pub(crate) fn demo(name: &str) -> Self {
        Self::demo_with(name, &[])
    }

    /// Starts an example as [`demo`](Self::demo) does, with these environment variables.
    pub(crate) fn demo_with(name: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_example(name, &[], environment)
    }

    fn start_example(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let program = env::current_exe().expect("this program has a path");
        let program =
            program.ancestors().nth(2).expect("this program is in target/debug/deps").join("examples").join(name);
        assert!(program.exists(), "the examples are not built: run `cargo build --examples`");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&folder).env("PORT", "0").env("TMPDIR", folder.path());
        command.env_remove("KLIKIT_WEBHOOK_SECRET").env_remove("KLIKIT_WEBHOOK_SECRET_OLD");
        command.envs(environment.iter().copied());
        let mut child = Self::spawn(command);
        child.folder = Some(folder);
        child.wait_for_port("POST http://");
        child
    }

    fn spawn(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (lines, output) = mpsc::channel();
        forward(process.stdout.take().expect("a pipe"), lines.clone());
        forward(process.stderr.take().expect("a pipe"), lines);
        Self { input: process.stdin.take(), process, output, port: 0, folder: None }
    }

    /// Waits for a line that contains `text` and an address.
    fn wait_for_port(&mut self, text: &str) {
        let line = self.wait_for(text);
        let (_, port) = line.split_once("127.0.0.1:").expect("an address");
        let digits = port.find(|char: char| !char.is_ascii_digit()).unwrap_or(port.len());
        self.port = port[..digits].parse().expect("a port");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns the pid of the process that this child has started.
    pub(crate) fn grandchild(&self) -> u32 {
        let pid = self.pid();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("Linux lists the children");
        children.trim().parse().expect("one child")
    }

    /// Waits for a line of the child's output that contains `text`, and returns the line.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let Ok(line) = self.output.recv_timeout(HANG_TIMEOUT) else { panic!("no line contains {text:?}:\n{seen}") };
            if line.contains(text) {
                return line;
            }
            seen = seen + &line + "\n";
        }
    }

    /// Lets the handlers of `/wait` respond.
    pub(crate) fn finish_waiting_handlers(&mut self) {
        let input = self.input.as_mut().expect("a pipe");
        input.write_all(b"go\n").expect("the child reads its input");
    }

    pub(crate) fn signal(&self, signal: &str) {
        send_signal(signal, self.pid());
    }

    /// Waits for the end of the process, and returns its exit code and the rest of its output.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        (self.wait_for_exit().code(), self.output.iter().collect::<Vec<_>>().join("\n"))
    }

    #[track_caller]
    fn wait_for_exit(&mut self) -> ExitStatus {
        let step = Duration::from_millis(10);
        for _ in 0..HANG_TIMEOUT.as_millis() / step.as_millis() {
            if let Some(status) = self.process.try_wait().expect("the child can be waited for") {
                return status;
            }
            thread::sleep(step);
        }
        panic!("the process still runs");
    }

    /// Connects to the server.
    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address()).expect("the server listens");
        socket.set_read_timeout(Some(HANG_TIMEOUT)).expect("a timeout");
        socket.set_write_timeout(Some(HANG_TIMEOUT)).expect("a timeout");
        socket
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Makes a request on a new connection and returns the response. Panics unless its status is 200.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> String {
        let mut socket = self.connect();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("the server reads");
        let mut response = String::new();
        socket.read_to_string(&mut response).expect("the server answers");
        assert!(response.starts_with("HTTP/1.1 200 "), "{response:?}");
        response
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a signal by its name.
pub(crate) fn send_signal(signal: &str, pid: u32) {
    let status = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "sh", signal, &pid.to_string()]).status();
    assert!(status.expect("sh runs").success(), "the process has ended");
}

fn forward(output: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Ignore an error, because the test may have ended.
            let _ = lines.send(line);
        }
    });
}

/// Runs the role of a child process. Does nothing in the parent. It is a test because the child is this test program.
#[test]
fn run_role() {
    let Ok(role) = env::var(ROLE) else { return };
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        process::exit(3);
    });
    match serde_json::from_str(&role).expect("a role") {
        Role::Server(settings) => server::run(&settings),
        Role::SlowPeers(peers) => peers.run(),
    }
}

/// Prints a line for the parent.
pub(crate) fn tell_parent(text: &str) {
    // Begin a new line, because the test harness may have begun one. Ignore an error, because the parent may be gone.
    let _ = writeln!(std::io::stdout(), "\n> {text}");
}
