//! A webhook that acknowledges each delivery at once and handles it later, on SQLite:
//!
//! ```text
//! cargo run --example inbox
//! ```

use std::{env, error::Error, time::Duration};

use axum::{
    Extension, Router,
    body::Bytes,
    routing::{post, post_service},
};
use tower::Layer;
use tower_klikit::{EventId, KlikitVerifyLayer, inbox::Inbox};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};
use tower_klikit_sqlite::SqliteStore;

const USAGE: &str = "\
Usage: cargo run --example inbox [-- --help]

Receives klikit's deliveries on POST /webhooks/klikit until ctrl-c or SIGTERM. Stores them
in a file, and handles them later.

Environment:
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]
  KLIKIT_STORE               The database file [default: klikit.db]";

/// Handles a stored delivery. If the response is not a 2xx, the worker calls this handler again later.
async fn order(Extension(id): Extension<EventId>, body: Bytes) {
    println!("received {id}: {} bytes", body.len());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    Arguments::read(USAGE).finish();

    // A service calls `KlikitVerifyLayer::from_env()`, which has no demo secret.
    let verify = KlikitVerifyLayer::with_keyring(setup::keyring()?);
    let path = env::var_os("KLIKIT_STORE").unwrap_or_else(|| "klikit.db".into());
    let store = SqliteStore::builder().create().open(path)?;
    let inbox = Inbox::new(store.clone());
    let app = Router::new().route("/webhooks/klikit", post_service(verify.layer(inbox.acceptor())));

    let stop = Stop::on_signal(Duration::from_secs(25))?;
    let handler: Router = Router::new().route("/webhooks/klikit", post(order));
    let worker = tokio::spawn(inbox.worker(handler).run_until(stop.requested()));
    let listener = setup::listen().await?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    serve(listener, app, Limits::default(), stop.requested()).await;
    // The worker finishes its running handlers.
    worker.await?;
    store.close().await?;
    Ok(())
}
