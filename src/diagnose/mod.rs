//! Diagnosis of deliveries that do not verify.
//!
//! [`diagnose`] takes a request and the receiver's secrets, and returns the cause, the certainty and what to do. It undoes one known
//! fault at a time and checks whether the signature matches afterwards. The known faults are those of the troubleshooting page in
//! klikit's developer documentation, and those that users of other webhooks report.
//!
//! [`diagnose`] is a pure function: no clock, no I/O, no log. Write a diagnosis to your own log and never send it to the caller.
//! [`SupportReport`] is what klikit's support asks for, and contains no customer data.
//!
//! In a running service, [`explain_mismatches`](crate::KlikitVerifyLayer::explain_mismatches) adds a diagnosis to the warning about a
//! rejection: the name of the cause, its certainty, and what to do. Use a [`Diagnostician`] to diagnose a delivery that you have kept,
//! if the layer accepts more than the default.
//!
//! A diagnosis names the fault of 98 % of 5,000 deliveries with a known fault, and no wrong cause for 24,000 deliveries that were
//! changed at random (`cargo test --all-features --test telemetry measured` prints both figures).
//!
//! # Troubleshooting
//!
//! The rows about nginx describe a real nginx (`tests/telemetry/proxies`). With its default configuration, nginx changes nothing that
//! is signed: deliveries verify over HTTP/1.0 or 1.1, buffered or not, with a length or chunked.
//!
//! | symptom | cause | what to do |
//! |---|---|---|
//! | 403, "no x-klikit-signature header" | `signature_missing`: a proxy, a firewall's rule or a gateway's list of allowed headers drops the header. nginx does so by `proxy_set_header x-klikit-signature ""` and `proxy_pass_request_headers off`, and by default if something before nginx writes `x_klikit_signature` | let the `x-klikit-*` headers through, with their hyphens |
//! | 400, "no x-klikit-event-id header" | `event_id_missing`: as above, or klikit sent no id | as above, or [`allow_missing_event_id`](crate::KlikitVerifyLayer::allow_missing_event_id) |
//! | 403, "there is not exactly one x-klikit-signature header of 64 hex digits" | `signature_repeated`: a proxy adds the header although it is already there, and nginx passes both on. Or `signature_timestamped`, `signature_base64`, … | add the header once; for klikit's timestamped signatures, [`accept_timestamped`](crate::KlikitVerifyLayer::accept_timestamped) |
//! | 403, "the timestamp in the x-klikit-signature header is out of tolerance" | `signature_stale`: this machine's clock is wrong, or an old delivery was sent again | set the clock by NTP |
//! | 403, "the signed body begins with a timestamp" | `timestamp_in_body`: somebody has captured a timestamped delivery and sends it as a current one, which has no time limit | nothing, since it is rejected; find out who reads your traffic |
//! | 403 for every delivery, "signature does not match the body under any configured secret" | `secret_white_space`, `secret_quoted`, `secret_line`, … | configure the secret as klikit shows it; [`preflight`](crate::preflight) finds these mistakes before the first delivery |
//! | the same | `body_reencoded`: something parses the JSON and encodes it again, as `Json<Value>` and some firewalls do. If it sorts keys that klikit documents nowhere, the cause is `unknown`, and the log says that all keys are in alphabetical order | put the layer outside of it; let the firewall inspect bodies and not rewrite them |
//! | the same | `body_compressed`: a proxy compresses requests | turn that off, or put `RequestDecompressionLayer` outside of the layer; otherwise it belongs inside |
//! | the same | `body_wrapped`: a gateway passes the whole body on as base64, as AWS API Gateway does with a binary media type; or in hex, percent-encoded, as a JSON string, or as the gateway's own event | let the gateway pass the body on unchanged, or decode it outside of the layer |
//! | the same, with two causes | such as `body_wrapped` and `body_reencoded`, or `body_byte_order_mark` and `body_line_endings`: two things change the body | undo both; the log line says what to do about each |
//! | the same | `secret_encoded`, `secret_decoded`: the configured secret is the right one escaped for a URL or a form, or in hex or base64; or the reverse | configure the secret as klikit shows it |
//! | 403 for large deliveries only | `body_empty`: nginx's `proxy_set_body $request_body` sends nothing if a body is over `client_body_buffer_size` (8 or 16 kB) | remove that line |
//! | 408, and klikit reports a timeout | `body_incomplete`: a slow network, or nginx's `proxy_pass_request_body off`, which announces the length and sends no body. If nginx also unsets `Content-Length`, the response is 403 at once | remove that line |
//! | klikit reports 413, the log has nothing | the proxy's own limit: nginx's `client_max_body_size`, 1 MB by default | raise it to at least [`body_limit`](crate::KlikitVerifyLayer::body_limit) |
//! | klikit reports a failure, the log has 200 | the response took over 10 seconds; from 8 seconds on, the log warns that "klikit counts this as a timeout after 10 s" | acknowledge first and work later, with the [inbox](crate::inbox) |
//! | the handler runs twice for one order | an earlier response was no 2xx or took over 10 seconds; or handled deliveries are remembered in memory only | [`KlikitDedupeLayer`](crate::dedupe::KlikitDedupeLayer) or the inbox, on a store that survives a restart |
//! | nothing arrives after a move | klikit's operator registers the URL, and it is still the old one. Only the metric `klikit_last_verified_timestamp_seconds` shows it | ask klikit to change it |
//! | 403, and the cause is `unknown` | a forgery; another secret altogether, such as the partner API's; or a body that lost data | [`explain_mismatches_with`](crate::KlikitVerifyLayer::explain_mismatches_with) and [`Diagnostician::candidates`] try the secrets that you suspect; send klikit's support a [`SupportReport`] |
//!
//! # Certainty
//!
//! - [`Proven`](Certainty::Proven): the signature matches once the fault is undone. The signer held the secret that the diagnosis
//!   names. If that is another secret than the configured one, the signer need not be klikit.
//! - [`Shown`](Certainty::Shown): the request itself shows the fault, for example a missing header or an empty body. Anyone could
//!   have sent that request, and other faults are possible.
//! - [`Unknown`](Certainty::Unknown): no cause was found. A well-formed forgery, a wrong secret that is not among the candidates,
//!   and a body that lost data all end here. A diagnosis never guesses.
//!
//! The search looks for proof first, and for a shown fault only if it finds none. It names the smallest fault that proves the cause.
//!
//! # Faults
//!
//! - Header: base64, a prefix, truncation, a timestamped signature (also a misspelled one), quotes, white space, repetition.
//! - Secret: white space, quotes, a byte order mark, a whole line of an environment file. The right secret may also be the hex, base64
//!   or URL encoding of the configured one, or the reverse, or one of the [candidates](Diagnostician::candidates).
//! - Body: parsed and encoded again, newlines, byte order marks, compression, Latin-1. The whole body may also be wrapped in base64,
//!   hex, percent-encoding, a JSON string or an API gateway's event.
//!
//! Some faults are tried in combination:
//!
//! - a fault of the header with each other fault;
//! - a fault of the secret only with the body as received, and a fault of the body only with the secrets as configured;
//! - a wrapping of the body with each other fault of the body;
//! - two changes of the text (newlines, byte order marks, character sets) with each other.
//!
//! A body that was parsed and encoded again is rewritten in the styles of the common languages. Its keys are put in the order that
//! klikit documents, and in the order of this crate's samples: made-up deliveries in klikit's shape, because klikit does not document
//! most fields of an order. Data that a parser lost cannot be restored: digits of numbers, duplicate keys, any other order of keys.
//! If the original is not found and all keys are in alphabetical order, as `serde_json::Value` leaves them, the cause is unknown and
//! the [detail](Diagnosis::detail) mentions the order.
//!
//! # What it costs
//!
//! A diagnosis hashes, writes and decompresses a limited number of bytes in total, for any body and any number of secrets. The limit
//! for a body of *n* bytes is 256 × (*n* + 256) bytes, and at most 64 MiB. Only a body over 4 MiB gets more: 16 × (*n* + 256) bytes.
//! 64 MiB take about a tenth of a second.
//!
//! Cheap causes come first. A search that reaches the limit is cut short, and [`Diagnosis::tried_all`] returns `false`, so that
//! "unknown" is not mistaken for the result of a complete search.
//!
//! A diagnosis needs memory of up to about 70 times the body's length, for JSON that consists of the smallest values. Therefore
//! diagnose only some of the rejected deliveries, and diagnose large ones on a thread that may block.
//!
//! # Example
//!
//! ```
//! use http::{HeaderMap, HeaderValue, StatusCode};
//! use tower_klikit::{
//!     Keyring, WebhookSecret,
//!     diagnose::{Cause, Certainty, SupportReport, diagnose},
//!     header,
//! };
//!
//! let keyring = Keyring::from(WebhookSecret::new("your-webhook-secret")?);
//! let mut headers = HeaderMap::new();
//! headers.insert(header::EVENT_ID, HeaderValue::from_static("evt-1"));
//! let signature = "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d";
//! headers.insert(header::SIGNATURE, HeaderValue::from_static(signature));
//!
//! // klikit sent `{"brand_id":1,"branch_id":2,…`. An outer layer has parsed and re-encoded it.
//! let body = br#"{"branch_id": 2, "brand_id": 1, "orders": [{"id": 42}]}"#;
//!
//! let diagnosis = diagnose(&keyring, &headers, body);
//! assert_eq!(diagnosis.cause(), Cause::BodyReencoded);
//! assert_eq!(diagnosis.certainty(), Certainty::Proven);
//! println!("{diagnosis}");
//! let report = SupportReport::new(&diagnosis, &headers, body).answered(StatusCode::FORBIDDEN);
//! println!("{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accepted;
mod base64;
mod budget;
mod cause;
mod compression;
mod diagnosis;
mod diagnostician;
mod evidence;
mod matcher;
mod proof;
mod readings;
mod reencoded;
mod report;
mod search;
mod secret_variants;
mod text_faults;
mod wrappings;

