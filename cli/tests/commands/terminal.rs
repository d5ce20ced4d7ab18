//! Tests on a terminal, which `script` provides.

use std::{
    fs,
    io::{Read, Write},
    mem,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver as Output},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tower_klikit::WebhookSecret;

use crate::{
    receiver::{Receiver, Reply},
    support::SECRET,
};

/// The command on a terminal.
struct Terminal {
    script: Child,
    /// Contains a file with the name of the terminal's device.
    folder: TempDir,
    output: Output<Vec<u8>>,
    shown: String,
}

impl Terminal {
    fn start(arguments: &str, secret: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // After the command, the shell shows the settings of the terminal.
        let line = format!(
            "trap : INT; tty > '{}/tty'; '{}' {arguments}; code=$?; stty -a; exit $code",
            folder.path().display(),
            env!("CARGO_BIN_EXE_klikit")
        );
        let mut command = Command::new("timeout");
        command.args(["60", "script", "--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        command.env_remove("KLIKIT_WEBHOOK_SECRET").envs(secret.map(|secret| ("KLIKIT_WEBHOOK_SECRET", secret)));
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script runs");
        let mut stdout = script.stdout.take().expect("a pipe");
        let (send, output) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut chunk) {
                let _ = send.send(chunk[..len].to_vec());
            }
        });
        Self { script, folder, output, shown: String::new() }
    }

    /// Waits for a text on the terminal.
    fn wait_for(&mut self, text: &str) {
        while !self.shown.contains(text) {
            let chunk = self.output.recv_timeout(Duration::from_secs(60));
            let chunk = chunk.unwrap_or_else(|_| panic!("{text:?} is not in {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Waits until the terminal no longer shows what is typed.
    fn wait_until_input_is_hidden(&self) {
        let device = fs::read_to_string(self.folder.path().join("tty")).unwrap();
        let started = Instant::now();
        loop {
            let settings = Command::new("stty").args(["-a", "-F", device.trim()]).output().expect("stty runs").stdout;
            if String::from_utf8_lossy(&settings).contains(" -echo ") {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the terminal shows what is typed");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn input(&mut self, text: &str) {
        let stdin = self.script.stdin.as_mut().expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("script reads");
    }

    /// Waits for the end. Returns the exit code and all that the terminal showed.
    fn end(mut self) -> (Option<i32>, String) {
        while let Ok(chunk) = self.output.recv_timeout(Duration::from_secs(60)) {
            self.shown.push_str(&String::from_utf8_lossy(&chunk));
        }
        (self.script.wait().expect("script ends").code(), mem::take(&mut self.shown))
    }
}

/// Ends `script`, and with it the command, if a test fails before that.
impl Drop for Terminal {
    fn drop(&mut self) {
        // They may have ended.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn asks_for_secret_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body.json");
    fs::write(&body, "{}").unwrap();
    let mut terminal = Terminal::start(&format!("sign '{}'", body.display()), None);
    terminal.wait_for("webhook secret (not shown): ");
    terminal.wait_until_input_is_hidden();
    terminal.input(&format!("{SECRET}\n"));
    let (code, shown) = terminal.end();
    let signature = WebhookSecret::new(SECRET).unwrap().sign("{}").to_string();
    assert!(code == Some(0) && shown.contains(&signature) && !shown.contains(SECRET), "{shown}");
}

#[test]
fn ctrl_c_at_the_prompt_restores_the_terminal() {
    let mut terminal = Terminal::start("sign /dev/null", None);
    terminal.wait_for("webhook secret (not shown): ");
    terminal.wait_until_input_is_hidden();
    terminal.input("\u{3}");
    let (code, shown) = terminal.end();
    assert!(code == Some(130) && !shown.contains("error"), "{code:?} {shown}");
    assert!(shown.contains(" echo ") && shown.contains(" icanon "), "{shown}");
}

#[test]
fn shows_progress_and_colours_on_a_terminal() {
    let receiver = Receiver::start(|_, _| Reply::Late(Duration::from_millis(300), 200));
    let mut terminal = Terminal::start(&format!("send {} --count 4", receiver.url), Some(SECRET));
    terminal.wait_for("/4 deliveries");
    let (code, shown) = terminal.end();
    assert!(code == Some(0) && shown.contains("delivered at the first attempt"), "{shown}");

    let (_, help) = Terminal::start("--help", None).end();
    assert!(help.contains('\u{1b}'), "{help}");
}

#[test]
fn ctrl_c_in_a_terminal_reports_what_was_done() {
    let receiver = Receiver::start(|_, _| Reply::Late(Duration::from_secs(60), 200));
    let mut terminal = Terminal::start(&format!("send {}", receiver.url), Some(SECRET));
    receiver.wait_for_requests(1);
    terminal.input("\u{3}");
    let (code, shown) = terminal.end();
    assert!(code == Some(130) && shown.contains("Interrupted by ctrl-c."), "{code:?} {shown}");
}
