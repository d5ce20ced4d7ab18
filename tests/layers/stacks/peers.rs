//! Both peers of a delivery: the handler behind the layer, and a client that sends like klikit.

use std::{
    convert::Infallible,
    mem,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{Extension, Router, extract::State, routing::post};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::{TcpListener, TcpSocket};
use tower_klikit::{EventId, KlikitVerifyLayer, header::SIGNATURE, testing::SignedDelivery};

use crate::stacks::{PATH, deliveries};

/// A handler that records the id and the body of each delivery.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handler(Arc<Mutex<Vec<(EventId, Bytes)>>>);

impl Handler {
    pub(crate) fn receive(&self, id: EventId, body: Bytes) {
        self.0.lock().unwrap().push((id, body));
    }

    fn take(&self) -> Vec<(EventId, Bytes)> {
        mem::take(&mut *self.0.lock().unwrap())
    }

    /// Asserts that the handler received this unchanged delivery, and nothing else, since the last assertion.
    #[track_caller]
    pub(crate) fn assert_received(&self, delivery: &SignedDelivery) {
        let received = self.take();
        assert_eq!(received.len(), 1, "calls of the handler for {delivery:?}");
        assert_eq!(Some(&received[0].0), delivery.to_delivery().event_id());
        assert!(received[0].1 == delivery.body(), "the handler received other bytes than were sent in {delivery:?}");
    }

    /// Asserts that the handler received nothing since the last assertion.
    #[track_caller]
    pub(crate) fn assert_not_called(&self) {
        assert_eq!(self.take().len(), 0, "calls of the handler");
    }

    /// Returns an axum router with this handler and without the layer, which each test adds in its own position.
    pub(crate) fn router(&self) -> Router {
        async fn receive(State(handler): State<Handler>, Extension(id): Extension<EventId>, body: Bytes) {
            handler.receive(id, body);
        }
        Router::new().route(PATH, post(receive)).with_state(self.clone())
    }
}

/// The size of a socket's buffers, in bytes. With the kernel's default, a socket would accept a body that is too large
/// even if the server did not read it.
pub(crate) const SOCKET_BUFFER: u32 = 16 * 1024;

/// Listens on a free port. The listener is dropped with the runtime of its test.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SOCKET_BUFFER).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(16).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves HTTP/1.1, and HTTP/2 by prior knowledge.
pub(crate) fn serve_axum(app: Router) -> SocketAddr {
    let (listener, address) = listen();
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

/// A client that sends deliveries.
pub(crate) struct Client {
    http: legacy::Client<HttpConnector, UnsyncBoxBody<Bytes, Infallible>>,
    address: SocketAddr,
}

impl Client {
    pub(crate) fn http1(address: SocketAddr) -> Self {
        Self::new(address, &legacy::Client::builder(TokioExecutor::new()))
    }

    pub(crate) fn http2(address: SocketAddr) -> Self {
        Self::new(address, legacy::Client::builder(TokioExecutor::new()).http2_only(true))
    }

    fn new(address: SocketAddr, builder: &legacy::Builder) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { http: builder.build(connector), address }
    }

    /// Sends the delivery in one piece, with a `Content-Length`.
    pub(crate) async fn send(&self, delivery: &SignedDelivery) -> Answer {
        self.request(delivery.request::<Full<Bytes>>().map(BodyExt::boxed_unsync)).await
    }

    /// Sends the delivery in pieces, over HTTP/1.1 with `Transfer-Encoding: chunked`.
    pub(crate) async fn send_chunked(&self, delivery: &SignedDelivery) -> Answer {
        self.request(delivery.request_with(|body| {
            let frames: Vec<_> =
                body.chunks(1000).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
            StreamBody::new(stream::iter(frames)).boxed_unsync()
        }))
        .await
    }

    /// Sends the head, and a body that never arrives.
    pub(crate) async fn send_head(&self, delivery: &SignedDelivery) -> Answer {
        self.request(delivery.request_with(|_| StreamBody::new(stream::pending()).boxed_unsync())).await
    }

    pub(crate) async fn request(&self, mut request: Request<UnsyncBoxBody<Bytes, Infallible>>) -> Answer {
        *request.uri_mut() = format!("http://{}{}", self.address, request.uri()).parse().unwrap();
        let (head, body) = self.http.request(request).await.unwrap().into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, text: String::from_utf8(text.into()).unwrap() }
    }
}

/// The response that the client received.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// Returns a layer that verifies with the secret of the samples.
pub(crate) fn verify() -> KlikitVerifyLayer {
    KlikitVerifyLayer::new(secret())
}

pub(crate) fn secret() -> String {
    deliveries::all().0
}

/// Returns the sample deliveries with their signatures, which another implementation made.
pub(crate) fn samples() -> Vec<SignedDelivery> {
    let (secret, samples) = deliveries::all();
    let to_delivery = |sample: deliveries::Sample| {
        SignedDelivery::new(&secret, sample.body)
            .event_id(sample.event_id)
            .event_type(&*sample.event_type)
            .header(SIGNATURE, sample.signature)
    };
    samples.into_iter().map(to_delivery).collect()
}

/// Returns one of the sample deliveries.
pub(crate) fn sample() -> SignedDelivery {
    samples().swap_remove(1)
}

/// Sends every sample unchanged and altered. Asserts that the unchanged one reaches the handler and that the altered
/// one gets 403.
pub(crate) async fn assert_only_genuine_deliveries_arrive(
    handler: &Handler,
    send: impl AsyncFn(&SignedDelivery) -> StatusCode,
) {
    for delivery in samples() {
        assert_eq!(send(&delivery).await, StatusCode::OK, "{delivery:?}");
        handler.assert_received(&delivery);

        let altered = delivery.altered();
        assert_eq!(send(&altered).await, StatusCode::FORBIDDEN, "{altered:?}");
        handler.assert_not_called();
    }
}

/// Asserts that a genuine delivery without a length reaches the handler and that an altered one does not.
pub(crate) async fn assert_body_without_length_completes(client: &Client, handler: &Handler) {
    assert_eq!(client.send_chunked(&sample()).await.status, 200);
    handler.assert_received(&sample());
    assert_eq!(client.send_chunked(&sample().altered()).await.status, 403);
    handler.assert_not_called();
}
