//! What a request shows by itself, whoever sent it.

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

/// Of the event id. The signature comes first: an id is worth a word once that is sound.
pub(super) fn event_id(headers: &HeaderMap) -> Option<Cause> {
    let mut ids = headers.get_all(EVENT_ID).iter();
    match (ids.next(), ids.next()) {
        (None, _) => Some(Cause::EventIdMissing),
        (Some(_), Some(_)) => Some(Cause::EventIdRepeated),
        (Some(id), None) => EventId::parse(id.as_bytes()).is_none().then_some(Cause::EventIdMalformed),
    }
}

/// Of the body.
pub(super) fn body(headers: &HeaderMap, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    if body.is_empty() {
        return Some(Diagnosis::shown(Cause::BodyEmpty, announced(headers).filter(|&len| len > 0).map(lengths(0))));
    }
    if let Some(format) = compressed(body, budget) {
        return Some(Diagnosis::shown(Cause::BodyCompressed, Some(format.name().into())));
    }
    if let Some(coding) = coding(headers) {
        if is_only_labelled(coding, body) {
            let detail = format!("{coding}, as its Content-Encoding says");
            return Some(Diagnosis::shown(Cause::BodyCompressed, Some(detail.into())));
        }
        if contradicts(coding, body, budget) {
            return Some(Diagnosis::shown(Cause::BodyDecompressed, Some(coding.into())));
        }
    }
    if let Some(wrapping) =
        wrappings::find(body, budget, |inside, budget| is_json(inside, budget).then(|| inside.describe()))
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

/// Of a body that is not whole.
pub(super) fn incomplete(headers: &HeaderMap, received: u64) -> Diagnosis {
    let came = announced(headers).map_or_else(|| format!("{received} bytes came").into(), lengths(received));
    Diagnosis::shown(Cause::BodyIncomplete, Some(came))
}

/// Nothing that names a cause. What is worth a look all the same is said beside that.
pub(super) fn nothing(body: &[u8], budget: &mut SearchBudget) -> Diagnosis {
    // As many as could not be in this order by chance.
    const TELLING: usize = 6;
    let sorted = budget.try_spend(4 * body.len())
        && JsonTree::parse(body).is_some_and(|tree| tree.keys() >= TELLING && has_sorted_keys(&tree));
    let detail =
        "all keys of the body are in alphabetical order, as some parsers leave them, and what they were before is lost";
    Diagnosis::unknown_with(sorted.then_some(detail))
}

/// Whether this is an object, as klikit's bodies are.
fn is_json(inside: &UnwrappedBody, budget: &mut SearchBudget) -> bool {
    inside.body.starts_with(b"{") && budget.try_spend(4 * inside.body.len()) && JsonTree::parse(&inside.body).is_some()
}

fn lengths(len: u64) -> impl Fn(u64) -> Cow<'static, str> {
    move |announced| format!("{len} bytes of {announced}").into()
}

fn compressed(body: &[u8], budget: &mut SearchBudget) -> Option<CompressionFormat> {
    let format = CompressionFormat::by_first_bytes(body)?;
    // A few bytes could be anything's, so that the rest has to fit too. Nothing here unpacks zstd. What can be unpacked to
    // several times its length without an error is compressed, whatever follows.
    let is_compressed = format == CompressionFormat::Zstd || budget.within(2, |budget| format.is_sound(body, budget));
    is_compressed.then_some(format)
}

/// Nothing here unpacks these, but neither is it text.
fn is_only_labelled(coding: &str, body: &[u8]) -> bool {
    matches!(coding, "br" | "zstd") && str::from_utf8(body).is_err()
}

/// The one that is announced, if it is one.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    let length = only(headers, CONTENT_LENGTH)?.as_bytes();
    if !length.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(length).ok()?.parse().ok()
}

/// The only content coding, of those that change the body.
fn coding(headers: &HeaderMap) -> Option<&'static str> {
    let coding = only(headers, CONTENT_ENCODING)?.as_bytes().trim_ascii();
    ["gzip", "x-gzip", "deflate", "br", "zstd"].into_iter().find(|name| coding.eq_ignore_ascii_case(name.as_bytes()))
}

fn contradicts(coding: &str, body: &[u8], budget: &mut SearchBudget) -> bool {
    match coding {
        "gzip" | "x-gzip" => CompressionFormat::by_first_bytes(body) != Some(CompressionFormat::Gzip),
        "zstd" => CompressionFormat::by_first_bytes(body) != Some(CompressionFormat::Zstd),
        // These have no magic number: JSON is not compressed, whatever else may be.
        _ => budget.try_spend(body.len()) && serde_json::from_slice::<IgnoredAny>(body).is_ok(),
    }
}
