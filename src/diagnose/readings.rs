//! Interpretations of the signature header.

use std::{borrow::Cow, iter};

use ctutils::CtEq;
use http::HeaderMap;

use super::{base64, cause::Cause};
use crate::{
    header,
    signature::{
        Signature, SignatureForms,
        timestamped::{MalformedTimestampedSignature, TimestampedSignature},
    },
};

/// The maximum number of readings, of one value and of all values together. Otherwise a sender could multiply the cost of each hash.
const MAX_READINGS: usize = 4;

/// The shortest truncated signature that is compared, in hex digits. A shorter one could match by chance, or by trying.
const MIN_DIGITS: usize = 16;

/// The number of characters that are in the alphabet of base64 and are not hex digits, from which a text counts as base64. A
/// signature has about 28 of them. A hex text with a few wrong digits is not base64.
const MIN_BASE64_ONLY: usize = 10;

/// A signature that the header may stand for, and the faults of the header in that case.
pub(super) struct SignatureReading {
    tag: Tag,
    /// The bytes that were signed before the body.
    pub(super) prefix: Box<[u8]>,
    pub(super) faults: Vec<Cause>,
    /// The description of the first fault.
    pub(super) detail: Option<&'static str>,
}

/// A signature, or the start of one.
enum Tag {
    Whole(Signature),
    /// The first hex digits, each as a value below 16.
    Start(Vec<u8>),
}

impl SignatureReading {
    /// Creates a reading of a signature over the body alone, without a prefix.
    fn of_body(tag: Tag, faults: Vec<Cause>) -> Self {
        Self { tag, prefix: Box::default(), faults, detail: None }
    }

    fn matches(&self, signature: &Signature) -> bool {
        match &self.tag {
            Tag::Whole(whole) => whole == signature,
            Tag::Start(start) => {
                let digits: Vec<u8> = signature.as_bytes().iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
                digits[..start.len()].ct_eq(&start[..]).into()
            }
        }
    }
}

/// All readings of the signature header.
#[derive(Default)]
pub(super) struct SignatureReadings {
    pub(super) all: Vec<SignatureReading>,
    /// The fault that the header itself shows, and its description.
    pub(super) shown: Option<(Cause, Option<Cow<'static, str>>)>,
}

impl SignatureReadings {
    pub(super) fn of(headers: &HeaderMap, forms: SignatureForms) -> Self {
        let values = headers.get_all(header::SIGNATURE);
        let count = values.iter().count();
        let mut values = values.iter().map(|value| value.as_bytes());
        match (values.next(), count) {
            (None, _) => {
                let has_others = headers.keys().any(|name| name.as_str().starts_with("x-klikit-"));
                let detail = if has_others {
                    "the request has other x-klikit-* headers"
                } else {
                    "the request has no x-klikit-* header"
                };
                Self { all: Vec::new(), shown: Some((Cause::SignatureMissing, Some(detail.into()))) }
            }
            (Some(value), 1) => Self::of_value(value, forms),
            (Some(first), _) => {
                let detail = Some(format!("{count} headers").into());
                Self::of_several([first].into_iter().chain(values), forms, detail)
            }
        }
    }

    fn of_several<'a>(
        values: impl Iterator<Item = &'a [u8]>,
        forms: SignatureForms,
        detail: Option<Cow<'static, str>>,
    ) -> Self {
        let mut all: Vec<_> = values.take(MAX_READINGS).flat_map(|value| Self::of_value(value, forms).all).collect();
        all.truncate(MAX_READINGS);
        for reading in &mut all {
            if reading.faults.first() != Some(&Cause::SignatureRepeated) {
                reading.faults.insert(0, Cause::SignatureRepeated);
            }
            reading.detail = None;
        }
        Self { all, shown: Some((Cause::SignatureRepeated, detail)) }
    }

    fn of_value(value: &[u8], forms: SignatureForms) -> Self {
        if let Ok(signature) = Signature::from_hex(value) {
            let upper = value.iter().any(u8::is_ascii_uppercase);
            let faults = if upper { vec![Cause::SignatureUpperCase] } else { Vec::new() };
            return Self { all: vec![SignatureReading::of_body(Tag::Whole(signature), faults)], shown: None };
        }
        if let Some(TimestampedSignature { signature, prefix, .. }) = TimestampedSignature::parse(value) {
            let fault = (forms == SignatureForms::Current).then_some(Cause::SignatureTimestamped);
            let faults = fault.into_iter().collect();
            return Self {
                all: vec![SignatureReading { tag: Tag::Whole(signature), prefix, faults, detail: None }],
                shown: fault.map(|fault| (fault, None)),
            };
        }
        // A proxy may join repeated headers with commas (RFC 9110, section 5.3).
        let parts = || joined(value);
        let all = |is_one: fn(&[u8]) -> bool| parts().all(is_one);
        if parts().nth(1).is_some()
            && (all(|part| Signature::from_hex(part).is_ok())
                || all(|part| TimestampedSignature::parse(part).is_some()))
        {
            return Self::of_several(parts(), forms, Some("joined by commas".into()));
        }
        if let Some(MalformedTimestampedSignature { signature, prefix, detail }) =
            MalformedTimestampedSignature::parse(value)
        {
            let fault = Cause::SignatureTimestampMalformed;
            let faults = vec![fault];
            return Self {
                all: vec![SignatureReading { tag: Tag::Whole(signature), prefix, faults, detail: Some(detail) }],
                shown: Some((fault, Some(detail.into()))),
            };
        }
        Self::of_wrapped(value)
    }

