//! What is counted, through the facade of the crate `metrics`.
//!
//! Any recorder of that crate takes it: `examples/metrics.rs` has Prometheus scrape it. Install the recorder first, and call
//! [`describe`] then.
//!
//! | name | kind | labels | what it is |
//! |---|---|---|---|
//! | [`klikit_deliveries_total`](DELIVERIES) | counter | `verdict`, `reason`, `tenant` | requests that reached the verify layer: `verified`; `rejected`, for the `reason` that [`RejectionKind::as_str`](crate::RejectionKind::as_str) names; or `abandoned`, when the sender hung up, or a layer outside gave up, before there was a verdict |
//! | [`klikit_verified_total`](VERIFIED) | counter | `tenant`, `secret_id` | verified deliveries by the secret that matched: one that has stood still for as long as klikit retries can be retired |
//! | [`klikit_last_verified_timestamp_seconds`](LAST_VERIFIED) | gauge | `tenant` | when the last delivery was verified, in seconds since 1970: a URL that klikit has wrong shows nowhere else |
//! | [`klikit_body_bytes`](BODY_BYTES) | histogram | | the length of verified bodies |
//! | [`klikit_buffered_bytes`](BUFFERED) | gauge | | what all bodies that are not verified yet hold now, as [`buffer_budget`](crate::KlikitVerifyLayer::buffer_budget) counts |
//! | [`klikit_ack_seconds`](ACK) | histogram | `status` | from the head of a verified request to its answer; klikit counts more than 10 seconds as failed. `status` is `error` when the inner service failed without an answer |
//! | [`klikit_duplicates_total`](DUPLICATES) | counter | `tenant` | deliveries that were handled, or stored, before |
//! | [`klikit_conflicts_total`](CONFLICTS) | counter | `tenant` | deliveries whose event id had come with another body before |
//! | [`klikit_inbox_deliveries`](INBOX) | gauge | `state` | deliveries of the inbox that are `ready`, `leased`, `dead`, or `done` and kept |
//! | [`klikit_inbox_oldest_seconds`](INBOX_OLDEST) | gauge | | how long ago the oldest of those was accepted that are still to be handled, 0 if there are none |
//!
//! A rejected or abandoned delivery has the label `tenant` once it is known whose secrets it was to be verified with. The two
//! gauges of the inbox are set by a [worker](crate::inbox::Worker) every 15 seconds, from the store: those of several workers on
//! one store say the same, so take the largest and not the sum.
//!
//! No label comes from a sender: names of tenants and secrets are those of the [keyrings](crate::Keyring), and everything else is
//! one of a few words.
//!
//! # Alerts worth having
//!
//! ```text
//! time() - klikit_last_verified_timestamp_seconds > 3600                              nothing comes any more
//! rate(klikit_deliveries_total{verdict="rejected",reason="signature_mismatch"}[5m]) > 0    a wrong secret, or a forger
//! histogram_quantile(0.99, rate(klikit_ack_seconds_bucket[5m])) > 1                   klikit advises less than a second
//! klikit_inbox_deliveries{state="dead"} > 0                                           somebody has to look
//! klikit_inbox_oldest_seconds > 300                                                   kitchens wait
//! ```
#![cfg_attr(
    not(feature = "inbox"),
    allow(rustdoc::broken_intra_doc_links, reason = "the table is one for all features")
)]

use std::{sync::Arc, time::Duration, time::SystemTime};

use ::metrics::{SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use http::StatusCode;

#[cfg(feature = "inbox")]
use crate::inbox::{Counts, DeliveryState};
use crate::keyring::Signer;

/// Requests that reached the verify layer, by verdict.
pub const DELIVERIES: &str = "klikit_deliveries_total";

/// Verified deliveries, by the secret that matched.
pub const VERIFIED: &str = "klikit_verified_total";

/// When the last delivery was verified.
pub const LAST_VERIFIED: &str = "klikit_last_verified_timestamp_seconds";

/// The length of verified bodies.
pub const BODY_BYTES: &str = "klikit_body_bytes";

/// What all bodies that are not verified yet hold now.
pub const BUFFERED: &str = "klikit_buffered_bytes";

/// From the head of a verified request to its answer.
pub const ACK: &str = "klikit_ack_seconds";

/// Deliveries that were handled, or stored, before.
pub const DUPLICATES: &str = "klikit_duplicates_total";

/// Deliveries whose event id had come with another body before.
pub const CONFLICTS: &str = "klikit_conflicts_total";

/// Deliveries of the inbox, by state.
pub const INBOX: &str = "klikit_inbox_deliveries";

/// The age of the oldest delivery of the inbox that is still to be handled.
pub const INBOX_OLDEST: &str = "klikit_inbox_oldest_seconds";

/// Tells the recorder what each metric means. Once, after the recorder is installed.
pub fn describe() {
    describe_counter!(DELIVERIES, "Requests that reached the verify layer, by verdict and reason");
    describe_counter!(VERIFIED, "Verified deliveries, by the secret that matched");
    describe_gauge!(LAST_VERIFIED, Unit::Seconds, "When the last delivery was verified, since 1970");
    describe_histogram!(BODY_BYTES, Unit::Bytes, "The length of verified bodies");
    describe_gauge!(BUFFERED, Unit::Bytes, "What all bodies that are not verified yet hold now");
    describe_histogram!(ACK, Unit::Seconds, "From the head of a verified request to its answer, by status");
    describe_counter!(DUPLICATES, "Deliveries that were handled, or stored, before");
    describe_counter!(CONFLICTS, "Deliveries whose event id had come with another body before");
    describe_gauge!(INBOX, "Deliveries of the inbox, by state");
    describe_gauge!(INBOX_OLDEST, Unit::Seconds, "The age of the oldest delivery of the inbox that is to be handled");
}

pub(super) fn verified(signer: &Signer, bytes: usize) {
    let tenant = || label(&signer.tenant);
    counter!(DELIVERIES, "verdict" => "verified", "tenant" => tenant()).increment(1);
    counter!(VERIFIED, "tenant" => tenant(), "secret_id" => label(&signer.secret_id)).increment(1);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge!(LAST_VERIFIED, "tenant" => tenant()).set(now.as_secs_f64());
    histogram!(BODY_BYTES).record(bytes as f64);
}

pub(super) fn rejected(reason: &'static str, tenant: Option<&Arc<str>>) {
    match tenant {
        Some(tenant) => counter!(
            DELIVERIES, "verdict" => "rejected", "reason" => reason, "tenant" => label(tenant)
        ),
        None => counter!(DELIVERIES, "verdict" => "rejected", "reason" => reason),
    }
    .increment(1);
}

pub(super) fn abandoned() {
    counter!(DELIVERIES, "verdict" => "abandoned").increment(1);
}

pub(super) fn answered(status: Option<StatusCode>, elapsed: Duration) {
    let status = status.map_or(SharedString::const_str("error"), |status| status.as_str().to_owned().into());
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

#[cfg(feature = "inbox")]
pub(super) fn inbox(counts: &Counts) {
    for (state, deliveries) in [
        (DeliveryState::Ready, counts.ready),
        (DeliveryState::Leased, counts.leased),
        (DeliveryState::Dead, counts.dead),
        (DeliveryState::Done, counts.done),
    ] {
        gauge!(INBOX, "state" => state.as_str()).set(deliveries as f64);
    }
    gauge!(INBOX_OLDEST).set(counts.oldest.unwrap_or_default().as_secs_f64());
}

/// Without a copy.
fn label(name: &Arc<str>) -> SharedString {
    Arc::clone(name).into()
}
