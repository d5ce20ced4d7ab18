//! Undoing one fault after another until the signature matches.

use std::borrow::Cow;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{
    budget::{KEY_COST, SearchBudget, TAG_COST},
    cause::Cause,
    compression,
    diagnosis::Diagnosis,
    diagnostician::Accepted,
    evidence,
    matcher::{SignatureMatch, SignatureMatcher},
    readings::{Forms, SignatureReadings},
    reencoded, secret_variants, text_faults, wrappings,
};
use crate::{
    keyring::{KeyedSecret, Keyring},
    signature::{Signature, SigningKey, stamp::begins_with_timestamp},
};

/// The part of the work that secrets may take. Bodies that were encoded again are the commoner fault.
const SECRETS_PART: usize = 3;

/// The part of the work that pairs of changes of a text may take.
const TEXTS_PART: usize = 4;

/// What has to be undone for the signature to match: the least first.
pub(super) fn find(
    matcher: &SignatureMatcher<'_>,
    candidates: Option<&Keyring>,
    accepted: Accepted,
    headers: &HeaderMap,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<Diagnosis> {
    as_it_came(matcher, accepted, headers, body, budget)
        .or_else(|| candidates.and_then(|candidates| by_candidate(matcher, candidates, body, budget)))
        .or_else(|| without_hmac(matcher, body, budget))
        .or_else(|| as_text(matcher, body, budget))
        .or_else(|| by_unwrapping(matcher, body, budget))
        .or_else(|| by_misread_secret(matcher, body, budget))
        .or_else(|| as_text_twice(matcher, body, budget))
        .or_else(|| {
            let (hit, fault) = compressed_or_reencoded(matcher, body, budget)?;
            Some(of_body(matcher, &hit, &[fault.cause], fault.detail))
        })
        .or_else(|| reencoded_with_mark(matcher, body, budget))
}

/// A change of a body.
struct BodyFault {
    cause: Cause,
    detail: Cow<'static, str>,
}

fn as_it_came(
    matcher: &SignatureMatcher<'_>,
    accepted: Accepted,
    headers: &HeaderMap,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<Diagnosis> {
    let hit = matcher.match_body(body, budget)?;
    let reading = matcher.reading(&hit);
    let mut faults = reading.faults.clone();
    // In the older form the body holds the id.
    let may_be_missing = accepted.missing_event_id || !reading.prefix.is_empty();
    let is_either = accepted.forms == Forms::Both && reading.prefix.is_empty();
    if is_either && begins_with_timestamp(body) {
        faults.insert(0, Cause::TimestampInBody);
    }
    faults.extend(evidence::event_id(headers).filter(|&fault| fault != Cause::EventIdMissing || !may_be_missing));
    let detail = reading.detail.map(Cow::Borrowed);
    Some(Diagnosis::proven(&faults, detail, &matcher.secrets[hit.secret].signer().secret_id))
}

fn of_body(
    matcher: &SignatureMatcher<'_>,
    hit: &SignatureMatch,
    causes: &[Cause],
    detail: Cow<'static, str>,
) -> Diagnosis {
    of_secret(matcher, hit.reading, causes, detail, &matcher.secrets[hit.secret])
}

fn of_secret(
    matcher: &SignatureMatcher<'_>,
    reading: usize,
    causes: &[Cause],
    detail: Cow<'static, str>,
    held: &KeyedSecret,
) -> Diagnosis {
    let faults = [causes, &matcher.readings.all[reading].faults[..]].concat();
    Diagnosis::proven(&faults, Some(detail), &held.signer().secret_id)
}

fn by_candidate(
    matcher: &SignatureMatcher<'_>,
    candidates: &Keyring,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<Diagnosis> {
    candidates.secrets().iter().find_map(|candidate| {
        let reading = matcher.match_with_key(candidate.key(), body, budget)?;
        Some(of_secret(matcher, reading, &[Cause::OtherSecret], "the candidate that is named here".into(), candidate))
    })
}

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
            Some(of_secret(matcher, reading, &[Cause::SignedWithoutHmac], detail.into(), held))
        })
    })
}

