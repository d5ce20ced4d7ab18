//! Why did a delivery not verify?
//!
//! [`diagnose`] looks at what a receiver has in hand, a request and its own secrets, and names the cause, how sure it is, and
//! what to do. It undoes what is known to go wrong, one fault at a time, and sees whether the signature matches then. The
//! faults are those of klikit's troubleshooting page in its developer documentation, and of many a webhook's users.
//!
//! It is a pure function: no clock, no I/O, no log. What it says is for the receiver's own log and never for the wire.
//!
//! # How sure
//!
//! - [`Proven`](Certainty::Proven): with the fault undone, the signature matches. Somebody who held that secret signed it, which
//!   need not be klikit where another secret than the configured one is named.
//! - [`Shown`](Certainty::Shown): the request itself shows the fault, whoever sent it: a header is missing, the body is empty.
//!   Other things may be wrong too.
//! - [`Unknown`](Certainty::Unknown): nothing was found. That is what a well-formed forgery gets, and a wrong secret that
//!   nobody offered, and a body that lost something: a cause is never guessed.
//!
//! Whatever can be proven is looked for before anything is said to be shown, and the least that has to be undone is named.
//!
//! # What is tried
//!
//! - the header: base64, a prefix, cut off, klikit's older form, also where that is not spelled as it should be, quotes and white
//!   space, sent more than once;
//! - the secret: white space, quotes, a byte order mark, a whole line of an environment file, hex, base64 and URL escapes of it or by
//!   it, and
//!   any [candidate](Diagnostician::candidates) that is offered;
//! - the body: parsed and encoded again, newlines, byte order marks, compression, Latin-1; and wrapped as a whole in base64, hex,
//!   percent-encoding, a JSON string or an API gateway's event.
//!
//! A header's fault is tried together with each of the others; a secret's fault with the body as it came, and the body's with
//! the secrets as they are. Of the body's faults, a wrapping is tried together with each of the others, and two that change the
//! text are tried together.
//!
//! A body that was parsed and encoded again is written anew in the ways of the common languages, with its keys in the order in
//! which klikit documents them, or in that of the deliveries that this crate is tested with, which are made up in klikit's shape:
//! most fields of an order are documented nowhere. What a parser lost cannot be found again: digits of numbers, duplicate keys, an
//! order of keys that is none of these. Where all keys are in alphabetical order, as `serde_json::Value` leaves them, and the
//! original is not found, the cause is unknown, and that is said beside it.
//!
//! # What it costs
//!
//! A diagnosis hashes, writes anew and unpacks a bounded number of bytes, all taken together, whatever the body holds and however
//! many secrets there are. For a body of *n* bytes, the limit is 256 × (*n* + 256) bytes, and not more than 64 MiB. Only a body over
//! 4 MiB gets more than that: 16 × (*n* + 256) bytes. 64 MiB take about a tenth of a second.
//!
//! The cheap causes come first. A search that reaches its limit is cut short, and the diagnosis [says so](Diagnosis::tried_all), so
//! that "unknown" is not mistaken for the result of a whole search.
//!
//! It takes memory of up to some 70 times the body's length, for JSON of the smallest values. So diagnose a rejected delivery now
//! and then, not each, and a large one on a thread that may block.
//!
//! # Example
//!
//! ```
//! use http::{HeaderMap, HeaderValue};
//! use tower_klikit::{
//!     Keyring, WebhookSecret,
//!     diagnose::{Cause, Certainty, SupportReport, diagnose},
//!     header,
//! };
//!
//! let keyring = Keyring::from(WebhookSecret::new("your-webhook-secret")?);
//! let mut headers = HeaderMap::new();
//! headers.insert(header::EVENT_ID, HeaderValue::from_static("evt-1"));
//! headers.insert(
//!     header::SIGNATURE,
//!     HeaderValue::from_static("cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d"),
//! );
//!
//! // klikit sent `{"brand_id":1,"branch_id":2,…`; a layer outside has parsed it and written it again.
//! let body = br#"{"branch_id": 2, "brand_id": 1, "orders": [{"id": 42}]}"#;
//!
//! let diagnosis = diagnose(&keyring, &headers, body);
//! assert_eq!((diagnosis.cause(), diagnosis.certainty()), (Cause::BodyReencoded, Certainty::Proven));
//! println!("{diagnosis}");
//! println!("{}", SupportReport::new(&diagnosis, &headers, body).answered(http::StatusCode::FORBIDDEN));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
mod secret_variants;
mod text_faults;
mod wrappings;

use http::HeaderMap;

