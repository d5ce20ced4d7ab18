//! The checks, with the names and the reasons that are printed.

use std::fmt;

use clap::ValueEnum;

/// A check of a receiver.
///
/// The order of the variants is the order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ConformCheck {
    /// Accepts the three events of klikit
    Genuine,
    /// Rejects wrong signatures, even of known deliveries
    Forged,
    /// Rejects a body that was changed after the signing
    Altered,
    /// Rejects a delivery without a signature
    Unsigned,
    /// Rejects a random secret, an empty one, and the secret in klikit's samples
    WrongSecret,
    /// Responds to all forgeries with one status, and never shows the right signature
    RejectionsAlike,
    /// Rejects a genuine signature next to a forged one
    TwoSignatures,
    /// Accepts white space around the signature
    WhiteSpace,
    /// Accepts text beyond ASCII, and survives headers and bodies that are not UTF-8
    NonUtf8,
    /// Verifies the bytes of a body, and not its meaning
    JsonWrittenAnew,
    /// Accepts a delivery of several orders
    Batch,
    /// Accepts a delivery of over 100 kB
    #[value(name = "over-100-kb")]
    Over100Kb,
    /// Accepts a body without a Content-Length, and verifies it
    Chunked,
    /// Accepts a body that takes 2 seconds to arrive
    SlowSender,
    /// Accepts a delivery whose first attempt broke off in the body
    HalfABody,
    /// Handles a delivery once, and accepts it again
    Duplicate,
    /// Handles a delivery once whose copies arrive at the same time
    ConcurrentDuplicates,
    /// Does not drop another body with a known event id
    SameIdOtherBody,
    /// Handles a delivery again after its handler has failed
    RetryAfterFailure,
    /// Accepts the secret before the rotation
    RotatedSecret,
    /// Does not redirect
    Redirect,
    /// Does not redirect with another slash at the end of the URL
    TrailingSlash,
    /// Responds in time
    AnswerTime,
}

impl ConformCheck {
    /// Returns the name in arguments, JSON and JUnit, which does not change.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Genuine => "genuine",
            Self::Forged => "forged",
            Self::Altered => "altered",
            Self::Unsigned => "unsigned",
            Self::WrongSecret => "wrong-secret",
            Self::RejectionsAlike => "rejections-alike",
            Self::TwoSignatures => "two-signatures",
            Self::WhiteSpace => "white-space",
            Self::NonUtf8 => "non-utf8",
            Self::JsonWrittenAnew => "json-written-anew",
            Self::Batch => "batch",
            Self::Over100Kb => "over-100-kb",
            Self::Chunked => "chunked",
            Self::SlowSender => "slow-sender",
            Self::HalfABody => "half-a-body",
            Self::Duplicate => "duplicate",
            Self::ConcurrentDuplicates => "concurrent-duplicates",
            Self::SameIdOtherBody => "same-id-other-body",
            Self::RetryAfterFailure => "retry-after-failure",
            Self::RotatedSecret => "rotated-secret",
            Self::Redirect => "redirect",
            Self::TrailingSlash => "trailing-slash",
            Self::AnswerTime => "answer-time",
        }
    }

    /// Returns why the check matters, in one sentence or two.
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Genuine => "klikit repeats a delivery that gets no 2xx within 10 s, and drops it after 7 attempts.",
            Self::Forged => "Anybody who knows the URL could place orders.",
            Self::Altered => "Anybody who has seen one delivery could change its orders.",
            Self::Unsigned => "A receiver that verifies only the signatures that are there verifies nothing.",
            Self::WrongSecret => {
                "Only klikit and you know the secret. A sample or default secret is known to everybody."
            }
            Self::RejectionsAlike => "Responses that tell why a signature is wrong help to forge one.",
            Self::TwoSignatures => "A proxy may check one of two signatures and the receiver the other.",
            Self::WhiteSpace => {
                "HTTP allows white space around a header's value (RFC 9110, 5.5), and a proxy may add it."
            }
            Self::NonUtf8 => "A forged header that crashes the receiver lets anybody fill its error log, or stop it.",
            Self::JsonWrittenAnew => {
                "klikit signs the bytes. A receiver that hashes what its JSON library writes rejects genuine deliveries."
            }
            Self::Batch => "klikit sends several orders in one delivery when they arrive at the same time.",
            Self::Over100Kb => "A batch of large orders is longer than 100 kB, the default limit of Express.",
            Self::Chunked => "A proxy may pass a body on without a Content-Length.",
            Self::SlowSender => "A body can take seconds to arrive on a bad network.",
            Self::HalfABody => {
                "A connection can break in a body. The attempt that follows must not count as a duplicate."
            }
            Self::Duplicate => {
                "klikit delivers at least once. A duplicate must not be cooked twice, and needs a 2xx too."
            }
            Self::ConcurrentDuplicates => "A copy can arrive while the first is being handled, also on another node.",
            Self::SameIdOtherBody => {
                "klikit does not sign the event id. A captured delivery under a guessed id must not swallow the genuine one."
            }
            Self::RetryAfterFailure => {
                "A receiver that marks a delivery before it is handled loses it if the handler fails."
            }
            Self::RotatedSecret => "After a rotation, klikit may sign with the old secret for a while.",
            Self::Redirect => "klikit counts a redirect as a failure, and a client that follows it may drop the body.",
            Self::TrailingSlash => "The URL may be registered with or without a slash: a redirect loses deliveries.",
            Self::AnswerTime => {
                "klikit counts a response after 10 s as a failure, even a 200, and advises less than 1 s."
            }
        }
    }
}

impl fmt::Display for ConformCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_reports_use_the_same_names() {
        for check in ConformCheck::value_variants() {
            let value = check.to_possible_value().unwrap();
            assert_eq!(value.get_name(), check.name());
        }
    }
}
