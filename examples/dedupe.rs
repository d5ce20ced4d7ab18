//! A webhook that handles each delivery once, on SQLite:
//!
//! ```text
//! cargo run --example dedupe
//! ```

use std::{env, error::Error, time::Duration};

use axum::{Extension, Router, body::Bytes, routing::post};
use tower::ServiceBuilder;
use tower_klikit::{EventId, KlikitVerifyLayer, dedupe::KlikitDedupeLayer};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};
use tower_klikit_sqlite::SqliteStore;

const USAGE: &str = "\
Usage: cargo run --example dedupe [-- --help]

Receives klikit's deliveries on POST /webhooks/klikit until ctrl-c or SIGTERM. Handles
each delivery once.

Environment:
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]
  KLIKIT_STORE               The database file [default: klikit.db]";

/// Handles each delivery once. If the response is not a 2xx, klikit sends the delivery again, and this handler is called
/// again.
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
    let stack = ServiceBuilder::new().layer(verify).layer(KlikitDedupeLayer::new(store.clone()));
    let app = Router::new().route("/webhooks/klikit", post(order).layer(stack));

    let listener = setup::listen().await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    serve(listener, app, Limits::default(), stop.requested()).await;
    store.close().await?;
    Ok(())
}
