//! One attempt at a delivery, judged as klikit judges it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use reqwest::{Client, Response, Url};
use tokio::time::timeout;
use tower_klikit::testing::{FakeKlikit, SignedDelivery};

use crate::error::one_line;

/// The longest part of a response that is shown, in bytes.
const SHOWN: usize = 200;

/// An attempt and its result.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) latency: Duration,
    pub(crate) answer: Answer,
}

/// The result of an attempt.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A complete response arrived in time.
    Status {
        status: StatusCode,
        /// The start of the body.
        body: String,
    },
    /// No complete response arrived in time. klikit disconnects, so a later response does not count.
    TimedOut,
    /// The connection failed.
    Failed(String),
}

impl Answer {
    /// Returns whether klikit considers the delivery delivered.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.is_success())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, body } if body.is_empty() => write!(f, "{status}"),
            Self::Status { status, body } => write!(f, "{status}: {body}"),
            Self::TimedOut => write!(f, "no complete response within {} seconds", FakeKlikit::TIMEOUT.as_secs()),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// Sends a delivery once.
pub(crate) async fn send(client: &Client, url: &Url, delivery: &SignedDelivery) -> Attempt {
    let started = Instant::now();
    let answer = match timeout(FakeKlikit::TIMEOUT, exchange(client, url, delivery)).await {
        Ok(Ok((status, body))) => Answer::Status { status, body },
        Ok(Err(error)) => Answer::Failed(reason(&error)),
        Err(_) => Answer::TimedOut,
    };
    Attempt { latency: started.elapsed(), answer }
}

async fn exchange(
    client: &Client,
    url: &Url,
    delivery: &SignedDelivery,
) -> Result<(StatusCode, String), reqwest::Error> {
    let (parts, body) = delivery.request::<Bytes>().into_parts();
    let response = client.post(url.clone()).headers(parts.headers).body(body).send().await?;
    Ok((response.status(), read(response).await?))
}

/// Reads a response to its end, and returns the start of its body. Keeps only the start, because a body can be endless.
async fn read(mut response: Response) -> Result<String, reqwest::Error> {
    let mut start = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let missing = SHOWN - start.len();
        start.extend_from_slice(&chunk[..missing.min(chunk.len())]);
    }
    Ok(one_line(String::from_utf8_lossy(&start).trim()))
}

/// Returns the innermost reason of a failure. The outer ones repeat the URL.
fn reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    one_line(&reason.to_string())
}
