//! A receiver as partners write them, without this project's library, and its flawed variants.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use hmac::{Hmac, KeyInit, Mac};
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::{Body as HttpBody, Frame};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use tokio::time::{sleep, timeout};
use tower_klikit::{
    WebhookSecret,
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
};

use crate::support::SECRET;

const PATH: &str = "/webhooks/klikit";

/// The status of orders that all handlers of the tests fail on.
pub(crate) const FAILING_STATUS: i64 = 999;

/// The time between a check and an insertion in another system, such as a database.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// The one fault of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Accepts each delivery.
    VerifiesNothing,
    /// Verifies a signature only if there is one.
    AcceptsUnsigned,
    /// Compares only the first half of the signature.
    ComparesHalf,
    /// Compares only as many digits as the signature has.
    ComparesGivenDigits,
    /// Verifies only the events that it handles.
    VerifiesKnownEvents,
    /// Verifies only JSON, because its framework keeps the bytes of no other body.
    VerifiesJson,
    /// Ignores white space around the body.
    TrimsBody,
    /// Takes an empty signature for a missing one, and verifies neither.
    AcceptsEmptySignature,
    /// Accepts an empty secret too, because its setting for a second secret is empty.
    AcceptsEmptySecret,
    /// Verifies only bodies with a `Content-Length`, because its framework keeps the bytes of no other body.
    VerifiesContentLength,
    /// Looks for duplicates before it verifies.
    DeduplicatesBeforeVerifying,
    /// Accepts the secret of klikit's samples too.
    AcceptsSampleSecret,
    /// Answers to a malformed signature with another status than to a wrong one.
    LeaksReason,
    /// Shows the right signature in its answer to a wrong one.
    ShowsSignature,
    /// Accepts a delivery if one of several signatures is right.
    AcceptsTwoSignatures,
    /// Fails on a header beyond ASCII.
    FailsOnNonAscii,
    /// Hashes what its JSON library writes.
    ReencodesJson,
    /// Handles only deliveries of one order.
    RejectsBatches,
    /// Limits bodies as Express does.
    LimitsBodies,
    /// Rejects bodies without a `Content-Length`.
    NeedsContentLength,
    /// Waits a second for a body.
    WaitsBriefly,
    /// Marks a delivery as handled before its body has arrived.
    MarksBeforeBody,
    /// Answers to a duplicate with 409, so that klikit sends it again.
    RejectsDuplicates,
    /// Looks for a duplicate and marks the delivery in two steps.
    ChecksThenInserts,
    /// Crashes if a copy arrives while the delivery is being handled.
    CrashesOnCopies,
    /// Takes each delivery with a known id for a duplicate.
    TrustsId,
    /// Marks a delivery as handled before its handler has succeeded.
    MarksBeforeWork,
    /// Redirects the URL to another one.
    Redirects,
    /// Redirects the URL with a slash to the one without.
    RedirectsSlash,
    /// Verifies nothing at the URL with a slash.
    LeavesSlashUnverified,
    /// Answers after this time.
    Delays(Duration),
    /// Crashes on each delivery after this number of handled ones, for example because it does not close its files.
    CrashesAfter(usize),
    /// Sends an answer that does not end to a delivery of several orders.
    AnswersBatchesEndlessly,
}

/// Creates a receiver without a fault.
pub(crate) fn sound() -> Router {
    router(None)
}

/// Creates a receiver with one fault.
pub(crate) fn with(fault: Fault) -> Router {
    router(Some(fault))
}

fn router(fault: Option<Fault>) -> Router {
    let partner = Arc::new(Partner { fault, known: Mutex::default() });
    let webhook = post(receive).with_state(partner);
    match fault {
        Some(Fault::Redirects) => {
            let redirect = post(|| async { Redirect::permanent("/webhooks/klikit/v2") });
            Router::new().route(PATH, redirect).route("/webhooks/klikit/v2", webhook)
        }
        Some(Fault::RedirectsSlash) => {
            let redirect = post(|| async { Redirect::permanent(PATH) });
            Router::new().route(PATH, webhook).route("/webhooks/klikit/", redirect)
        }
        Some(Fault::LeavesSlashUnverified) => {
            let unverified = Arc::new(Partner { fault: Some(Fault::VerifiesNothing), known: Mutex::default() });
            Router::new().route(PATH, webhook).route("/webhooks/klikit/", post(receive).with_state(unverified))
        }
        _ => Router::new().route(PATH, webhook),
    }
}

/// A receiver that verifies each delivery and handles it once.
struct Partner {
    fault: Option<Fault>,
    known: Mutex<HashMap<Key, Progress>>,
}

