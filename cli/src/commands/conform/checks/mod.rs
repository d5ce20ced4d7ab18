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
    check::ConformCheck,
    finding::{ConformRow, Finding},
    session::Session,
};

/// Runs a check.
pub(super) async fn run(check: ConformCheck, session: &Session) -> ConformRow {
    let checked = match check {
        ConformCheck::Genuine => answers::genuine(session).await,
        ConformCheck::Forged => rejections::forged(session).await,
        ConformCheck::Altered => rejections::altered(session).await,
        ConformCheck::Unsigned => rejections::unsigned(session).await,
        ConformCheck::WrongSecret => rejections::wrong_secret(session).await,
        ConformCheck::PartialSignature => forgeries::partial_signature(session).await,
        ConformCheck::ContentType => forgeries::content_type(session).await,
        ConformCheck::RejectionsAlike => rejections::alike(session).await,
        ConformCheck::TwoSignatures => headers::two_signatures(session).await,
        ConformCheck::WhiteSpace => headers::white_space(session).await,
        ConformCheck::NonUtf8 => headers::non_utf8(session).await,
        ConformCheck::JsonWrittenAnew => bodies::json_written_anew(session).await,
        ConformCheck::Batch => bodies::batch(session).await,
        ConformCheck::Over100Kb => bodies::over_100_kb(session).await,
        ConformCheck::Chunked => transfer::chunked(session).await,
        ConformCheck::SlowSender => transfer::slow_sender(session).await,
        ConformCheck::HalfABody => transfer::half_a_body(session).await,
        ConformCheck::Duplicate => duplicates::duplicate(session),
        ConformCheck::ConcurrentDuplicates => duplicates::concurrent(session).await,
        ConformCheck::SameIdOtherBody => duplicates::same_id_other_body(session).await,
        ConformCheck::OrderUpdates => not_duplicates::order_updates(session).await,
        ConformCheck::RetryAfterRejection => not_duplicates::retry_after_rejection(session).await,
        ConformCheck::RetryAfterFailure => duplicates::retry_after_failure(session).await,
        ConformCheck::RotatedSecret => answers::rotated_secret(session).await,
        ConformCheck::Redirect => answers::redirect(session),
        ConformCheck::TrailingSlash => answers::trailing_slash(session).await,
        ConformCheck::AnswerTime => answers::answer_time(session).await,
    };
    ConformRow { check, finding: Finding::from(checked) }
}
