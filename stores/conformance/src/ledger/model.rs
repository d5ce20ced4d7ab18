//! Random calls on a store and on the reference, with a comparison of their results.

use std::time::{Duration, SystemTime};

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use tokio::runtime::Runtime;
use tower_klikit::dedupe::{
    Claim, ClaimOutcome, ClaimTerms, Ledger, LedgerAdmin, LedgerEntry, LedgerSelection, LedgerState,
};

use super::reference::{Entries, Entry};
use crate::{ledger, random::Comparison};

/// The number of entries: those of two tenants' events, one of which has two conflicts.
const ENTRIES: usize = 4;
/// The number of tokens. Few, so that claims compete: most calls use a token that has lost its claim or never had one.
const TOKENS: u8 = 3;
/// A token that the random calls do not use.
const ONPROBEER: u8 = 99;

/// Time passes in steps of 20 minutes, in seconds here. Every lease, retention and window ends in the middle of a step, so the real
/// time that passes during a case does not change a result.
const STEP: u64 = 1200;

/// A random call, or time that passes.
#[derive(Debug, Clone)]
pub(crate) enum LedgerStep {
    Claim {
        by: By,
        terms: ClaimTerms,
    },
    Complete {
        by: By,
        retention: Duration,
    },
    Release {
        by: By,
    },
    Renew {
        by: Vec<By>,
        terms: ClaimTerms,
    },
    List {
        selection: Selection,
        /// The entry whose key the listed keys exceed.
        after: Option<usize>,
        limit: u32,
    },
    Count {
        selection: Selection,
    },
    Forget {
        selection: Selection,
    },
    Purge {
        limit: u32,
    },
    Advance {
        time: Duration,
    },
}

/// The entries that a call lists, counts or forgets.
#[derive(Debug, Clone)]
pub(crate) enum Selection {
    /// The entries of this entry's event.
    Event { entry: usize },
    /// The entries claimed from `start` ago until `end` ago.
    Claimed { start: Duration, end: Duration },
}

impl Selection {
    fn matches(&self, entry: &Entry, now: Duration) -> bool {
        match self {
            Self::Event { entry: of } => entry.is_of(By { entry: *of, token: 0 }.claim().event()),
            Self::Claimed { start, end } => {
                let age = now - entry.claimed_at;
                age <= *start && age > *end
            }
        }
    }
}

impl From<&Selection> for LedgerSelection {
    fn from(selection: &Selection) -> Self {
        let wall = SystemTime::now();
        match selection {
            Selection::Event { entry } => By { entry: *entry, token: 0 }.claim().event().into(),
            Selection::Claimed { start, end } => (wall - *start..wall - *end).into(),
        }
    }
}

/// A token, and the entry that it claims.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By {
    entry: usize,
    token: u8,
}

impl By {
    fn claim(self) -> Claim {
        let body = format!("body of {}", self.token);
        let claim = match self.entry {
            0 => ledger::claim("warung", "evt", body),
            1 => ledger::conflict("warung", "evt", "other body"),
            2 => ledger::conflict("warung", "evt", "another body"),
            _ => ledger::claim("kedai", "evt", body),
        };
        Claim::new(*claim.key().as_bytes(), *claim.event().as_bytes(), *claim.digest(), [self.token; 16])
    }
}