/// A status and a text for the answer to a delivery that does not verify.
type Rejection = (StatusCode, String);

/// The id and the body of a delivery.
type Key = (String, Bytes);

#[derive(Clone, Copy)]
enum Progress {
    Running,
    Done,
}

/// The body of a delivery, written in the order of these fields.
#[derive(Serialize, Deserialize)]
struct Event {
    brand_id: i64,
    branch_id: i64,
    orders: Vec<Value>,
}

async fn receive(State(partner): State<Arc<Partner>>, request: Request) -> Response {
    partner.receive(request).await.unwrap_or_else(|answer| answer)
}

impl Partner {
    async fn receive(&self, request: Request) -> Result<Response, Response> {
        let (head, body) = request.into_parts();
        let id = head.headers.get(EVENT_ID).ok_or_else(|| error(StatusCode::BAD_REQUEST, "missing klikit headers"))?;
        let id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        if self.has(Fault::NeedsContentLength) && !head.headers.contains_key(CONTENT_LENGTH) {
            return Err(error(StatusCode::LENGTH_REQUIRED, "length required"));
        }
        let early = (id.clone(), Bytes::new());
        if self.has(Fault::MarksBeforeBody) && self.claim(&early).is_some() {
            return Ok(duplicate());
        }
        let body = self.read(body).await?;
        // The mark stays if the connection breaks, which ends this function.
        if self.has(Fault::MarksBeforeBody) {
            self.known().remove(&early);
        }
        let key = (id, body.clone());
        if self.has(Fault::DeduplicatesBeforeVerifying) && self.progress(&key).is_some() {
            return Ok(duplicate());
        }
        self.verify(&head.headers, &body).map_err(|(status, text)| error(status, &text))?;
        if let Some(Fault::Delays(time)) = self.fault {
            sleep(time).await;
        }
        self.handle_once(key).await
    }

    async fn read(&self, body: Body) -> Result<Bytes, Response> {
        let limit = if self.has(Fault::LimitsBodies) { 100 * 1024 } else { 10 << 20 };
        let patience = Duration::from_millis(if self.has(Fault::WaitsBriefly) { 1000 } else { 20_000 });
        let read = timeout(patience, to_bytes(body, limit)).await;
        let read = read.map_err(|_| error(StatusCode::REQUEST_TIMEOUT, "body too slow"))?;
        read.map_err(|_| error(StatusCode::PAYLOAD_TOO_LARGE, "body too large"))
    }

    fn verify(&self, headers: &HeaderMap, body: &Bytes) -> Result<(), Rejection> {
        let values: Vec<_> = headers.get_all(SIGNATURE).iter().collect();
        let is_beyond_ascii = values.iter().any(|value| !value.as_bytes().is_ascii());
        if self.has(Fault::FailsOnNonAscii) && is_beyond_ascii {
            return Err(rejection(StatusCode::INTERNAL_SERVER_ERROR, "internal server error"));
        }
        let starts_with = |name: HeaderName, start: &str| {
            headers.get(name).is_some_and(|value| value.as_bytes().starts_with(start.as_bytes()))
        };
        if self.has(Fault::VerifiesKnownEvents)
            && !starts_with(EVENT_TYPE, "klikit.order.")
            && headers.contains_key(EVENT_TYPE)
            || self.has(Fault::VerifiesContentLength) && !headers.contains_key(CONTENT_LENGTH)
            || self.has(Fault::VerifiesJson) && !starts_with(CONTENT_TYPE, "application/json")
        {
            return Ok(());
        }
        if self.has(Fault::VerifiesNothing) || self.has(Fault::AcceptsUnsigned) && values.is_empty() {
            return Ok(());
        }
        let is_malformed = values.iter().any(|value| value.len() != 64);
        if self.has(Fault::LeaksReason) && is_malformed {
            return Err(rejection(StatusCode::BAD_REQUEST, "the signature has the wrong length"));
        }
        let anew = self.has(Fault::ReencodesJson).then(|| reencoded(body)).flatten();
        let signed = anew.unwrap_or_else(|| body.to_vec());
        let signed = if self.has(Fault::TrimsBody) { signed.trim_ascii().to_vec() } else { signed };
        let secrets = [SECRET, "your-webhook-secret"];
        let secrets = &secrets[..if self.has(Fault::AcceptsSampleSecret) { 2 } else { 1 }];
        let expected =
            secrets.iter().map(|secret| WebhookSecret::new(secret).expect("a secret").sign(&signed).to_string());
        let mut expected: Vec<_> = expected.collect();
        if self.has(Fault::AcceptsEmptySecret) {
            expected.push(signature_without_secret(&signed));
        }
        let is_right = |value: &[u8]| {
            expected.iter().any(|expected| match self.fault {
                Some(Fault::ComparesHalf) => value.len() == 64 && expected.as_bytes()[..32] == value[..32],
                Some(Fault::ComparesGivenDigits) => !value.is_empty() && expected.as_bytes().starts_with(value),
                _ => expected.as_bytes() == value,
            })
        };
        match &*values {
            [value] if self.has(Fault::AcceptsEmptySignature) && value.is_empty() => Ok(()),
            [value] if is_right(value.as_bytes()) => Ok(()),
            [_, _]
                if self.has(Fault::AcceptsTwoSignatures) && values.iter().any(|value| is_right(value.as_bytes())) =>
            {
                Ok(())
            }
            _ if self.has(Fault::ShowsSignature) => {
                Err(rejection(StatusCode::FORBIDDEN, &format!("expected {}", expected[0])))
            }
            _ => Err(rejection(StatusCode::FORBIDDEN, "invalid signature")),
        }
    }

