//! Tests of log lines: they contain the reason, and never a body, a secret or a whole signature.
#![cfg(feature = "tracing")]

#[cfg(feature = "dedupe")]
mod dedupe;
mod escaping;
#[cfg(feature = "dedupe")]
mod floods;
#[cfg(feature = "inbox")]
mod inbox;
mod verify;

#[cfg(feature = "dedupe")]
use std::future::Future;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower_klikit::{KlikitVerifyLayer, header::SIGNATURE, testing::SignedDelivery};
use tower_klikit_test_support::{log, log::Log};
use tracing_subscriber::{filter::LevelFilter, fmt::format::FmtSpan};

use crate::support::{BODY, SECRET, send};

/// Returns what is logged, at all levels, while `run` runs.
fn log_of(run: impl FnOnce()) -> String {
    let log = Log::default();
    log.capture_while(LevelFilter::TRACE, FmtSpan::NONE, run);
    log.text()
}

/// Returns what is logged while `run` runs on a paused clock.
#[cfg(feature = "dedupe")]
fn log_of_task(run: impl Future<Output = ()>) -> String {
    log_of(|| log::paused(run))
}

/// The fields that each line about [`evt_7`] has.
#[cfg(feature = "dedupe")]
const EVT_7_FIELDS: &str = r#"event_id="evt-7" tenant="default""#;

#[cfg(feature = "dedupe")]
fn evt_7() -> Request<Full<Bytes>> {
    SignedDelivery::new(SECRET, BODY).event_id("evt-7").request()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Returns what is logged while the layer handles a request. Asserts that no secret is logged.
fn log_of_request<B>(layer: &KlikitVerifyLayer, request: Request<B>) -> String
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let log = log_of(|| {
        runtime().block_on(send(layer, request));
    });
    let signature = SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>().headers()[SIGNATURE].clone();
    for hidden in [SECRET, BODY, signature.to_str().unwrap(), "c2VjcmV0"] {
        assert!(!log.contains(hidden), "{hidden} was logged: {log}");
    }
    log
}

/// Returns the fields of the only line with this level and message, without the fields of its span.
#[cfg(feature = "dedupe")]
fn fields<'a>(log: &'a str, level: &str, message: &str) -> &'a str {
    let mut lines = log.lines().filter(|line| line.contains(level)).filter_map(|line| line.split_once(message));
    let (_, fields) = lines.next().unwrap_or_else(|| panic!("no {level} {message}: {log}"));
    assert_eq!(lines.next(), None, "{log}");
    fields
}

/// Returns the number of lines with this text, and the sum of their `left_out` fields.
#[cfg(feature = "dedupe")]
fn lines_with(log: &str, text: &str) -> (usize, u64) {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    let left_out = |line: &&str| {
        let (_, rest) = line.split_once("left_out=")?;
        rest.split(' ').next()?.parse::<u64>().ok()
    };
    (lines.len(), lines.iter().filter_map(left_out).sum())
}
