//! A webhook in salvo, with the layer as middleware by salvo's adapter for Tower layers:
//!
//! ```text
//! cargo run -p tower-klikit-framework-examples --bin salvo
//! ```

use std::{error::Error, sync::Arc, time::Duration};

use http::{Request, uri::Scheme};
use hyper::{body::Incoming, service::Service as _};
use salvo::{
    conn::{ConnCtrl, SocketAddr},
    http::ReqBody,
    prelude::*,
};
use tower::service_fn;
use tower_klikit::{EventId, KlikitVerifyLayer};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};

const USAGE: &str = "\
Usage: cargo run -p tower-klikit-framework-examples --bin salvo [-- --help]

Receives klikit's deliveries on POST /webhooks/klikit until ctrl-c or SIGTERM.

Environment:
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]";

/// Handles verified requests. The layer rejects all others.
#[handler]
async fn receive(request: &mut salvo::Request) {
    let id = request.extensions().get::<EventId>().expect("the layer inserts the event id").clone();
    let body = request.payload().await.expect("the whole body is in memory");
    println!("received {id}: {} bytes", body.len());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    Arguments::read(USAGE).finish();

    // A service calls `KlikitVerifyLayer::from_env()`, which has no demo secret. salvo's adapter requires salvo's body behind
    // the layer.
    let verify = KlikitVerifyLayer::with_keyring(setup::keyring()?).with_body::<ReqBody>();
    let router = Router::with_path("webhooks/klikit").hoop(verify.compat::<ReqBody>()).post(receive);
    let salvo = Arc::new(Service::new(router));

    // salvo's own server has no limit on connections.
    let service = service_fn(move |request: Request<Incoming>| {
        let address = SocketAddr::Unknown;
        salvo.hyper_handler(address.clone(), address, Scheme::HTTP, None, ConnCtrl::new(), None).call(request)
    });
    let listener = setup::listen().await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    serve(listener, service, Limits::default(), stop.requested()).await;
    Ok(())
}
