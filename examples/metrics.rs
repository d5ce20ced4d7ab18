//! Metrics of this crate for Prometheus.
//!
//! ```text
//! cargo run --example metrics              # sends itself some deliveries, prints the metrics, then serves
//! cargo run --example metrics -- --once    # stops after printing
//! ```
//!
//! `tower_klikit::metrics` lists all names, and recommends alerts.

use std::{future::ready, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    routing::{get, post, post_service},
};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::{sync::oneshot, time::sleep};
use tower::Layer;
use tower_klikit::{
    Keyring, KlikitVerifyLayer, WebhookSecret, inbox::Inbox, metrics, store::MemoryStore, testing::SignedDelivery,
};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};

const USAGE: &str = "\
Usage: cargo run --example metrics [-- --once]

Receives klikit's deliveries on POST /webhooks/klikit, and serves their metrics on
GET /metrics. Sends itself sample deliveries, prints the metrics, and then serves until
ctrl-c or SIGTERM. Accepts two demo secrets, as during a rotation.

Options:
  --once  Stop after the samples, with exit code 1 if a metric is not as expected
  --help  Print this help

Environment:
  PORT  The port on 127.0.0.1 [default: 8080]";

const PATH: &str = "/webhooks/klikit";
const OLD_SECRET: &str = "the old demo secret of klikit";
const NEW_SECRET: &str = "the new demo secret of klikit";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = Arguments::read(USAGE);
    let once = arguments.flag("--once");
    arguments.finish();

    // Install the recorder before the layers record anything. Without buckets, histograms become summaries, which cannot be
    // aggregated.
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(metrics::ACK.into()), metrics::ACK_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(metrics::HANDLER.into()), metrics::HANDLER_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(metrics::BODY_BYTES.into()), metrics::BODY_BUCKETS)?
        .install_recorder()?;
    metrics::describe();

    // A rotation in progress: `klikit_verified_deliveries_total` shows when the old secret is no longer used.
    let keyring = Keyring::new("bali-bites", "2026-06", WebhookSecret::new(OLD_SECRET)?);
    keyring.add("2026-11", WebhookSecret::new(NEW_SECRET)?)?;

    let inbox = Inbox::new(MemoryStore::new());
    let handler: Router = Router::new().route(PATH, post(async |_: Bytes| StatusCode::OK));
    let (close_worker, closed) = oneshot::channel::<()>();
    let worker = tokio::spawn(inbox.worker(handler).run_until(closed));

    let verify = KlikitVerifyLayer::with_keyring(keyring);
    let scraped = prometheus.clone();
    let app = Router::new()
        .route(PATH, post_service(verify.layer(inbox.acceptor())))
        // Use a separate port for metrics if this port is public.
        .route("/metrics", get(move || ready(scraped.render())));
    // Histograms keep every value until a scrape or this upkeep aggregates them.
    let upkeep = tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(5)).await;
            prometheus.run_upkeep();
        }
    });

    let listener = setup::listen().await?;
    let url = format!("http://{}", listener.local_addr()?);
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    let (close, closed) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, app, Limits::default(), closed));

    let text = demo(&url).await?;
    println!("{text}");
    if once {
        expect(&text)?;
    } else {
        println!("Serving POST {url}{PATH} and GET {url}/metrics until ctrl-c or SIGTERM.");
        stop.requested().await;
    }
    drop((close_worker, close));
    upkeep.abort();
    server.await?;
    worker.await?;
    Ok(())
}

/// Sends deliveries and scrapes the metrics.
async fn demo(url: &str) -> Result<String, BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let by_new = SignedDelivery::new(NEW_SECRET, r#"{"brand_id":1,"branch_id":2,"orders":[{"id":41}]}"#);
    let by_old = SignedDelivery::new(OLD_SECRET, r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#);
    let deliveries = [
        by_new.clone(),
        by_old.clone(),
        // A copy.
        by_new.clone(),
        // A known event id with another body.
        SignedDelivery::new(NEW_SECRET, r#"{"brand_id":1,"branch_id":2,"orders":[]}"#).event_id("evt-1"),
        by_old.clone().event_id("evt-1"),
        // A forged delivery, and an unsigned one.
        by_new.clone().altered(),
        by_new.without_header(&tower_klikit::header::SIGNATURE),
    ];
    for delivery in deliveries {
        client.request(delivery.uri(&format!("{url}{PATH}")).request()).await?;
    }
    let scraped = client.get(format!("{url}/metrics").parse()?).await?;
    Ok(String::from_utf8(scraped.into_body().collect().await?.to_bytes().to_vec())?)
}

/// Returns an error if the metrics lack an expected line.
fn expect(text: &str) -> Result<(), BoxError> {
    for line in [
        r#"klikit_deliveries_total{verdict="verified",reason="",tenant="bali-bites"} 5"#,
        r#"klikit_deliveries_total{verdict="rejected",reason="signature_mismatch",tenant="bali-bites"} 1"#,
        r#"klikit_deliveries_total{verdict="rejected",reason="missing_signature",tenant=""} 1"#,
        r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="2026-06"} 2"#,
        r#"klikit_verified_deliveries_total{tenant="bali-bites",secret_id="2026-11"} 3"#,
        r#"klikit_duplicates_total{tenant="bali-bites"} 1"#,
        r#"klikit_conflicts_total{tenant="bali-bites"} 1"#,
        r#"klikit_body_bytes_count 5"#,
        r#"klikit_ack_seconds_count{status="200"} 5"#,
    ] {
        if !text.lines().any(|counted| counted == line) {
            return Err(format!("expected {line}").into());
        }
    }
    Ok(())
}
