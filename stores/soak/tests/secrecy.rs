//! Test that the crates and their drivers never log a secret, a body or a whole signature.
//!
//! The test has its own program, because it installs global loggers for `tracing` and `log`.

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    fmt::Debug,
    future::ready,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    routing::{post, post_service},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use metrics_exporter_prometheus::PrometheusBuilder;
use support::{
    body::{Script, Step},
    send, servers,
};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_klikit::{
    Keyring, KlikitVerifyLayer, VerifiedBody, WebhookSecret,
    axum::KlikitEvent,
    dedupe::{KlikitDedupeLayer, Ledger},
    diagnose::{Diagnostician, SupportReport},
    header::{EVENT_ID, SIGNATURE},
    inbox::{Filter, Inbox, InboxAdmin, InboxStore, OrderBy},
    store::MemoryStore,
    testing::SignedDelivery,
};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_redis::RedisStore;
use tower_klikit_sqlite::SqliteStore;
use tracing_subscriber::filter::LevelFilter;

const SECRET: &str = "hunter2-webhook-secret";
const OLD_SECRET: &str = "swordfish-webhook-secret";
const PARTNER_SECRET: &str = "opensesame-partner-api";
const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"external_id":"A-1","business_id":7,"brands":[],"branch_id":2,"status":2,"cart":[],"customer":{"name":"Dewi Lestari","phone":"+62 811 555 0199","note":"Jalan Kenanga / lantai 3 — “pintu biru”"}}]}"#;

/// A logger that collects all log messages, and values that were formatted.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl log::Log for Output {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.show(format_args!("{} {} {}", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

impl Output {
    fn listen() -> Self {
        let output = Self::default();
        let writer = output.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log::set_boxed_logger(Box::new(output.clone())).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        output
    }

    /// Adds a value in its `Display` form, since users may print it.
    fn show(&self, value: impl std::fmt::Display) {
        self.0.lock().unwrap().extend_from_slice(format!("{value}\n").as_bytes());
    }

    /// Adds a value in both of its `Debug` forms.
    fn debug(&self, value: &impl Debug) {
        self.show(format_args!("{value:?} {value:#?}"));
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

fn secret(text: &str) -> WebhookSecret {
    WebhookSecret::new(text).unwrap()
}

fn keyring() -> Keyring {
    let keyring = Keyring::new("bali-bites", "old", secret(OLD_SECRET));
    keyring.add("new", secret(SECRET)).unwrap();
    keyring
}

fn candidates() -> Keyring {
    Keyring::new("candidates", "partner-api", secret(PARTNER_SECRET))
}

fn delivery(body: &'static str) -> SignedDelivery {
    SignedDelivery::new(SECRET, body).header(header::AUTHORIZATION, basic(PARTNER_SECRET))
}

/// Returns Basic credentials (RFC 7617), which must not be logged.
fn basic(secret: &str) -> String {
    use base64ct::{Base64, Encoding};
    format!("Basic {}", Base64::encode_string(format!("partner:{secret}").as_bytes()))
}

/// Sends deliveries that the verify layer rejects, for all reasons that the diagnosis can name and for some others.
async fn send_rejected(output: &Output) {
    let reencoded = || Bytes::from(BODY.replace(':', ": ").replace(',', ", "));
    let by = |secret: &str| SignedDelivery::new(secret, BODY).header(header::AUTHORIZATION, basic(PARTNER_SECRET));
    let signature = delivery(BODY).request::<Full<Bytes>>().headers()[SIGNATURE].clone();
    let signature = signature.to_str().unwrap();
    let rejected = [
        delivery(BODY).altered(),
        by("somebody else's secret"),
        by(PARTNER_SECRET),
        by(&format!("{SECRET}\n")),
        by(&format!("\"{SECRET}\"")),
        delivery(BODY).without_header(&SIGNATURE),
        delivery(BODY).without_header(&EVENT_ID),
        delivery(BODY).added_header(SIGNATURE, signature),
        delivery(BODY).header(SIGNATURE, format!("sha256={signature}")),
        delivery(BODY).header(SIGNATURE, signature.get(..40).unwrap()),
        delivery(BODY).header(SIGNATURE, format!("t=1777777777,v1={signature}")),
        delivery(BODY).event_id(""),
    ];
    for delivery in &rejected {
        // Use a new layer for each delivery, because a layer explains only one mismatch per second.
        let layer = KlikitVerifyLayer::with_keyring(keyring()).explain_mismatches_with(candidates());
        output.debug(&layer);
        output.debug(delivery);
        let (response, seen) = send(&layer, delivery.request::<Full<Bytes>>()).await;
        assert!(response.status.is_client_error() && seen.is_none());
        output.debug(&response);
    }
    for body in [reencoded(), Bytes::new(), Bytes::from(format!("{BODY}\n"))] {
        let layer = KlikitVerifyLayer::with_keyring(keyring()).explain_mismatches();
        let request = delivery(BODY).request_with(|_| Full::<Bytes>::from(body.clone()));
        let headers = request.headers().clone();
        assert_eq!(send(&layer, request).await.0.status, 403);
        let diagnosis = Diagnostician::new(keyring()).candidates(candidates()).diagnose(&headers, &body);
        output.debug(&diagnosis);
        output.show(&diagnosis);
        let report = SupportReport::new(&diagnosis, &headers, &body).answered(StatusCode::FORBIDDEN);
        output.debug(&report);
        output.show(&report);
    }
    let layer = KlikitVerifyLayer::with_keyring(keyring()).body_limit(100).require_basic_auth("partner", "another");
    output.debug(&layer);
    send(&layer, delivery(BODY).request::<Full<Bytes>>()).await;
    let failing = delivery(BODY).request_with(|body| Script::new([Step::Data(body.slice(..99)), Step::Fail]));
    send(&KlikitVerifyLayer::with_keyring(keyring()), failing).await;
}

/// Returns a delivery, a copy of it, and a delivery with the same event id and a different body.
fn deliveries() -> [SignedDelivery; 3] {
    let other = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"customer":{"name":"Dewi Lestari"}}]}"#;
    [delivery(BODY), delivery(BODY), delivery(other)].map(|delivery| delivery.event_id("evt-7"))
}

