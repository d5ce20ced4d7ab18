//! A webhook and gRPC on one port:
//!
//! ```text
//! KLIKIT_WEBHOOK_SECRET=your-webhook-secret cargo run --example tonic
//! ```

use std::{env, error::Error, time::Duration};

use axum::{Extension, Router, body::Bytes, routing::post};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_health::server::health_reporter;
use tower_klikit::{EventId, KlikitVerifyLayer};
use tower_klikit_examples::serve::{Limits, Stop, serve};

/// Handles verified requests. The layer rejects all others.
async fn receive(Extension(id): Extension<EventId>, body: Bytes) {
    println!("received {id}: {} bytes", body.len());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let verify = KlikitVerifyLayer::from_env().map_err(|error| error.to_string())?;
    // Only on the webhook's route: a layer around all routes would reject every gRPC call.
    let webhook = Router::new().route("/webhooks/klikit", post(receive).layer(verify));

    let (_, health) = health_reporter();
    let grpc = Routes::new(health);

    let port = env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{0}/webhooks/klikit, and gRPC on {0}", listener.local_addr()?);
    // tonic's own server limits neither connections nor the drain. Unlike that server, this one does not enforce
    // `grpc-timeout`: add `tower_http::timeout` if calls take long.
    serve(listener, grpc.into_axum_router().merge(webhook), Limits::default(), stop.requested()).await;
    Ok(())
}
