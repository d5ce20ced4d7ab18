//! A client that sends deliveries, each over a connection of its own.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::{Body, Client, Url};
use tower_klikit::testing::SignedDelivery;

use super::paced::PacedBody;
use crate::{
    error::CliError,
    exchange::{Exchange, exchange},
    target::Target,
};

/// A client that sends deliveries to a receiver, each over a connection of its own.
#[derive(Clone)]
pub(super) struct Sender {
    client: Client,
    url: Url,
    /// The status of the first redirect.
    redirect: Arc<OnceLock<StatusCode>>,
}

impl Sender {
    pub(super) fn new(target: &Target, credentials: Option<HeaderValue>) -> Result<Self, CliError> {
        // Connections are not reused: a check that breaks one must not disturb the next.
        let client = target.client(credentials, |settings| settings.http1_only().pool_max_idle_per_host(0))?;
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
        self.exchange(url, headers(delivery), delivery.body().clone().into()).await
    }

    /// Returns the URL of the receiver.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the status of the first redirect, if there was one.
    pub(super) fn redirect(&self) -> Option<StatusCode> {
        self.redirect.get().copied()
    }

    async fn send_body(&self, delivery: &SignedDelivery, body: impl Into<Body>) -> Exchange {
        let exchange = self.exchange(&self.url, headers(delivery), body.into()).await;
        if let Ok(answer) = &exchange
            && answer.status.is_redirection()
        {
            self.redirect.get_or_init(|| answer.status);
        }
        exchange
    }

    async fn exchange(&self, url: &Url, headers: HeaderMap, body: Body) -> Exchange {
        exchange(self.client.post(url.clone()).headers(headers).body(body)).await
    }
}

/// Returns the headers of a delivery.
pub(super) fn headers(delivery: &SignedDelivery) -> HeaderMap {
    delivery.request_with(|_: Bytes| ()).into_parts().0.headers
}
