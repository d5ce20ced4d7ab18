//! The random calls of the model.

use std::time::Duration;

use proptest::{collection::vec, prelude::*, sample::select};
use tower_klikit::{
    dedupe::Claim,
    inbox::NewDelivery,
    testing::{
        inbox::{conflict, delivery},
        ledger,
    },
};

/// Keys of two tenants' events: one has two conflicts.
pub(crate) const KEYS: usize = 5;
const ORDERING_KEYS: [&[&str]; 4] = [&[], &["a"], &["b"], &["a", "b"]];

/// Time passes in steps of 20 minutes, and every lease, pause, retention and window ends in the middle of one: what passes by itself
/// while a case runs decides nothing.
pub(crate) const STEP: u64 = 1200;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Accept {
        key: usize,
        body: usize,
        any_body: bool,
        ordering: usize,
        retention: Duration,
    },
    Lease {
        limit: u32,
        time: Duration,
        max_attempts: u32,
    },
    /// `which` of all leases ever, held or lost: the last is the likeliest.
    Extend {
        which: usize,
        time: Duration,
    },
    Finish {
        which: usize,
        keep: Duration,
    },
    Postpone {
        which: usize,
        pause: Duration,
    },
    Bury {
        which: usize,
    },
    GiveBack {
        which: usize,
    },
    Retry {
        which: usize,
    },
    Dead {
        after: Option<usize>,
        limit: u32,
    },
    Backlog {
        limit: u64,
    },
    ForgetEvent {
        key: usize,
    },
    /// From so long ago until so long ago.
    ForgetAccepted {
        start: Duration,
        end: Duration,
    },
    /// The same in the ledger alone.
    ForgetClaimed {
        start: Duration,
        end: Duration,
    },
    Claim {
        key: usize,
        token: u8,
        lease: Duration,
    },
    Complete {
        key: usize,
        token: u8,
        retention: Duration,
    },
    Release {
        key: usize,
        token: u8,
    },
    ForgetInLedger {
        key: usize,
    },
    /// What is up then is purged, so many at a time.
    Pass {
        time: Duration,
        limit: u32,
    },
}

pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let half = |n: u64| Duration::from_secs(n * STEP + STEP / 2);
    let some = move || (1_u64..8).prop_map(half);
    let or_none = move || prop_oneof![1 => Just(Duration::ZERO), 2 => some()];
    let long = move || (1_u64..40).prop_map(half);
    let window = move || (0_u64..12, 1_u64..4).prop_map(move |(end, length)| (half(end + length), half(end)));
    let which = || prop_oneof![3 => 0..2_usize, 1 => 0..12_usize];
    let by = || (0..KEYS, 0..2_u8);
    let accept = (0..KEYS, 0..2_usize, any::<bool>(), 0..ORDERING_KEYS.len(), long());
    let step = prop_oneof![
        10 => accept.prop_map(|(key, body, any_body, ordering, retention)| {
            Step::Accept { key, body, any_body, ordering, retention }
        }),
        10 => (select(vec![0, 1, 1, 2, 100]), some(), 1..4_u32)
            .prop_map(|(limit, time, max_attempts)| Step::Lease { limit, time, max_attempts }),
        4 => (which(), some()).prop_map(|(which, time)| Step::Extend { which, time }),
        3 => (which(), or_none()).prop_map(|(which, keep)| Step::Finish { which, keep }),
        3 => (which(), or_none()).prop_map(|(which, pause)| Step::Postpone { which, pause }),
        4 => which().prop_map(|which| Step::Bury { which }),
        2 => which().prop_map(|which| Step::GiveBack { which }),
        3 => which().prop_map(|which| Step::Retry { which }),
        1 => (proptest::option::of(which()), 0..4_u32).prop_map(|(after, limit)| Step::Dead { after, limit }),
        1 => (0..6_u64).prop_map(|limit| Step::Backlog { limit }),
        1 => (0..KEYS).prop_map(|key| Step::ForgetEvent { key }),
        3 => window().prop_map(|(start, end)| Step::ForgetAccepted { start, end }),
        1 => window().prop_map(|(start, end)| Step::ForgetClaimed { start, end }),
        3 => (by(), some()).prop_map(|((key, token), lease)| Step::Claim { key, token, lease }),
        1 => (by(), long()).prop_map(|((key, token), retention)| Step::Complete { key, token, retention }),
        1 => by().prop_map(|(key, token)| Step::Release { key, token }),
        2 => (0..KEYS).prop_map(|key| Step::ForgetInLedger { key }),
        6 => ((1_u64..6), select(vec![1, 2, 100]))
            .prop_map(|(n, limit)| Step::Pass { time: Duration::from_secs(n * STEP), limit }),
    ];
    vec(step, 1..=most)
}

/// The same event each time, under a number that its head tells.
pub(crate) fn made(key: usize, body: usize, any_body: bool, ordering: usize, number: usize) -> NewDelivery {
    let body = ["body", "other body"][body];
    let new = match key {
        0 => delivery("warung", "evt", body),
        1 => conflict("warung", "evt", "a third body"),
        2 => conflict("warung", "evt", "a fourth body"),
        3 => delivery("kedai", "evt", body),
        _ => delivery("warung", "evt-2", body),
    };
    let head = new.head().replace("from=klikit", &format!("number={number}"));
    let new = new.with_head(head).with_ordering_keys(ORDERING_KEYS[ordering]);
    if any_body { new.with_any_body() } else { new }
}

pub(crate) fn claim(key: usize, token: u8) -> Claim {
    let claim = match key {
        0 => ledger::claim("warung", "evt", "body"),
        1 => ledger::conflict("warung", "evt", "a third body"),
        2 => ledger::conflict("warung", "evt", "a fourth body"),
        3 => ledger::claim("kedai", "evt", "body"),
        _ => ledger::claim("warung", "evt-2", "body"),
    };
    Claim::new(*claim.key().as_bytes(), *claim.event().as_bytes(), *claim.digest(), [token; 16])
}
