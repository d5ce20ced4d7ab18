use std::{borrow::Cow, fmt, sync::Arc};

use super::cause::{Cause, Certainty};

/// What is wrong with a delivery, how sure that is, and what to do.
///
/// `Display` is one line, for a log. It holds neither the secret, nor the body, nor the signature.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    cause: Cause,
    /// Further faults that had to be undone together with it.
    also: Vec<Cause>,
    certainty: Certainty,
    /// What exactly. Of this crate's own words, numbers, and header names.
    detail: Option<Cow<'static, str>>,
    secret_id: Option<Arc<str>>,
    /// Whether something was left untried for its cost.
    is_cut_short: bool,
}

impl Diagnosis {
    pub(super) fn unknown() -> Self {
        Self {
            cause: Cause::Unknown,
            also: Vec::new(),
            certainty: Certainty::Unknown,
            detail: None,
            secret_id: None,
            is_cut_short: false,
        }
    }

    pub(super) fn unknown_with(detail: Option<&'static str>) -> Self {
        Self { detail: detail.map(Cow::Borrowed), ..Self::unknown() }
    }

    /// Says that a cause may have been missed.
    pub(super) fn after_running_out(self) -> Self {
        Self { is_cut_short: true, ..self }
    }

    pub(super) fn shown(cause: Cause, detail: Option<Cow<'static, str>>) -> Self {
        Self { cause, certainty: Certainty::Shown, detail, ..Self::unknown() }
    }

    /// The faults that were undone, the deepest first.
    pub(super) fn proven(faults: &[Cause], detail: Option<Cow<'static, str>>, secret_id: &Arc<str>) -> Self {
        // A matching signature in upper case hinders nobody here: it is worth a word only when nothing else is wrong.
        let counts = |fault: &Cause| *fault != Cause::SignatureUpperCase || faults.len() == 1;
        let mut faults = faults.iter().copied().filter(counts);
        let cause = faults.next().unwrap_or(Cause::Verifies);
        let secret_id = Some(Arc::clone(secret_id));
        Self { cause, also: faults.collect(), certainty: Certainty::Proven, detail, secret_id, is_cut_short: false }
    }

    /// What is wrong.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// What is wrong besides: faults that had to be undone together with [`cause`](Self::cause) for the signature to match.
    /// Mostly none.
    pub fn also(&self) -> &[Cause] {
        &self.also
    }

    /// How sure that is.
    pub fn certainty(&self) -> Certainty {
        self.certainty
    }

    /// Whether it verifies: nothing hinders a receiver of which this was said. A signature in
    /// [upper case](Cause::SignatureUpperCase) verifies too.
    pub fn verifies(&self) -> bool {
        matches!(self.cause, Cause::Verifies | Cause::SignatureUpperCase)
    }

    /// What exactly, for a person to read, such as "a line feed was added". It holds nothing of the secret, the body or the
    /// signature, and its words may change.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Returns whether all ways were tried, or one matched. If not, the search was cut short at [its limit](super#what-it-costs), and
    /// a cause may have been missed.
    pub fn tried_all(&self) -> bool {
        !self.is_cut_short
    }

    /// What to do about [`cause`](Self::cause). What there is [besides](Self::also) has to be done too: [`Cause::fix`].
    pub fn fix(&self) -> &'static str {
        self.cause.fix()
    }

    /// The id of the secret that matched, of the keyring or of the candidates; of a secret that is itself at fault, its id in
    /// the keyring. `None` unless the cause is [proven](Certainty::Proven).
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
        for also in &self.also {
            write!(f, "; and {also}")?;
        }
        match (self.certainty, &self.secret_id) {
            (Certainty::Proven, Some(id)) => write!(f, " (proven, secret {id:?})")?,
            (Certainty::Proven, None) => f.write_str(" (proven)")?,
            (Certainty::Shown, _) => f.write_str(" (shown by the request; other things may be wrong too)")?,
            (Certainty::Unknown, _) => {}
        }
        if self.is_cut_short {
            f.write_str("; the matcher was cut short at its limit, so a cause may have been missed")?;
        }
        // Anybody can show anything.
        let only_if = if self.certainty == Certainty::Shown { "if klikit sent this, " } else { "" };
        write!(f, "; {only_if}{}", self.fix())?;
        self.also.iter().try_for_each(|also| write!(f, "; and {}", also.fix()))
    }
}
