//! The server under attack: the README's server, with all defaults.

use std::{process, thread};

use axum::{Extension, Router, body::Bytes, routing::post};
use tokio::net::TcpListener;
use tower_klikit::{EventId, KlikitVerifyLayer};

use crate::child;

pub(crate) const SECRET: &str = "your-webhook-secret";

async fn order(_: Extension<EventId>, _: Bytes) {}

/// Prints the port and serves until the input ends.
pub(crate) async fn serve() {
    thread::spawn(|| {
        child::wait_for_stop();
        process::exit(0);
    });
    let app = Router::new().route("/webhooks/klikit", post(order).layer(KlikitVerifyLayer::new(SECRET)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    child::tell_parent(&listener.local_addr().expect("a bound socket has an address").port().to_string());
    axum::serve(listener, app).await.expect("it serves until the process ends");
}
