//! Will this work, before the first delivery tells?
//!
//! A secret with a newline too many verifies nothing, and a lease longer than klikit's pauses hides a crash: neither is an error
//! when it is set, and both show only once orders are lost. `preflight` looks for such settings when a service starts, and
//! changes nothing.
//!
//! # Rules
//!
//! Of each webhook secret, by [`Keyring::preflight`](crate::Keyring::preflight) and
//! [`KlikitVerifyLayer::preflight`](crate::KlikitVerifyLayer::preflight):
//!
//! - it is text without control characters, and neither white space nor a byte order mark is at an end of it;
//! - no quotes are around it, no `NAME=` or `name:` is before it, and no `\n` that was meant to be a line's end is after it;
//! - it is no placeholder, such as the `your-webhook-secret` of klikit's samples, `changeme`, or `0123456789abcdef`, and no
//!   variable or reference that nothing was put in for, such as `${SECRET}`, `process.env.SECRET` or `op://prod/klikit/secret`;
//! - it has 16 bytes or more: shorter ones can be guessed by whoever has seen one delivery. RFC 2104, section 3, advises the
//!   length of the hash, which is 32;
//! - no two of a keyring differ by such white space, quotes and names alone: one of them is a typo.
//!
//! Of the limits, by the same method of each layer, of the inbox and of its worker, each by itself: none that refuses every
//! delivery, none that klikit's largest batches do not fit in, no body that is waited for longer than klikit waits for the answer, no
//! store that is waited for as long, no lease that outlasts klikit's first pause, no memory shorter than its retries, and no two of
//! one layer that contradict each other. [`ProblemKind`] has them one by one.
//!
//! Later versions may look for more. Where an update is not to keep a service from starting, log what is found and go on.
//!
//! All defaults pass, with a secret that is random. A secret that merely looks odd does too: hex, base64, a UUID, or one with a
//! word in the middle.
//!
//! # Example
//!
//! ```
//! use tower_klikit::{KlikitVerifyLayer, preflight::ProblemKind};
//!
//! let layer = KlikitVerifyLayer::new("\"cd3b7a8ac9bd4b1d9f6be0cc\"\n");
//! let error = layer.preflight().unwrap_err();
//! let kinds: Vec<ProblemKind> = error.problems().iter().map(|problem| problem.kind()).collect();
//! assert_eq!(kinds, [ProblemKind::SecretWhiteSpace, ProblemKind::SecretQuoted]);
//! ```

use std::{error::Error, fmt, sync::Arc};

/// Why a service had better not start: everything that was found.
///
/// It holds nothing of a secret, neither a character nor its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightError {
    /// Never empty.
    problems: Vec<Problem>,
}

/// One setting that will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemKind,
    secret_id: Option<Arc<str>>,
    /// With which secret it is nearly the same.
    other_id: Option<Arc<str>>,
}

/// What can be wrong with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The secret has white space, a line's end or a byte order mark at an end.
    SecretWhiteSpace,
    /// The secret has quotes around it, straight or typographic, or at one end.
    SecretQuoted,
    /// The secret is a whole line, with the name of the setting before it.
    SecretLine,
    /// The secret ends in a backslash and an `n`.
    SecretEscaped,
    /// The secret is not UTF-8, or has control characters in it: klikit's are text.
    SecretNotText,
    /// The secret is one that stands in examples, or a variable or a reference that nothing was put in for.
    SecretPlaceholder,
    /// The secret is shorter than 16 bytes.
    SecretTooShort,
    /// The secret differs from another one of the keyring by white space, quotes or a name alone.
    SecretNearlyTwice,
    /// [`body_limit`](crate::KlikitVerifyLayer::body_limit) is below 160 KiB, which klikit's largest known batch takes.
    BodyLimitTooLow,
    /// [`buffer_budget`](crate::KlikitVerifyLayer::buffer_budget) is below
    /// [`body_limit`](crate::KlikitVerifyLayer::body_limit), and lowers it for bodies in several pieces.
    BufferBudgetTooLow,
    /// [`body_deadline`](crate::KlikitVerifyLayer::body_deadline) is nothing.
    BodyDeadlineZero,
    /// [`body_deadline`](crate::KlikitVerifyLayer::body_deadline) is over klikit's 10 seconds.
    BodyDeadlineTooLong,
    /// The tolerance of `KlikitVerifyLayer::accept_timestamped` is below a second, which is as exact as the times are.
    ToleranceTooShort,
    /// `KlikitDedupeLayer::lease` runs out before it is renewed, which begins at a third of it and may take a `claim_deadline`.
    LeaseTooShort,
    /// `KlikitDedupeLayer::lease` is not below klikit's first pause, 30 seconds.
    LeaseTooLong,
    /// The retention is below the 31 hours and 13 minutes that klikit's retries span.
    RetentionTooShort,
    /// `KlikitDedupeLayer::claim_deadline` is nothing.
    ClaimDeadlineZero,
    /// `KlikitDedupeLayer::claim_deadline`, for the claim and for its completion, leaves nothing of klikit's 10 seconds.
    ClaimDeadlineTooLong,
    /// The handler's deadline is nothing.
    HandlerDeadlineZero,
    /// `replay_limit` is no event id, or has a window below a second.
    ReplayLimitZero,
    /// `replay_limit` is over 1,000 event ids an hour, or replays are unlimited.
    ReplayLimitTooHigh,
    /// `Inbox::accept_deadline` is nothing.
    AcceptDeadlineZero,
    /// `Inbox::accept_deadline` leaves nothing of klikit's 10 seconds.
    AcceptDeadlineTooLong,
    /// `Inbox::max_backlog` is nothing.
    MaxBacklogZero,
    /// `Inbox::max_stored` is below `Inbox::max_backlog`, which pending deliveries then never reach.
    MaxStoredTooLow,
    /// The first pause of `Worker::backoff` is longer than the last.
    BackoffReversed,
    /// `Worker::backoff` has a pause of nothing.
    BackoffZero,
}