/// Sends deliveries through the dedupe layer, and forgets them.
async fn deduplicate(output: &Output, store: impl Ledger) {
    let dedupe = KlikitDedupeLayer::new(store);
    output.debug(&dedupe);
    let stack = KlikitVerifyLayer::with_keyring(keyring()).layer(dedupe.layer(support::Handler::default()));
    for delivery in deliveries() {
        let response = stack.clone().oneshot(delivery.request::<Full<Bytes>>()).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    dedupe.forget("bali-bites", "evt-7").await.unwrap();
}

/// Accepts deliveries in an inbox, fails their attempts until they are dead-lettered, shows them, retries them, and
/// accepts one again.
async fn use_inbox(output: &Output, store: impl InboxStore + InboxAdmin) {
    let inbox = Inbox::new(store).order_by(OrderBy::order()).keep_bodies(Duration::from_secs(60));
    output.debug(&inbox);
    let stack = KlikitVerifyLayer::with_keyring(keyring()).layer(inbox.acceptor());
    output.debug(&stack);
    for delivery in deliveries() {
        let response = stack.clone().oneshot(delivery.request::<Full<Bytes>>()).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let failed_once = Arc::new(Mutex::new(false));
    let shown = output.clone();
    let handler = async move |event: KlikitEvent| {
        shown.debug(&event);
        match std::mem::replace(&mut *failed_once.lock().unwrap(), true) {
            false => StatusCode::SERVICE_UNAVAILABLE,
            true => StatusCode::UNPROCESSABLE_ENTITY,
        }
    };
    let handler: Router = Router::new().route("/webhooks/klikit", post(handler));
    let worker = inbox.worker(handler).backoff(Duration::from_millis(1), Duration::from_millis(1));
    output.debug(&worker);
    let watched = inbox.clone();
    let both_are_dead = async move {
        while watched.counts().await.unwrap().dead < 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let worker = worker.poll_interval(Duration::from_millis(20)).run_until(both_are_dead);
    timeout(Duration::from_secs(60), worker).await.unwrap();
    let dead = inbox.dead(None, 10).await.unwrap();
    assert_eq!(dead.len(), 2);
    output.debug(&dead);
    output.debug(&inbox.show_with_body(dead[0].id).await.unwrap());
    output.debug(&inbox.counts().await.unwrap());
    inbox.operator("ana").retry(Filter::new()).run().await.unwrap();
    let response = stack.oneshot(deliveries()[0].request::<Full<Bytes>>()).await.unwrap();
    assert_eq!(response.status(), 200);
}

/// Sends a delivery that the extractor rejects.
async fn send_unparsable(output: &Output) {
    let app: Router = Router::new().route("/webhooks/klikit", post(async |_: KlikitEvent| {}));
    let app = KlikitVerifyLayer::with_keyring(keyring()).layer(app);
    let broken = delivery(r#"{"brand_id":1,"branch_id":2,"orders":"Dewi Lestari"}"#);
    let response: Response<_> = app.oneshot(broken.request::<Full<Bytes>>()).await.unwrap();
    assert_eq!(response.status(), 422);
    let size = response.body().size_hint().exact();
    output.show(format_args!("{:?} {size:?}", response.status()));
}

/// Sends deliveries over a real socket, so that the HTTP server and client log too.
async fn serve(output: &Output) -> Result<(), BoxError> {
    let shown = output.clone();
    let handler = move |request: Request<VerifiedBody>| {
        shown.debug(&request);
        ready(Ok::<_, Infallible>(Response::new(axum::body::Body::empty())))
    };
    let verify = KlikitVerifyLayer::with_keyring(keyring());
    let app: Router = Router::new().route("/webhooks/klikit", post_service(verify.layer(service_fn(handler))));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/webhooks/klikit", listener.local_addr()?);
    let server = tokio::spawn(axum::serve(listener, app).into_future());
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    for (delivery, status) in [(delivery(BODY), 200), (delivery(BODY).altered(), 403)] {
        let response = client.request(delivery.uri(&url).request()).await?;
        output.debug(&response);
        assert_eq!(response.status(), status);
    }
    server.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_no_secret_and_no_body() -> Result<(), BoxError> {
    let output = Output::listen();
    let metrics = PrometheusBuilder::new().install_recorder()?;
    serve(&output).await?;
    send_rejected(&output).await;
    send_unparsable(&output).await;

    let folder = tempfile::tempdir()?;
    deduplicate(&output, MemoryStore::new()).await;
    deduplicate(&output, SqliteStore::builder().create().open(folder.path().join("ledger.db"))?).await;
    use_inbox(&output, MemoryStore::new()).await;
    use_inbox(&output, SqliteStore::builder().create().open(folder.path().join("inbox.db"))?).await;
    if let Some(redis) = servers::redis::any() {
        let store = RedisStore::open(&redis.url).await?;
        output.debug(&store);
        deduplicate(&output, store).await;
    }
    let mut expected = vec!["klikit_delivery{", "klikit_attempt{", "cause=", "for klikit's support", "hyper", "evt-7"];
    if let Some(postgres) = servers::postgres::PostgresServer::start("secrecy") {
        let store = PostgresStore::open(postgres.url()).await?;
        output.debug(&store);
        deduplicate(&output, store.clone()).await;
        use_inbox(&output, store).await;
        expected.push("tokio_postgres");
    }
    output.show(metrics.render());
    expected.push("klikit_verified_deliveries_total");

    let text = output.text();
    // Check that the loggers work.
    for expected in expected {
        assert!(text.contains(expected), "{expected} was not logged");
    }
    let mut hidden: Vec<String> = Vec::new();
    for secret in [SECRET, OLD_SECRET, PARTNER_SECRET] {
        hidden.extend([secret.to_owned(), bytes_as_debug(secret), hex(secret.as_bytes()), basic(secret)]);
        hidden.push(secret.split('-').next().unwrap().to_owned());
    }
    for words in ["Lestari", "811 555 0199", "Kenanga", "pintu biru"] {
        hidden.extend([words.to_owned(), bytes_as_debug(words), hex(words.as_bytes())]);
    }
    for delivery in deliveries() {
        let signature = delivery.request::<Full<Bytes>>().headers()[SIGNATURE].to_str()?.to_owned();
        hidden.push(signature[..17].to_owned());
        hidden.push(signature[47..].to_owned());
    }
    for hidden in hidden {
        if let Some(at) = text.find(&hidden) {
            let line = text[..at].rfind('\n').map_or(0, |start| start + 1);
            panic!("{hidden} was logged: {:.600}", &text[line..]);
        }
    }
    Ok(())
}

/// Formats bytes as the `Debug` form of a slice.
fn bytes_as_debug(text: &str) -> String {
    text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
