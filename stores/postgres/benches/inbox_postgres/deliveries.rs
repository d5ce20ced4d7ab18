//! Distinct, incompressible deliveries, and the clients that send them.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use tower_klikit::testing::SignedDelivery;
use tower_klikit_test_support::random::Random;

pub(crate) const CLIENTS: usize = 64;
pub(crate) const SECRET: &str = "klikit-bench-secret";
const BODY: usize = 8 * 1024;

/// The number of deliveries of each order, which share an ordering key.
const EVENTS_PER_ORDER: usize = 2;

/// Returns the id of an event.
pub(crate) fn event_id(event: usize) -> String {
    format!("bench-{event}")
}

/// Returns an order with random text in base64.
pub(crate) fn body(event: usize) -> Bytes {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        let mut random = Random(7);
        (0..4 * 1024 * 1024).map(|_| char::from(random.of(ALPHABET))).collect()
    });
    let order = event / EVENTS_PER_ORDER;
    let start = format!(
        r#"{{"brand_id":663,"branch_id":1062,"orders":[{{"id":{order},"event":{event},"status":"PLACED","type":"delivery","final_price":18000,"currency":"IDR","comment":""#
    );
    let end = r#"","cart":[{"item_id":289379,"title":"Nasi Goreng Spesial","quantity":1,"unit_price":18000}]}]}"#;
    let filling = BODY - start.len() - end.len();
    // Two events share few bytes, and none at the same position.
    let at = (event * 4_099) % (text.len() - filling);
    [&start, &text[at..at + filling], end].concat().into()
}

pub(crate) fn request(event: usize) -> Request<Full<Bytes>> {
    SignedDelivery::new(SECRET, body(event)).event_id(event_id(event)).request()
}

/// Makes the requests of all clients, before the measurement starts. One client sends all events of an order in sequence.
pub(crate) fn requests(count: usize) -> Vec<Vec<Request<Full<Bytes>>>> {
    let each = count / CLIENTS;
    (0..CLIENTS).map(|client| (0..each).map(|n| request(client * each + n)).collect()).collect()
}

/// Sends each client's requests one after the other. Returns their latencies.
pub(crate) async fn send_all(
    requests: Vec<Vec<Request<Full<Bytes>>>>,
    send: impl Fn(Request<Full<Bytes>>) -> BoxFuture<'static, bool> + Clone + Send + 'static,
) -> Vec<Option<Duration>> {
    let clients: Vec<_> = requests
        .into_iter()
        .map(|requests| {
            let send = send.clone();
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(requests.len());
                for request in requests {
                    let started = Instant::now();
                    times.push(send(request).await.then(|| started.elapsed()));
                }
                times
            })
        })
        .collect();
    let mut times = vec![];
    for client in clients {
        times.extend(client.await.expect("no panic"));
    }
    times
}
