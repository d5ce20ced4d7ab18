//! The genuine sender: one delivery of each shape every 100 ms, without waiting for earlier ones.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, timeout},
};
use tower_klikit::testing::SignedDelivery;

use crate::{
    connection::Connection,
    server::SECRET,
    shapes::{SHAPES, Shape, Transport},
};

const INTERVAL: Duration = Duration::from_millis(100);

/// The time after which a delivery counts as hanging. Longer than the server's deadline for bodies.
const HANG_TIMEOUT: Duration = Duration::from_secs(15);

/// The outcome of a delivery.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The status, or the reason why there was none.
    pub(crate) answer: Result<u16, String>,
    /// The time until the response, without the pauses between the pieces.
    pub(crate) latency: Duration,
}

/// The outcomes of the deliveries of one shape.
pub(crate) struct Record {
    pub(crate) shape: &'static Shape,
    pub(crate) outcomes: Vec<Outcome>,
}

/// A sender of genuine deliveries to one server.
#[derive(Clone)]
pub(crate) struct Sender {
    port: u16,
    http2: Client<HttpConnector, Full<bytes::Bytes>>,
    /// The connection of each shape that is kept alive.
    kept: Arc<[Mutex<Option<Connection>>]>,
}

impl Sender {
    pub(crate) fn new(port: u16) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http2 = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Self { port, http2, kept: SHAPES.iter().map(|_| Mutex::default()).collect() }
    }

    /// Sends deliveries of each shape for this time, and waits for their responses.
    pub(crate) async fn send_for(&self, time: Duration) -> Vec<Record> {
        let end = Instant::now() + time;
        let mut shapes = JoinSet::new();
        for n in 0..SHAPES.len() {
            let sender = self.clone();
            shapes.spawn(async move {
                let (mut deliveries, mut ticks) = (JoinSet::new(), interval(INTERVAL));
                while ticks.tick().await < end {
                    let sender = sender.clone();
                    deliveries.spawn(async move { sender.send(n).await });
                }
                (n, deliveries.join_all().await)
            });
        }
        let mut records = shapes.join_all().await;
        records.sort_by_key(|(n, _)| *n);
        records.into_iter().map(|(n, outcomes)| Record { shape: &SHAPES[n], outcomes }).collect()
    }

    /// Sends a delivery of the shape with this index.
    async fn send(&self, n: usize) -> Outcome {
        let (shape, number) = (&SHAPES[n], next_number());
        let delivery = delivery(number, shape.bytes);
        let started = Instant::now();
        let answer = async {
            match shape.transport {
                Transport::Http1 => self.send_http1(n, number, &delivery).await,
                Transport::Http2 => self.send_http2(&delivery).await,
            }
        };
        let answer = timeout(HANG_TIMEOUT, answer).await.unwrap_or_else(|_| Err("no response".to_owned()));
        Outcome { answer, latency: started.elapsed().saturating_sub(shape.pauses()) }
    }

    /// Sends over kept-alive and new connections alternately.
    async fn send_http1(&self, n: usize, number: u64, delivery: &SignedDelivery) -> Result<u16, String> {
        let may_keep = number.is_multiple_of(2);
        let kept = self.kept[n].lock().unwrap().take().filter(|_| may_keep);
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(self.port).await.map_err(|error| format!("connect: {error}"))?,
        };
        let status = connection.send(delivery, &SHAPES[n]).await.map_err(|error| error.to_string())?;
        if may_keep && status == 200 {
            *self.kept[n].lock().unwrap() = Some(connection);
        }
        Ok(status)
    }

    async fn send_http2(&self, delivery: &SignedDelivery) -> Result<u16, String> {
        let delivery = delivery.clone().uri(&format!("http://127.0.0.1:{}/webhooks/klikit", self.port));
        let response = self.http2.request(delivery.request()).await;
        response.map(|response| response.status().as_u16()).map_err(|error| format!("{error:?}"))
    }
}

/// Makes a delivery with a unique body and id.
fn delivery(number: u64, bytes: usize) -> SignedDelivery {
    let mut body = format!(r#"{{"orders":[{{"id":{number}}}]}}"#).into_bytes();
    body.resize(bytes, b' ');
    SignedDelivery::new(SECRET, body).event_id(format!("genuine-{number}"))
}

fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}
