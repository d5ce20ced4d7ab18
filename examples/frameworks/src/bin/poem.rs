//! A webhook in poem, by poem's adapter for Tower services:
//!
//! ```text
//! cargo run -p tower-klikit-framework-examples --bin poem
//! ```

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, uri::Scheme};
use http_body_util::Full;
use hyper::body::Incoming;
use poem::{
    Endpoint, IntoEndpoint, Route,
    endpoint::TowerCompatExt,
    web::{LocalAddr, RemoteAddr},
};
use tower::{Layer, service_fn};
use tower_klikit::{EventId, KlikitVerifyLayer, VerifiedBody};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};

const USAGE: &str = "\
Usage: cargo run -p tower-klikit-framework-examples --bin poem [-- --help]

Receives klikit's deliveries on POST /webhooks/klikit until ctrl-c or SIGTERM.

Environment:
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]";

/// Handles verified requests. The layer rejects all others.
async fn receive(request: Request<VerifiedBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let id = request.extensions().get::<EventId>().expect("the layer inserts the event id").clone();
    println!("received {id}: {} bytes", request.into_body().into_bytes().len());
    Ok(Response::new(Full::default()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    Arguments::read(USAGE).finish();

    // A service calls `KlikitVerifyLayer::from_env()`, which has no demo secret.
    let verify = KlikitVerifyLayer::with_keyring(setup::keyring()?);
    let webhook = verify.layer(service_fn(receive)).compat();
    let app = Arc::new(Route::new().at("/webhooks/klikit", webhook).into_endpoint());

    // poem's own server has neither a timeout for heads nor a limit on connections.
    let service = service_fn(move |request: Request<Incoming>| {
        let app = app.clone();
        async move {
            let request = (request, LocalAddr::default(), RemoteAddr::default(), Scheme::HTTP).into();
            let response: Response<_> = app.get_response(request).await.into();
            Ok::<_, Infallible>(response)
        }
    });
    let listener = setup::listen().await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    serve(listener, service, Limits::default(), stop.requested()).await;
    Ok(())
}
