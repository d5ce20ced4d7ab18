//! Checks of secrets and limits when a service starts.
//!
//! Some mistakes in a configuration are valid settings, and are noticed only when orders are lost. For example, a
//! secret with an extra newline verifies nothing. With a lease that is longer than klikit's first pause, the first
//! retry after a crash finds the delivery still claimed. `preflight` finds such settings when a service starts. It
//! changes nothing.
//!
//! # Rules
//!
//! [`Keyring::preflight`](crate::Keyring::preflight) and
//! [`KlikitVerifyLayer::preflight`](crate::KlikitVerifyLayer::preflight) check each webhook secret:
//!
//! - it is text without control characters, and neither begins nor ends with white space or a byte order mark;
//! - it has no quotes around it, no `NAME=` or `name:` before it, and no escape sequence `\n` after it;
//! - it is not a placeholder, such as the `your-webhook-secret` of klikit's samples, `changeme`, or `0123456789abcdef`;
//! - it is not a variable or reference that was not replaced, such as `${SECRET}`, `process.env.SECRET` or
//!   `op://prod/klikit/secret`;
//! - it has at least 16 bytes. An attacker who has seen one delivery can guess shorter secrets. RFC 2104, section 3,
//!   advises the length of the hash, which is 32 bytes;
//! - it does not differ from another secret of its keyring only by such white space, quotes, names and escapes. One of
//!   the two would be a typo.
//!
//! The `preflight` methods of each layer, of the [inbox](crate::inbox::Inbox::preflight) and of its
//! [worker](crate::inbox::Worker::preflight) check their own limits:
//!
//! - no limit rejects every delivery, or klikit's largest batches;
//! - no deadline for a body, or for a delivery's calls to a store, outlasts klikit's timeout of 10 seconds;
//! - every lease is shorter than klikit's first pause;
//! - the retention is not shorter than klikit's retries;
//! - no two limits contradict each other.
//!
//! [`ProblemKind`] lists all problems. Later versions may find more. If an update must not keep a service from
//! starting, log the problems and continue.
//!
//! [`PreflightError`] names everything that was found and contains no part of a secret. Pass the keyrings of a
//! [resolver](crate::KlikitVerifyLayer::with_resolver) to
//! [`known_keyrings`](crate::KlikitVerifyLayer::known_keyrings), so that the layer checks them as well.
//!
//! All defaults pass, with a random secret. Hex, base64, UUIDs and random secrets that contain a word pass too.
//!
//! # Examples
//!
//! At the start of a service:
//!
//! ```
//! use tower_klikit::{KlikitVerifyLayer, dedupe::KlikitDedupeLayer, store::MemoryStore};
//!
//! fn layers() -> Result<(KlikitVerifyLayer, KlikitDedupeLayer), Box<dyn std::error::Error>> {
//!     let verify = KlikitVerifyLayer::from_env()?;
//!     let dedupe = KlikitDedupeLayer::new(MemoryStore::new());
//!     // For example: the webhook secret "default" has white space or a byte order mark at its
//!     // beginning or end: …
//!     verify.preflight()?;
//!     dedupe.preflight()?;
//!     Ok((verify, dedupe))
//! }
//! ```
//!
//! The problems by their kinds:
//!
//! ```
//! use tower_klikit::{
//!     KlikitVerifyLayer,
//!     preflight::{Problem, ProblemKind},
//! };
//!
//! let layer = KlikitVerifyLayer::new("\"cd3b7a8ac9bd4b1d9f6be0cc\"\n");
//! let error = layer.preflight().unwrap_err();
//! let kinds: Vec<ProblemKind> = error.problems().iter().map(Problem::kind).collect();
//! assert_eq!(kinds, [ProblemKind::SecretWhiteSpace, ProblemKind::SecretQuoted]);
//! ```

use std::{error::Error, fmt, sync::Arc};

/// All problems that a check found.
///
/// The error reveals no character and no length of a secret. `Debug` writes the same message as `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct PreflightError {
    /// Never empty.
    problems: Vec<Problem>,
}

/// A problem with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemKind,
    secret_id: Option<Arc<str>>,
    /// The id of the other secret, in a problem of two secrets.
    other_id: Option<Arc<str>>,
}

