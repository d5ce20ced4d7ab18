//! A webhook beside gRPC on one port:
//!
//! ```text
//! KLIKIT_WEBHOOK_SECRET=your-webhook-secret cargo run --example tonic
//! ```

use std::{env, error::Error};

use axum::{Extension, Router, body::Bytes, routing::post};
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::server::health_reporter;
use tower_klikit::{EventId, KlikitVerifyLayer};

/// Sees verified requests only.
async fn receive(Extension(id): Extension<EventId>, body: Bytes) {
    println!("received {id}: {} bytes", body.len());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let verify = KlikitVerifyLayer::from_env().map_err(|error| error.to_string())?;
    // On the webhook's route alone: `Server::layer` would refuse every gRPC call.
    let webhook = Router::new().route("/webhooks/klikit", post(receive).layer(verify));

    let (_, health) = health_reporter();
    let grpc = Routes::new(health);

    let port = env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("serving POST http://{0}/webhooks/klikit, and gRPC on {0}", listener.local_addr()?);
    Server::builder()
        // Webhooks come over HTTP/1.1 too, and tonic speaks HTTP/2 alone unless told otherwise.
        .accept_http1(true)
        .add_routes(grpc.into_axum_router().merge(webhook).into())
        .serve_with_incoming(TcpIncoming::from(listener))
        .await?;
    Ok(())
}
