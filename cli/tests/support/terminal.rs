//! The command on a terminal, which `script` provides.

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

/// The command on a terminal.
pub(crate) struct Terminal {
    script: Child,
    /// Contains a file with the name of the terminal's device.
    folder: TempDir,
    output: Output<Vec<u8>>,
    shown: String,
}

impl Terminal {
    pub(crate) fn start(arguments: &str, secret: Option<&str>) -> Self {
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
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.shown.contains(text) {
            let chunk = self.output.recv_timeout(Duration::from_secs(60));
            let chunk = chunk.unwrap_or_else(|_| panic!("{text:?} is not in {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Waits until the terminal no longer shows what is typed.
    pub(crate) fn wait_until_input_is_hidden(&self) {
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

    pub(crate) fn input(&mut self, text: &str) {
        let stdin = self.script.stdin.as_mut().expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("script reads");
    }

    /// Waits for the end. Returns the exit code and all that the terminal showed.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
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
