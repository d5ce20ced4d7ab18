//! The sender of sample deliveries, some of which are invalid.

use std::{
    convert::Infallible,
    iter,
    time::{Duration, SystemTime},
};

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::{sleep, timeout};
use tower_klikit::{KlikitVerifyLayer, WebhookSecret, header::SIGNATURE, testing::SignedDelivery};
use tower_klikit_test_support::deliveries::Sample;

/// The time after which klikit treats a response as a failure.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A delivery to send, and the expected response.
pub(crate) struct DemoDelivery {
    name: String,
    pub(crate) delivery: SignedDelivery,
    chunked: bool,
    expected: (StatusCode, &'static str),
}

const RECEIVED: (StatusCode, &str) = (StatusCode::OK, r#"{"status":"received"}"#);
const IGNORED: (StatusCode, &str) = (StatusCode::OK, r#"{"status":"duplicate-ignored"}"#);
const UNSIGNED: (StatusCode, &str) = (StatusCode::FORBIDDEN, r#"{"error":"missing klikit headers"}"#);
const FORGED: (StatusCode, &str) = (StatusCode::FORBIDDEN, r#"{"error":"invalid signature"}"#);
const TOO_LARGE: (StatusCode, &str) = (StatusCode::PAYLOAD_TOO_LARGE, r#"{"error":"body too large"}"#);

/// The treatment of copies by the receiver.
#[derive(Clone, Copy)]
pub(crate) enum Copies {
    Handled,
    Ignored,
}

/// Makes deliveries of all samples, signed with `secret`, and then variants of the last one.
pub(crate) fn deliveries(secret: &WebhookSecret, samples: Vec<Sample>, copies: Copies) -> Vec<DemoDelivery> {
    // Event ids differ in each run, because a store may still know those of an earlier run.
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let demo = |name: &str, delivery, expected| DemoDelivery { name: name.into(), delivery, chunked: false, expected };
    let mut deliveries: Vec<_> = samples
        .into_iter()
        .map(|sample| {
            let delivery = SignedDelivery::signed_with(secret, sample.body)
                .event_id(format!("{}-{run}", sample.event_id))
                .event_type(&*sample.event_type);
            demo(&sample.file, delivery, RECEIVED)
        })
        .collect();

    let last = deliveries.last().expect("there are samples").delivery.clone();
    let altered = last.clone().altered();
    let unsigned = last.clone().without_header(&SIGNATURE);
    let by_other_secret = SignedDelivery::new("another secret", last.body().clone());
    let too_large = SignedDelivery::signed_with(secret, vec![b' '; KlikitVerifyLayer::DEFAULT_BODY_LIMIT + 1]);
    let response_to_copy = match copies {
        Copies::Handled => RECEIVED,
        Copies::Ignored => IGNORED,
    };
    deliveries.extend([
        demo("one altered bit in the body", altered, FORGED),
        demo("unsigned", unsigned, UNSIGNED),
        demo("signed with another secret", by_other_secret, FORGED),
        demo("too large", too_large, TOO_LARGE),
        DemoDelivery { chunked: true, ..demo("a copy, without a content-length", last, response_to_copy) },
    ]);
    deliveries
}

/// Sends the deliveries one after another and prints a table of the responses. Returns whether all were as expected.
pub(crate) async fn send_all(url: &str, deliveries: &[DemoDelivery]) -> bool {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut answers = Vec::new();
    for delivery in deliveries {
        answers.push(delivery.send(&client, url).await);
    }

    println!("\n{:<36} {:>8}  {:<34}", "delivery", "bytes", "response");
    let mut as_expected = true;
    for (DemoDelivery { name, delivery, expected: (status, text), .. }, answer) in deliveries.iter().zip(answers) {
        let expected = format!("{} {text}", status.as_str());
        let answer = answer.unwrap_or_else(|error| error);
        let is_expected = answer == expected;
        let verdict = if is_expected { "ok".to_owned() } else { format!("NOT AS EXPECTED: {expected}") };
        println!("{name:<36} {:>8}  {answer:<38} {verdict}", delivery.body().len());
        as_expected &= is_expected;
    }
    as_expected
}

impl DemoDelivery {
    /// Returns the delivery's name and event id if it must be handled.
    pub(crate) fn accepted(&self) -> Option<(&str, String)> {
        let id = self.delivery.to_delivery().event_id()?.to_string();
        (self.expected == RECEIVED).then_some((&*self.name, id))
    }

    /// Sends the delivery. Returns the status and the body of the response.
    async fn send(&self, client: &Client<HttpConnector, Body>, url: &str) -> Result<String, String> {
        let delivery = self.delivery.clone().uri(url);
        let answer = async {
            loop {
                let request = if self.chunked { delivery.request_with(in_pieces) } else { delivery.request() };
                let response = client.request(request).await.map_err(|error| error.to_string())?;
                let status = response.status();
                // klikit would send the delivery again, but later. A slow disk may be the cause.
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
                let text = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
                return Ok(format!("{} {}", status.as_str(), String::from_utf8_lossy(&text)));
            }
        };
        timeout(RESPONSE_TIMEOUT, answer).await.unwrap_or_else(|_| Err("no response".to_owned()))
    }
}

/// Makes a body of unknown length, which HTTP/1.1 sends chunked.
fn in_pieces(mut body: Bytes) -> Body {
    let pieces = iter::from_fn(move || {
        let size = body.len().min(1024);
        (size > 0).then(|| Ok::<_, Infallible>(body.split_to(size)))
    });
    Body::from_stream(stream::iter(pieces))
}
