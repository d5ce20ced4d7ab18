//! Random calls on a store, and on a reference that is easy to see through.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use tokio::runtime::Runtime;
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, Ledger},
    testing::ledger,
};

/// Two tenants' events, one of them with two conflicts.
const ENTRIES: usize = 4;
/// Few, so that they meet. Some are stale: what they held has run out, or is another's.
const TOKENS: u8 = 3;
/// The token of one that never holds anything while the calls go on.
const ONLOOKER: u8 = 99;

/// Time passes in steps of 20 minutes, and every lease, retention and window ends in the middle of one: what passes by itself while
/// a case runs decides nothing.
const STEP: u64 = 1200;

#[derive(Debug, Clone)]
enum Step {
    Claim {
        entry: usize,
        token: u8,
        lease: Duration,
    },
    Complete {
        entry: usize,
        token: u8,
        retention: Duration,
    },
    Release {
        entry: usize,
        token: u8,
    },
    Renew {
        entry: usize,
        token: u8,
        lease: Duration,
    },
    Forget {
        entry: usize,
    },
    /// From so long ago until so long ago.
    ForgetClaimed {
        start: Duration,
        end: Duration,
    },
    Purge {
        limit: u32,
    },
    Pass {
        time: Duration,
    },
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let lease = || (1_u64..8).prop_map(|n| Duration::from_secs(n * STEP + STEP / 2));
    let retention = (1_u64..40).prop_map(|n| Duration::from_secs(n * STEP + STEP / 2));
    let ago = || (0_u64..20).prop_map(|n| Duration::from_secs(n * STEP + STEP / 2));
    let by = || (0..ENTRIES, 0..TOKENS);
    let step = prop_oneof![
        8 => (by(), lease()).prop_map(|((entry, token), lease)| Step::Claim { entry, token, lease }),
        4 => (by(), retention).prop_map(|((entry, token), retention)| Step::Complete { entry, token, retention }),
        2 => by().prop_map(|(entry, token)| Step::Release { entry, token }),
        3 => (by(), lease()).prop_map(|((entry, token), lease)| Step::Renew { entry, token, lease }),
        1 => (0..ENTRIES).prop_map(|entry| Step::Forget { entry }),
        1 => (ago(), ago()).prop_map(|(start, end)| Step::ForgetClaimed { start, end }),
        1 => select(vec![0, 1, 2, 100]).prop_map(|limit| Step::Purge { limit }),
        4 => (1_u64..6).prop_map(|n| Step::Pass { time: Duration::from_secs(n * STEP) }),
    ];
    vec(step, 1..=most)
}

fn claim(entry: usize, token: u8) -> Claim {
    let body = format!("body of {token}");
    let claim = match entry {
        0 => ledger::claim("warung", "evt", body),
        1 => ledger::conflict("warung", "evt", "other body"),
        2 => ledger::conflict("warung", "evt", "another body"),
        _ => ledger::claim("kedai", "evt", body),
    };
    Claim::new(*claim.key().as_bytes(), *claim.event().as_bytes(), *claim.digest(), [token; 16])
}

/// What an entry should be. All times count from the beginning.
#[derive(Debug, Clone)]
struct Entry {
    token: u8,
    digest: BodyDigest,
    is_done: bool,
    until: Duration,
    /// When it was claimed, and when its holder last claimed it again. A store may keep either.
    claimed: [Duration; 2],
}

#[derive(Debug, Default)]
struct Reference {
    entries: HashMap<usize, Entry>,
    now: Duration,
}

impl Reference {
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.entries.retain(|_, entry| entry.until > self.now);
    }

    fn claim(&mut self, at: usize, token: u8, lease: Duration) -> ClaimOutcome {
        let (now, digest) = (self.now, *claim(at, token).digest());
        let until = now + lease;
        match self.entries.get_mut(&at) {
            None => {
                self.entries.insert(at, Entry { token, digest, is_done: false, until, claimed: [now; 2] });
                ClaimOutcome::Claimed
            }
            Some(entry) if entry.is_done => ClaimOutcome::Done { digest: entry.digest },
            Some(entry) if entry.token == token => {
                entry.until = until;
                entry.claimed[1] = now;
                ClaimOutcome::Claimed
            }
            Some(entry) => ClaimOutcome::InFlight { digest: entry.digest, remaining: entry.until - now },
        }
    }

    fn held(&mut self, at: usize, token: u8) -> Option<&mut Entry> {
        self.entries.get_mut(&at).filter(|entry| entry.token == token && !entry.is_done)
    }

    fn complete(&mut self, at: usize, token: u8, retention: Duration) -> bool {
        let until = self.now + retention;
        if let Some(entry) = self.held(at, token) {
            entry.is_done = true;
            entry.until = until;
        }
        self.entries.get(&at).is_some_and(|entry| entry.token == token && entry.is_done)
    }

    fn release(&mut self, at: usize, token: u8) {
        if self.held(at, token).is_some() {
            self.entries.remove(&at);
        }
    }

    fn renew(&mut self, at: usize, token: u8, lease: Duration) -> bool {
        let until = self.now + lease;
        self.held(at, token).map(|entry| entry.until = until).is_some()
    }

    fn forget(&mut self, at: usize) -> u64 {
        self.forget_those(|entry, _| claim(entry, 0).event() == claim(at, 0).event())
    }

    /// `None` when stores may differ.
    fn forget_claimed(&mut self, start: Duration, end: Duration) -> Option<u64> {
        let ages = |entry: &Entry| entry.claimed.map(|claimed| self.now - claimed);
        let chosen = |entry: &Entry| ages(entry).map(|age| age <= start && age > end);
        if self.entries.values().any(|entry| chosen(entry)[0] != chosen(entry)[1]) {
            return None;
        }
        let now = self.now;
        Some(self.forget_those(|_, entry| {
            let age = now - entry.claimed[0];
            age <= start && age > end
        }))
    }

    fn forget_those(&mut self, which: impl Fn(usize, &Entry) -> bool) -> u64 {
        self.entries.extract_if(|at, entry| which(*at, entry)).count() as u64
    }
}

