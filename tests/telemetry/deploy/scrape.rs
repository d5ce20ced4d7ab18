//! A scrape that has every metric, and a check of the metrics and labels in a query.

use std::{future::pending, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_klikit::{KlikitVerifyLayer, inbox::Inbox, metrics, store::MemoryStore, testing::SignedDelivery};

use crate::support::{
    BODY, Handler, SECRET,
    body::{Script, Step},
    send,
};

/// The text of a scrape.
pub(super) struct Scrape(String);

impl Scrape {
    /// Lets a verify layer, an inbox and its worker handle a delivery, and reads the metrics.
    pub(super) fn take() -> Self {
        let buckets = [
            (metrics::ACK, metrics::ACK_BUCKETS),
            (metrics::HANDLER, metrics::HANDLER_BUCKETS),
            (metrics::BODY_BYTES, metrics::BODY_BUCKETS),
        ];
        let builder = buckets.into_iter().fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
            builder.set_buckets_for_metric(Matcher::Full(name.into()), bounds).unwrap()
        });
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (layer, inbox) = (KlikitVerifyLayer::new(SECRET), Inbox::new(MemoryStore::new()));
                let delivery = || SignedDelivery::new(SECRET, BODY);
                layer.layer(inbox.acceptor()).oneshot(delivery().request::<Full<Bytes>>()).await.unwrap();
                let unfinished = delivery().request_with(|_| Script::new([Step::Hang]));
                timeout(Duration::from_secs(1), send(&layer, unfinished)).await.unwrap_err();
                let worker = tokio::spawn(inbox.worker(Handler::default()).run_until(pending::<()>()));
                sleep(Duration::from_secs(60)).await;
                worker.abort();
            });
        });
        Self(handle.render())
    }

    /// Panics if a query names a metric, or a label of a metric, that the scrape does not have.
    #[track_caller]
    pub(super) fn check(&self, query: &str) {
        for (start, _) in query.match_indices("klikit_") {
            let rest = &query[start..];
            let name = &rest[..rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len())];
            let samples: Vec<_> = self.0.lines().filter(|line| self.is_of(line, name)).collect();
            assert!(!samples.is_empty(), "no {name}, which is in {query}, in\n{}", self.0);
            let matchers = rest[name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
            for matcher in matchers.into_iter().flat_map(|(matchers, _)| matchers.split(',')) {
                let end = matcher.find(['!', '~', '=']).unwrap();
                // The scrape writes a label and its value like a matcher for equality.
                let is_equality = !matcher.contains('~') && !matcher.contains('!');
                let part = if is_equality { matcher.to_owned() } else { format!("{}=\"", &matcher[..end]) };
                assert!(samples.iter().any(|line| line.contains(&part)), "no {part} in {samples:?}, for {query}");
            }
        }
        for (_, labels) in query.match_indices("by (").map(|(start, by)| query[start..].split_at(by.len())) {
            for label in labels.split(')').next().unwrap().split(',').map(str::trim) {
                assert!(self.0.contains(&format!("{label}=\"")), "no label {label}, which is in {query}");
            }
        }
    }

    fn is_of(&self, line: &str, name: &str) -> bool {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
    }
}
