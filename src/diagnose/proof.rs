//! The search for a fault that explains the signature: once the fault is undone, the signature matches.

use std::borrow::Cow;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{
    accepted::Accepted,
    budget::{KEY_COST, SearchBudget, TAG_COST},
    cause::Cause,
    compression,
    diagnosis::Diagnosis,
    evidence,
    matcher::{SignatureMatch, SignatureMatcher},
    readings::SignatureReadings,
    reencoded, secret_variants, text_faults, wrappings,
};
use crate::{
    keyring::{KeyedSecret, Keyring},
    signature::{Signature, SignatureForms, SigningKey, timestamped::begins_with_timestamp},
};

/// Variants of the secrets may spend one third of the remaining budget. The rest is kept for reencoded bodies, which
/// are more common.
const SECRETS_PART: usize = 3;

/// Pairs of changes of the text may spend one quarter of the remaining budget.
const TEXT_PAIRS_PART: usize = 4;

/// Tries one kind of fault after another, small and cheap ones first. Returns the diagnosis of the first fault that is
/// proven.
pub(super) fn find(
    matcher: &SignatureMatcher<'_>,
    candidates: Option<&Keyring>,
    accepted: Accepted,
    headers: &HeaderMap,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<Diagnosis> {
    unchanged(matcher, accepted, headers, body, budget)
        .or_else(|| candidates.and_then(|candidates| by_candidate(matcher, candidates, body, budget)))
        .or_else(|| without_hmac(matcher, body, budget))
        .or_else(|| by_text_fault(matcher, body, budget))
        .or_else(|| by_unwrapping(matcher, body, budget))
        .or_else(|| by_secret_variant(matcher, body, budget))
        .or_else(|| by_two_text_faults(matcher, body, budget))
        .or_else(|| {
            let (hit, fault) = match_compressed_or_reencoded(matcher, body, budget)?;
            Some(diagnosis_of_match(matcher, &hit, &[fault.cause], fault.detail))
        })
        .or_else(|| reencoded_with_byte_order_mark(matcher, body, budget))
}

/// A change of the body that was undone.
struct BodyFault {
    cause: Cause,
    detail: Cow<'static, str>,
}

/// Tries the body as received, with each reading of the header.
fn unchanged(
    matcher: &SignatureMatcher<'_>,
    accepted: Accepted,
    headers: &HeaderMap,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<Diagnosis> {
    let hit = matcher.match_body(body, budget)?;
    let reading = matcher.reading(&hit);
    let mut faults = reading.faults.clone();
    // A timestamped signature, which has a prefix, needs no event id in the headers: the body contains the id.
    let may_be_missing = accepted.missing_event_id || !reading.prefix.is_empty();
    // Otherwise a receiver of timestamped signatures would not check a time that somebody has moved into the body.
    let must_not_contain_time = accepted.forms == SignatureForms::CurrentAndTimestamped && reading.prefix.is_empty();
    if must_not_contain_time && begins_with_timestamp(body) {
        faults.insert(0, Cause::TimestampInBody);
    }
    faults.extend(evidence::event_id(headers).filter(|&fault| fault != Cause::EventIdMissing || !may_be_missing));
    let detail = reading.detail.map(Cow::Borrowed);
    Some(Diagnosis::proven(&faults, detail, &matcher.secrets[hit.secret].signer().secret_id))
}

/// Returns the diagnosis for faults of the body, without which a configured secret matches.
fn diagnosis_of_match(
    matcher: &SignatureMatcher<'_>,
    hit: &SignatureMatch,
    causes: &[Cause],
    detail: Cow<'static, str>,
) -> Diagnosis {
    diagnosis_of_secret(matcher, hit.reading, causes, detail, &matcher.secrets[hit.secret])
}

/// Returns the diagnosis for faults without which the secret `held` matches. Adds the faults of the header.
fn diagnosis_of_secret(
    matcher: &SignatureMatcher<'_>,
    reading: usize,
    causes: &[Cause],
    detail: Cow<'static, str>,
    held: &KeyedSecret,
) -> Diagnosis {
    let faults = [causes, &matcher.readings.all[reading].faults[..]].concat();
    Diagnosis::proven(&faults, Some(detail), &held.signer().secret_id)
}

/// Tries the candidates: secrets that are not configured, but that the sender may have used.
fn by_candidate(
    matcher: &SignatureMatcher<'_>,
    candidates: &Keyring,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<Diagnosis> {
    candidates.secrets().iter().find_map(|candidate| {
        let reading = matcher.match_with_key(candidate.key(), body, budget)?;
        Some(diagnosis_of_secret(
            matcher,
            reading,
            &[Cause::OtherSecret],
            "the candidate with this id".into(),
            candidate,
        ))
    })
}

/// Tries plain SHA-256 of a configured secret and the body.
fn without_hmac(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    matcher.secrets.iter().find_map(|held| {
        let secret = held.secret().bytes();
        let orders = [
            (secret, body, "SHA-256 of the secret and the body"),
            (body, secret, "SHA-256 of the body and the secret"),
        ];
        orders.into_iter().find_map(|(first, second, detail)| {
            if !budget.try_spend(body.len() + secret.len() + TAG_COST) {
                return None;
            }
            let digest = Sha256::new().chain_update(first).chain_update(second).finalize();
            let reading = matcher.readings.position(&[], &Signature::from_bytes(digest.into()))?;
            Some(diagnosis_of_secret(matcher, reading, &[Cause::SignedWithoutHmac], detail.into(), held))
        })
    })
}

/// Undoes one change of the text.
fn by_text_fault(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    let (hit, fault) = match_text_fault(matcher, body, budget)?;
    Some(diagnosis_of_match(matcher, &hit, &[fault.cause], fault.detail))
}

fn match_text_fault(
    matcher: &SignatureMatcher<'_>,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<(SignatureMatch, BodyFault)> {
    text_faults::TEXT_FAULTS.iter().find_map(|fault| {
        let text = fault.undo(body, budget)?;
        let hit = matcher.match_body(&text, budget)?;
        Some((hit, BodyFault { cause: fault.cause, detail: fault.detail.into() }))
    })
}

fn match_compressed_or_reencoded(
    matcher: &SignatureMatcher<'_>,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<(SignatureMatch, BodyFault)> {
    if let Some((hit, format)) = compression::match_decompressed(matcher, body, budget) {
        return Some((hit, BodyFault { cause: Cause::BodyCompressed, detail: format.name().into() }));
    }
    let (hit, original) = reencoded::original(matcher, body, budget)?;
    Some((hit, BodyFault { cause: Cause::BodyReencoded, detail: original.describe().into() }))
}

/// Unwraps the body. Tries the content as it is, and then with one further fault undone.
fn by_unwrapping(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    wrappings::find(body, budget, |inside, budget| {
        let wrapping = inside.describe();
        if let Some(hit) = matcher.match_body(&inside.body, budget) {
            return Some(diagnosis_of_match(matcher, &hit, &[Cause::BodyWrapped], wrapping.into()));
        }
        if !inside.is_plausible() {
            return None;
        }
        let (hit, fault) = match_text_fault(matcher, &inside.body, budget)
            .or_else(|| match_compressed_or_reencoded(matcher, &inside.body, budget))?;
        let detail = format!("{wrapping}; inside: {}", fault.detail);
        Some(diagnosis_of_match(matcher, &hit, &[Cause::BodyWrapped, fault.cause], detail.into()))
    })
}

/// Undoes two changes of the text. Each pair is tried in one order only, because the order rarely matters.
fn by_two_text_faults(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    let try_all = |budget: &mut SearchBudget| {
        text_faults::TEXT_FAULTS.iter().enumerate().find_map(|(at, fault)| {
            let text = fault.undo(body, budget)?;
            text_faults::TEXT_FAULTS[at..].iter().filter(|other| other.cause != fault.cause).find_map(|other| {
                let earlier = other.undo(&text, budget)?;
                let hit = matcher.match_body(&earlier, budget)?;
                let detail = format!("{}; and {}", fault.detail, other.detail);
                Some(diagnosis_of_match(matcher, &hit, &[fault.cause, other.cause], detail.into()))
            })
        })
    };
    budget.within(TEXT_PAIRS_PART, try_all)
}

/// Removes a byte order mark, and then undoes compression or reencoding. Parsers reject the mark, so the earlier
/// attempts to undo reencoding have failed.
fn reencoded_with_byte_order_mark(
    matcher: &SignatureMatcher<'_>,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<Diagnosis> {
    let text = body.strip_prefix(text_faults::BYTE_ORDER_MARK)?;
    let (hit, fault) = match_compressed_or_reencoded(matcher, text, budget)?;
    let detail = format!("a byte order mark was added; and {}", fault.detail);
    Some(diagnosis_of_match(matcher, &hit, &[Cause::BodyByteOrderMark, fault.cause], detail.into()))
}

/// Tries variants of the configured secrets.
fn by_secret_variant(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    let secrets = matcher.secrets;
    let variants: Vec<_> = secrets.iter().map(|held| secret_variants::variants(held.secret().bytes())).collect();
    let longest = variants.iter().map(Vec::len).max().unwrap_or(0);
    // Try the most likely variant of every secret before the second variant of any secret, and so on.
    let mut pairs = (0..longest).flat_map(|at| {
        let each = secrets.iter().zip(&variants);
        each.filter_map(move |(held, variants)| Some((held, variants.get(at)?)))
    });
    budget.within(SECRETS_PART, |budget| {
        pairs.find_map(|(held, variant)| {
            let reading = matcher.match_with_secret(&variant.secret, body, budget)?;
            Some(diagnosis_of_secret(matcher, reading, &variant.causes, variant.detail.into(), held))
        })
    })
}

/// Tries signatures that anyone can compute. A match is a fault that the request shows, not a proof: the sender needs
/// no secret.
pub(super) fn without_secret(
    readings: &SignatureReadings,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<Diagnosis> {
    if !budget.try_spend(2 * (body.len() + TAG_COST) + KEY_COST) {
        return None;
    }
    let plain = Signature::from_bytes(Sha256::digest(body).into());
    let tags =
        [(plain, "plain SHA-256 of the body"), (SigningKey::new(b"").sign(body), "HMAC-SHA256 with an empty secret")];
    let detail = tags.into_iter().find_map(|(tag, detail)| readings.position(&[], &tag).map(|_| detail))?;
    Some(Diagnosis::shown(Cause::SignedWithoutSecret, Some(detail.into())))
}