pub(super) fn steps(most: usize) -> impl Strategy<Value = Vec<LedgerStep>> {
    let half = |n: u64| Duration::from_secs(n * STEP + STEP / 2);
    let lease = move || (1_u64..8).prop_map(half);
    // Whole steps, so that a grace, which follows a lease, also ends in the middle of a step.
    let grace = || (0_u64..8).prop_map(|n| Duration::from_secs(n * STEP));
    let terms = move || (lease(), grace()).prop_map(|(lease, grace)| ClaimTerms { lease, grace });
    let retention = (1_u64..40).prop_map(half);
    let ago = move || (0_u64..20).prop_map(half);
    let event = || (0..ENTRIES).prop_map(|entry| Selection::Event { entry });
    let claimed = || (ago(), ago()).prop_map(|(start, end)| Selection::Claimed { start, end });
    let selection = move || prop_oneof![event(), claimed()];
    let after = proptest::option::of(0..ENTRIES);
    let by = || (0..ENTRIES, 0..TOKENS).prop_map(|(entry, token)| By { entry, token });
    let step = prop_oneof![
        8 => (by(), terms()).prop_map(|(by, terms)| LedgerStep::Claim { by, terms }),
        4 => (by(), retention).prop_map(|(by, retention)| LedgerStep::Complete { by, retention }),
        2 => by().prop_map(|by| LedgerStep::Release { by }),
        3 => (vec(by(), 0..4), terms()).prop_map(|(by, terms)| LedgerStep::Renew { by, terms }),
        3 => (selection(), after, 0_u32..4)
            .prop_map(|(selection, after, limit)| LedgerStep::List { selection, after, limit }),
        2 => selection().prop_map(|selection| LedgerStep::Count { selection }),
        2 => selection().prop_map(|selection| LedgerStep::Forget { selection }),
        1 => select(vec![0, 1, 2, 100]).prop_map(|limit| LedgerStep::Purge { limit }),
        4 => (1_u64..6).prop_map(|n| LedgerStep::Advance { time: Duration::from_secs(n * STEP) }),
    ];
    vec(step, 1..=most)
}

/// Makes random calls on the store and on a reference, and compares the results. There are `cases` cases, each of which makes up to
/// `most` calls on an empty store.
///
/// `make` and `advance` are as for [`check`](super::check).
///
/// # Panics
///
/// If a result of the store differs. The message contains the shortest series of calls that shows the difference.
pub fn compare<L: Ledger + LedgerAdmin>(
    cases: u32,
    most: usize,
    runtime: &Runtime,
    make: impl AsyncFn() -> L,
    advance: &impl AsyncFn(&L, Duration),
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&steps(most), |steps| runtime.block_on(async { run(&make().await, advance, &steps).await }))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// The reference, and its clock.
#[derive(Debug, Default)]
struct TimedReference {
    entries: Entries,
    now: Duration,
}

pub(super) async fn run<L: Ledger + LedgerAdmin>(
    store: &L,
    advance: &impl AsyncFn(&L, Duration),
    steps: &[LedgerStep],
) -> Comparison {
    let mut reference = TimedReference::default();
    for (n, step) in steps.iter().enumerate() {
        let at = |error| TestCaseError::fail(format!("after step {n}, {step:?}: {error}"));
        take(store, advance, &mut reference, step).await.map_err(at)?;
        for entry in 0..ENTRIES {
            // A claim on a live entry is rejected. It returns the entry's digest and changes nothing.
            let claim = By { entry, token: ONPROBEER }.claim();
            if reference.entries.live(claim.key(), reference.now).is_some() {
                claim_both(store, &mut reference, &claim, &PROBE).await.map_err(at)?;
            }
        }
    }
    for entry in 0..ENTRIES {
        // Renewing compares the expired claims, which the calls above leave out.
        for token in 0..TOKENS {
            let claim = By { entry, token }.claim();
            let renewed = reference.entries.renew(&claim, &PROBE, reference.now);
            prop_assert_eq!(store.renew(&[claim], &PROBE).await.unwrap(), vec![renewed], "after the last step");
        }
        claim_both(store, &mut reference, &By { entry, token: ONPROBEER }.claim(), &PROBE).await?;
    }
    Ok(())
}

/// The terms of calls that compare entries.
const PROBE: ClaimTerms = ClaimTerms { lease: Duration::from_secs(STEP), grace: Duration::ZERO };

async fn claim_both<L: Ledger + LedgerAdmin>(
    store: &L,
    reference: &mut TimedReference,
    claim: &Claim,
    terms: &ClaimTerms,
) -> Comparison {
    let found = store.claim(claim, terms).await.unwrap();
    same(&found, &reference.entries.claim(claim, terms, reference.now))
}

