//! Undoing one fault after another until the signature matches.

use std::borrow::Cow;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{
    cause::Cause,
    diagnosis::Diagnosis,
    json, misread, packed,
    readings::Readings,
    search::{Hit, Search, Work},
    shown, text,
};
use crate::{
    keyring::{KeyedSecret, Keyring},
    signature::{Signature, SigningKey},
};

/// The part of the work that secrets may take. Bodies that were encoded again are the commoner fault.
const SECRETS_PART: usize = 3;

/// What has to be undone for the signature to match: the least first.
pub(super) fn find(
    search: &mut Search<'_>,
    candidates: Option<&Keyring>,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Diagnosis> {
    as_it_came(search, headers, body)
        .or_else(|| candidates.and_then(|candidates| by_candidate(search, candidates, body)))
        .or_else(|| without_hmac(search, body))
        .or_else(|| as_text(search, body))
        .or_else(|| by_misread_secret(search, body))
        .or_else(|| {
            let (hit, packing) = packed::inside(search, body)?;
            Some(of_body(search, &hit, Cause::BodyCompressed, packing.name().into()))
        })
        .or_else(|| {
            let (hit, writing, newline) = json::original(search, body)?;
            Some(of_body(search, &hit, Cause::BodyReencoded, writing.describe(newline).into()))
        })
}

fn as_it_came(search: &mut Search<'_>, headers: &HeaderMap, body: &[u8]) -> Option<Diagnosis> {
    let hit = search.with_any(body)?;
    let reading = search.reading(&hit);
    let mut faults = reading.faults.clone();
    // In the older form the body holds the id.
    if reading.prefix.is_empty() {
        faults.extend(shown::event_id(headers));
    }
    let detail = reading.detail.map(Cow::Borrowed);
    Some(Diagnosis::proven(&faults, detail, &search.secrets[hit.secret].signer().secret_id))
}

fn of_body(search: &Search<'_>, hit: &Hit, cause: Cause, detail: Cow<'static, str>) -> Diagnosis {
    of_secret(search, hit.reading, &[cause], detail, &search.secrets[hit.secret])
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

fn by_candidate(search: &mut Search<'_>, candidates: &Keyring, body: &[u8]) -> Option<Diagnosis> {
    candidates.secrets().iter().find_map(|candidate| {
        let reading = search.with_key(candidate.key(), body)?;
        Some(of_secret(search, reading, &[Cause::OtherSecret], "the candidate that is named here".into(), candidate))
    })
}

fn without_hmac(search: &mut Search<'_>, body: &[u8]) -> Option<Diagnosis> {
    let secrets = search.secrets;
    secrets.iter().find_map(|held| {
        let secret = held.secret().bytes();
        let orders = [
            (secret, body, "SHA-256 of the secret and the body"),
            (body, secret, "SHA-256 of the body and the secret"),
        ];
        orders.into_iter().find_map(|(first, second, detail)| {
            if !search.work.spend(body.len() + secret.len()) {
                return None;
            }
            #[cfg(test)]
            (search.hashed += body.len() + secret.len());
            let digest = Sha256::new().chain_update(first).chain_update(second).finalize();
            let reading = reading_of(search.readings, &Signature::from_bytes(digest.into()))?;
            Some(of_secret(search, reading, &[Cause::SignedWithoutHmac], detail.into(), held))
        })
    })
}

/// Which reading of the header this tag is, of those over the body alone.
fn reading_of(readings: &Readings, signature: &Signature) -> Option<usize> {
    readings.all.iter().position(|reading| reading.prefix.is_empty() && reading.matches(signature))
}

fn as_text(search: &mut Search<'_>, body: &[u8]) -> Option<Diagnosis> {
    text::earlier(body).find_map(|earlier| {
        let hit = search.with_any(&earlier.text)?;
        Some(of_body(search, &hit, earlier.cause, earlier.detail.into()))
    })
}

fn by_misread_secret(search: &mut Search<'_>, body: &[u8]) -> Option<Diagnosis> {
    let secrets = search.secrets;
    let variants: Vec<_> = secrets.iter().map(|held| misread::variants(held.secret().bytes())).collect();
    let longest = variants.iter().map(Vec::len).max().unwrap_or(0);
    search.work.hold_back(SECRETS_PART);
    // The likeliest of each secret before the unlikely of the first.
    let found = (0..longest).find_map(|at| {
        secrets.iter().zip(&variants).find_map(|(held, variants)| {
            let variant = variants.get(at)?;
            let reading = search.with_key(variant.secret.key(), body)?;
            Some(of_secret(search, reading, &variant.causes, variant.detail.into(), held))
        })
    });
    search.work.give_back();
    found
}

/// Digests that anyone can make. This is what the request shows, not that the secret was used.
pub(super) fn without_secret(readings: &Readings, body: &[u8], work: &mut Work) -> Option<Diagnosis> {
    if !work.spend(2 * body.len()) {
        return None;
    }
    let plain = Signature::from_bytes(Sha256::digest(body).into());
    let tags =
        [(plain, "plain SHA-256 of the body"), (SigningKey::new(b"").sign(body), "HMAC-SHA256 with an empty secret")];
    let detail = tags.into_iter().find_map(|(tag, detail)| reading_of(readings, &tag).map(|_| detail))?;
    Some(Diagnosis::shown(Cause::SignedWithoutSecret, Some(detail.into())))
}
