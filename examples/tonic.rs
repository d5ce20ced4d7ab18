//! A webhook and gRPC on one port:
//!
//! ```text
//! cargo run --example tonic
//! ```

use std::{error::Error, time::Duration};

use axum::{Extension, Router, body::Bytes, routing::post};
use tonic::service::Routes;
use tonic_health::server::health_reporter;
use tower_klikit::{EventId, KlikitVerifyLayer};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};

const USAGE: &str = "\
Usage: cargo run --example tonic [-- --help]

Receives klikit's deliveries on POST /webhooks/klikit, and serves gRPC health checks on
the same port, until ctrl-c or SIGTERM.

Environment:
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]";

/// Handles verified requests. The layer rejects all others.
async fn receive(Extension(id): Extension<EventId>, body: Bytes) {
    println!("received {id}: {} bytes", body.len());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    Arguments::read(USAGE).finish();

    // A service calls `KlikitVerifyLayer::from_env()`, which has no demo secret.
    let verify = KlikitVerifyLayer::with_keyring(setup::keyring()?);
    // Only on the webhook's route: a layer around all routes would reject every gRPC call.
    let webhook = Router::new().route("/webhooks/klikit", post(receive).layer(verify));

    let (_, health) = health_reporter();
    let grpc = Routes::new(health);

    let listener = setup::listen().await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{0}/webhooks/klikit, and gRPC on {0}", listener.local_addr()?);
    // tonic's own server limits neither connections nor the drain. Unlike that server, this one does not enforce
    // `grpc-timeout`: add `tower_http::timeout` if calls take long.
    serve(listener, grpc.into_axum_router().merge(webhook), Limits::default(), stop.requested()).await;
    Ok(())
}