fn as_text(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    let (hit, fault) = changed_as_text(matcher, body, budget)?;
    Some(of_body(matcher, &hit, &[fault.cause], fault.detail))
}

fn changed_as_text(
    matcher: &SignatureMatcher<'_>,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<(SignatureMatch, BodyFault)> {
    text_faults::TEXT_FAULTS.iter().find_map(|step| {
        let text = step.earlier(body, budget)?;
        let hit = matcher.match_body(&text, budget)?;
        Some((hit, BodyFault { cause: step.cause, detail: step.detail.into() }))
    })
}

fn compressed_or_reencoded(
    matcher: &SignatureMatcher<'_>,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<(SignatureMatch, BodyFault)> {
    if let Some((hit, format)) = compression::inside(matcher, body, budget) {
        return Some((hit, BodyFault { cause: Cause::BodyCompressed, detail: format.name().into() }));
    }
    let (hit, writing, newline) = reencoded::original(matcher, body, budget)?;
    Some((hit, BodyFault { cause: Cause::BodyReencoded, detail: writing.describe(newline).into() }))
}

/// Looks for the body in what this one wraps, and for one fault of that.
fn by_unwrapping(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    wrappings::find(body, budget, |inside, budget| {
        let wrapping = inside.describe();
        if let Some(hit) = matcher.match_body(&inside.body, budget) {
            return Some(of_body(matcher, &hit, &[Cause::BodyWrapped], wrapping.into()));
        }
        if !inside.is_plausible() {
            return None;
        }
        let (hit, fault) = changed_as_text(matcher, &inside.body, budget)
            .or_else(|| compressed_or_reencoded(matcher, &inside.body, budget))?;
        let detail = format!("{wrapping}; and inside of that: {}", fault.detail);
        Some(of_body(matcher, &hit, &[Cause::BodyWrapped, fault.cause], detail.into()))
    })
}

/// Undoes two changes of a text. In which order makes no difference for most.
fn as_text_twice(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    let try_all = |budget: &mut SearchBudget| {
        text_faults::TEXT_FAULTS.iter().enumerate().find_map(|(at, step)| {
            let text = step.earlier(body, budget)?;
            text_faults::TEXT_FAULTS[at..].iter().filter(|other| other.cause != step.cause).find_map(|other| {
                let earlier = other.earlier(&text, budget)?;
                let hit = matcher.match_body(&earlier, budget)?;
                let detail = format!("{}; and {}", step.detail, other.detail);
                Some(of_body(matcher, &hit, &[step.cause, other.cause], detail.into()))
            })
        })
    };
    budget.within(TEXTS_PART, try_all)
}

/// No parser reads JSON behind a byte order mark.
fn reencoded_with_mark(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    let text = body.strip_prefix(text_faults::BYTE_ORDER_MARK)?;
    let (hit, fault) = compressed_or_reencoded(matcher, text, budget)?;
    let detail = format!("one was added; and {}", fault.detail);
    Some(of_body(matcher, &hit, &[Cause::BodyByteOrderMark, fault.cause], detail.into()))
}

fn by_misread_secret(matcher: &SignatureMatcher<'_>, body: &[u8], budget: &mut SearchBudget) -> Option<Diagnosis> {
    let secrets = matcher.secrets;
    let variants: Vec<_> = secrets.iter().map(|held| secret_variants::variants(held.secret().bytes())).collect();
    let longest = variants.iter().map(Vec::len).max().unwrap_or(0);
    // The likeliest of each secret before the unlikely of the first.
    let mut pairs = (0..longest).flat_map(|at| {
        let each = secrets.iter().zip(&variants);
        each.filter_map(move |(held, variants)| Some((held, variants.get(at)?)))
    });
    budget.within(SECRETS_PART, |budget| {
        pairs.find_map(|(held, variant)| {
            let reading = matcher.match_with_secret(&variant.secret, body, budget)?;
            Some(of_secret(matcher, reading, &variant.causes, variant.detail.into(), held))
        })
    })
}

/// Digests that anyone can make. This is what the request shows, not that the secret was used.
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
