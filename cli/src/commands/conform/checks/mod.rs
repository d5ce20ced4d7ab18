//! The checks, one function each.

mod answers;
mod bodies;
mod duplicates;
mod forgeries;
mod headers;
mod not_duplicates;
mod rejections;
mod shown;
mod transfer;

use super::{
    check::Check,
    finding::{Finding, Row},
    session::Session,
};

/// Runs a check.
pub(super) async fn run(check: Check, session: &Session) -> Row {
    let checked = match check {
        Check::Genuine => answers::genuine(session).await,
        Check::Forged => rejections::forged(session).await,
        Check::Altered => rejections::altered(session).await,
        Check::Unsigned => rejections::unsigned(session).await,
        Check::WrongSecret => rejections::wrong_secret(session).await,
        Check::PartialSignature => forgeries::partial_signature(session).await,
        Check::ContentType => forgeries::content_type(session).await,
        Check::RejectionsAlike => rejections::alike(session).await,
        Check::TwoSignatures => headers::two_signatures(session).await,
        Check::WhiteSpace => headers::white_space(session).await,
        Check::NonUtf8 => headers::non_utf8(session).await,
        Check::JsonWrittenAnew => bodies::json_written_anew(session).await,
        Check::Batch => bodies::batch(session).await,
        Check::Over100Kb => bodies::over_100_kb(session).await,
        Check::Chunked => transfer::chunked(session).await,
        Check::SlowSender => transfer::slow_sender(session).await,
        Check::HalfABody => transfer::half_a_body(session).await,
        Check::Duplicate => duplicates::duplicate(session),
        Check::ConcurrentDuplicates => duplicates::concurrent(session).await,
        Check::SameIdOtherBody => duplicates::same_id_other_body(session).await,
        Check::OrderUpdates => not_duplicates::order_updates(session).await,
        Check::RetryAfterRejection => not_duplicates::retry_after_rejection(session).await,
        Check::RetryAfterFailure => duplicates::retry_after_failure(session).await,
        Check::RotatedSecret => answers::rotated_secret(session).await,
        Check::Redirect => answers::redirect(session),
        Check::TrailingSlash => answers::trailing_slash(session).await,
        Check::AnswerTime => answers::answer_time(session).await,
    };
    Row { check, finding: Finding::from(checked) }
}