async fn take<L: Ledger + LedgerAdmin>(
    store: &L,
    advance: &impl AsyncFn(&L, Duration),
    reference: &mut TimedReference,
    step: &LedgerStep,
) -> Comparison {
    let (now, entries) = (reference.now, &mut reference.entries);
    match step {
        LedgerStep::Claim { by, terms } => claim_both(store, reference, &by.claim(), terms).await?,
        LedgerStep::Complete { by, retention } => {
            let found = store.complete(&by.claim(), *retention).await.unwrap();
            prop_assert_eq!(found, entries.complete(&by.claim(), *retention, now));
        }
        LedgerStep::Release { by } => {
            store.release(&by.claim()).await.unwrap();
            entries.release(&by.claim(), now);
        }
        LedgerStep::Renew { by, terms } => {
            let claims: Vec<Claim> = by.iter().map(|by| by.claim()).collect();
            let found = store.renew(&claims, terms).await.unwrap();
            let expected: Vec<bool> = claims.iter().map(|claim| entries.renew(claim, terms, now)).collect();
            prop_assert_eq!(found, expected);
        }
        LedgerStep::List { selection, after, limit } => {
            let after = after.map(|entry| *By { entry, token: 0 }.claim().key());
            let found = store.entries(&selection.into(), after, *limit).await.unwrap();
            let expected = entries.list(now, after, *limit, |entry| selection.matches(entry, now));
            same_entries(&found, &expected, now)?;
        }
        LedgerStep::Count { selection } => {
            let found = store.count(&selection.into()).await.unwrap();
            prop_assert_eq!(found, entries.count(now, |entry| selection.matches(entry, now)));
        }
        LedgerStep::Forget { selection } => {
            let found = store.forget(&selection.into()).await.unwrap();
            prop_assert_eq!(found, entries.forget(now, |entry| selection.matches(entry, now)));
        }
        LedgerStep::Purge { limit } => {
            let purged = store.purge(*limit).await.unwrap();
            prop_assert!(purged <= u64::from(*limit), "purge({}) returned {}", limit, purged);
        }
        LedgerStep::Advance { time } => {
            advance(store, *time).await;
            reference.now += *time;
        }
    }
    Ok(())
}

/// Compares listed entries. Tolerates the real time that passes during a case, and a store's clock that is a little off.
fn same_entries(found: &[LedgerEntry], expected: &[Entry], now: Duration) -> Comparison {
    let (wall, tolerance) = (SystemTime::now(), Duration::from_secs(STEP / 2));
    prop_assert_eq!(found.len(), expected.len(), "{:?}, not {:?}", found, expected);
    for (found, expected) in found.iter().zip(expected) {
        let claim = &expected.claim;
        prop_assert_eq!((found.key, found.event, found.digest), (*claim.key(), *claim.event(), *claim.digest()));
        let state = if expected.is_done { LedgerState::Done } else { LedgerState::Claimed };
        prop_assert_eq!(found.state, state);
        let is_near = |found: SystemTime, time: Duration| {
            let expected = if time < now { wall - (now - time) } else { wall + (time - now) };
            found.max(expected).duration_since(found.min(expected)).is_ok_and(|off| off < tolerance)
        };
        prop_assert!(is_near(found.claimed_at, expected.claimed_at), "{:?}, not {:?} at {:?}", found, expected, now);
        prop_assert!(is_near(found.until, expected.until), "{:?}, not {:?} at {:?}", found, expected, now);
        prop_assert!(is_near(found.kept_until, expected.kept_until), "{:?}, not {:?} at {:?}", found, expected, now);
    }
    Ok(())
}

fn same(found: &ClaimOutcome, expected: &ClaimOutcome) -> Comparison {
    match (found, expected) {
        // Tolerate the real time that passes during a case.
        (
            ClaimOutcome::InFlight { digest, remaining },
            ClaimOutcome::InFlight { digest: expected_digest, remaining: expected_remaining },
        ) => {
            prop_assert_eq!(digest, expected_digest);
            let off = remaining.abs_diff(*expected_remaining);
            prop_assert!(off < Duration::from_secs(STEP / 2), "{:?}, not {:?}", found, expected);
        }
        _ => prop_assert_eq!(found, expected),
    }
    Ok(())
}