impl ProblemKind {
    /// What is wrong, after the name of the setting, and what to do.
    fn text(self) -> &'static str {
        match self {
            Self::SecretWhiteSpace => "has white space or a byte order mark at an end: take it as klikit shows it",
            Self::SecretQuoted => "has quotes around it or at an end: take it without",
            Self::SecretLine => "has the name of its setting before it: take what comes after that",
            Self::SecretEscaped => "ends in a backslash and an n where a line was to end: take it without",
            Self::SecretNotText => "is not text: read it as UTF-8, without control characters",
            Self::SecretPlaceholder => {
                "is a placeholder, or says where the secret is: put in the one that klikit shows"
            }
            Self::SecretTooShort => "is shorter than 16 bytes, which can be guessed: have klikit issue a longer one",
            Self::SecretNearlyTwice => {
                "differs by white space, quotes or a name alone: retire the one that is mistyped"
            }
            Self::BodyLimitTooLow => {
                "body_limit is below 160 KiB, which klikit's largest known batch takes and would get 413 for ever: raise it"
            }
            Self::BufferBudgetTooLow => {
                "buffer_budget is below body_limit, which it lowers for bodies in several pieces: raise it, or lower body_limit"
            }
            Self::BodyDeadlineZero => "body_deadline is nothing: give a body time to arrive, 10 seconds at most",
            Self::BodyDeadlineTooLong => "body_deadline is over the 10 seconds that klikit waits: lower it",
            Self::ToleranceTooShort => {
                "the tolerance of accept_timestamped is below a second, and times are in whole ones: raise it to minutes"
            }
            Self::LeaseTooShort => {
                "lease may run out before it is renewed, from a third of it on and within claim_deadline: raise it above one and \
                 a half times claim_deadline"
            }
            Self::LeaseTooLong => {
                "lease is not below klikit's first pause of 30 seconds, after which a crash would still look like a handler at \
                 work: lower it"
            }
            Self::RetentionTooShort => {
                "retention is below the 31 hours and 13 minutes of klikit's retries, of which the last ones would be handled again: raise it, \
                 above 30 days if replays are to be known too"
            }
            Self::ClaimDeadlineZero => "claim_deadline is nothing: give the store time to answer",
            Self::ClaimDeadlineTooLong => {
                "claim_deadline, spent once to claim and once to complete, leaves nothing of the 10 seconds that klikit waits: \
                 lower it below 5"
            }
            Self::HandlerDeadlineZero => "handler_deadline is nothing: give the handler time to answer",
            Self::ReplayLimitZero => {
                "replay_limit is no event id, or its window is below a second: allow a body some ids in minutes or hours"
            }
            Self::ReplayLimitTooHigh => {
                "replay_limit lets a captured delivery be handled under more than 1,000 ids an hour: lower it, or set \
                 Identity::Body if no two events of yours have the same body"
            }
            Self::AcceptDeadlineZero => "accept_deadline is nothing: give the store time to answer",
            Self::AcceptDeadlineTooLong => {
                "accept_deadline leaves nothing of the 10 seconds that klikit waits: lower it, to a second or two"
            }
            Self::MaxBacklogZero => "max_backlog is nothing, so that every delivery is refused: raise it",
            Self::MaxStoredTooLow => {
                "max_stored is below max_backlog, which pending deliveries then never reach: raise it, or lower max_backlog"
            }
            Self::BackoffReversed => "backoff has a first pause that is longer than its last: exchange them",
            Self::BackoffZero => "backoff has a pause of nothing, so that all attempts are over at once: raise it",
        }
    }
}

impl PreflightError {
    /// What was found, in the order of [`ProblemKind`], secret by secret. Never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    /// What is wrong.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// Which secret it is about, if it is about one.
    pub fn secret_id(&self) -> Option<&str> {
        self.secret_id.as_deref()
    }

    /// Which other secret it is about, if it is about two.
    pub fn other_secret_id(&self) -> Option<&str> {
        self.other_id.as_deref()
    }
}

/// What a check has found so far.
#[derive(Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Holds this against a setting if it `is` so.
    pub(crate) fn check(&mut self, is: bool, kind: ProblemKind) {
        if is {
            self.0.push(Problem { kind, secret_id: None, other_id: None });
        }
    }

    pub(crate) fn add_secret(&mut self, kind: ProblemKind, id: &str) {
        self.0.push(Problem { kind, secret_id: Some(id.into()), other_id: None });
    }

    pub(crate) fn add_pair(&mut self, id: &str, other: &str) {
        let (secret_id, other_id) = (Some(id.into()), Some(other.into()));
        self.0.push(Problem { kind: ProblemKind::SecretNearlyTwice, secret_id, other_id });
    }

    pub(crate) fn into_result(self) -> Result<(), PreflightError> {
        if self.0.is_empty() { Ok(()) } else { Err(PreflightError { problems: self.0 }) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.kind.text();
        match (&self.secret_id, &self.other_id) {
            (Some(id), Some(other)) => write!(f, "the webhook secret {id:?}, beside {other:?}, {text}"),
            (Some(id), None) => write!(f, "the webhook secret {id:?} {text}"),
            (None, _) => f.write_str(text),
        }
    }
}

impl fmt::Display for PreflightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let separator = if n > 0 { "; " } else { "" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl Error for PreflightError {}