/// Runs so many cases of at most so many random calls.
pub(crate) fn holds<L: Ledger>(
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

async fn run<L: Ledger>(store: &L, advance: &impl AsyncFn(&L, Duration), steps: &[Step]) -> Result<(), TestCaseError> {
    let mut reference = Reference::default();
    for (n, step) in steps.iter().enumerate() {
        take(store, advance, &mut reference, step).await.map_err(|error| at(n, step, &error))?;
        for entry in 0..ENTRIES {
            // A claim that is refused changes nothing, so what is there can be looked at.
            if reference.entries.contains_key(&entry) {
                let found = store.claim(&claim(entry, ONLOOKER), Duration::from_secs(STEP)).await.unwrap();
                let expected = reference.claim(entry, ONLOOKER, Duration::from_secs(STEP));
                same(&found, &expected).map_err(|error| at(n, step, &error))?;
            }
        }
    }
    for entry in 0..ENTRIES {
        let found = store.claim(&claim(entry, ONLOOKER), Duration::from_secs(STEP)).await.unwrap();
        same(&found, &reference.claim(entry, ONLOOKER, Duration::from_secs(STEP)))?;
    }
    Ok(())
}

fn at(n: usize, step: &Step, error: &TestCaseError) -> TestCaseError {
    TestCaseError::fail(format!("after step {n}, {step:?}: {error}"))
}

async fn take<L: Ledger>(
    store: &L,
    advance: &impl AsyncFn(&L, Duration),
    reference: &mut Reference,
    step: &Step,
) -> Result<(), TestCaseError> {
    match *step {
        Step::Claim { entry, token, lease } => {
            let found = store.claim(&claim(entry, token), lease).await.unwrap();
            same(&found, &reference.claim(entry, token, lease))?;
        }
        Step::Complete { entry, token, retention } => {
            let found = store.complete(&claim(entry, token), retention).await.unwrap();
            prop_assert_eq!(found, reference.complete(entry, token, retention));
        }
        Step::Release { entry, token } => {
            store.release(&claim(entry, token)).await.unwrap();
            reference.release(entry, token);
        }
        Step::Renew { entry, token, lease } => {
            let found = store.renew(&claim(entry, token), lease).await.unwrap();
            prop_assert_eq!(found, reference.renew(entry, token, lease));
        }
        Step::Forget { entry } => {
            let found = store.forget(claim(entry, 0).event()).await.unwrap();
            prop_assert_eq!(found, reference.forget(entry));
        }
        Step::ForgetClaimed { start, end } => {
            if let Some(expected) = reference.forget_claimed(start, end) {
                let now = SystemTime::now();
                prop_assert_eq!(store.forget_claimed(now - start..now - end).await.unwrap(), expected);
            }
        }
        Step::Purge { limit } => {
            let gone = store.purge(limit).await.unwrap();
            prop_assert!(gone <= u64::from(limit), "{} were purged, at most {} should be", gone, limit);
        }
        Step::Pass { time } => {
            advance(store, time).await;
            reference.pass(time);
        }
    }
    Ok(())
}

/// Time passes by itself as well, so what remains is compared roughly.
fn same(found: &ClaimOutcome, expected: &ClaimOutcome) -> Result<(), TestCaseError> {
    match (found, expected) {
        (
            ClaimOutcome::InFlight { digest, remaining },
            ClaimOutcome::InFlight { digest: digest_expected, remaining: remaining_expected },
        ) => {
            prop_assert_eq!(digest, digest_expected);
            let off = remaining.abs_diff(*remaining_expected);
            prop_assert!(off < Duration::from_secs(STEP / 2), "{:?}, not {:?}", found, expected);
        }
        _ => prop_assert_eq!(found, expected),
    }
    Ok(())
}
