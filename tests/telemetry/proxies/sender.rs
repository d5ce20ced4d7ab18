//! A sender of deliveries in the role of klikit.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{client::legacy, rt::TokioExecutor};
use tower_klikit::{header::SIGNATURE, testing::SignedDelivery};

use crate::proxies::deliveries;

/// Returns the sample deliveries with their recorded signatures.
pub(crate) fn samples() -> Vec<SignedDelivery> {
    let (secret, samples) = deliveries::all();
    let delivery = |sample: deliveries::Sample| {
        SignedDelivery::new(&secret, sample.body)
            .event_id(sample.event_id)
            .event_type(&*sample.event_type)
            .header(SIGNATURE, sample.signature)
    };
    samples.into_iter().map(delivery).collect()
}

/// Returns a sample of 4 kB.
pub(crate) fn sample() -> SignedDelivery {
    samples().swap_remove(1)
}

/// Returns the largest sample, which exceeds the buffers of nginx.
pub(crate) fn large_sample() -> SignedDelivery {
    samples().into_iter().max_by_key(|delivery| delivery.body().len()).expect("there are samples")
}

/// Sends a delivery with a `Content-Length`. Returns the status of the response.
pub(crate) async fn send(to: SocketAddr, delivery: &SignedDelivery) -> u16 {
    request(to, delivery.request::<Full<Bytes>>().map(BodyExt::boxed_unsync)).await
}

/// Sends a delivery with `Transfer-Encoding: chunked`. Returns the status of the response.
pub(crate) async fn send_chunked(to: SocketAddr, delivery: &SignedDelivery) -> u16 {
    let chunked = delivery.request_with(|body| {
        let frames: Vec<_> = body.chunks(1000).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
        StreamBody::new(stream::iter(frames)).boxed_unsync()
    });
    request(to, chunked).await
}

/// Sends this body with the headers of that delivery. Returns the status of the response.
pub(crate) async fn send_body(to: SocketAddr, delivery: &SignedDelivery, body: Bytes) -> u16 {
    let mut with_body = delivery.request_with(|_| Full::new(body.clone()).boxed_unsync());
    with_body.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    request(to, with_body).await
}

async fn request(to: SocketAddr, mut request: Request<UnsyncBoxBody<Bytes, Infallible>>) -> u16 {
    *request.uri_mut() = format!("http://{to}{}", request.uri()).parse().unwrap();
    let client = legacy::Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.unwrap();
    let status = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    status
}
