//! The random calls of the model.

use std::time::Duration;

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimTerms},
    inbox::{DeliveryState, Filter, LedgerRows, NewDelivery, Pause, SearchTerm, Settlement},
};

use super::fixtures::{conflict, delivery};
use crate::ledger;

/// The keys of two tenants' events, one of which has two conflicts.
pub(crate) const KEYS: usize = 5;
const TENANTS: [&str; 2] = ["warung", "kedai"];
const EVENT_TYPES: [&str; 2] = ["order.created", "order.updated"];
/// More than the largest number of an order.
const ORDERS: usize = 4;
pub(crate) const WORKERS: [&str; 2] = ["kitchen", "counter"];
const ORDERING_KEYS: [&[&str]; 4] = [&[], &["a"], &["b"], &["a", "b"]];
/// The last body is not UTF-8.
pub(crate) const BODIES: [&[u8]; 3] = [b"body", b"other body", b"a third body \xff"];

const STATES: [DeliveryState; 4] =
    [DeliveryState::Ready, DeliveryState::Leased, DeliveryState::Dead, DeliveryState::Done];

/// Time passes in steps of 20 minutes, in seconds here. Every lease, delay, retention and window ends in the middle of a step, so the
/// real time that passes during a case does not change a result.
pub(crate) const STEP: u64 = 1200;

/// A random call, or time that passes.
#[derive(Debug, Clone)]
pub(crate) enum InboxStep {
    Accept {
        key: usize,
        body: usize,
        same: Same,
        ordering: usize,
        revives: bool,
        retention: Duration,
    },
    Lease {
        limit: u32,
        free_handlers: u32,
        duration: Duration,
        max_attempts: u32,
        held: Vec<Which>,
        worker: usize,
    },
    Start {
        which: Vec<Which>,
        worker: usize,
    },
    Extend {
        which: Vec<Which>,
        duration: Duration,
    },
    Settle {
        settlements: Vec<(Which, Settlement)>,
    },
    Requeue {
        which: Vec<Which>,
        states: Vec<DeliveryState>,
    },
    Find {
        filter: Box<Filter>,
        after: Option<Which>,
        size: u32,
    },
    DeadLetter {
        which: Vec<Which>,
        states: Vec<DeliveryState>,
    },
    Delete {
        which: Vec<Which>,
        states: Vec<DeliveryState>,
        ledger: LedgerRows,
    },
    Pause {
        pause: Pause,
        worker: usize,
    },
    Resume {
        pause: Pause,
    },
    Backlog {
        limit: u64,
    },
    Stored {
        limit: u64,
    },
    EvictDone {
        limit: u32,
    },
    PurgeDead {
        age: Duration,
        limit: u32,
    },
    ForgetEvent {
        key: usize,
    },
    /// Forgets deliveries accepted from `start` ago until `end` ago.
    ForgetAccepted {
        start: Duration,
        end: Duration,
    },
    /// Forgets ledger entries alone, claimed from `start` ago until `end` ago.
    ForgetClaimed {
        start: Duration,
        end: Duration,
    },
    Claim {
        key: usize,
        token: u8,
        terms: ClaimTerms,
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
    /// Lets time pass, then purges all deliveries that have passed their time, `limit` at a time.
    Advance {
        time: Duration,
        limit: u32,
    },
}

/// The index of a lease, counted back from the last one, which is 0.
pub(crate) type Which = usize;

/// The bodies that match a new delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Same {
    /// The equal body.
    Equal,
    /// Also one other body, as if it had the same JSON.
    Json,
    /// Every body.
    Any,
}

pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<InboxStep>> {
    let half = |n: u64| Duration::from_secs(n * STEP + STEP / 2);
    let some = move || (1_u64..8).prop_map(half);
    let or_none = move || prop_oneof![1 => Just(Duration::ZERO), 2 => some()];
    let long = move || (1_u64..24).prop_map(half);
    // Whole steps, so that a grace, which follows a lease, also ends in the middle of a step.
    let grace = || (0_u64..5).prop_map(|n| Duration::from_secs(n * STEP));
    let terms = move || ((1_u64..5).prop_map(half), grace()).prop_map(|(lease, grace)| ClaimTerms { lease, grace });
    let window = move || (0_u64..16, 1_u64..5).prop_map(move |(end, length)| (half(end + length), half(end)));
    let which = || prop_oneof![3 => 0..2_usize, 1 => 0..12_usize];
    let by = || (0..KEYS, 0..2_u8);
    let same = || select(vec![Same::Equal, Same::Equal, Same::Json, Same::Any]);
    let revives = select(vec![true, true, false]);
    let accept = (0..KEYS, 0..BODIES.len(), same(), 0..ORDERING_KEYS.len(), revives, long());
    let settlement = move || {
        let status = || select(vec![None, Some(200), Some(503)]);
        let history = prop_oneof![1 => Just(Duration::ZERO), 1 => (1_u64..12).prop_map(half)];
        prop_oneof![
            4 => (or_none(), history, status())
                .prop_map(|(keep, history, status)| Settlement::Done { keep, history, status }),
            3 => (or_none(), 0..9, any::<bool>(), status()).prop_map(|(delay, n, unordered, status)| {
                Settlement::Reschedule { delay, reason: format!("failed {n}"), unordered, status }
            }),
            4 => (0..9, status()).prop_map(|(n, status)| Settlement::DeadLetter { reason: format!("dead {n}"), status }),
            1 => Just(Settlement::Expire),
            2 => Just(Settlement::Release),
        ]
    };
    let states = || subsequence(STATES.to_vec(), 0..=STATES.len());
    let held = move || vec(which(), 0..4);
    let worker = || 0..WORKERS.len();
    let requeued = move || prop_oneof![2 => Just(vec![DeliveryState::Dead]), 1 => states()];
    let filter = move || {
        let tenant = option::of(select(&TENANTS[..]));
        let order = option::of(1..ORDERS);
        (option::of(states()), tenant, order).prop_map(|(states, tenant, order)| Filter {
            states,
            tenant: tenant.map(Into::into),
            order: order.map(SearchTerm::order),
            ..Filter::new()
        })
    };
    let pause = || {
        let tenant = option::of(select(&TENANTS[..]));
        let event_type = option::of(select(&EVENT_TYPES[..]));
        (tenant, event_type).prop_map(|(tenant, event_type)| Pause {
            tenant: tenant.map(Into::into),
            event_type: event_type.map(Into::into),
        })
    };
    let step = prop_oneof![
        10 => accept.prop_map(|(key, body, same, ordering, revives, retention)| {
            InboxStep::Accept { key, body, same, ordering, revives, retention }
        }),
        12 => (select(vec![0, 1, 1, 2, 100]), select(vec![0, 1, 2, 100]), some(), 1..4_u32, held(), worker()).prop_map(
            |(limit, free_handlers, duration, max_attempts, held, worker)| {
                InboxStep::Lease { limit, free_handlers, duration, max_attempts, held, worker }
            },
        ),
        8 => (vec(which(), 0..4), worker()).prop_map(|(which, worker)| InboxStep::Start { which, worker }),
        6 => (vec(which(), 0..4), some()).prop_map(|(which, duration)| InboxStep::Extend { which, duration }),
        12 => vec((which(), settlement()), 0..3).prop_map(|settlements| InboxStep::Settle { settlements }),
        4 => (vec(which(), 1..3), requeued()).prop_map(|(which, states)| InboxStep::Requeue { which, states }),
        2 => (filter(), option::of(which()), 1..4_u32)
            .prop_map(|(filter, after, size)| InboxStep::Find { filter: Box::new(filter), after, size }),
        1 => (vec(which(), 0..4), states()).prop_map(|(which, states)| InboxStep::DeadLetter { which, states }),
        1 => (vec(which(), 0..3), states(), select(vec![LedgerRows::Keep, LedgerRows::Delete]))
            .prop_map(|(which, states, ledger)| InboxStep::Delete { which, states, ledger }),
        1 => (pause(), worker()).prop_map(|(pause, worker)| InboxStep::Pause { pause, worker }),
        3 => pause().prop_map(|pause| InboxStep::Resume { pause }),
        1 => (0..6_u64).prop_map(|limit| InboxStep::Backlog { limit }),
        1 => (0..6_u64).prop_map(|limit| InboxStep::Stored { limit }),
        2 => (0..3_u32).prop_map(|limit| InboxStep::EvictDone { limit }),
        1 => (some(), 0..3_u32).prop_map(|(age, limit)| InboxStep::PurgeDead { age, limit }),
        1 => (0..KEYS).prop_map(|key| InboxStep::ForgetEvent { key }),
        6 => window().prop_map(|(start, end)| InboxStep::ForgetAccepted { start, end }),
        1 => window().prop_map(|(start, end)| InboxStep::ForgetClaimed { start, end }),
        4 => (by(), terms()).prop_map(|((key, token), terms)| InboxStep::Claim { key, token, terms }),
        2 => (by(), long()).prop_map(|((key, token), retention)| InboxStep::Complete { key, token, retention }),
        1 => by().prop_map(|(key, token)| InboxStep::Release { key, token }),
        3 => (0..KEYS).prop_map(|key| InboxStep::ForgetInLedger { key }),
        6 => ((1_u64..6), select(vec![1, 2, 100]))
            .prop_map(|(n, limit)| InboxStep::Advance { time: Duration::from_secs(n * STEP), limit }),
    ];
    vec(step, 1..=most)
}

/// Makes a delivery of one of the [`KEYS`], with `number` in its head.
pub(crate) fn made(key: usize, body: usize, same: Same, ordering: usize, number: usize) -> NewDelivery {
    let (body, other) = (BODIES[body], BODIES[(body + 1) % BODIES.len()]);
    let new = match key {
        0 => delivery("warung", "evt", body),
        1 => conflict("warung", "evt", "a fourth body"),
        2 => conflict("warung", "evt", "a fifth body"),
        3 => delivery("kedai", "evt", body),
        _ => delivery("warung", "evt-2", body),
    };
    let head = new.head().replace("from=klikit", &format!("number={number}"));
    let head = head.replace("order.created", EVENT_TYPES[number % EVENT_TYPES.len()]);
    let new = new.with_head(head).with_ordering_keys(ORDERING_KEYS[ordering]);
    let new = new.with_terms(&[&format!("order:{}", number % ORDERS), "branch:7"]);
    match same {
        Same::Equal => new,
        Same::Json => new.with_same_json_as(BodyDigest::of(other)),
        Same::Any => new.with_any_body(),
    }
}

pub(crate) fn claim(key: usize, token: u8) -> Claim {
    let claim = match key {
        0 => ledger::claim("warung", "evt", "body"),
        1 => ledger::conflict("warung", "evt", "a fourth body"),
        2 => ledger::conflict("warung", "evt", "a fifth body"),
        3 => ledger::claim("kedai", "evt", "body"),
        _ => ledger::claim("warung", "evt-2", "body"),
    };
    Claim::new(*claim.key().as_bytes(), *claim.event().as_bytes(), *claim.digest(), [token; 16])
}
