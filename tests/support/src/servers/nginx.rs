//! An nginx of one's own: on a free port of 127.0.0.1, its files in a folder of its own, ended with the test.
//!
//! Where there is none, a test is left out, and says so; where `KLIKIT_TEST_REQUIRE_SERVERS` is set it fails instead.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

use tempfile::TempDir;

use super::free_port;

/// What it logs when it listens. There is no line for when it is about to wait, and none is needed: connections queue.
const READY: &str = "using the \"";

/// A proxy.
pub struct Nginx {
    address: SocketAddr,
    _folder: TempDir,
    child: Child,
}

impl Nginx {
    /// Hands requests on to `upstream`. `directives` are lines for the `location` that does, beside `proxy_pass`. `None`: this
    /// test is left out.
    #[must_use]
    pub fn in_front_of(upstream: SocketAddr, directives: &[&str]) -> Option<Self> {
        let directives: String = directives.iter().map(|line| format!("{line};\n")).collect();
        Self::with_http(|port| {
            format!(
                "server {{\nlisten 127.0.0.1:{port};\nlocation / {{\nproxy_pass http://{upstream};\n{directives}}}\n}}\n"
            )
        })
    }

    /// Starts an nginx with the text that `http` returns for a port in its `http` block. Returns `None` if this test is left out.
    #[must_use]
    pub fn with_http(http: impl FnOnce(u16) -> String) -> Option<Self> {
        let Some(program) = program() else {
            return left_out("there is no nginx here: install the package `nginx`");
        };
        let folder = tempfile::Builder::new().prefix("tower-klikit-nginx-").tempdir().unwrap();
        let port = free_port();
        fs::write(folder.path().join("nginx.conf"), config(&http(port))).unwrap();
        let mut child = Command::new(program)
            .args(["-p", folder.path().to_str().unwrap(), "-c", "nginx.conf", "-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        read_until_ready(&mut child);
        Some(Self { address: ([127, 0, 0, 1], port).into(), _folder: folder, child })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One process in the foreground, that needs no rights and touches nothing outside of its folder.
fn config(http: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp_paths: String = kinds.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
    format!(
        "daemon off;\nmaster_process off;\nerror_log stderr notice;\npid nginx.pid;\nlock_file nginx.lock;\n\
         events {{}}\n\
         http {{\naccess_log off;\n{temp_paths}{http}}}\n"
    )
}

fn read_until_ready(child: &mut Child) {
    let mut stderr = child.stderr.take().unwrap();
    let mut log = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&log).contains(READY) {
        let read = stderr.read(&mut piece).unwrap();
        assert!(read > 0, "nginx has ended:\n{}", String::from_utf8_lossy(&log));
        log.extend_from_slice(&piece[..read]);
    }
    // Reads on when nobody listens, so that the server never waits.
    thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
}

/// Debian has it where only root looks.
fn program() -> Option<&'static str> {
    let runs = |program: &&str| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok();
    ["nginx", "/usr/sbin/nginx"].into_iter().find(runs)
}

/// Says so past libtest, which would keep it to itself.
fn left_out<T>(why: &str) -> Option<T> {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    assert!(env::var_os("KLIKIT_TEST_REQUIRE_SERVERS").is_none(), "{test} cannot be left out: {why}");
    let mut stderr = io::stderr();
    writeln!(stderr, "\n!!! LEFT OUT: {test}: {why}\n").unwrap();
    None
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