/// The kinds of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The secret begins or ends with white space, a line end or a byte order mark.
    SecretWhiteSpace,
    /// The secret has straight or typographic quotes around it, or a quote at one end.
    SecretQuoted,
    /// The secret is a whole line, with the name of the setting before it.
    SecretLine,
    /// The secret ends in a backslash and an `n`.
    SecretEscaped,
    /// The secret is not UTF-8 or contains control characters. klikit's secrets are text.
    SecretNotText,
    /// The secret is a placeholder from an example, or a variable or a reference that was not replaced.
    SecretPlaceholder,
    /// The secret is shorter than 16 bytes.
    SecretTooShort,
    /// The secret differs from another secret of the keyring only by white space, quotes, a name or an escape.
    SecretNearlyTwice,
    /// [`body_limit`](crate::KlikitVerifyLayer::body_limit) is below 160 KiB, which klikit's largest known batch needs.
    BodyLimitTooLow,
    /// [`buffer_budget`](crate::KlikitVerifyLayer::buffer_budget) is below
    /// [`body_limit`](crate::KlikitVerifyLayer::body_limit), so that bodies that arrive in several pieces cannot reach
    /// `body_limit`.
    BufferBudgetTooLow,
    /// [`body_deadline`](crate::KlikitVerifyLayer::body_deadline) is zero.
    BodyDeadlineZero,
    /// [`body_deadline`](crate::KlikitVerifyLayer::body_deadline) is over klikit's timeout of 10 seconds.
    BodyDeadlineTooLong,
    /// The tolerance of [`KlikitVerifyLayer::accept_timestamped`](crate::KlikitVerifyLayer::accept_timestamped) is
    /// below a second, which is the resolution of the timestamps.
    ToleranceTooShort,
    /// [`KlikitDedupeLayer::lease`](crate::dedupe::KlikitDedupeLayer::lease) may expire before it is renewed. Renewal
    /// begins after a third of the lease and may take up to
    /// [`claim_deadline`](crate::dedupe::KlikitDedupeLayer::claim_deadline).
    LeaseTooShort,
    /// [`KlikitDedupeLayer::lease`](crate::dedupe::KlikitDedupeLayer::lease) is not below klikit's first pause of 30
    /// seconds.
    LeaseTooLong,
    /// The retention is below the 31 hours and 13 minutes that klikit's retries span.
    RetentionTooShort,
    /// [`KlikitDedupeLayer::claim_deadline`](crate::dedupe::KlikitDedupeLayer::claim_deadline) is zero.
    ClaimDeadlineZero,
    /// [`KlikitDedupeLayer::claim_deadline`](crate::dedupe::KlikitDedupeLayer::claim_deadline) is 5 seconds or more. It
    /// applies to the claim and to its completion, which together take all of klikit's 10 seconds.
    ClaimDeadlineTooLong,
    /// The handler's deadline is zero.
    HandlerDeadlineZero,
    /// `replay_limit` allows no event id, or has a window below a second.
    ReplayLimitZero,
    /// `replay_limit` allows over 1,000 event ids an hour, or replays are unlimited.
    ReplayLimitTooHigh,
    /// [`Inbox::accept_deadline`](crate::inbox::Inbox::accept_deadline) is zero.
    AcceptDeadlineZero,
    /// [`Inbox::accept_deadline`](crate::inbox::Inbox::accept_deadline) takes all of klikit's 10 seconds.
    AcceptDeadlineTooLong,
    /// [`Inbox::max_backlog`](crate::inbox::Inbox::max_backlog) is zero.
    MaxBacklogZero,
    /// [`Inbox::max_stored`](crate::inbox::Inbox::max_stored) is below
    /// [`Inbox::max_backlog`](crate::inbox::Inbox::max_backlog), which pending deliveries then never reach.
    MaxStoredTooLow,
    /// The first pause of [`Worker::backoff`](crate::inbox::Worker::backoff) is longer than the last.
    BackoffReversed,
    /// [`Worker::backoff`](crate::inbox::Worker::backoff) has a pause of zero.
    BackoffZero,
}

