//! Names, labels and descriptions of all metrics.
//!
//! The crate reports metrics through the facade crate `metrics`, so any recorder for that crate works. Install the
//! recorder first, then call [`describe`]. The example `examples/metrics.rs` exports them to Prometheus, and prints
//! what Prometheus scrapes: `cargo run --example metrics`.
//!
//! | name | kind | labels | description |
//! |---|---|---|---|
//! | [`klikit_deliveries_total`](DELIVERIES) | counter | `verdict`, `reason`, `tenant` | requests that reached the verify layer: `verified`; `rejected`, with the `reason` as named by [`RejectionKind::as_str`](crate::RejectionKind::as_str); or `abandoned`, if the sender hung up or an outer layer timed out before there was a verdict |
//! | [`klikit_verified_deliveries_total`](VERIFIED) | counter | `tenant`, `secret_id` | verified deliveries by the secret that matched: a secret whose counter has not changed for as long as klikit retries can be retired |
//! | [`klikit_last_verified_timestamp_seconds`](LAST_VERIFIED) | gauge | `tenant` | when the last verified delivery arrived, in seconds since 1970. 0 before the first delivery, for the tenants that are [known](crate::KlikitVerifyLayer::known_keyrings) when a service starts. A wrong URL at klikit shows only here |
//! | [`klikit_body_bytes`](BODY_BYTES) | histogram | | the length of verified bodies |
//! | [`klikit_buffered_bytes`](BUFFERED) | gauge | | memory that all unverified bodies hold now, as [`buffer_budget`](crate::KlikitVerifyLayer::buffer_budget) counts it |
//! | [`klikit_ack_seconds`](ACK) | histogram | `status` | the time from the head of a verified request to its response; klikit treats more than 10 seconds as a failure. `status` is `error` if the inner service returned an error, and `none` if there was no response because klikit hung up, an outer layer timed out, or the handler panicked |
//! | [`klikit_duplicates_total`](DUPLICATES) | counter | `tenant` | deliveries that were handled or stored before |
//! | [`klikit_conflicts_total`](CONFLICTS) | counter | `tenant` | deliveries whose event id came with another body before |
//! | [`klikit_replays_total`](REPLAYS) | counter | `tenant` | deliveries that were rejected because their body came with too many event ids |
//! | [`klikit_handler_seconds`](HANDLER) | histogram | `caller` | the time that the handler took until it returned, panicked or timed out: `caller` is `worker` for an inbox's worker, and `dedupe` for the dedupe layer. For a handler directly behind the verify layer, see `klikit_ack_seconds` |
//! | [`klikit_inbox_attempts_total`](ATTEMPTS) | counter | `outcome` | attempts of the workers that have ended: `done`; `retry`, if the delivery was rescheduled; `dead`, if it was dead-lettered; `expired`, if it was [too old](crate::inbox::Worker::expire_after); `released`, if the worker stopped first; or `lost`, if another worker took the lease. Attempts that ended with their process are not counted |
//! | [`klikit_inbox_dead_letters_total`](DEAD_LETTERS) | counter | `tenant` | deliveries that the inbox has dead-lettered |
//! | [`klikit_inbox_expired_total`](EXPIRED) | counter | `tenant` | deliveries that a worker has dead-lettered because they were [too old](crate::inbox::Worker::expire_after) to be handled; they count as dead letters too |
//! | [`klikit_inbox_leases_lost_total`](LEASES_LOST) | counter | | leases that another worker took while the handler was running |
//! | [`klikit_inbox_dead_letters_expired_total`](DEAD_LETTERS_EXPIRED) | counter | | dead letters that a worker has deleted because of their [age](crate::inbox::Inbox::keep_dead_letters) |
//! | [`klikit_inbox_deliveries`](INBOX) | gauge | `state` | deliveries of the inbox in each state: `ready`, `leased`, `dead`, or `done` and kept |
//! | [`klikit_inbox_oldest_seconds`](INBOX_OLDEST) | gauge | | the time since the oldest unfinished delivery was accepted, 0 if there is no unfinished delivery |
//! | [`klikit_inbox_counted_timestamp_seconds`](INBOX_COUNTED) | gauge | | when the previous two gauges were last set, in seconds since 1970: they keep their values while the store is down or no worker runs |
//! | [`klikit_inbox_stored_ratio`](INBOX_STORED) | gauge | | the share of [`max_stored`](crate::inbox::Inbox::max_stored) that is stored, from 0 to 1; acceptors set it too, every 10 seconds while they accept deliveries |
//!
//! `reason` is empty unless the verdict is `rejected`. `tenant` is empty until the keyring of a delivery is known.
//!
//! A [worker](crate::inbox::Worker::metrics_interval) sets the gauges of the inbox from the store. Workers that share a
//! store report the same values, so aggregate them with `max`, not with `sum`. The gauges assume one inbox per process.
//!
//! Senders cannot create label values. `tenant` and `secret_id` are names of [keyrings](crate::Keyring) and secrets, so
//! a [resolver](crate::KlikitVerifyLayer::with_resolver) must not create keyrings from request data. `status` is the
//! status of the handler's response. Every other label has a fixed set of values.
//!
//! # Recommended alerts
//!
//! For Prometheus, with histograms in [buckets](ACK_BUCKETS):
//!
//! ```text
//! # No delivery has arrived for an hour.
//! time() - max by (tenant) (max_over_time(klikit_last_verified_timestamp_seconds[1d])) > 3600
//! # The secret is wrong, or somebody sends forged requests.
//! sum by (tenant) (rate(klikit_deliveries_total{reason="signature_mismatch"}[5m])) > 0
//! # Many requests are rejected: more than 6 a minute.
//! sum by (reason) (rate(klikit_deliveries_total{verdict="rejected"}[15m])) > 0.1
//! # Responses are slow: klikit recommends responding within a second.
//! histogram_quantile(0.99, sum by (le) (rate(klikit_ack_seconds_bucket[5m]))) > 1
//! # klikit counts failures: any response other than 2xx, as when the store fails.
//! sum(rate(klikit_ack_seconds_count{status!~"2.."}[5m])) > 0
//! # klikit counts failures: a response after more than 10 seconds.
//! sum(rate(klikit_ack_seconds_count[5m]))
//!   - sum(rate(klikit_ack_seconds_bucket{le="10"}[5m])) > 0
//! # Somebody replays a captured delivery.
//! sum by (tenant) (rate(klikit_replays_total[5m])) > 0
//! # There are dead letters to look at.
//! max(klikit_inbox_deliveries{state="dead"}) > 0
//! # Orders are too old to be handled when a worker gets to them.
//! sum by (tenant) (increase(klikit_inbox_expired_total[15m])) > 0
//! # More than a tenth of the attempts fail.
//! sum(rate(klikit_inbox_attempts_total{outcome=~"retry|dead"}[15m]))
//!   / (sum(rate(klikit_inbox_attempts_total{outcome=~"done|retry|dead"}[15m])) > 0) > 0.1
//! # Workers lose leases, so deliveries are handled twice.
//! sum(increase(klikit_inbox_leases_lost_total[15m])) > 0
//! # The inbox is close to rejecting deliveries.
//! max(klikit_inbox_stored_ratio) > 0.8
//! # Accepted deliveries are handled late.
//! max(klikit_inbox_oldest_seconds) > 300
//! # No worker runs, or the store is down.
//! time() - max(klikit_inbox_counted_timestamp_seconds) > 120
//! ```

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use ::metrics::{
    Counter, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use http::StatusCode;

use crate::keyring::{Keyring, Signer};

/// Requests that reached the verify layer, by verdict.
pub const DELIVERIES: &str = "klikit_deliveries_total";

/// Verified deliveries, by the secret that matched.
pub const VERIFIED: &str = "klikit_verified_deliveries_total";

/// The arrival time of the last verified delivery, in seconds since 1970.
pub const LAST_VERIFIED: &str = "klikit_last_verified_timestamp_seconds";

/// The length of verified bodies, in bytes.
pub const BODY_BYTES: &str = "klikit_body_bytes";

/// The memory that all unverified bodies hold now, in bytes.
pub const BUFFERED: &str = "klikit_buffered_bytes";

/// The time from the head of a verified request to its response, in seconds.
pub const ACK: &str = "klikit_ack_seconds";

/// Deliveries that were handled or stored before.
pub const DUPLICATES: &str = "klikit_duplicates_total";

/// Deliveries whose event id came with another body before.
pub const CONFLICTS: &str = "klikit_conflicts_total";

/// Deliveries that were rejected because their body came with too many event ids.
pub const REPLAYS: &str = "klikit_replays_total";

/// Deliveries of the inbox, by state.
pub const INBOX: &str = "klikit_inbox_deliveries";

/// The age of the oldest unfinished delivery of the inbox, in seconds.
pub const INBOX_OLDEST: &str = "klikit_inbox_oldest_seconds";

/// The time at which a worker last counted the deliveries of the inbox, in seconds since 1970.
pub const INBOX_COUNTED: &str = "klikit_inbox_counted_timestamp_seconds";

/// The number of stored deliveries as a share of the limit, from 0 to 1.
pub const INBOX_STORED: &str = "klikit_inbox_stored_ratio";

/// The time that a handler took, in seconds.
pub const HANDLER: &str = "klikit_handler_seconds";

/// Attempts of an inbox's workers, by outcome.
pub const ATTEMPTS: &str = "klikit_inbox_attempts_total";

/// Deliveries that the inbox has dead-lettered.
pub const DEAD_LETTERS: &str = "klikit_inbox_dead_letters_total";

/// Deliveries that workers have dead-lettered because they were too old to be handled.
pub const EXPIRED: &str = "klikit_inbox_expired_total";

/// Dead letters that workers have deleted because of their age.
pub const DEAD_LETTERS_EXPIRED: &str = "klikit_inbox_dead_letters_expired_total";

/// Leases that another worker took while the handler was running.
pub const LEASES_LOST: &str = "klikit_inbox_leases_lost_total";

/// Histogram bounds for [`ACK`]: 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 8 and 10 seconds. klikit recommends
/// responding within 1 second and times out after 10.
pub const ACK_BUCKETS: &[f64] = &[0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.0, 10.0];

/// Histogram bounds for [`HANDLER`]: 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 and 300 seconds. A worker's
/// handlers may take longer than klikit waits.
pub const HANDLER_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Histogram bounds for [`BODY_BYTES`]: 1, 4, 16, 64 and 256 KiB, and 1 MiB, in bytes. One order has 4 to 27 kB and a
/// batch more than 100 kB. The default body limit is one megabyte.
pub const BODY_BUCKETS: &[f64] = &[1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// Registers the descriptions of all metrics with the recorder. Call it once, after installing the recorder.
pub fn describe() {
    describe_counter!(DELIVERIES, "Requests that reached the verify layer, by verdict and reason");
    describe_counter!(VERIFIED, "Verified deliveries, by the secret that matched");
    describe_gauge!(
        LAST_VERIFIED,
        Unit::Seconds,
        "When the last verified delivery arrived, since 1970; 0 before the first"
    );
    describe_histogram!(BODY_BYTES, Unit::Bytes, "The length of verified bodies");
    describe_gauge!(BUFFERED, Unit::Bytes, "Memory that all unverified bodies hold now");
    describe_histogram!(ACK, Unit::Seconds, "Time from the head of a verified request to its response, by status");
    describe_counter!(DUPLICATES, "Deliveries that were handled or stored before");
    describe_counter!(CONFLICTS, "Deliveries whose event id came with another body before");
    describe_counter!(REPLAYS, "Deliveries that were rejected because their body came with too many event ids");
    describe_histogram!(HANDLER, Unit::Seconds, "Time that the handler took, by its caller");
    describe_counter!(ATTEMPTS, "Attempts of the inbox's workers, by outcome");
    describe_counter!(DEAD_LETTERS, "Deliveries that the inbox has dead-lettered");
    describe_counter!(EXPIRED, "Deliveries dead-lettered because they were too old to be handled");
    describe_counter!(DEAD_LETTERS_EXPIRED, "Dead letters that workers have deleted because of their age");
    describe_counter!(LEASES_LOST, "Leases that another worker took while the handler was running");
    describe_gauge!(INBOX, "Deliveries of the inbox, by state");
    describe_gauge!(INBOX_OLDEST, Unit::Seconds, "The age of the oldest unfinished delivery of the inbox");
    describe_gauge!(INBOX_COUNTED, Unit::Seconds, "When a worker last counted the deliveries of the inbox, since 1970");
    describe_gauge!(INBOX_STORED, "The number of stored deliveries as a share of max_stored, from 0 to 1");
}

/// Registers the metrics of a layer that uses this keyring with the value 0. Prometheus computes a rate only from a
/// first value on, and an alert needs a series. `mismatch` is the reason of deliveries rejected for their signature.
pub(super) fn start_counters(keyring: &Keyring, mismatch: &'static str) {
    for held in keyring.secrets().iter() {
        let Signer { tenant, secret_id } = &**held.signer();
        delivery("verified", "", Some(tenant)).increment(0);
        delivery("rejected", mismatch, Some(tenant)).increment(0);
        counter!(VERIFIED, "tenant" => label(tenant), "secret_id" => label(secret_id)).increment(0);
        gauge!(LAST_VERIFIED, "tenant" => label(tenant)).increment(0);
        #[cfg(feature = "dedupe")]
        for name in [DUPLICATES, CONFLICTS, REPLAYS] {
            counter!(name, "tenant" => label(tenant)).increment(0);
        }
        #[cfg(feature = "inbox")]
        for name in [DEAD_LETTERS, EXPIRED] {
            counter!(name, "tenant" => label(tenant)).increment(0);
        }
    }
    gauge!(BUFFERED).increment(0);
}

pub(super) fn verified(signer: &Signer, bytes: usize, received_at: SystemTime) {
    let Signer { tenant, secret_id } = signer;
    delivery("verified", "", Some(tenant)).increment(1);
    counter!(VERIFIED, "tenant" => label(tenant), "secret_id" => label(secret_id)).increment(1);
    gauge!(LAST_VERIFIED, "tenant" => label(tenant)).set(since_1970(received_at));
    histogram!(BODY_BYTES).record(bytes as f64);
}

pub(super) fn rejected(reason: &'static str, tenant: Option<&Arc<str>>) {
    delivery("rejected", reason, tenant).increment(1);
}

pub(super) fn abandoned(tenant: Option<&Arc<str>>) {
    delivery("abandoned", "", tenant).increment(1);
}

fn delivery(verdict: &'static str, reason: &'static str, tenant: Option<&Arc<str>>) -> Counter {
    let tenant = tenant.map_or(SharedString::const_str(""), label);
    counter!(DELIVERIES, "verdict" => verdict, "reason" => reason, "tenant" => tenant)
}

pub(super) fn answered(status: Option<StatusCode>, elapsed: Duration) {
    acknowledged(status.map_or(SharedString::const_str("error"), |status| status.as_str().to_owned().into()), elapsed);
}

pub(super) fn not_answered(elapsed: Duration) {
    acknowledged(SharedString::const_str("none"), elapsed);
}

fn acknowledged(status: SharedString, elapsed: Duration) {
    histogram!(ACK, "status" => status).record(elapsed.as_secs_f64());
}

pub(super) fn buffered(bytes: usize) {
    gauge!(BUFFERED).increment(bytes as f64);
}

pub(super) fn released(bytes: usize) {
    gauge!(BUFFERED).decrement(bytes as f64);
}

#[cfg(feature = "dedupe")]
pub(super) fn duplicate(tenant: &str) {
    counter!(DUPLICATES, "tenant" => tenant.to_owned()).increment(1);
}

#[cfg(feature = "dedupe")]
pub(super) fn conflict(tenant: &str) {
    counter!(CONFLICTS, "tenant" => tenant.to_owned()).increment(1);
}

#[cfg(feature = "dedupe")]
pub(super) fn replay(tenant: &str) {
    counter!(REPLAYS, "tenant" => tenant.to_owned()).increment(1);
}

/// Registers the counters of a worker with the value 0.
#[cfg(feature = "inbox")]
pub(super) fn start_worker_counters(outcomes: &[&'static str]) {
    for outcome in outcomes {
        counter!(ATTEMPTS, "outcome" => *outcome).increment(0);
    }
    for name in [LEASES_LOST, DEAD_LETTERS_EXPIRED] {
        counter!(name).increment(0);
    }
}

#[cfg(feature = "dedupe")]
pub(super) fn handled(caller: &'static str, elapsed: Duration) {
    histogram!(HANDLER, "caller" => caller).record(elapsed.as_secs_f64());
}

#[cfg(feature = "inbox")]
pub(super) fn attempt_ended(outcome: &'static str) {
    counter!(ATTEMPTS, "outcome" => outcome).increment(1);
}

#[cfg(feature = "inbox")]
pub(super) fn dead_letter(tenant: Option<&str>) {
    counter!(DEAD_LETTERS, "tenant" => tenant.unwrap_or_default().to_owned()).increment(1);
}

#[cfg(feature = "inbox")]
pub(super) fn expired(tenant: Option<&str>) {
    counter!(EXPIRED, "tenant" => tenant.unwrap_or_default().to_owned()).increment(1);
}

#[cfg(feature = "inbox")]
pub(super) fn dead_letters_expired(deliveries: u64) {
    counter!(DEAD_LETTERS_EXPIRED).increment(deliveries);
}

#[cfg(feature = "inbox")]
pub(super) fn stored_ratio(ratio: f64) {
    gauge!(INBOX_STORED).set(ratio);
}

#[cfg(feature = "inbox")]
pub(super) fn lease_lost() {
    counter!(LEASES_LOST).increment(1);
}

#[cfg(feature = "inbox")]
pub(super) fn inbox(states: &[(&'static str, u64)], oldest: Option<Duration>) {
    for (state, deliveries) in states {
        gauge!(INBOX, "state" => *state).set(*deliveries as f64);
    }
    gauge!(INBOX_OLDEST).set(oldest.unwrap_or_default().as_secs_f64());
    gauge!(INBOX_COUNTED).set(since_1970(SystemTime::now()));
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Returns a label that shares the name instead of copying it.
fn label(name: &Arc<str>) -> SharedString {
    Arc::clone(name).into()
}
