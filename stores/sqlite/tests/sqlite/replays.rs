//! Tests of a captured delivery that is replayed with new event ids.

use std::{
    convert::Infallible,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::{sync::oneshot, time::sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{
    Delivery, KlikitVerifyLayer, VerifiedBody,
    inbox::{Inbox, OrderBy},
    testing::SignedDelivery,
};

use crate::support::Folder;

const SECRET: &str = "klikit-test-secret";
const REPLAYS: usize = 100_000;
const ORDERS: usize = 3;
const STATUSES: [&str; 2] = ["ACCEPTED", "CANCELLED"];

fn order(id: &str, order: usize, status: &str) -> SignedDelivery {
    let filling = "o".repeat(4000);
    let body = format!(r#"{{"branch_id":7,"orders":[{{"id":{order},"status":"{status}","comment":"{filling}"}}]}}"#);
    SignedDelivery::new(SECRET, body).event_id(id)
}

fn id(n: usize, status: &str) -> String {
    format!("genuine-{n}-{status}")
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_genuine_deliveries_among_replays() {
    let folder = Folder::new();
    let inbox = Inbox::new(folder.open()).order_by(OrderBy::order());
    let handled = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let handled = Arc::clone(&handled);
        // Responds to copies as an application whose database already has the order.
        service_fn(move |request: Request<VerifiedBody>| {
            let delivery = request.extensions().get::<Delivery>().unwrap();
            let status = if delivery.is_copy() { StatusCode::CONFLICT } else { StatusCode::OK };
            if status.is_success() {
                handled.lock().unwrap().push(delivery.event_id().unwrap().to_string());
            }
            async move { Ok::<_, Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap()) }
        })
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(inbox.worker(handler).run_until(stopped));
    let stack = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
    let send = async |delivery: SignedDelivery| {
        stack.clone().oneshot(delivery.request::<Full<Bytes>>()).await.unwrap().status()
    };

    let size = || fs::metadata(folder.file()).unwrap().len();

    let captured = order("placed", 0, "PLACED");
    assert_eq!(send(captured.clone()).await, StatusCode::OK);
    let mut before = 0;
    for n in 0..REPLAYS {
        let status = send(captured.clone().event_id(format!("replay-{n}"))).await;
        assert_eq!(status, if n < 15 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE });
        if n == 1000 {
            before = size();
        }
        if n % 1000 == 999 {
            for status in STATUSES {
                // One of the orders is the captured one.
                let genuine = order(&id(n, status), n / 1000 % ORDERS, &format!("{status}-{n}"));
                assert_eq!(send(genuine).await, StatusCode::OK);
            }
        }
    }
    let genuine = (0..REPLAYS).skip(999).step_by(1000);
    for _ in 0..1000 {
        if handled.lock().unwrap().len() == 1 + genuine.len() * STATUSES.len() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    drop(stop);
    worker.await.unwrap();
    let handled = handled.lock().unwrap();
    for order in 0..ORDERS {
        let of_order = genuine.clone().filter(|n| n / 1000 % ORDERS == order);
        let expected: Vec<_> = of_order.flat_map(|n| STATUSES.map(|status| id(n, status))).collect();
        let found: Vec<_> = handled.iter().filter(|id| expected.contains(id)).cloned().collect();
        assert_eq!(found, expected, "handled in the order of arrival");
    }
    let grown = size() - before;
    assert!(grown < 1_000_000, "the file has grown by {grown} bytes");
}
