//! Faults that a request shows by itself, without proof.

use std::borrow::Cow;

use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use serde::de::IgnoredAny;

use super::{
    budget::SearchBudget,
    cause::Cause,
    compression::CompressionFormat,
    diagnosis::Diagnosis,
    reencoded::{JsonTree, has_sorted_keys},
    wrappings::{self, UnwrappedBody},
};
use crate::{
    event::EventId,
    header::{EVENT_ID, only},
};

/// Returns the fault of the event id.
pub(super) fn event_id(headers: &HeaderMap) -> Option<Cause> {
    let mut ids = headers.get_all(EVENT_ID).iter();
    match (ids.next(), ids.next()) {
        (None, _) => Some(Cause::EventIdMissing),
        (Some(_), Some(_)) => Some(Cause::EventIdRepeated),
        (Some(id), None) => EventId::parse(id.as_bytes()).is_none().then_some(Cause::EventIdMalformed),
    }
}

/// Returns the diagnosis for a fault that the body shows.
pub(super) fn body(headers: &HeaderMap, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    if body.is_empty() {
        return Some(Diagnosis::shown(Cause::BodyEmpty, announced(headers).filter(|&len| len > 0).map(lengths(0))));
    }
    if let Some(format) = compressed(body, budget) {
        return Some(Diagnosis::shown(Cause::BodyCompressed, Some(format.name().into())));
    }
    if let Some(coding) = coding(headers) {
        if is_undecodable(coding, body) {
            let detail = format!("{coding}, as its Content-Encoding says");
            return Some(Diagnosis::shown(Cause::BodyCompressed, Some(detail.into())));
        }
        if contradicts(coding, body, budget) {
            return Some(Diagnosis::shown(Cause::BodyDecompressed, Some(coding.into())));
        }
    }
    if let Some(wrapping) =
        wrappings::find(body, budget, |inside, budget| is_object(inside, budget).then(|| inside.describe()))
    {
        return Some(Diagnosis::shown(Cause::BodyWrapped, Some(wrapping.into())));
    }
    let announced = announced(headers)?;
    let len = body.len() as u64;
    let detail = Some(lengths(len)(announced));
    match announced {
        _ if len < announced => Some(Diagnosis::shown(Cause::BodyShorter, detail)),
        _ if len > announced => Some(Diagnosis::shown(Cause::BodyLonger, detail)),
        _ => None,
    }
}

/// Returns the diagnosis for a body that ended after `received` bytes.
pub(super) fn incomplete(headers: &HeaderMap, received: u64) -> Diagnosis {
    let detail = announced(headers).map_or_else(|| format!("received {received} bytes").into(), lengths(received));
    Diagnosis::shown(Cause::BodyIncomplete, Some(detail))
}

/// Returns the diagnosis for an unknown cause. If all keys of the body are in alphabetical order, the detail says so.
pub(super) fn unknown(body: &[u8], budget: &mut SearchBudget) -> Diagnosis {
    // Fewer keys can be in alphabetical order by chance.
    const MIN_KEYS: usize = 6;
    let sorted = budget.try_spend(4 * body.len())
        && JsonTree::parse(body).is_some_and(|tree| tree.keys() >= MIN_KEYS && has_sorted_keys(&tree));
    let detail =
        "all keys of the body are in alphabetical order, as some parsers leave them, and the original order is lost";
    Diagnosis::unknown_with(sorted.then_some(detail))
}

/// Returns whether the content is a JSON object, as klikit's bodies are.
fn is_object(inside: &UnwrappedBody, budget: &mut SearchBudget) -> bool {
    inside.body.starts_with(b"{") && budget.try_spend(4 * inside.body.len()) && JsonTree::parse(&inside.body).is_some()
}

/// Returns a function that describes the received length and the announced length.
fn lengths(len: u64) -> impl Fn(u64) -> Cow<'static, str> {
    move |announced| format!("{len} bytes of {announced}").into()
}

fn compressed(body: &[u8], budget: &mut SearchBudget) -> Option<CompressionFormat> {
    let format = CompressionFormat::by_first_bytes(body)?;
    // Magic numbers are short, so the rest must decompress too. This crate cannot decode zstd. If the budget ends before the data
    // does and there was no error until then, the body counts as compressed.
    let is_compressed = format == CompressionFormat::Zstd || budget.within(2, |budget| format.is_valid(body, budget));
    is_compressed.then_some(format)
}

/// Returns whether the header names a coding that this crate cannot decode, and the body is not UTF-8.
fn is_undecodable(coding: &str, body: &[u8]) -> bool {
    matches!(coding, "br" | "zstd") && str::from_utf8(body).is_err()
}

/// Returns the value of `Content-Length`. `None` if the header is missing, repeated or not a number.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    let length = only(headers, CONTENT_LENGTH)?.as_bytes();
    if !length.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(length).ok()?.parse().ok()
}

/// Returns the value of `Content-Encoding` if it is a single coding that compresses the body.
fn coding(headers: &HeaderMap) -> Option<&'static str> {
    let coding = only(headers, CONTENT_ENCODING)?.as_bytes().trim_ascii();
    ["gzip", "x-gzip", "deflate", "br", "zstd"].into_iter().find(|name| coding.eq_ignore_ascii_case(name.as_bytes()))
}

/// Returns whether the body is certainly not in the coding that its header names.
fn contradicts(coding: &str, body: &[u8], budget: &mut SearchBudget) -> bool {
    match coding {
        "gzip" | "x-gzip" => CompressionFormat::by_first_bytes(body) != Some(CompressionFormat::Gzip),
        "zstd" => CompressionFormat::by_first_bytes(body) != Some(CompressionFormat::Zstd),
        // Deflate and brotli have no magic number. A body that is JSON is not compressed.
        _ => budget.try_spend(body.len()) && serde_json::from_slice::<IgnoredAny>(body).is_ok(),
    }
}
