//! The log is bounded in entries and in bytes, and a flood is visible in it.

use std::{collections::HashSet, thread};

use http::Request;
use tower_klikit::{KlikitVerifyLayer, LoggedRejection, RejectionKind, RejectionLog, header::EVENT_ID};

use super::{Whole, delivery, logging, unsigned};
use crate::support::{SECRET, rejected, send};

fn mismatch() -> Request<Whole> {
    delivery().altered().request()
}

fn without_id() -> Request<Whole> {
    delivery().without_header(&EVENT_ID).request()
}

fn numbers(log: &RejectionLog, kind: RejectionKind) -> Vec<u64> {
    log.entries().iter().filter(|entry| entry.kind() == kind).map(LoggedRejection::number).collect()
}

#[tokio::test]
async fn has_a_thousand_entries_by_default() {
    let (layer, log) = logging();
    for _ in 0..1_005 {
        rejected(&layer, unsigned(), RejectionKind::MissingSignature).await;
    }
    let expected: Vec<u64> = (6..=1_005).rev().collect();
    assert_eq!(numbers(&log, RejectionKind::MissingSignature), expected, "newest first");
    assert_eq!((log.len(), log.recorded(), log.evicted()), (1_000, 1_005, 5));
}

#[tokio::test]
async fn flood_for_one_reason_evicts_no_others() {
    let log = RejectionLog::new().max_entries(10);
    let layer = KlikitVerifyLayer::new(SECRET).rejection_log(log.clone());
    for _ in 0..3 {
        rejected(&layer, mismatch(), RejectionKind::SignatureMismatch).await;
    }
    for _ in 0..100 {
        rejected(&layer, unsigned(), RejectionKind::MissingSignature).await;
    }
    assert_eq!(numbers(&log, RejectionKind::SignatureMismatch), [3, 2, 1]);
    assert_eq!(numbers(&log, RejectionKind::MissingSignature), [103, 102, 101, 100, 99, 98, 97]);
    assert_eq!((log.len(), log.recorded(), log.evicted()), (10, 103, 93));

    // Reasons that occur later get an equal part, and the oldest entries make space for them.
    for _ in 0..100 {
        rejected(&layer, mismatch(), RejectionKind::SignatureMismatch).await;
        rejected(&layer, without_id(), RejectionKind::MissingEventId).await;
    }
    assert_eq!(numbers(&log, RejectionKind::MissingSignature), [103, 102, 101]);
    assert_eq!(numbers(&log, RejectionKind::SignatureMismatch), [302, 300, 298]);
    assert_eq!(numbers(&log, RejectionKind::MissingEventId), [303, 301, 299, 297]);
}

#[tokio::test]
async fn bound_can_change_at_any_time() {
    let (layer, log) = logging();
    for request in [mismatch, unsigned, without_id, mismatch] {
        send(&layer, request()).await;
    }
    let log = log.max_entries(2);
    assert_eq!(log.entries().iter().map(LoggedRejection::number).collect::<Vec<_>>(), [4, 3]);
    let log = log.max_entries(0);
    send(&layer, mismatch()).await;
    assert_eq!((log.len(), log.recorded(), log.evicted()), (0, 5, 5));
    let log = log.max_entries(1);
    send(&layer, mismatch()).await;
    assert_eq!(log.entries()[0].number(), 6);
}

#[tokio::test]
async fn memory_is_bounded() {
    const BYTES: usize = 20_000;
    let short = || mismatch();
    let long = || {
        let mut request = delivery().altered().event_id("i".repeat(255)).request::<Whole>();
        *request.uri_mut() = format!("/{}", "\u{1f354}".repeat(500)).parse().unwrap();
        request
    };
    let mut lens = Vec::new();
    for request in [&short as &dyn Fn() -> Request<Whole>, &long] {
        let log = RejectionLog::new().max_bytes(BYTES);
        let layer = KlikitVerifyLayer::new(SECRET).rejection_log(log.clone());
        for _ in 0..300 {
            rejected(&layer, request(), RejectionKind::SignatureMismatch).await;
        }
        let texts = |entry: &LoggedRejection| entry.path().len() + entry.event_id().unwrap().len();
        let memory: usize = log.entries().iter().map(|entry| texts(entry) + size_of::<LoggedRejection>() + 100).sum();
        assert!(memory <= BYTES, "{memory} bytes in {} entries", log.len());
        assert_eq!((log.recorded(), log.evicted()), (300, 300 - log.len() as u64));
        lens.push(log.len());
        assert_eq!(log.max_bytes(200).len(), 0, "no entry is that small");
    }
    assert!((60..=100).contains(&lens[0]) && (14..=18).contains(&lens[1]), "{lens:?}");
}

#[tokio::test]
async fn clear_keeps_the_counts() {
    let (layer, log) = logging();
    for request in [mismatch, unsigned] {
        send(&layer, request()).await;
    }
    let before = log.entries();
    log.clear();
    assert_eq!((log.len(), log.entries().len(), log.recorded(), log.evicted()), (0, 0, 2, 0));
    assert_eq!(before.len(), 2, "a snapshot does not change");
    send(&layer, mismatch()).await;
    assert_eq!((log.len(), log.entries()[0].number(), log.recorded()), (1, 3, 3));
    // The cleared entries count no longer towards the bounds.
    let log = log.max_bytes(400);
    assert_eq!((log.len(), log.evicted()), (1, 0));
}

#[test]
fn threads_can_add_read_and_clear_at_once() {
    const THREADS: usize = 4;
    const EACH: usize = 500;
    let log = RejectionLog::new().max_entries(50);
    let layer = KlikitVerifyLayer::new(SECRET).rejection_log(log.clone());
    thread::scope(|scope| {
        for request in [mismatch, unsigned, without_id, unsigned] {
            let layer = &layer;
            scope.spawn(move || {
                tokio_test::block_on(async {
                    for _ in 0..EACH {
                        send(layer, request()).await;
                    }
                });
            });
        }
        for round in 0..500 {
            let entries = log.entries();
            assert!(entries.len() <= 50);
            assert!(entries.is_sorted_by(|newer, older| newer.number() > older.number()), "{entries:?}");
            if round % 100 == 0 {
                log.clear();
            }
        }
    });
    let sent = THREADS * EACH;
    assert_eq!((log.recorded(), log.len()), (sent as u64, 50));
    let numbers: HashSet<_> = log.entries().iter().map(LoggedRejection::number).collect();
    assert!(numbers.len() == 50 && numbers.iter().all(|number| (1..=sent as u64).contains(number)));
}
