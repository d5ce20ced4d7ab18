//! A service as a process, which reads its secrets from its environment.

use std::{
    env,
    io::{self, BufRead, BufReader, Lines},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use axum::{Router, routing::post_service};
use tokio::net::TcpListener;
use tower::Layer;
use tower_klikit::{KlikitVerifyLayer, inbox::Inbox};
use tower_klikit_sqlite::SqliteStore;

/// The variable that makes this program the service.
const ROLE: &str = "KLIKIT_TEST_SERVICE";

const SERVING: &str = "> serving ";

/// The secrets in an environment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secrets {
    pub(crate) newest: &'static str,
    pub(crate) old: Option<&'static str>,
}

/// A running service with an inbox in `klikit.db`.
pub(crate) struct Process {
    child: Child,
    /// Kept open, because the service prints more when it ends.
    _output: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Secrets {
    /// Returns the variables and their values.
    pub(crate) fn variables(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let old = self.old.map(|old| ("KLIKIT_WEBHOOK_SECRET_OLD", old));
        [("KLIKIT_WEBHOOK_SECRET", self.newest)].into_iter().chain(old)
    }
}

impl Process {
    /// Starts the service in a folder, with these secrets in its environment. Waits until it serves.
    pub(crate) fn start(folder: &Path, secrets: Secrets) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program has a path"));
        command.args(["--exact", "--nocapture", "process::serve"]).current_dir(folder).env(ROLE, "");
        command.env_remove("KLIKIT_WEBHOOK_SECRET_OLD").envs(secrets.variables());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the service starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = lines.find_map(|line| line.expect("the output is text").strip_prefix(SERVING).map(str::to_owned));
        let address = line.expect("the service serves").parse().expect("an address");
        Self { child, _output: lines, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Stops the service, which serves until its input ends.
impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs the service. Does nothing in the parent. It is a test because the service is this test program.
#[tokio::test]
async fn serve() {
    if env::var_os(ROLE).is_none() {
        return;
    }
    let verify = KlikitVerifyLayer::from_env().unwrap();
    verify.preflight().unwrap();
    let inbox = Inbox::new(SqliteStore::builder().create().open("klikit.db").unwrap());
    let app = Router::new().route("/webhooks/klikit", post_service(verify.layer(inbox.acceptor())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Begin a new line, because the test harness has begun one.
    println!("\n{SERVING}{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, app).into_future());
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await.unwrap().unwrap();
}
