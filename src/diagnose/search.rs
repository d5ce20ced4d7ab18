//! The diagnosis of a whole delivery, within a budget.

use http::HeaderMap;

use super::{
    accepted::Accepted, budget::SearchBudget, cause::Cause, diagnosis::Diagnosis, evidence, matcher::SignatureMatcher,
    proof, readings::SignatureReadings,
};
use crate::keyring::{KeyedSecret, Keyring};

/// The fraction of the budget (one sixteenth) that is reserved for shown faults, so that an exhausted search still reports them.
pub(super) const EVIDENCE_PART: usize = 16;

/// The number of passes over the body that the budget for shown faults allows at least.
const EVIDENCE_PASSES: usize = 8;

/// Diagnoses a whole delivery with these secrets.
pub(crate) fn diagnose_delivery(
    secrets: &[KeyedSecret],
    candidates: Option<&Keyring>,
    accepted: Accepted,
    headers: &HeaderMap,
    body: &[u8],
) -> Diagnosis {
    let readings = SignatureReadings::of(headers, accepted.forms);
    let mut budget = SearchBudget::for_body(body.len());
    let mut plain = budget.split_off(EVIDENCE_PART, body.len(), EVIDENCE_PASSES);
    if !readings.all.is_empty() {
        let matcher = SignatureMatcher::new(secrets, &readings);
        if let Some(diagnosis) = proof::find(&matcher, candidates, accepted, headers, body, &mut budget) {
            return diagnosis;
        }
    }
    let diagnosis = proof::without_secret(&readings, body, &mut plain)
        .or_else(|| readings.shown.map(|(cause, detail)| Diagnosis::shown(cause, detail)))
        .or_else(|| evidence::body(headers, body, &mut plain))
        .unwrap_or_else(|| evidence::unknown(body, &mut plain));
    let is_cut_short = budget.was_cut_short() || (plain.was_cut_short() && diagnosis.cause() == Cause::Unknown);
    if is_cut_short { diagnosis.cut_short() } else { diagnosis }
}
