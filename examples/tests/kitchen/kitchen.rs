//! The example as a process, in a temporary folder.

use std::{
    cell::RefCell,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use axum::body::Body;
use tower_klikit::testing::SignedDelivery;

/// The secret that the example uses if none is set.
pub(crate) const DEMO_SECRET: &str = "klikit-demo-secret";

/// The time after which a process counts as hanging. No test depends on shorter times.
const HANG_TIMEOUT: Duration = Duration::from_secs(60);

/// A running kitchen printer. It is killed when this is dropped.
pub(crate) struct Kitchen {
    child: Child,
    lines: Receiver<String>,
    seen: RefCell<Vec<String>>,
    port: u16,
}

/// Returns a command that runs the example in this folder, with the demo secret.
pub(crate) fn command(folder: &Path) -> Command {
    let program = env::current_exe().expect("this program has a path");
    let target = program.ancestors().nth(2).expect("this program is in target/debug/deps");
    let program = target.join("examples/kitchen_printer");
    assert!(program.exists(), "the examples are not built: run `cargo build --examples`");
    let mut command = Command::new(program);
    for variable in ["KLIKIT_WEBHOOK_SECRET", "KLIKIT_WEBHOOK_SECRET_OLD", "KITCHEN_FOLDER"] {
        command.env_remove(variable);
    }
    command.current_dir(folder).env("PORT", "0");
    command
}

impl Kitchen {
    /// Starts the example and waits until it serves.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::spawn(&mut command(folder))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the example starts");
        let (sender, lines) = mpsc::channel();
        forward(child.stdout.take().expect("a pipe"), sender.clone());
        forward(child.stderr.take().expect("a pipe"), sender);
        let mut kitchen = Self { child, lines, seen: RefCell::default(), port: 0 };
        let line = kitchen.wait_for("Serving POST http://127.0.0.1:");
        let digits = line.split(':').next_back().and_then(|rest| rest.split('/').next()).expect("a port");
        kitchen.port = digits.parse().expect("a port");
        kitchen
    }

    /// Waits for a line that contains `text`, unless there was one before. Returns the line.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        if let Some(line) = self.seen.borrow().iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        loop {
            match self.lines.recv_timeout(HANG_TIMEOUT) {
                Ok(line) => self.seen.borrow_mut().push(line.clone()),
                Err(_) => panic!("no line contains {text:?}:\n{}", self.seen.borrow().join("\n")),
            }
            let seen = self.seen.borrow();
            let line = seen.last().expect("a line");
            if line.contains(text) {
                return line.clone();
            }
        }
    }

    /// Delivers these orders, given as JSON. Panics unless the response is 200.
    #[track_caller]
    pub(crate) fn deliver(&self, event_id: &str, orders: &str) {
        let body = format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{orders}]}}"#);
        assert_eq!(self.send(&SignedDelivery::new(DEMO_SECRET, body).event_id(event_id)), "200");
    }

    /// Sends a delivery, and returns the status of the response.
    #[track_caller]
    pub(crate) fn send(&self, delivery: &SignedDelivery) -> String {
        let request = delivery.request::<Body>();
        let mut head = format!("POST {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", request.uri().path());
        for (name, value) in request.headers().iter().filter(|(name, _)| *name != http::header::CONTENT_LENGTH) {
            head += &format!("{name}: {}\r\n", value.to_str().expect("it is text"));
        }
        head += &format!("content-length: {}\r\n\r\n", delivery.body().len());
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the example listens");
        socket.set_read_timeout(Some(HANG_TIMEOUT)).expect("a timeout");
        socket.write_all(&[head.as_bytes(), delivery.body()].concat()).expect("the example reads");
        let mut response = String::new();
        socket.read_to_string(&mut response).expect("the example answers");
        response.split(' ').nth(1).unwrap_or_else(|| panic!("no response: {response:?}")).to_owned()
    }

    /// Ends the process as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process can be waited for");
    }

    /// Stops the process by SIGTERM. Returns its output.
    #[track_caller]
    pub(crate) fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("sh").args(["-c", r#"kill -s TERM "$1""#, "sh", &pid]).status().expect("sh runs").success()
        );
        // The output ends when the process ends.
        loop {
            match self.lines.recv_timeout(HANG_TIMEOUT) {
                Ok(line) => self.seen.borrow_mut().push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the process still runs"),
            }
        }
        let output = self.seen.borrow().join("\n");
        assert_eq!(self.child.wait().expect("the process can be waited for").code(), Some(0), "{output}");
        output
    }
}

impl Drop for Kitchen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command until it ends. Returns the exit code, stdout and stderr.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the example starts");
    let started = Instant::now();
    while child.try_wait().expect("the process can be waited for").is_none() {
        if started.elapsed() > HANG_TIMEOUT {
            child.kill().expect("the process can be killed");
        }
        thread::sleep(Duration::from_millis(10));
    }
    let process::Output { status, stdout, stderr } = child.wait_with_output().expect("the output can be read");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Returns the folder of the tickets, if the data folder is the default in `folder`.
pub(crate) fn tickets_in(folder: &Path) -> PathBuf {
    folder.join("kitchen/tickets")
}

/// Returns the text of a ticket.
#[track_caller]
pub(crate) fn ticket(folder: &Path, name: &str) -> String {
    fs::read_to_string(tickets_in(folder).join(name).with_extension("txt")).expect("the ticket was printed")
}

/// Returns the names of all tickets.
pub(crate) fn tickets(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| {
        entry.file_name().into_string().expect("a text").strip_suffix(".txt").expect("a ticket").to_owned()
    };
    let mut names: Vec<_> =
        fs::read_dir(tickets_in(folder)).expect("a folder").map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}

/// Puts a pipe in the place of an old ticket, at which the printer hangs.
pub(crate) fn hang_printer_at(folder: &Path, name: &str) -> PathBuf {
    let path = tickets_in(folder).join(name).with_extension("txt");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    path
}

fn forward(output: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Ignore an error, because the test may have ended.
            let _ = lines.send(line);
        }
    });
}
