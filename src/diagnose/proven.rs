//! Undoing one fault after another until the signature matches.

use std::borrow::Cow;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{
    cause::Cause,
    diagnosis::Diagnosis,
    diagnostician::Accepted,
    json, misread, packed,
    readings::{Forms, Readings},
    search::{Hit, Search},
    shown, text,
    work::{KEY, TAG, Work},
    wrapped,
};
use crate::{
    keyring::{KeyedSecret, Keyring},
    signature::{Signature, SigningKey, timestamped::begins_with_timestamp},
};

/// The part of the work that secrets may take. Bodies that were encoded again are the commoner fault.
const SECRETS_PART: usize = 3;

/// The part of the work that pairs of changes of a text may take.
const TEXTS_PART: usize = 4;

/// What has to be undone for the signature to match: the least first.
pub(super) fn find(
    search: &Search<'_>,
    candidates: Option<&Keyring>,
    accepted: Accepted,
    headers: &HeaderMap,
    body: &[u8],
    work: &mut Work,
) -> Option<Diagnosis> {
    as_it_came(search, accepted, headers, body, work)
        .or_else(|| candidates.and_then(|candidates| by_candidate(search, candidates, body, work)))
        .or_else(|| without_hmac(search, body, work))
        .or_else(|| as_text(search, body, work))
        .or_else(|| by_unwrapping(search, body, work))
        .or_else(|| by_misread_secret(search, body, work))
        .or_else(|| as_text_twice(search, body, work))
        .or_else(|| {
            let (hit, fault) = compressed_or_reencoded(search, body, work)?;
            Some(of_body(search, &hit, &[fault.cause], fault.detail))
        })
        .or_else(|| reencoded_with_mark(search, body, work))
}

/// A change of a body.
struct Fault {
    cause: Cause,
    detail: Cow<'static, str>,
}

fn as_it_came(
    search: &Search<'_>,
    accepted: Accepted,
    headers: &HeaderMap,
    body: &[u8],
    work: &mut Work,
) -> Option<Diagnosis> {
    let hit = search.with_any(body, work)?;
    let reading = search.reading(&hit);
    let mut faults = reading.faults.clone();
    // In the older form the body holds the id.
    let may_be_missing = accepted.missing_event_id || !reading.prefix.is_empty();
    let is_either = accepted.forms == Forms::Both && reading.prefix.is_empty();
    if is_either && begins_with_timestamp(body) {
        faults.insert(0, Cause::TimestampInBody);
    }
    faults.extend(shown::event_id(headers).filter(|&fault| fault != Cause::EventIdMissing || !may_be_missing));
    let detail = reading.detail.map(Cow::Borrowed);
    Some(Diagnosis::proven(&faults, detail, &search.secrets[hit.secret].signer().secret_id))
}

fn of_body(search: &Search<'_>, hit: &Hit, causes: &[Cause], detail: Cow<'static, str>) -> Diagnosis {
    of_secret(search, hit.reading, causes, detail, &search.secrets[hit.secret])
}

fn of_secret(
    search: &Search<'_>,
    reading: usize,
    causes: &[Cause],
    detail: Cow<'static, str>,
    held: &KeyedSecret,
) -> Diagnosis {
    let faults = [causes, &search.readings.all[reading].faults[..]].concat();
    Diagnosis::proven(&faults, Some(detail), &held.signer().secret_id)
}

fn by_candidate(search: &Search<'_>, candidates: &Keyring, body: &[u8], work: &mut Work) -> Option<Diagnosis> {
    candidates.secrets().iter().find_map(|candidate| {
        let reading = search.with_key(candidate.key(), body, work)?;
        Some(of_secret(search, reading, &[Cause::OtherSecret], "the candidate that is named here".into(), candidate))
    })
}

