//! Throughput of the dedupe layer over HTTP, compared with an axum app whose handler keeps a set of event ids. Both run
//! in alternating rounds, each with one server thread.
//!
//! Run with `cargo bench --bench dedupe_http`.
#![allow(missing_docs, unreachable_pub)]

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Instant,
};

use axum::{Extension, Router, http::StatusCode, routing::post};
use futures_util::future::join_all;
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use tower::ServiceBuilder;
use tower_klikit::{
    EventId, KlikitVerifyLayer, dedupe::KlikitDedupeLayer, store::MemoryStore, testing::SignedDelivery,
};

const SECRET: &str = "klikit-bench-secret";
const BODY_BYTES: usize = 7900;
const ROUNDS: usize = 11;
const CONNECTIONS: usize = 32;
/// The number of requests on each connection in a round.
const REQUESTS: usize = 500;

fn main() {
    let (with_set, with_layer) = (serve(app_with_set()), serve(app_with_layer()));
    let runtime = Builder::new_current_thread().enable_all().build().expect("the runtime starts");
    let (mut ratios, mut set_rates, mut layer_rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let set_rate = runtime.block_on(load(with_set, round));
        let layer_rate = runtime.block_on(load(with_layer, round));
        set_rates.push(set_rate);
        layer_rates.push(layer_rate);
        ratios.push(layer_rate / set_rate);
    }
    println!("bodies of {BODY_BYTES} bytes, {CONNECTIONS} connections, one server thread, medians of {ROUNDS} rounds:");
    println!("  verify layer, and a set of ids in the handler    {:>8.0} requests/s", median(set_rates));
    println!("  verify layer, and dedupe layer                   {:>8.0} requests/s", median(layer_rates));
    println!("  ratio of the second rate to the first            {:>8.2}", median(ratios));
}

/// Returns an app whose handler keeps a set of event ids.
fn app_with_set() -> Router {
    let seen = Arc::new(Mutex::new(HashSet::<EventId>::new()));
    let handler = async move |Extension(id): Extension<EventId>| {
        if seen.lock().expect("no thread panicked").insert(id) { StatusCode::OK } else { StatusCode::CONFLICT }
    };
    Router::new().route("/webhooks/klikit", post(handler).layer(KlikitVerifyLayer::new(SECRET)))
}

/// Returns an app with the dedupe layer.
fn app_with_layer() -> Router {
    let layers = ServiceBuilder::new()
        .layer(KlikitVerifyLayer::new(SECRET))
        .layer(KlikitDedupeLayer::new(MemoryStore::new().capacity(10_000_000)));
    Router::new().route("/webhooks/klikit", post(async |Extension(_): Extension<EventId>| StatusCode::OK).layer(layers))
}

/// Starts a server on a new thread, which runs until the process ends. Returns the server's address.
fn serve(app: Router) -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().expect("the runtime starts").block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
            let address = listener.local_addr().expect("a bound listener has an address");
            sender.send(address).expect("the main thread waits");
            axum::serve(listener, app).await.expect("the server does not stop");
        });
    });
    receiver.recv().expect("the server starts")
}

/// Sends one round of new deliveries. Returns the requests per second.
async fn load(server: SocketAddr, round: usize) -> f64 {
    let connections = (0..CONNECTIONS).map(|connection| {
        let requests: Vec<_> = (0..REQUESTS).map(|n| request(&format!("{round}-{connection}-{n}"))).collect();
        async move {
            let stream = TcpStream::connect(server).await.expect("the server listens");
            stream.set_nodelay(true).expect("the option can be set");
            (stream, requests)
        }
    });
    let connections = join_all(connections).await;
    let started = Instant::now();
    join_all(connections.into_iter().map(|(stream, requests)| send_all(stream, requests))).await;
    (CONNECTIONS * REQUESTS) as f64 / started.elapsed().as_secs_f64()
}

/// Returns the bytes of a request over HTTP/1.1.
fn request(id: &str) -> Vec<u8> {
    // Use different bodies, because copies of one body under many ids are rejected.
    let body = format!("{id:o<BODY_BYTES$}");
    let request = SignedDelivery::new(SECRET, body.clone()).event_id(id).request::<Full<bytes::Bytes>>();
    let mut text = format!("POST /webhooks/klikit HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().expect("the header is text")));
    }
    text.push_str("\r\n");
    [text, body].concat().into_bytes()
}

async fn send_all(mut stream: TcpStream, requests: Vec<Vec<u8>>) {
    let mut answer = vec![0; 1024];
    for request in requests {
        stream.write_all(&request).await.expect("the server reads");
        // The responses have no body, so each arrives in one piece.
        let read = stream.read(&mut answer).await.expect("the server responds");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
