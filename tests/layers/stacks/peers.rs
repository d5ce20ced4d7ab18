//! Both ends of a delivery: the handler behind the layer, and klikit.

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

/// A handler that keeps what reaches it: the id in the extensions, and the body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handler(Arc<Mutex<Vec<(EventId, Bytes)>>>);

impl Handler {
    pub(crate) fn receive(&self, id: EventId, body: Bytes) {
        self.0.lock().unwrap().push((id, body));
    }

    fn take(&self) -> Vec<(EventId, Bytes)> {
        mem::take(&mut *self.0.lock().unwrap())
    }

    /// Since the last look, this delivery came, as it was sent, and nothing else.
    #[track_caller]
    pub(crate) fn assert_received(&self, delivery: &SignedDelivery) {
        let received = self.take();
        assert_eq!(received.len(), 1, "calls of the handler for {delivery:?}");
        assert_eq!(Some(&received[0].0), delivery.to_delivery().event_id());
        assert!(received[0].1 == delivery.body(), "the handler saw other bytes than were sent in {delivery:?}");
    }

    /// Since the last look, nothing came.
    #[track_caller]
    pub(crate) fn assert_not_called(&self) {
        assert_eq!(self.take().len(), 0, "calls of the handler");
    }

    /// For axum, without the layer: each test puts that in its own place.
    pub(crate) fn router(&self) -> Router {
        async fn receive(State(handler): State<Handler>, Extension(id): Extension<EventId>, body: Bytes) {
            handler.receive(id, body);
        }
        Router::new().route(PATH, post(receive)).with_state(self.clone())
    }
}

/// What a socket holds for either side. The kernel's default would take in a body that is too large even if the server
/// left it alone.
pub(crate) const SOCKET_BUFFER: u32 = 16 * 1024;

/// A port that nobody else has. Whatever listens on it is dropped with the runtime of its test.
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

/// What klikit sends with.
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

    /// Sends the delivery whole, with a `Content-Length`.
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

    /// Sends the head, and a body that never comes.
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

/// What klikit gets.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// Verifies with the secret of the samples.
pub(crate) fn verify() -> KlikitVerifyLayer {
    KlikitVerifyLayer::new(secret())
}

pub(crate) fn secret() -> String {
    deliveries::all().0
}

/// The sample deliveries under the signatures that they came with, which this crate did not make.
pub(crate) fn samples() -> Vec<SignedDelivery> {
    let (secret, samples) = deliveries::all();
    let as_it_came = |sample: deliveries::Sample| {
        SignedDelivery::new(&secret, sample.body)
            .event_id(sample.event_id)
            .event_type(&*sample.event_type)
            .header(SIGNATURE, sample.signature)
    };
    samples.into_iter().map(as_it_came).collect()
}

/// One of them.
pub(crate) fn sample() -> SignedDelivery {
    samples().swap_remove(1)
}

/// Sends every sample, and its altered twin: the one reaches the handler as it was sent, the other gets 403 and does not.
pub(crate) async fn assert_only_the_genuine_arrive(
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

/// A genuine delivery arrives, an altered one does not, both sent without a length.
pub(crate) async fn assert_a_body_without_a_length_completes(client: &Client, handler: &Handler) {
    assert_eq!(client.send_chunked(&sample()).await.status, 200);
    handler.assert_received(&sample());
    assert_eq!(client.send_chunked(&sample().altered()).await.status, 403);
    handler.assert_not_called();
}