fn without_hmac(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<Diagnosis> {
    search.secrets.iter().find_map(|held| {
        let secret = held.secret().bytes();
        let orders = [
            (secret, body, "SHA-256 of the secret and the body"),
            (body, secret, "SHA-256 of the body and the secret"),
        ];
        orders.into_iter().find_map(|(first, second, detail)| {
            if !work.spend(body.len() + secret.len() + TAG) {
                return None;
            }
            let digest = Sha256::new().chain_update(first).chain_update(second).finalize();
            let reading = search.readings.position(&[], &Signature::from_bytes(digest.into()))?;
            Some(of_secret(search, reading, &[Cause::SignedWithoutHmac], detail.into(), held))
        })
    })
}

fn as_text(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<Diagnosis> {
    let (hit, fault) = changed_as_text(search, body, work)?;
    Some(of_body(search, &hit, &[fault.cause], fault.detail))
}

fn changed_as_text(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<(Hit, Fault)> {
    text::STEPS.iter().find_map(|step| {
        let text = step.earlier(body, work)?;
        let hit = search.with_any(&text, work)?;
        Some((hit, Fault { cause: step.cause, detail: step.detail.into() }))
    })
}

fn compressed_or_reencoded(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<(Hit, Fault)> {
    if let Some((hit, packing)) = packed::inside(search, body, work) {
        return Some((hit, Fault { cause: Cause::BodyCompressed, detail: packing.name().into() }));
    }
    let (hit, writing, newline) = json::original(search, body, work)?;
    Some((hit, Fault { cause: Cause::BodyReencoded, detail: writing.describe(newline).into() }))
}

/// Looks for the body in what this one wraps, and for one fault of that.
fn by_unwrapping(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<Diagnosis> {
    wrapped::find(body, work, |inside, work| {
        let wrapping = inside.describe();
        if let Some(hit) = search.with_any(&inside.body, work) {
            return Some(of_body(search, &hit, &[Cause::BodyWrapped], wrapping.into()));
        }
        if !inside.is_worth_a_search() {
            return None;
        }
        let (hit, fault) = changed_as_text(search, &inside.body, work)
            .or_else(|| compressed_or_reencoded(search, &inside.body, work))?;
        let detail = format!("{wrapping}; and inside of that: {}", fault.detail);
        Some(of_body(search, &hit, &[Cause::BodyWrapped, fault.cause], detail.into()))
    })
}

/// Undoes two changes of a text. In which order makes no difference for most.
fn as_text_twice(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<Diagnosis> {
    let try_all = |work: &mut Work| {
        text::STEPS.iter().enumerate().find_map(|(at, step)| {
            let text = step.earlier(body, work)?;
            text::STEPS[at..].iter().filter(|other| other.cause != step.cause).find_map(|other| {
                let earlier = other.earlier(&text, work)?;
                let hit = search.with_any(&earlier, work)?;
                let detail = format!("{}; and {}", step.detail, other.detail);
                Some(of_body(search, &hit, &[step.cause, other.cause], detail.into()))
            })
        })
    };
    work.within(TEXTS_PART, try_all)
}

/// No parser reads JSON behind a byte order mark.
fn reencoded_with_mark(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<Diagnosis> {
    let text = body.strip_prefix(text::MARK)?;
    let (hit, fault) = compressed_or_reencoded(search, text, work)?;
    let detail = format!("one was added; and {}", fault.detail);
    Some(of_body(search, &hit, &[Cause::BodyByteOrderMark, fault.cause], detail.into()))
}

fn by_misread_secret(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<Diagnosis> {
    let secrets = search.secrets;
    let variants: Vec<_> = secrets.iter().map(|held| misread::variants(held.secret().bytes())).collect();
    let longest = variants.iter().map(Vec::len).max().unwrap_or(0);
    // The likeliest of each secret before the unlikely of the first.
    let mut pairs = (0..longest).flat_map(|at| {
        let each = secrets.iter().zip(&variants);
        each.filter_map(move |(held, variants)| Some((held, variants.get(at)?)))
    });
    work.within(SECRETS_PART, |work| {
        pairs.find_map(|(held, variant)| {
            let reading = search.with_secret(&variant.secret, body, work)?;
            Some(of_secret(search, reading, &variant.causes, variant.detail.into(), held))
        })
    })
}

/// Digests that anyone can make. This is what the request shows, not that the secret was used.
pub(super) fn without_secret(readings: &Readings, body: &[u8], work: &mut Work) -> Option<Diagnosis> {
    if !work.spend(2 * (body.len() + TAG) + KEY) {
        return None;
    }
    let plain = Signature::from_bytes(Sha256::digest(body).into());
    let tags =
        [(plain, "plain SHA-256 of the body"), (SigningKey::new(b"").sign(body), "HMAC-SHA256 with an empty secret")];
    let detail = tags.into_iter().find_map(|(tag, detail)| readings.position(&[], &tag).map(|_| detail))?;
    Some(Diagnosis::shown(Cause::SignedWithoutSecret, Some(detail.into())))
}
