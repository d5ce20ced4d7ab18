//! Receivers with this project's library pass.

use std::{fs, path::Path};

use axum::Router;
use tempfile::TempDir;
use tower_klikit::{
    payload::OrderStatus,
    testing::orders::{FakeOrder, body},
};

use super::report::{Report, conform, conform_only};
use crate::receivers::{
    Receiver,
    flawed::{self, FAILING_STATUS},
    own::{self, OLD_SECRET},
};

/// Checks a receiver with all that the command can be given. Returns the report after all checks have run.
fn check(app: fn() -> Router) -> Report {
    let receiver = Receiver::serve(app);
    let directory = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let failing = FakeOrder::new(7).status(OrderStatus(FAILING_STATUS));
    let failing = file("failing.json", &body(1, 2, [failing]));
    let old_secret = file("old-secret", OLD_SECRET);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let arguments = ["--failing", &text(&failing), "--old-secret-file", &text(&old_secret)];
    let report = conform(receiver.url(), &arguments);
    assert_eq!(report.len(), 27);
    report
}

#[test]
fn verify_layer_passes() {
    let report = check(own::verify);
    assert_eq!((report.with_result("fail"), report.code), (vec![], Some(0)));
    // Without a ledger, nothing tells a duplicate from a new delivery.
    let unseen = [
        "concurrent-duplicates",
        "duplicate",
        "half-a-body",
        "order-updates",
        "retry-after-rejection",
        "same-id-other-body",
    ];
    assert_eq!(report.with_result("not_observable"), unseen);
}

#[test]
fn receiver_with_credentials_passes() {
    let receiver = Receiver::serve(own::requiring_basic);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("password.txt");
    fs::write(&file, "hunter2\n").unwrap();
    let credentials = ["--basic", "partner", "--basic-file", file.to_str().unwrap()];
    let report = conform(receiver.url(), &credentials);
    assert_eq!((report.with_result("fail"), report.code), (vec![], Some(0)));

    let report = conform_only(receiver.url(), "genuine");
    assert_eq!((report.with_result("fail"), report.code), (vec!["genuine"], Some(1)));
    assert!(report.seen("genuine").ends_with(": check the secret, and whether the receiver requires --basic"));
}

#[test]
fn dedupe_layer_passes_in_full() {
    let report = check(own::dedupe);
    assert_eq!((report.with_result("fail"), report.with_result("not_observable")), (vec![], vec![]));
    assert_eq!(report.code, Some(0));
}

#[test]
fn inbox_passes() {
    let report = check(own::inbox);
    assert_eq!((report.with_result("fail"), report.code), (vec![], Some(0)));
    // The inbox acknowledges before its handler can fail.
    assert_eq!(report.with_result("not_observable"), ["retry-after-failure"]);
}

#[test]
fn sound_receiver_without_the_library_passes() {
    let receiver = Receiver::serve(flawed::sound);
    let report = conform(receiver.url(), &[]);
    assert_eq!((report.with_result("fail"), report.code), (vec![], Some(0)));
    assert_eq!(report.with_result("not_observable"), ["retry-after-failure", "rotated-secret"]);
}
