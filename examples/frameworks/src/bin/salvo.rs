//! A webhook in salvo, with the layer as middleware by salvo's adapter for Tower layers:
//!
//! ```text
//! KLIKIT_WEBHOOK_SECRET=your-webhook-secret cargo run -p tower-klikit-framework-examples --bin salvo
//! ```

use std::{env, error::Error, sync::Arc, time::Duration};

use http::{Request, uri::Scheme};
use hyper::{body::Incoming, service::Service as _};
use salvo::{
    conn::{ConnCtrl, SocketAddr},
    http::ReqBody,
    prelude::*,
};
use tokio::net::TcpListener;
use tower::service_fn;
use tower_klikit::{EventId, KlikitVerifyLayer};
use tower_klikit_examples::serve::{Limits, Stop, serve};

/// Handles verified requests. The layer rejects all others.
#[handler]
async fn receive(request: &mut salvo::Request) {
    let id = request.extensions().get::<EventId>().expect("the layer inserts the event id").clone();
    let body = request.payload().await.expect("the whole body is in memory");
    println!("received {id}: {} bytes", body.len());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // salvo's adapter requires salvo's body behind the layer.
    let verify = KlikitVerifyLayer::from_env()?.with_body::<ReqBody>();
    let router = Router::with_path("webhooks/klikit").hoop(verify.compat::<ReqBody>()).post(receive);
    let salvo = Arc::new(Service::new(router));

    // salvo's own server has no limit on connections.
    let service = service_fn(move |request: Request<Incoming>| {
        let address = SocketAddr::Unknown;
        salvo.hyper_handler(address.clone(), address, Scheme::HTTP, None, ConnCtrl::new(), None).call(request)
    });
    let port = env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    serve(listener, service, Limits::default(), stop.requested()).await;
    Ok(())
}
