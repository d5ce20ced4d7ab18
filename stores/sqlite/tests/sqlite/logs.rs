//! Tests of the log messages while another process has the file locked.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{KlikitVerifyLayer, VerifiedBody, dedupe::KlikitDedupeLayer, inbox::Inbox, testing::SignedDelivery};

use crate::{support::Folder, syslog::Log};

#[tokio::test]
async fn missed_deadline_is_logged_as_a_warning() {
    const BODY: &str = r#"{"brand_id":1}"#;
    let log = Log::default();
    let _listening = log.listen();
    let folder = Folder::new();
    let store = folder.open();
    let locked = folder.connect();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    let verify = KlikitVerifyLayer::new("secret");
    let handler = service_fn(async |_: http::Request<VerifiedBody>| {
        Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let inline = verify.layer(KlikitDedupeLayer::new(store.clone()).claim_deadline(Duration::ZERO).layer(handler));
    let stored = verify.layer(Inbox::new(store).accept_deadline(Duration::ZERO).acceptor());
    let delivery = SignedDelivery::new("secret", BODY).event_id("evt-7");
    assert_eq!(inline.oneshot(delivery.request::<Full<Bytes>>()).await.unwrap().status(), 503);
    assert_eq!(stored.oneshot(delivery.request::<Full<Bytes>>()).await.unwrap().status(), 503);
    let text = log.text();
    for message in ["cannot claim a delivery: ", "cannot accept a delivery: "] {
        let line = text.lines().find(|line| line.contains(message)).unwrap_or_else(|| panic!("no {message}: {text}"));
        assert!(line.contains("WARN") && line.contains(r#"event_id="evt-7" tenant="default""#), "{line}");
    }
    assert!(!text.contains(BODY), "{text}");
}
