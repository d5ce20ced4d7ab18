//! An nginx server for one test, on a free port of 127.0.0.1 and in a temporary folder. It stops when the test ends.
//!
//! If nginx is not installed, the test is skipped with a message. If `KLIKIT_TEST_REQUIRE_SERVERS` is set, the test fails
//! instead.

use std::{
    fs,
    io::{self, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

use tempfile::TempDir;

use super::{free_port, skipped};

/// The text that nginx logs once its port is open. Connections queue until nginx accepts them.
const READY: &str = "using the \"";

/// A running nginx.
pub struct Nginx {
    address: SocketAddr,
    _folder: TempDir,
    child: Child,
}

impl Nginx {
    /// Starts a proxy for `upstream`. `directives` are added after `proxy_pass`. Returns `None` if this test is skipped.
    #[must_use]
    pub fn in_front_of(upstream: SocketAddr, directives: &[&str]) -> Option<Self> {
        let directives: String = directives.iter().map(|line| format!("{line};\n")).collect();
        Self::with_http(|port| {
            format!(
                "server {{\nlisten 127.0.0.1:{port};\nlocation / {{\nproxy_pass http://{upstream};\n{directives}}}\n}}\n"
            )
        })
    }

    /// Starts nginx on a port. `http` returns the contents of the `http` block for the port. Returns `None` if this test is
    /// skipped.
    #[must_use]
    pub fn with_http(http: impl FnOnce(u16) -> String) -> Option<Self> {
        let Some(program) = program() else {
            return skipped("there is no nginx here: install the package `nginx`");
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

    /// Returns the address on which nginx listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Returns a configuration for a single foreground process that needs no privileges and writes to its folder only.
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
        assert!(read > 0, "nginx ended before it was ready:\n{}", String::from_utf8_lossy(&log));
        log.extend_from_slice(&piece[..read]);
    }
    // Keep reading, so that nginx never blocks on a full pipe.
    thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
}

/// Finds nginx on the path or in `/usr/sbin`, where Debian installs it.
fn program() -> Option<&'static str> {
    let runs = |program: &&str| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok();
    ["nginx", "/usr/sbin/nginx"].into_iter().find(runs)
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
