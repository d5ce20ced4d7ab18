use std::{borrow::Cow, fmt, sync::Arc};

use super::cause::{Cause, Certainty};

/// The result of a diagnosis: the cause, the certainty, and what to do.
///
/// `Display` is one line for a log. It contains no part of the secret, the body or the signature.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    cause: Cause,
    /// Further faults that had to be undone together with `cause`.
    further_causes: Vec<Cause>,
    certainty: Certainty,
    /// The exact fault. Contains only fixed words, numbers and header names, and nothing from the secret, the body or the signature.
    detail: Option<Cow<'static, str>>,
    secret_id: Option<Arc<str>>,
    /// Whether the search skipped something because of its cost.
    is_cut_short: bool,
}

impl Diagnosis {
    pub(super) fn unknown() -> Self {
        Self {
            cause: Cause::Unknown,
            further_causes: Vec::new(),
            certainty: Certainty::Unknown,
            detail: None,
            secret_id: None,
            is_cut_short: false,
        }
    }

    pub(super) fn unknown_with(detail: Option<&'static str>) -> Self {
        Self { detail: detail.map(Cow::Borrowed), ..Self::unknown() }
    }

    /// Marks the search as cut short, so that a cause may have been missed.
    pub(super) fn cut_short(self) -> Self {
        Self { is_cut_short: true, ..self }
    }

    pub(super) fn shown(cause: Cause, detail: Option<Cow<'static, str>>) -> Self {
        Self { cause, certainty: Certainty::Shown, detail, ..Self::unknown() }
    }

    /// Returns the diagnosis for the faults that were undone. The first fault becomes the cause: a fault of the body or the secret
    /// comes before a fault of the header.
    pub(super) fn proven(faults: &[Cause], detail: Option<Cow<'static, str>>, secret_id: &Arc<str>) -> Self {
        // This crate accepts upper-case digits, so mention them only if there is no other fault.
        let counts = |fault: &Cause| *fault != Cause::SignatureUpperCase || faults.len() == 1;
        let mut faults = faults.iter().copied().filter(counts);
        let cause = faults.next().unwrap_or(Cause::Verifies);
        let secret_id = Some(Arc::clone(secret_id));
        Self {
            cause,
            further_causes: faults.collect(),
            certainty: Certainty::Proven,
            detail,
            secret_id,
            is_cut_short: false,
        }
    }

    /// Returns the cause.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Returns the causes besides [`cause`](Self::cause), all of which had to be undone for the signature to match. Usually empty.
    pub fn further_causes(&self) -> &[Cause] {
        &self.further_causes
    }

    /// Returns the certainty of the cause.
    pub fn certainty(&self) -> Certainty {
        self.certainty
    }

    /// Returns whether the delivery verifies. A signature in [upper case](Cause::SignatureUpperCase) verifies too.
    pub fn verifies(&self) -> bool {
        matches!(self.cause, Cause::Verifies | Cause::SignatureUpperCase)
    }

    /// Returns the exact fault for a person to read, such as "a line feed was added". The text contains no part of the secret, the
    /// body or the signature, and its words may change.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Returns whether the search is complete: it tried every fault, or found one that matches. If `false`, the search reached
    /// [its limit](super#what-it-costs) and may have missed a cause.
    pub fn tried_all(&self) -> bool {
        !self.is_cut_short
    }

    /// Returns what to do about [`cause`](Self::cause). For the [further causes](Self::further_causes), call [`Cause::fix`].
    pub fn fix(&self) -> &'static str {
        self.cause.fix()
    }

    /// Returns the id of the secret that matched, in the keyring or among the candidates. For a fault of the secret itself, returns
    /// the id of the configured secret. `None` unless the cause is [proven](Certainty::Proven).
    pub fn secret_id(&self) -> Option<&str> {
        self.secret_id.as_deref()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        for cause in &self.further_causes {
            write!(f, "; and {cause}")?;
        }
        match (self.certainty, &self.secret_id) {
            (Certainty::Proven, Some(id)) => write!(f, " (proven, secret {id:?})")?,
            (Certainty::Proven, None) => f.write_str(" (proven)")?,
            (Certainty::Shown, _) => f.write_str(" (shown by the request; other faults are possible)")?,
            (Certainty::Unknown, _) => {}
        }
        if self.is_cut_short {
            f.write_str("; the search was cut short at its limit, so a cause may have been missed")?;
        }
        // A request that shows a fault can come from anyone, so the advice holds only if klikit sent it. A request that was signed
        // without a secret must be rejected in any case.
        let is_conditional = self.certainty == Certainty::Shown && self.cause != Cause::SignedWithoutSecret;
        let only_if = if is_conditional { "if klikit sent this, " } else { "" };
        write!(f, "; {only_if}{}", self.fix())?;
        self.further_causes.iter().try_for_each(|cause| write!(f, "; and {}", cause.fix()))
    }
}