impl ProblemKind {
    /// Returns what is wrong and what to do. A text about a secret continues a sentence that begins with the secret's
    /// id. Any other text names its setting.
    fn text(self) -> &'static str {
        match self {
            Self::SecretWhiteSpace => {
                "has white space or a byte order mark at its beginning or end: use it as klikit shows it"
            }
            Self::SecretQuoted => "has quotes around it or at one end: remove the quotes",
            Self::SecretLine => "has the name of its setting before it: use only the value",
            Self::SecretEscaped => "ends in a backslash and an n instead of a line end: remove both characters",
            Self::SecretNotText => "is not text: read it as UTF-8, without control characters",
            Self::SecretPlaceholder => {
                "is a placeholder, or a reference to the secret: replace it with the secret that klikit shows"
            }
            Self::SecretTooShort => "is shorter than 16 bytes and can be guessed: have klikit issue a longer one",
            Self::SecretNearlyTwice => {
                "differs only by white space, quotes, a name or an escape: retire the one with the typo"
            }
            Self::BodyLimitTooLow => {
                "body_limit is below 160 KiB, so that klikit's largest known batch always gets 413: raise it"
            }
            Self::BufferBudgetTooLow => {
                "buffer_budget is below body_limit, which bodies in several pieces then cannot reach: raise it, or lower body_limit"
            }
            Self::BodyDeadlineZero => "body_deadline is zero: give bodies time to arrive, at most 10 seconds",
            Self::BodyDeadlineTooLong => "body_deadline is over the 10 seconds that klikit waits: lower it",
            Self::ToleranceTooShort => {
                "the tolerance of accept_timestamped is below a second, and timestamps are in whole seconds: raise it to minutes"
            }
            Self::LeaseTooShort => {
                "lease may expire before it is renewed, which begins after a third of it and may take claim_deadline: raise it \
                 above one and a half times claim_deadline"
            }
            Self::LeaseTooLong => {
                "lease is not below klikit's first pause of 30 seconds, so that the first retry after a crash finds the delivery \
                 still claimed: lower it"
            }
            Self::RetentionTooShort => {
                "retention is below the 31 hours and 13 minutes of klikit's retries, so that the last retries are handled again: \
                 raise it, to more than 30 days if it must detect replays too"
            }
            Self::ClaimDeadlineZero => "claim_deadline is zero: give the store time to respond",
            Self::ClaimDeadlineTooLong => {
                "claim_deadline applies twice, to claim and to complete, and takes all of the 10 seconds that klikit waits: \
                 lower it below 5 seconds"
            }
            Self::HandlerDeadlineZero => "handler_deadline is zero: give the handler time to respond",
            Self::ReplayLimitZero => {
                "replay_limit allows no event id, or its window is below a second: allow each body a few ids in minutes or hours"
            }
            Self::ReplayLimitTooHigh => {
                "replay_limit lets a captured delivery be handled under more than 1,000 ids an hour: lower it, or set \
                 Identity::Body if no two of your events have the same body"
            }
            Self::AcceptDeadlineZero => "accept_deadline is zero: give the store time to respond",
            Self::AcceptDeadlineTooLong => {
                "accept_deadline takes all of the 10 seconds that klikit waits: lower it, to a second or two"
            }
            Self::MaxBacklogZero => "max_backlog is zero, so that every delivery is rejected: raise it",
            Self::MaxStoredTooLow => {
                "max_stored is below max_backlog, which pending deliveries then never reach: raise it, or lower max_backlog"
            }
            Self::BackoffReversed => "backoff has a first pause that is longer than its last: exchange them",
            Self::BackoffZero => "backoff has a pause of zero, so that all attempts are made at once: raise it",
        }
    }
}

impl PreflightError {
    /// Returns the problems, at least one. The problems of the secrets come first, one secret after another. Each
    /// secret's problems, and then the problems of the limits, are in the order of [`ProblemKind`].
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    /// Returns what is wrong.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// Returns the id of the secret with the problem, if the problem is about a secret.
    pub fn secret_id(&self) -> Option<&str> {
        self.secret_id.as_deref()
    }

    /// Returns the id of the other secret, if the problem is about two secrets.
    pub fn other_secret_id(&self) -> Option<&str> {
        self.other_id.as_deref()
    }
}

/// The problems that a check has found so far.
#[derive(Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem if `is_wrong`.
    pub(crate) fn check(&mut self, is_wrong: bool, kind: ProblemKind) {
        if is_wrong {
            self.0.push(Problem { kind, secret_id: None, other_id: None });
        }
    }

    /// Adds a problem of the secret with this id.
    pub(crate) fn add_secret(&mut self, kind: ProblemKind, id: &str) {
        self.0.push(Problem { kind, secret_id: Some(id.into()), other_id: None });
    }

    /// Adds the problem that two secrets are nearly the same.
    pub(crate) fn add_pair(&mut self, id: &str, other: &str) {
        let (secret_id, other_id) = (Some(id.into()), Some(other.into()));
        self.0.push(Problem { kind: ProblemKind::SecretNearlyTwice, secret_id, other_id });
    }

    /// Returns an error if there are any problems.
    pub(crate) fn into_result(self) -> Result<(), PreflightError> {
        if self.0.is_empty() { Ok(()) } else { Err(PreflightError { problems: self.0 }) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.kind.text();
        match (&self.secret_id, &self.other_id) {
            (Some(id), Some(other)) => write!(f, "the webhook secret with the id {id:?}, next to {other:?}, {text}"),
            (Some(id), None) => write!(f, "the webhook secret with the id {id:?} {text}"),
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

/// Writes the message, because a `main` that returns the error prints its `Debug`.
impl fmt::Debug for PreflightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for PreflightError {}
