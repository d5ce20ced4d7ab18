//! Tests that hidden characters in texts from senders, handlers and stores are escaped.

#[cfg(feature = "dedupe")]
use std::time::Duration;

#[cfg(feature = "inbox")]
use http::{Response, StatusCode};
use http_body_util::BodyExt;
#[cfg(feature = "inbox")]
use tower::service_fn;
#[cfg(feature = "dedupe")]
use tower::{Layer, ServiceExt};
#[cfg(feature = "dedupe")]
use tower_klikit::dedupe::{Claim, ClaimOutcome, ClaimTerms, KlikitDedupeLayer, Ledger, LedgerSelection, StoreError};
#[cfg(feature = "inbox")]
use tower_klikit::{VerifiedBody, inbox::Inbox, store::MemoryStore};

use super::*;
use crate::support::body::{Script, Step};

/// A text that reverses the following text, contains invisible characters, and begins a second line.
const HIDDEN: &str = "paid\u{202e}\u{200b}\u{feff}\u{2028}\nWARN forged";
const ESCAPED: &str = r"paid\u{202e}\u{200b}\u{feff}\u{2028}\nWARN forged";

/// Asserts that the log has this many lines, no hidden character, and each of `texts`, where `…` stands for
/// [`ESCAPED`].
#[track_caller]
fn assert_escaped(log: &str, lines: usize, texts: &[&str]) {
    assert_eq!(log.lines().count(), lines, "{log:?}");
    assert!(!log.contains(['\u{202e}', '\u{200b}', '\u{feff}', '\u{2028}']), "{log:?}");
    for text in texts {
        assert!(log.contains(&text.replace('…', ESCAPED)), "{text}: {log:?}");
    }
}

#[test]
fn hidden_characters_of_body_errors_are_escaped() {
    #[derive(Debug)]
    struct Outer(std::io::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "outer {HIDDEN}")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let body = |_| Script::new([Step::Fail]).map_err(|_| Outer(std::io::Error::other(format!("inner {HIDDEN}"))));
    let log = log_of_request(&KlikitVerifyLayer::new(SECRET), SignedDelivery::new(SECRET, BODY).request_with(body));
    assert_escaped(&log, 1, &["source=outer …: inner …"]);
}

#[test]
fn hidden_characters_of_tenants_are_escaped() {
    let keyring = tower_klikit::Keyring::new(HIDDEN, "id", tower_klikit::WebhookSecret::new(SECRET).unwrap());
    let altered = SignedDelivery::new(SECRET, BODY).altered().request::<Full<Bytes>>();
    assert_escaped(&log_of_request(&KlikitVerifyLayer::with_keyring(keyring), altered), 1, &[r#"tenant="…""#]);
}

#[cfg(feature = "dedupe")]
#[test]
fn store_errors_are_escaped_and_bounded() {
    struct Failing;
    impl Failing {
        async fn fail<T>() -> Result<T, StoreError> {
            Err(StoreError::new(HIDDEN))
        }
    }
    impl Ledger for Failing {
        async fn claim(&self, _: &Claim, _: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
            Self::fail().await
        }
        async fn complete(&self, _: &Claim, _: Duration) -> Result<bool, StoreError> {
            Self::fail().await
        }
        async fn release(&self, _: &Claim) -> Result<(), StoreError> {
            Self::fail().await
        }
        async fn renew(&self, _: &[Claim], _: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
            Self::fail().await
        }
        async fn forget(&self, _: &LedgerSelection) -> Result<u64, StoreError> {
            Self::fail().await
        }
        async fn purge(&self, _: u32) -> Result<u64, StoreError> {
            Self::fail().await
        }
    }
    let log = log_of_task(async {
        let stack = KlikitVerifyLayer::new(SECRET)
            .layer(KlikitDedupeLayer::new(Failing).layer(crate::support::Handler::default()));
        assert_eq!(stack.oneshot(evt_7()).await.unwrap().status(), 503);
    });
    assert_escaped(&log, 2, &["cannot claim a delivery: the store call failed", "source=…"]);

    let log = log_of_task(async {
        let stack = KlikitVerifyLayer::new(SECRET)
            .layer(KlikitDedupeLayer::new(Failing).layer(crate::support::Handler::default()));
        for _ in 0..1000 {
            assert_eq!(stack.clone().oneshot(evt_7()).await.unwrap().status(), 503);
        }
    });
    assert_eq!((lines_with(&log, "cannot claim").0, log.lines().count()), (10, 20), "{log}");
    assert_eq!(format!("{:?}", StoreError::new(HIDDEN)), format!("the store call failed: {ESCAPED}"));
}

/// A handler's error may quote the request, and klikit does not sign the path.
#[cfg(feature = "inbox")]
#[test]
fn hidden_characters_of_requests_are_not_logged() {
    let log = log_of_task(async {
        let inbox = Inbox::new(MemoryStore::new());
        let request = |id: &'static str| {
            let mut request = SignedDelivery::new(SECRET, id).event_id(id).request::<Full<Bytes>>();
            let path = "/paid\u{202e}\u{200b}\u{feff}\u{2028}".as_bytes();
            *request.uri_mut() = http::Uri::try_from(path).unwrap();
            request
        };
        let acceptor = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
        for id in ["1", "2"] {
            assert_eq!(acceptor.clone().oneshot(request(id)).await.unwrap().status(), 200);
        }
        let handler = service_fn(async |request: Request<VerifiedBody>| {
            if request.extensions().get::<tower_klikit::EventId>().unwrap().as_str() == "1" {
                return Err(HIDDEN);
            }
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok(response)
        });
        inbox.worker(handler).max_attempts(1).run_until(tokio::time::sleep(Duration::from_secs(9))).await;
    });
    // The worker logs its start and its stop in three lines.
    assert_escaped(&log, 3 + 3, &["dead-lettered a delivery: paid", "has no route for POST /paid"]);
}
