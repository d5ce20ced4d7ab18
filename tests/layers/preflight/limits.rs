//! Tests of the limits and times of the layers, the inbox and its worker, and of keyrings behind a resolver.

use super::*;

#[test]
fn checks_limits_of_verify_layer() {
    let layer = || KlikitVerifyLayer::new(SECRET);
    assert_eq!(layer().preflight(), Ok(()));
    let cases = [
        (layer().body_limit(0), BodyLimitTooLow),
        (layer().body_limit(160 * 1024 - 1), BodyLimitTooLow),
        (layer().buffer_budget(0), BufferBudgetTooLow),
        (layer().buffer_budget(1024 * 1024 - 1), BufferBudgetTooLow),
        (layer().body_deadline(Duration::ZERO), BodyDeadlineZero),
        (layer().body_deadline(10 * SECOND + Duration::from_nanos(1)), BodyDeadlineTooLong),
    ];
    for (layer, kind) in cases {
        assert_eq!(kinds(layer.preflight()), [kind]);
    }
    let edges = [
        layer().body_limit(160 * 1024),
        layer().buffer_budget(1024 * 1024),
        layer().body_deadline(10 * SECOND),
        layer().body_deadline(SECOND / 1000),
    ];
    for layer in edges {
        assert_eq!(layer.preflight(), Ok(()), "{layer:?}");
    }
    // The largest known delivery fits.
    assert!(include_bytes!("../../deliveries/batch-of-six-large-orders.json").len() <= 160 * 1024);
}

#[cfg(feature = "payload")]
#[test]
fn finds_tolerance_below_a_second() {
    let layer = |tolerance| KlikitVerifyLayer::new(SECRET).accept_timestamped(tolerance);
    assert_eq!(kinds(layer(SECOND / 2).preflight()), [ToleranceTooShort]);
    assert_eq!(layer(SECOND).preflight(), Ok(()));
}

#[test]
fn checks_known_keyrings_of_a_resolver() {
    let keyring = |tenant, text| Keyring::new(tenant, "2026-11", secret(text));
    let layer = KlikitVerifyLayer::with_resolver(|_| None);
    let layer = layer.known_keyrings([keyring("warung", SECRET), keyring("bali-bites", "your-webhook-secret")]);
    assert_eq!(kinds(layer.preflight()), [SecretPlaceholder]);
}

#[test]
fn does_not_call_the_resolver() {
    let layer = KlikitVerifyLayer::with_resolver(|_| panic!("there is no request"));
    assert_eq!(layer.preflight(), Ok(()));
    assert_eq!(kinds(layer.body_limit(1).preflight()), [BodyLimitTooLow]);
}

#[cfg(feature = "dedupe")]
#[test]
fn checks_times_of_dedupe_layer() {
    use tower_klikit::{
        dedupe::{Identity, KlikitDedupeLayer},
        store::MemoryStore,
    };
    let layer = || KlikitDedupeLayer::new(MemoryStore::new());
    assert_eq!(layer().preflight(), Ok(()));
    let cases = [
        (layer().lease(Duration::ZERO), LeaseTooShort),
        (layer().lease(3 * SECOND), LeaseTooShort),
        (layer().lease(4 * SECOND).claim_deadline(3 * SECOND), LeaseTooShort),
        (layer().lease(30 * SECOND), LeaseTooLong),
        (layer().retention(31 * HOUR), RetentionTooShort),
        (layer().claim_deadline(Duration::ZERO), ClaimDeadlineZero),
        (layer().claim_deadline(5 * SECOND), ClaimDeadlineTooLong),
        (layer().handler_deadline(Duration::ZERO), HandlerDeadlineZero),
    ];
    for (layer, kind) in cases {
        assert_eq!(kinds(layer.preflight()), [kind], "{layer:?}");
    }
    let edges = [
        layer().lease(3001 * SECOND / 1000),
        layer().lease(29 * SECOND),
        layer().retention(32 * HOUR),
        layer().claim_deadline(4999 * SECOND / 1000),
        layer().handler_deadline(SECOND),
        layer().replay_limit(1000, HOUR),
        layer().replay_limit(1, SECOND * 4),
        layer().replay_limit(u16::MAX, HOUR).identity(Identity::Body),
    ];
    for layer in edges {
        assert_eq!(layer.preflight(), Ok(()), "{layer:?}");
    }
}

#[cfg(feature = "inbox")]
#[test]
fn checks_limits_of_inbox_and_worker() {
    use tower_klikit::{inbox::Inbox, store::MemoryStore};
    let inbox = || Inbox::new(MemoryStore::new());
    assert_eq!(inbox().preflight(), Ok(()));
    let cases = [
        (inbox().retention(HOUR), RetentionTooShort),
        (inbox().accept_deadline(Duration::ZERO), AcceptDeadlineZero),
        (inbox().accept_deadline(10 * SECOND), AcceptDeadlineTooLong),
        (inbox().max_backlog(0), MaxBacklogZero),
        (inbox().max_stored(99_999), MaxStoredTooLow),
        (inbox().max_backlog(1_000_001), MaxStoredTooLow),
        (inbox().replay_limit(0, HOUR), ReplayLimitZero),
        (inbox().replay_limit(16, SECOND / 2), ReplayLimitZero),
        (inbox().replay_limit(16, SECOND), ReplayLimitTooHigh),
        (inbox().allow_unlimited_replays(), ReplayLimitTooHigh),
    ];
    for (inbox, kind) in cases {
        assert_eq!(kinds(inbox.preflight()), [kind], "{inbox:?}");
    }
    for inbox in [inbox().accept_deadline(9 * SECOND), inbox().max_backlog(1), inbox().max_stored(100_000)] {
        assert_eq!(inbox.preflight(), Ok(()), "{inbox:?}");
    }

    let worker = || inbox().worker(());
    assert_eq!(worker().preflight(), Ok(()));
    let cases = [
        (worker().handler_deadline(Duration::ZERO), HandlerDeadlineZero),
        (worker().backoff(2 * SECOND, SECOND), BackoffReversed),
        (worker().backoff(Duration::ZERO, SECOND), BackoffZero),
        (worker().backoff(SECOND, Duration::ZERO), BackoffZero),
    ];
    for (worker, kind) in cases {
        assert_eq!(kinds(worker.preflight()), [kind], "{worker:?}");
    }
    assert_eq!(worker().backoff(SECOND, SECOND).preflight(), Ok(()));
}
