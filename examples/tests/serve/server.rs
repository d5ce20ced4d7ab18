//! The server under test.

use std::{env, future::pending, io, process, sync::Arc, thread, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, runtime, signal, sync::Notify};
use tower_klikit::KlikitVerifyLayer;
use tower_klikit_examples::serve::{Limits, Stop, serve};

use crate::child::say;

/// The environment variable that chooses `axum::serve`.
const PLAIN: &str = "KLIKIT_SERVE_PLAIN";

/// A time limit that no test reaches.
pub(crate) const NEVER: Duration = Duration::from_secs(600);

/// A time limit that tests wait for. The peers of a test send their bytes long before it ends.
pub(crate) const SHORT: Duration = Duration::from_secs(1);

/// The settings of the server under test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) connections: usize,
    /// The time limit for a head, for a body, and for the answer to a ping.
    pub(crate) peers: Duration,
    pub(crate) drain: Duration,
    /// The time after which the process ends by itself.
    pub(crate) at_most: Duration,
    /// The number of HTTP/2 streams of a connection.
    pub(crate) streams: u32,
    /// Whether to use `axum::serve`.
    pub(crate) plain: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let plain = env::var_os(PLAIN).is_some();
        Self { connections: 1_000, peers: NEVER, drain: NEVER, at_most: NEVER, streams: 3, plain }
    }
}

pub(crate) const PATH: &str = "/webhooks/klikit";
pub(crate) const SECRET: &str = "your-webhook-secret";

/// Serves until a signal arrives.
pub(crate) fn run(settings: &Settings) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let serving = format!("serving {address} as PID {}", process::id());
        if settings.plain {
            say(&serving);
            let server = axum::serve(listener, app(settings)).with_graceful_shutdown(async {
                _ = signal::ctrl_c().await;
                say("stopping");
            });
            return server.await.expect("it does not fail");
        }
        let limits = Limits {
            connections: settings.connections,
            head_timeout: settings.peers,
            streams: settings.streams,
            ping: settings.peers,
            drain: settings.drain,
            ..Limits::default()
        };
        let stop = Stop::on_signal(settings.at_most).expect("signal handlers");
        say(&serving);
        serve(listener, app(settings), limits, stop.requested()).await;
    });
}

fn app(settings: &Settings) -> Router {
    let go = Arc::new(Notify::new());
    let told = go.clone();
    thread::spawn(move || {
        for _ in io::stdin().lines().map_while(Result::ok) {
            told.notify_waiters();
        }
    });
    let verify = KlikitVerifyLayer::new(SECRET).body_deadline(settings.peers);
    Router::new()
        .route(PATH, post(async || "received").layer(verify))
        .route("/ready", get(async || "ready"))
        .route(
            "/wait",
            get(async move || {
                let told = go.notified();
                say("running");
                told.await;
                "done"
            }),
        )
        .route(
            "/hang",
            get(async || {
                let _dropped = SayDropped;
                say("running");
                pending::<()>().await;
            }),
        )
        .route(
            "/block",
            get(async || {
                say("running");
                loop {
                    thread::park();
                }
                #[allow(unreachable_code, reason = "the type of the response")]
                ()
            }),
        )
        .route("/large", get(async || vec![b'x'; LARGE]))
}

/// Prints a line when a handler is dropped.
struct SayDropped;

impl Drop for SayDropped {
    fn drop(&mut self) {
        say("dropped");
    }
}

/// The size in bytes of a response that does not fit into a socket's buffers.
pub(crate) const LARGE: usize = 64 << 20;