use self::{budget::SearchBudget, matcher::SignatureMatcher, readings::SignatureReadings};
pub use self::{
    cause::{Cause, Certainty},
    diagnosis::Diagnosis,
    diagnostician::Diagnostician,
    report::SupportReport,
};
pub(crate) use self::{diagnostician::Accepted, readings::Forms};
use crate::keyring::{KeyedSecret, Keyring};

/// The part of the work that is kept for what is plain to see, so that a search that spends all does not hide it.
const PLAIN_PART: usize = 16;

/// How often it can look at the body, however long that is.
const PLAIN_TIMES: usize = 8;

/// Says why a delivery does not verify with a keyring, in a layer that was told nothing else: see the [module](self). A
/// [`Diagnostician`] can be told what else a layer accepts, and which other secrets to try.
pub fn diagnose(keyring: &Keyring, headers: &HeaderMap, body: &[u8]) -> Diagnosis {
    Diagnostician::new(keyring.clone()).diagnose(headers, body)
}

/// What is wrong with the signature of a request whose body nobody has read.
pub(crate) fn of_signature(headers: &HeaderMap, forms: Forms) -> Diagnosis {
    let shown = SignatureReadings::of(headers, forms).shown;
    shown.map_or_else(Diagnosis::unknown, |(cause, detail)| Diagnosis::shown(cause, detail))
}

/// Of a request with a time that is too far away.
pub(crate) fn of_time() -> Diagnosis {
    Diagnosis::shown(Cause::SignatureStale, None)
}

/// Of a verified body of the current form that begins with a time, in a layer that accepts the older form too.
pub(crate) fn of_timestamp_in_body() -> Diagnosis {
    Diagnosis::shown(Cause::TimestampInBody, None)
}

/// What is wrong with the event id of a request whose body nobody has read.
pub(crate) fn of_event_id(headers: &HeaderMap) -> Diagnosis {
    evidence::event_id(headers).map_or_else(Diagnosis::unknown, |cause| Diagnosis::shown(cause, None))
}

/// What is shown by a body that broke off, or stood still, after so many bytes.
pub(crate) fn of_incomplete(headers: &HeaderMap, received: usize) -> Diagnosis {
    evidence::incomplete(headers, received as u64)
}

/// What head and body show with these secrets.
pub(crate) fn of_delivery(
    secrets: &[KeyedSecret],
    candidates: Option<&Keyring>,
    accepted: Accepted,
    headers: &HeaderMap,
    body: &[u8],
) -> Diagnosis {
    let readings = SignatureReadings::of(headers, accepted.forms);
    let mut budget = SearchBudget::for_body(body.len());
    let mut plain = budget.split_off(PLAIN_PART, body.len(), PLAIN_TIMES);
    if !readings.all.is_empty() {
        let matcher = SignatureMatcher::new(secrets, &readings);
        if let Some(diagnosis) = proof::find(&matcher, candidates, accepted, headers, body, &mut budget) {
            return diagnosis;
        }
    }
    let diagnosis = proof::without_secret(&readings, body, &mut plain)
        .or_else(|| readings.shown.map(|(cause, detail)| Diagnosis::shown(cause, detail)))
        .or_else(|| evidence::body(headers, body, &mut plain))
        .unwrap_or_else(|| evidence::nothing(body, &mut plain));
    let is_cut_short = budget.was_cut_short() || (plain.was_cut_short() && diagnosis.cause() == Cause::Unknown);
    if is_cut_short { diagnosis.after_running_out() } else { diagnosis }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::header::{EVENT_ID, SIGNATURE};

    #[test]
    fn a_head_alone_shows_its_own_faults() {
        let hex = "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d";
        let head = |signatures: &[&str], ids: &[&str]| {
            let mut headers = HeaderMap::new();
            for (name, values) in [(SIGNATURE, signatures), (EVENT_ID, ids)] {
                for value in values {
                    headers.append(&name, HeaderValue::from_str(value).unwrap());
                }
            }
            let diagnosis = of_signature(&headers, Forms::Current);
            assert_eq!(diagnosis.secret_id(), None);
            let of_id = of_event_id(&headers);
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
        // What was cut off, and where, no head can tell.
        assert_eq!(head(&[&hex[..40]], &["1"]), shown(Cause::SignatureMalformed));
        assert_eq!(head(&[""], &["1"]), shown(Cause::SignatureMalformed));
        assert_eq!(head(&[hex], &[]), shown(Cause::EventIdMissing));
        assert_eq!(head(&[hex], &["1", "1"]), shown(Cause::EventIdRepeated));
        assert_eq!(head(&[hex], &["a b"]), shown(Cause::EventIdMalformed));
    }
}
