//! A webhook that verifies deliveries, in axum:
//!
//! ```text
//! cargo run --example verify
//! ```

use std::{error::Error, time::Duration};

use axum::{Extension, Router, body::Bytes, routing::post};
use tower_klikit::{EventId, KlikitVerifyLayer};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};

const USAGE: &str = "\
Usage: cargo run --example verify [-- --help]

Receives klikit's deliveries on POST /webhooks/klikit until ctrl-c or SIGTERM.

Environment:
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]";

/// Handles verified requests. The layer rejects all others.
async fn order(Extension(id): Extension<EventId>, body: Bytes) {
    println!("received {id}: {} bytes", body.len());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    Arguments::read(USAGE).finish();

    // A service calls `KlikitVerifyLayer::from_env()`, which has no demo secret.
    let verify = KlikitVerifyLayer::with_keyring(setup::keyring()?);
    let app = Router::new().route("/webhooks/klikit", post(order).layer(verify));

    let listener = setup::listen().await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    serve(listener, app, Limits::default(), stop.requested()).await;
    Ok(())
}
