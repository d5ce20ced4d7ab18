//! Sends deliveries, each over a connection of its own.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use reqwest::{Body, Client, Url};
use tokio::time::{Instant, timeout};
use tower_klikit::testing::SignedDelivery;

use super::paced::PacedBody;
use crate::{
    error::{CliError, one_line},
    target::Target,
};

/// The time after which klikit counts a delivery as failed.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of an answer that are kept. The rest is read and discarded.
const KEPT: usize = 64 * 1024;

/// The most characters of an answer that are shown.
const SHOWN: usize = 60;

/// Sends deliveries to a receiver, each over a connection of its own.
#[derive(Clone)]
pub(super) struct Sender {
    client: Client,
    url: Url,
    /// The status of the first redirect, or 0.
    redirect: Arc<AtomicU16>,
}

/// A complete answer within klikit's timeout.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
    /// The time from the start of the connection to the end of the answer.
    pub(super) time: Duration,
}

/// The reason why there is no answer.
#[derive(Debug, Clone)]
pub(super) enum NoAnswer {
    /// The answer was not complete within klikit's timeout.
    TimedOut,
    /// The connection failed.
    Disconnected(Arc<str>),
}

/// The result of an attempt.
pub(super) type Exchange = Result<Answer, NoAnswer>;

impl Sender {
    pub(super) fn new(target: &Target) -> Result<Self, CliError> {
        // Connections are not reused: a check that breaks one must not disturb the next.
        let client = target.client().http1_only().pool_max_idle_per_host(0).build();
        let client = client.map_err(|error| {
            CliError::caused("cannot set up an HTTP client", &error, "check the certificates of this machine")
        })?;
        Ok(Self { client, url: target.url().clone(), redirect: Arc::default() })
    }

    /// Sends a delivery with a `Content-Length`.
    pub(super) async fn send(&self, delivery: &SignedDelivery) -> Exchange {
        self.send_body(delivery, delivery.body().clone()).await
    }

    /// Sends the headers of a delivery with another body, such as one that arrives slowly.
    pub(super) async fn send_paced(&self, delivery: &SignedDelivery, body: PacedBody) -> Exchange {
        self.send_body(delivery, Body::wrap(body)).await
    }

    /// Sends a delivery to another URL of the receiver.
    pub(super) async fn send_to(&self, url: &Url, delivery: &SignedDelivery) -> Exchange {
        let sent = self.exchange(url, headers(delivery), delivery.body().clone().into());
        timeout(TIMEOUT, sent).await.unwrap_or(Err(NoAnswer::TimedOut))
    }

    /// Returns the URL of the receiver.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the status of a redirect, if there was one.
    pub(super) fn redirect(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.redirect.load(Ordering::Relaxed)).ok()
    }

    async fn send_body(&self, delivery: &SignedDelivery, body: impl Into<Body>) -> Exchange {
        let sent = self.exchange(&self.url, headers(delivery), body.into());
        let exchange = timeout(TIMEOUT, sent).await.unwrap_or(Err(NoAnswer::TimedOut));
        if let Ok(answer) = &exchange
            && answer.status.is_redirection()
        {
            self.redirect.store(answer.status.as_u16(), Ordering::Relaxed);
        }
        exchange
    }

    async fn exchange(&self, url: &Url, headers: HeaderMap, body: Body) -> Exchange {
        let started = Instant::now();
        let mut response = self.client.post(url.clone()).headers(headers).body(body).send().await?;
        let mut kept = Vec::new();
        while let Some(piece) = response.chunk().await? {
            kept.extend_from_slice(&piece[..piece.len().min(KEPT - kept.len())]);
        }
        let body = String::from_utf8_lossy(&kept).into_owned();
        Ok(Answer { status: response.status(), body, time: started.elapsed() })
    }
}

/// Returns the headers of a delivery.
pub(super) fn headers(delivery: &SignedDelivery) -> HeaderMap {
    delivery.request_with(|_: Bytes| ()).into_parts().0.headers
}

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        // The outer errors name the URL, or only say that sending failed.
        let mut reason: &dyn Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        Self::Disconnected(one_line(&reason.to_string()).into())
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => write!(f, "no complete answer within {} s", TIMEOUT.as_secs()),
            Self::Disconnected(error) => write!(f, "no answer: {error}"),
        }
    }
}

/// Writes the status and the beginning of the body.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        let body = one_line(self.body.trim());
        match body.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, " {}…", &body[..end]),
            None if body.is_empty() => Ok(()),
            None => write!(f, " {body}"),
        }
    }
}