use http::HeaderMap;

use self::readings::SignatureReadings;
pub(crate) use self::{accepted::Accepted, search::diagnose_delivery};
pub use self::{
    cause::{Cause, Certainty},
    diagnosis::Diagnosis,
    diagnostician::Diagnostician,
    report::SupportReport,
};
use crate::{keyring::Keyring, signature::SignatureForms};

/// Diagnoses a delivery for a receiver with this keyring and the default settings of a layer. See the [module](self).
///
/// Use a [`Diagnostician`] if the receiver accepts more than that, or to try other secrets.
pub fn diagnose(keyring: &Keyring, headers: &HeaderMap, body: &[u8]) -> Diagnosis {
    Diagnostician::new(keyring.clone()).diagnose(headers, body)
}

/// Diagnoses the signature header of a request whose body was not read.
pub(crate) fn diagnose_signature_header(headers: &HeaderMap, forms: SignatureForms) -> Diagnosis {
    let shown = SignatureReadings::of(headers, forms).shown;
    shown.map_or_else(Diagnosis::unknown, |(cause, detail)| Diagnosis::shown(cause, detail))
}

/// Returns the diagnosis for a timestamped signature whose time is outside the tolerance.
pub(crate) fn stale_timestamp() -> Diagnosis {
    Diagnosis::shown(Cause::SignatureStale, None)
}

