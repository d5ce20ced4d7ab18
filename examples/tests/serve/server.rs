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

use crate::child::tell_parent;

/// The environment variable that chooses `axum::serve`.
const USE_AXUM_SERVE: &str = "KLIKIT_SERVE_PLAIN";

/// A time limit that no test reaches.
pub(crate) const NEVER: Duration = Duration::from_secs(600);

/// A time limit that tests wait for. The peers of a test send their bytes long before it ends.
pub(crate) const SHORT: Duration = Duration::from_secs(1);

/// The settings of the server under test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The port, or 0 for any free one.
    pub(crate) port: u16,
    pub(crate) connections: usize,
    /// The time limit for a head, for a body, and for the answer to a ping.
    pub(crate) peer_timeout: Duration,
    pub(crate) drain: Duration,
    /// The time after a signal after which the process ends even if the server still runs.
    pub(crate) exit_after: Duration,
    /// The number of HTTP/2 streams of a connection.
    pub(crate) streams: u32,
    /// Whether to use `axum::serve` in place of the server under test.
    pub(crate) use_axum_serve: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            connections: 1_000,
            peer_timeout: NEVER,
            drain: NEVER,
            exit_after: NEVER,
            streams: 3,
            use_axum_serve: env::var_os(USE_AXUM_SERVE).is_some(),
        }
    }
}

pub(crate) const PATH: &str = "/webhooks/klikit";
pub(crate) const SECRET: &str = "your-webhook-secret";

/// Serves until a signal arrives.
pub(crate) fn run(settings: &Settings) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", settings.port)).await.expect("the port is free");
        let address = listener.local_addr().expect("it listens");
        let serving = format!("serving {address} as PID {}", process::id());
        if settings.use_axum_serve {
            tell_parent(&serving);
            let server = axum::serve(listener, app(settings)).with_graceful_shutdown(async {
                _ = signal::ctrl_c().await;
                tell_parent("stopping");
            });
            return server.await.expect("it does not fail");
        }
        let limits = Limits {
            connections: settings.connections,
            head_timeout: settings.peer_timeout,
            streams: settings.streams,
            ping: settings.peer_timeout,
            drain: settings.drain,
            ..Limits::default()
        };
        let stop = Stop::on_signal(settings.exit_after).expect("signal handlers");
        tell_parent(&serving);
        serve(listener, app(settings), limits, stop.requested()).await;
    });
}

/// Returns an app with a handler for each case: it responds at once, waits for the parent, hangs, blocks, or responds slowly.
fn app(settings: &Settings) -> Router {
    let go = Arc::new(Notify::new());
    let waiting_handlers = go.clone();
    thread::spawn(move || {
        for _ in io::stdin().lines().map_while(Result::ok) {
            waiting_handlers.notify_waiters();
        }
    });
    let verify = KlikitVerifyLayer::new(SECRET).body_deadline(settings.peer_timeout);
    Router::new()
        .route(PATH, post(async || "received").layer(verify))
        .route("/ready", get(async || "ready"))
        .route(
            "/wait",
            get(async move || {
                let notified = go.notified();
                tell_parent("running");
                notified.await;
                "done"
            }),
        )
        .route(
            "/hang",
            get(async || {
                let _guard = TellDropped;
                tell_parent("running");
                pending::<()>().await;
            }),
        )
        .route(
            "/block",
            get(async || {
                tell_parent("running");
                loop {
                    thread::park();
                }
                #[allow(unreachable_code, reason = "the type of the response")]
                ()
            }),
        )
        .route("/large", get(async || vec![b'x'; LARGE_RESPONSE]))
}

/// Prints a line when a handler is dropped.
struct TellDropped;

impl Drop for TellDropped {
    fn drop(&mut self) {
        tell_parent("dropped");
    }
}

/// The size in bytes of a response that does not fit into a socket's buffers.
pub(crate) const LARGE_RESPONSE: usize = 64 << 20;
