//! The layer in a hyper server without a framework.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tower::{Layer, service_fn};
use tower_klikit::{EventId, KlikitVerifyLayer, VerifiedBody};

use crate::stacks::peers::{Client, Handler, assert_only_genuine_deliveries_arrive, listen, verify};

#[derive(Clone, Copy)]
enum Version {
    Http1,
    Http2,
}

fn serve(version: Version, handler: &Handler, layer: &KlikitVerifyLayer) -> SocketAddr {
    let (listener, address) = listen();
    let handler = handler.clone();
    let service = TowerToHyperService::new(layer.layer(service_fn(move |request: Request<VerifiedBody>| {
        let id = request.extensions().get::<EventId>().expect("the request is verified").clone();
        handler.receive(id, request.into_body().into_bytes());
        async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))) }
    })));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (io, service) = (TokioIo::new(socket), service.clone());
            match version {
                Version::Http1 => {
                    tokio::spawn(http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service));
                }
                Version::Http2 => {
                    tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
                }
            }
        }
    });
    address
}

pub(crate) fn serve_http1(handler: &Handler, layer: &KlikitVerifyLayer) -> SocketAddr {
    serve(Version::Http1, handler, layer)
}

pub(crate) fn serve_http2(handler: &Handler, layer: &KlikitVerifyLayer) -> SocketAddr {
    serve(Version::Http2, handler, layer)
}

#[tokio::test]
async fn works_over_http1() {
    let handler = Handler::default();
    let client = Client::http1(serve_http1(&handler, &verify()));
    assert_only_genuine_deliveries_arrive(&handler, async |delivery| client.send(delivery).await.status).await;
}

#[tokio::test]
async fn works_over_http2() {
    let handler = Handler::default();
    let client = Client::http2(serve_http2(&handler, &verify()));
    assert_only_genuine_deliveries_arrive(&handler, async |delivery| client.send(delivery).await.status).await;
}
