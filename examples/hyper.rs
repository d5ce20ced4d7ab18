//! A webhook without a framework, served by hyper over HTTP/1.1 and HTTP/2:
//!
//! ```text
//! cargo run --example hyper
//! ```
//!
//! `src/serve.rs` shows how to serve and limit hyper's connections.

use std::{convert::Infallible, error::Error, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, service_fn};
use tower_klikit::{EventId, KlikitVerifyLayer, VerifiedBody};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};

const USAGE: &str = "\
Usage: cargo run --example hyper [-- --help]

Receives klikit's deliveries on POST /webhooks/klikit until ctrl-c or SIGTERM.

Environment:
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]";

/// Handles verified requests. The layer rejects all others.
async fn receive(request: Request<VerifiedBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    if request.method() != Method::POST || request.uri().path() != "/webhooks/klikit" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    let id = request.extensions().get::<EventId>().expect("the layer inserts the event id").clone();
    let body: Bytes = request.into_body().into_bytes();
    println!("received {id}: {} bytes", body.len());
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    Arguments::read(USAGE).finish();

    // A service calls `KlikitVerifyLayer::from_env()`, which has no demo secret.
    let verify = KlikitVerifyLayer::with_keyring(setup::keyring()?);
    let service = verify.layer(service_fn(receive));

    let listener = setup::listen().await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    serve(listener, service, Limits::default(), stop.requested()).await;
    Ok(())
}