/// Returns the diagnosis for a verified body that begins with a timestamp, in a layer that accepts timestamped signatures too.
pub(crate) fn timestamp_in_body() -> Diagnosis {
    Diagnosis::shown(Cause::TimestampInBody, None)
}

/// Diagnoses the event id of a request whose body was not read.
pub(crate) fn diagnose_event_id_header(headers: &HeaderMap) -> Diagnosis {
    evidence::event_id(headers).map_or_else(Diagnosis::unknown, |cause| Diagnosis::shown(cause, None))
}

/// Returns the diagnosis for a body that ended early, or stalled, after `received` bytes.
pub(crate) fn diagnose_incomplete_body(headers: &HeaderMap, received: usize) -> Diagnosis {
    evidence::incomplete(headers, received as u64)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::header::{EVENT_ID, SIGNATURE};

    #[test]
    fn finds_faults_of_headers_without_body() {
        let hex = "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d";
        let head = |signatures: &[&str], ids: &[&str]| {
            let mut headers = HeaderMap::new();
            for (name, values) in [(SIGNATURE, signatures), (EVENT_ID, ids)] {
                for value in values {
                    headers.append(&name, HeaderValue::from_str(value).unwrap());
                }
            }
            let diagnosis = diagnose_signature_header(&headers, SignatureForms::Current);
            assert_eq!(diagnosis.secret_id(), None);
            let of_id = diagnose_event_id_header(&headers);
            if of_id.cause() == Cause::Unknown { diagnosis } else { of_id }
        };
        let head = |signatures: &[&str], ids: &[&str]| {
            let diagnosis = head(signatures, ids);
            (diagnosis.cause(), diagnosis.certainty())
        };
        let shown = |cause| (cause, Certainty::Shown);
        assert_eq!(head(&[hex], &["1"]), (Cause::Unknown, Certainty::Unknown));
        assert_eq!(head(&[&hex.to_uppercase()], &["1"]), (Cause::Unknown, Certainty::Unknown));
        assert_eq!(head(&[], &["1"]), shown(Cause::SignatureMissing));
        assert_eq!(head(&[hex, hex], &["1"]), shown(Cause::SignatureRepeated));
        assert_eq!(head(&[&format!("{hex}, {hex}")], &["1"]), shown(Cause::SignatureRepeated));
        assert_eq!(head(&[&format!("sha256={hex}")], &["1"]), shown(Cause::SignaturePrefixed));
        assert_eq!(head(&[&format!("t=1,v1={hex}")], &["1"]), shown(Cause::SignatureTimestamped));
        assert_eq!(head(&["zeIS2YVK5IK7R2SHoYfuiMS1+T6yRE3jT9clK1zLhm0="], &["1"]), shown(Cause::SignatureBase64));
        assert_eq!(head(&[&format!("'{hex}'")], &["1"]), shown(Cause::SignaturePadded));
        // The headers alone cannot tell how much of the signature is missing.
        assert_eq!(head(&[&hex[..40]], &["1"]), shown(Cause::SignatureMalformed));
        assert_eq!(head(&[""], &["1"]), shown(Cause::SignatureMalformed));
        assert_eq!(head(&[hex], &[]), shown(Cause::EventIdMissing));
        assert_eq!(head(&[hex], &["1", "1"]), shown(Cause::EventIdRepeated));
        assert_eq!(head(&[hex], &["a b"]), shown(Cause::EventIdMalformed));
    }
}