    /// Returns the index of the reading with this prefix that equals the signature.
    pub(super) fn position(&self, prefix: &[u8], tag: &Signature) -> Option<usize> {
        self.all.iter().position(|reading| *reading.prefix == *prefix && reading.matches(tag))
    }

    /// Reads a value in another encoding, or with a prefix, quotes or white space.
    fn of_wrapped(value: &[u8]) -> Self {
        let mut around = Vec::new();
        let mut rest = unwrapped(value);
        if rest.len() != value.len() {
            around.push(Cause::SignaturePadded);
        }
        if let Some(value) = strip_label(rest) {
            let value = unwrapped(value);
            if !tags(value).is_empty() {
                around.insert(0, Cause::SignaturePrefixed);
                rest = value;
            }
        }
        let mut all = Vec::new();
        let mut is_evident = false;
        for (tag, encoding) in tags(rest) {
            is_evident |= match encoding {
                None => true,
                Some(Cause::SignatureBase64) => is_evidently_base64(rest),
                Some(_) => false,
            };
            let faults = around.iter().copied().chain(encoding).collect();
            all.push(SignatureReading::of_body(tag, faults));
        }
        all.truncate(MAX_READINGS);
        let whole = all.iter().find(|reading| matches!(reading.tag, Tag::Whole(_)));
        let shown = match whole.and_then(|reading| reading.faults.first()) {
            Some(&fault) if is_evident => (fault, None),
            _ => (Cause::SignatureMalformed, Some(shape(value))),
        };
        Self { all, shown: Some(shown) }
    }
}

/// Splits a value at its commas, except at the comma before `v1=`, which is part of a timestamped signature.
fn joined(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    iter::from_fn(move || {
        let value = rest?;
        let is_between = |&at: &usize| value[at] == b',' && !value[at + 1..].trim_ascii_start().starts_with(b"v1=");
        let Some(comma) = (0..value.len()).find(is_between) else { return rest.take().map(<[u8]>::trim_ascii) };
        rest = Some(&value[comma + 1..]);
        Some(value[..comma].trim_ascii())
    })
}

/// Removes white space and quotes at both ends.
fn unwrapped(value: &[u8]) -> &[u8] {
    let is_wrapping = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`');
    let Some(start) = value.iter().position(|byte| !is_wrapping(byte)) else { return &[] };
    let end = value.iter().rposition(|byte| !is_wrapping(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// Returns the text after a word and `=` or `:`.
fn strip_label(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(|&byte| matches!(byte, b'=' | b':'))?;
    let (word, rest) = value.split_at(end);
    let is_word = (1..=20).contains(&word.len())
        && word.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    is_word.then(|| &rest[1..])
}

/// Returns the signatures that a text may stand for, each with the fault of its encoding. `None` if the encoding is right.
fn tags(text: &[u8]) -> Vec<(Tag, Option<Cause>)> {
    if let Ok(signature) = Signature::from_hex(text) {
        return vec![(Tag::Whole(signature), None)];
    }
    let mut tags = Vec::new();
    if let Some(signature) = from_base64(text) {
        tags.push((Tag::Whole(signature), Some(Cause::SignatureBase64)));
    }
    if (MIN_DIGITS..64).contains(&text.len())
        && let Some(digits) = text.iter().map(|&digit| char::from(digit).to_digit(16)?.try_into().ok()).collect()
    {
        tags.push((Tag::Start(digits), Some(Cause::SignatureTruncated)));
    }
    tags
}

/// Decodes base64 of the signature's bytes, or of its hex text.
fn from_base64(text: &[u8]) -> Option<Signature> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() <= 96)?;
    let bytes = base64::decode(text)?;
    match <[u8; 32]>::try_from(&bytes[..]) {
        Ok(tag) => Some(Signature::from_bytes(tag)),
        Err(_) => Signature::from_hex(bytes.trim_ascii()).ok(),
    }
}

fn is_evidently_base64(text: &[u8]) -> bool {
    text.iter().filter(|byte| !byte.is_ascii_hexdigit()).count() >= MIN_BASE64_ONLY
}

/// Describes a malformed value without quoting it.
fn shape(value: &[u8]) -> Cow<'static, str> {
    if value.is_empty() {
        return "it is empty".into();
    }
    if !value.iter().all(u8::is_ascii_hexdigit) {
        return format!("{} characters, not all of them hex digits", value.len()).into();
    }
    match value.len() {
        32 => "32 digits, as many as MD5 has".into(),
        40 => "40 digits, as many as SHA-1 has".into(),
        128 => "128 digits, as many as SHA-512 has".into(),
        other => format!("{other} digits").into(),
    }
}