    /// Handles a delivery unless it was handled before.
    async fn handle_once(&self, (id, body): Key) -> Result<Response, Response> {
        let key = (id, if self.has(Fault::TrustsId) { Bytes::new() } else { body.clone() });
        let before = if self.has(Fault::ChecksThenInserts) {
            let before = self.progress(&key);
            sleep(ROUND_TRIP).await;
            before
        } else {
            self.claim(&key)
        };
        match before {
            Some(Progress::Running) if self.has(Fault::CrashesOnCopies) => panic!("crashed, as the test wants"),
            Some(Progress::Running) => return Err(error(StatusCode::SERVICE_UNAVAILABLE, "in progress")),
            Some(Progress::Done) if self.has(Fault::RejectsDuplicates) => {
                return Err(error(StatusCode::CONFLICT, "duplicate"));
            }
            Some(Progress::Done) => return Ok(duplicate()),
            None => {}
        }
        let answer = self.handle(&body).await;
        let mut known = self.known();
        match &answer {
            Err(_) if !self.has(Fault::MarksBeforeWork) => known.remove(&key),
            _ => known.insert(key, Progress::Done),
        };
        answer
    }

    async fn handle(&self, body: &[u8]) -> Result<Response, Response> {
        // The work of a handler, such as a print of the order.
        sleep(ROUND_TRIP).await;
        if let Some(Fault::CrashesAfter(handled)) = self.fault {
            assert!(self.known().len() <= handled, "crashed, as the test wants");
        }
        let event: Event =
            serde_json::from_slice(body).map_err(|_| error(StatusCode::BAD_REQUEST, "malformed event"))?;
        if event.orders.len() > 1 && self.has(Fault::RejectsBatches) {
            return Err(error(StatusCode::UNPROCESSABLE_ENTITY, "one order expected"));
        }
        if event.orders.iter().any(|order| order["status"] == FAILING_STATUS) {
            return Err(error(StatusCode::INTERNAL_SERVER_ERROR, "the printer is out of paper"));
        }
        Ok(if event.orders.len() > 1 && self.has(Fault::AnswersBatchesEndlessly) {
            Response::new(Body::new(Endless))
        } else {
            answer(StatusCode::OK, "status", "received")
        })
    }

    /// Marks a delivery as running if it is new. Returns its progress if it is known.
    fn claim(&self, key: &Key) -> Option<Progress> {
        let mut known = self.known();
        let before = known.get(key).copied();
        if before.is_none() {
            known.insert(key.clone(), Progress::Running);
        }
        before
    }

    fn progress(&self, key: &Key) -> Option<Progress> {
        self.known().get(key).copied()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Progress>> {
        self.known.lock().expect("no test panics while it holds the lock")
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

/// Writes an event anew. Returns `None` if it is malformed.
fn reencoded(body: &[u8]) -> Option<Vec<u8>> {
    let event: Event = serde_json::from_slice(body).ok()?;
    serde_json::to_vec(&event).ok()
}

/// Signs with an empty secret, which the library rejects.
fn signature_without_secret(signed: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"").expect("any length is valid");
    mac.update(signed);
    hex::encode(mac.finalize().into_bytes())
}

fn rejection(status: StatusCode, text: &str) -> Rejection {
    (status, text.to_owned())
}

fn duplicate() -> Response {
    answer(StatusCode::OK, "status", "duplicate-ignored")
}

fn error(status: StatusCode, text: &str) -> Response {
    answer(status, "error", text)
}

fn answer(status: StatusCode, name: &str, text: &str) -> Response {
    (status, format!(r#"{{"{name}":"{text}"}}"#)).into_response()
}

/// A body without an end.
pub(crate) struct Endless;

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'.'; 1024])))))
    }
}
