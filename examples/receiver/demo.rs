//! Sends sample deliveries, some of them as klikit never would.

use std::{convert::Infallible, iter, time::Duration};

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::StatusCode;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::timeout;
use tower_klikit::{KlikitVerifyLayer, WebhookSecret, header::SIGNATURE, testing::SignedDelivery};

use crate::deliveries::Sample;

/// A later answer klikit counts as none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something to send, and how it should be answered.
pub(crate) struct Attempt {
    what: String,
    pub(crate) delivery: SignedDelivery,
    chunked: bool,
    expected: StatusCode,
}

/// All samples, signed with `secret`, and then the last of them in other ways.
pub(crate) fn attempts(secret: &WebhookSecret, samples: Vec<Sample>) -> Vec<Attempt> {
    let attempt = |what: &str, delivery, expected| Attempt { what: what.into(), delivery, chunked: false, expected };
    let mut attempts: Vec<_> = samples
        .into_iter()
        .map(|sample| {
            let delivery = SignedDelivery::signed_with(secret, sample.body)
                .event_id(sample.event_id)
                .event_type(&*sample.event_type);
            attempt(&sample.file, delivery, StatusCode::OK)
        })
        .collect();

    let last = attempts.last().expect("there are samples").delivery.clone();
    let altered = last.clone().altered();
    let unsigned = last.clone().without_header(&SIGNATURE);
    let by_other_secret = SignedDelivery::new("another secret", last.body().clone());
    let too_large = SignedDelivery::signed_with(secret, vec![b' '; KlikitVerifyLayer::DEFAULT_BODY_LIMIT + 1]);
    attempts.extend([
        attempt("altered: one bit of the body", altered, StatusCode::FORBIDDEN),
        attempt("unsigned", unsigned, StatusCode::FORBIDDEN),
        attempt("signed with another secret", by_other_secret, StatusCode::FORBIDDEN),
        attempt("too large", too_large, StatusCode::PAYLOAD_TOO_LARGE),
        Attempt { chunked: true, ..attempt("chunked, without a content-length", last, StatusCode::OK) },
    ]);
    attempts
}

/// Sends one after another and prints a table of the answers. Whether all were as expected.
pub(crate) async fn send_all(url: &str, attempts: &[Attempt]) -> bool {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut answers = Vec::new();
    for attempt in attempts {
        answers.push(attempt.send(&client, url).await);
    }

    println!("\n{:<36} {:>8} {:>9} {:>6}", "what was sent", "bytes", "expected", "got");
    let mut as_expected = true;
    for (Attempt { what, delivery, expected, .. }, answer) in attempts.iter().zip(&answers) {
        let (got, good) = match answer {
            Ok(status) => (status.as_str(), status == expected),
            Err(error) => (error.as_str(), false),
        };
        let verdict = if good { "ok" } else { "NOT AS EXPECTED" };
        println!("{what:<36} {:>8} {:>9} {got:>6}  {verdict}", delivery.body().len(), expected.as_str());
        as_expected &= good;
    }
    as_expected
}

impl Attempt {
    async fn send(&self, client: &Client<HttpConnector, Body>, url: &str) -> Result<StatusCode, String> {
        let delivery = self.delivery.clone().uri(url);
        let request = if self.chunked { delivery.request_with(in_pieces) } else { delivery.request() };
        match timeout(PATIENCE, client.request(request)).await {
            Ok(Ok(response)) => Ok(response.status()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("nothing".to_owned()),
        }
    }
}

/// A body of unknown length, which HTTP/1.1 sends chunked.
fn in_pieces(mut body: Bytes) -> Body {
    let pieces = iter::from_fn(move || {
        let size = body.len().min(1024);
        (size > 0).then(|| Ok::<_, Infallible>(body.split_to(size)))
    });
    Body::from_stream(stream::iter(pieces))
}
