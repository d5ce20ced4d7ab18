//! A webhook served by hyper alone, over HTTP/1.1 and HTTP/2:
//!
//! ```text
//! KLIKIT_WEBHOOK_SECRET=your-webhook-secret cargo run --example hyper
//! ```

use std::{convert::Infallible, env, error::Error};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_klikit::{EventId, KlikitVerifyLayer, VerifiedBody};

/// Sees verified requests only.
async fn receive(request: Request<VerifiedBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    if request.method() != Method::POST || request.uri().path() != "/webhooks/klikit" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    let id = request.extensions().get::<EventId>().expect("the layer puts it there").clone();
    let body: Bytes = request.into_body().into_bytes();
    println!("received {id}: {} bytes", body.len());
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let verify = KlikitVerifyLayer::from_env().map_err(|error| error.to_string())?;
    let service = TowerToHyperService::new(verify.layer(service_fn(receive)));

    let port = env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    loop {
        // One connection that fails, or too many at once, are no reason to stop.
        let Ok((socket, _)) = listener.accept().await else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            // Without a timer hyper waits for ever for the head of a request. For its body the layer has a deadline.
            server.http1().timer(TokioTimer::new());
            if let Err(error) = server.serve_connection(TokioIo::new(socket), service).await {
                eprintln!("connection: {error}");
            }
        });
    }
}
