//! A webhook as an AWS Lambda function behind API Gateway or a function URL:
//!
//! ```text
//! cargo lambda build --release -p tower-klikit-framework-examples --bin lambda
//! ```
//!
//! `lambda_http` decodes bodies that API Gateway has encoded as base64, so the layer verifies the bytes that klikit signed. The
//! function needs `KLIKIT_WEBHOOK_SECRET` in its environment, and after a rotation `KLIKIT_WEBHOOK_SECRET_OLD` too.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, service_fn};
use tower_klikit::{EventId, KlikitVerifyLayer, VerifiedBody};

/// Handles verified requests. The layer rejects all others.
async fn receive(request: Request<VerifiedBody>) -> Result<Response<Full<Bytes>>, lambda_http::Error> {
    let id = request.extensions().get::<EventId>().expect("the layer inserts the event id").clone();
    println!("received {id}: {} bytes", request.into_body().into_bytes().len());
    Ok(Response::new(Full::default()))
}

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    let verify = KlikitVerifyLayer::from_env()?;
    lambda_http::run(verify.layer(service_fn(receive))).await
}
