//! Each fault of a receiver fails the check that is made for it.

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::report::{Report, conform, conform_only};
use crate::receivers::{
    Receiver,
    flawed::{self, Fault},
    keeps_white_space,
};

fn check(fault: Fault) -> Report {
    let receiver = Receiver::serve(|| flawed::with(fault));
    conform(receiver.url(), &[])
}

/// Checks a receiver with this fault, and compares the checks that fail.
#[track_caller]
fn assert_fails(fault: Fault, checks: &[&str]) {
    let report = check(fault);
    assert_eq!(report.with_result("fail"), checks, "{fault:?}");
    assert_eq!(report.code, Some(1));
}

#[test]
fn forged_finds_missing_verification() {
    let checks =
        ["altered", "chunked", "forged", "json-written-anew", "non-utf8", "two-signatures", "unsigned", "wrong-secret"];
    assert_fails(Fault::VerifiesNothing, &checks);
}

#[test]
fn forged_finds_de_duplication_before_verification() {
    assert_fails(Fault::DeduplicatesBeforeVerifying, &["forged"]);
}

#[test]
fn forged_finds_partial_comparison() {
    assert_fails(Fault::ComparesHalf, &["forged"]);
    assert_fails(Fault::ComparesGivenDigits, &["forged"]);
}

#[test]
fn forged_finds_verification_of_some_requests() {
    assert_fails(Fault::VerifiesKnownEvents, &["forged"]);
    assert_fails(Fault::VerifiesJson, &["forged"]);
}

#[test]
fn unsigned_finds_optional_verification() {
    assert_fails(Fault::AcceptsUnsigned, &["unsigned"]);
}

#[test]
fn wrong_secret_finds_the_secret_of_samples() {
    assert_fails(Fault::AcceptsSampleSecret, &["wrong-secret"]);
}

#[test]
fn unsigned_finds_an_empty_signature() {
    assert_fails(Fault::AcceptsEmptySignature, &["unsigned"]);
}

#[test]
fn wrong_secret_finds_an_empty_secret() {
    assert_fails(Fault::AcceptsEmptySecret, &["wrong-secret"]);
}

#[test]
fn rejections_alike_finds_a_status_that_tells_why() {
    assert_fails(Fault::LeaksReason, &["rejections-alike"]);
}

#[test]
fn rejections_alike_finds_a_shown_signature() {
    assert_fails(Fault::ShowsSignature, &["rejections-alike"]);
}

#[test]
fn two_signatures_finds_a_choice_between_them() {
    assert_fails(Fault::AcceptsTwoSignatures, &["two-signatures"]);
}

#[test]
fn white_space_finds_values_that_are_not_trimmed() {
    let receiver = keeps_white_space(flawed::sound);
    assert_eq!(conform(receiver.url(), &[]).with_result("fail"), ["white-space"]);
}

#[test]
fn non_utf8_finds_errors_on_other_bytes() {
    assert_fails(Fault::FailsOnNonAscii, &["non-utf8"]);
}

#[test]
fn json_written_anew_finds_parsing_and_encoding() {
    assert_fails(Fault::ReencodesJson, &["json-written-anew"]);
}

#[test]
fn json_written_anew_finds_ignored_white_space() {
    assert_fails(Fault::TrimsBody, &["json-written-anew"]);
}

#[test]
fn batch_finds_rejected_batches() {
    assert_fails(Fault::RejectsBatches, &["batch", "over-100-kb"]);
}

#[test]
fn over_100_kb_finds_the_limit_of_express() {
    assert_fails(Fault::LimitsBodies, &["over-100-kb"]);
}

#[test]
fn chunked_finds_a_needed_content_length() {
    assert_fails(Fault::NeedsContentLength, &["chunked"]);
}

#[test]
fn chunked_finds_missing_verification() {
    assert_fails(Fault::VerifiesContentLength, &["chunked"]);
}

#[test]
fn slow_sender_finds_a_short_time_limit() {
    assert_fails(Fault::WaitsBriefly, &["slow-sender"]);
}

#[test]
fn half_a_body_finds_marks_before_the_body() {
    assert_fails(Fault::MarksBeforeBody, &["half-a-body"]);
}

#[test]
fn duplicate_finds_a_failure_as_answer() {
    assert_fails(Fault::RejectsDuplicates, &["concurrent-duplicates", "duplicate"]);
}

#[test]
fn concurrent_duplicates_finds_check_then_insert() {
    assert_fails(Fault::ChecksThenInserts, &["concurrent-duplicates"]);
}

#[test]
fn concurrent_duplicates_finds_a_crash() {
    assert_fails(Fault::CrashesOnCopies, &["concurrent-duplicates"]);
}

#[test]
fn same_id_other_body_finds_trust_in_the_id() {
    assert_fails(Fault::TrustsId, &["same-id-other-body"]);
}

#[test]
fn retry_after_failure_finds_marks_before_work() {
    assert_fails(Fault::MarksBeforeWork, &["retry-after-failure"]);
}

#[test]
fn rotated_secret_finds_a_forgotten_secret() {
    let receiver = Receiver::serve(flawed::sound);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("old-secret");
    fs::write(&file, "the-secret-before-the-rotation\n").unwrap();
    let report = conform(receiver.url(), &["--old-secret-file", file.to_str().unwrap()]);
    assert_eq!(report.with_result("fail"), ["rotated-secret"]);
}

#[test]
fn redirect_finds_a_moved_receiver() {
    assert_fails(Fault::Redirects, &["genuine", "redirect"]);
}

#[test]
fn trailing_slash_finds_a_redirect() {
    assert_fails(Fault::RedirectsSlash, &["trailing-slash"]);
}

#[test]
fn trailing_slash_finds_missing_verification() {
    assert_fails(Fault::LeavesSlashUnverified, &["trailing-slash"]);
}

#[test]
fn answer_time_finds_answers_over_a_second() {
    let receiver = Receiver::serve(|| flawed::with(Fault::Delays(Duration::from_millis(1100))));
    let report = conform_only(receiver.url(), "genuine,answer-time");
    assert_eq!((report.with_result("fail"), report.with_result("pass")), (vec!["answer-time"], vec!["genuine"]));
}

#[test]
fn answer_time_finds_a_crash() {
    let receiver = Receiver::serve(|| flawed::with(Fault::CrashesAfter(10)));
    let report = conform_only(receiver.url(), "genuine,answer-time");
    assert_eq!((report.with_result("fail"), report.with_result("pass")), (vec!["answer-time"], vec!["genuine"]));
}

#[test]
fn answer_time_finds_answers_after_klikits_timeout() {
    let report = check(Fault::Delays(Duration::from_secs(15)));
    assert_eq!(report.with_result("fail"), ["answer-time", "genuine"]);
    assert_eq!(report.seen("answer-time"), "no response within 10 s");
}

#[test]
fn batch_finds_a_response_without_an_end() {
    let receiver = Receiver::serve(|| flawed::with(Fault::AnswersBatchesEndlessly));
    let report = conform_only(receiver.url(), "genuine,batch");
    assert_eq!((report.with_result("fail"), report.code), (vec!["batch"], Some(1)));
    assert_eq!(report.seen("batch"), "5 orders: the response began with 200 and did not end within 10 s");
}
