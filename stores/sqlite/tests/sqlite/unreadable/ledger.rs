//! Tests of unreadable rows and damaged pages of the ledger.

use std::{ops::Range, time::Duration};

use futures_util::future::join_all;
use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger, LedgerAdmin, StoreError},
    inbox::InboxAdmin,
};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore};

use super::{change, close, damage, leaves};
use crate::support::{Folder, LEASE, RETENTION, TERMS, TestClock, bytes, claim, digest, kind};

#[tokio::test]
async fn unreadable_ledger_row_fails_its_own_claim() {
    let folder = Folder::new();
    let store = folder.open();
    assert_eq!(store.claim(&claim(13, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    for assignment in ["digest = x'00'", "digest = 'text'", "state = 'x'", "until = 'x'"] {
        change(&folder, &format!("UPDATE klikit_ledger SET {assignment}"));
        let claims = join_all((0..256).map(|event| {
            let (store, claim) = (store.clone(), claim(event, 2));
            async move { store.claim(&claim, &TERMS).await }
        }))
        .await;
        for (event, outcome) in claims.iter().enumerate() {
            match outcome {
                Ok(outcome) => assert!(event != 13 && *outcome == ClaimOutcome::Claimed, "{event}: {outcome:?}"),
                Err(error) => {
                    assert!(event == 13 && kind(error) == SqliteErrorKind::Unreadable, "{event}: {error:?}");
                }
            }
        }
        let all = (std::time::SystemTime::UNIX_EPOCH..later()).into();
        let listed = store.entries(&all, None, 255).await.unwrap();
        assert_eq!(listed.len(), 255);
        assert!(listed.iter().all(|entry| entry.key != *claim(13, 1).key()));
        assert_eq!(store.count(&all).await.unwrap(), 256);
        assert_eq!(store.forget(&all).await.unwrap(), 256);
        assert_eq!(store.claim(&claim(13, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
}

#[tokio::test]
async fn damaged_ledger_page_affects_only_its_rows() {
    const ALL: u64 = 2000;

    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let claim_all = async |store: &SqliteStore, events: Range<u64>, token| {
        let claims = events.map(|event| {
            let claim = claim(event, token);
            async move { (event, store.claim(&claim, &TERMS).await) }
        });
        let mut claims = join_all(claims).await;
        // Sort in the order of the table's rows.
        claims.sort_unstable_by_key(|(event, _)| bytes(*event));
        claims
    };
    claim_all(&store, 0..ALL, 1).await;
    // Complete three of four entries, so that they stay and keep the pages in use.
    for complete in (0..ALL).filter(|event| event % 4 > 0).map(|event| claim(event, 1)).collect::<Vec<_>>().chunks(500)
    {
        assert!(
            join_all(complete.iter().map(|claim| store.complete(claim, RETENTION))).await.iter().all(Result::is_ok)
        );
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_ledger");
    assert!(pages.len() > 30);
    damage(&folder, &pages[15..16]);

    let store = clock.open(&folder.file());
    let claims = claim_all(&store, 0..ALL, 2).await;
    let is_readable = |(_, outcome): &&(u64, Result<ClaimOutcome, StoreError>)| outcome.is_ok();
    let readable: Vec<_> = claims.iter().filter(is_readable).map(|(event, _)| *event).collect();
    assert!((1..200).contains(&(claims.len() - readable.len())), "{} are readable", readable.len());
    assert!(claims.iter().all(|(_, outcome)| !matches!(outcome, Ok(ClaimOutcome::Claimed))));

    // A list leaves out rows on the damaged page, and has those before and after it.
    let listed = store.entries(&(std::time::SystemTime::UNIX_EPOCH..later()).into(), None, u32::MAX).await.unwrap();
    let keys: Vec<_> = listed.iter().map(|entry| *entry.key.as_bytes()).collect();
    assert!(
        keys.is_sorted() && keys.contains(&bytes(readable[0])) && keys.contains(&bytes(readable[readable.len() - 1]))
    );
    assert!(keys.iter().all(|key| readable.iter().any(|event| bytes(*event) == *key)));

    // A call for many claims renews the readable ones and returns an error.
    clock.advance(LEASE / 2);
    let all: Vec<_> = (0..ALL).filter(|event| event % 4 == 0).map(|event| claim(event, 1)).collect();
    assert_eq!(kind(&store.renew(&all, &TERMS).await.unwrap_err()), SqliteErrorKind::Damaged);
    clock.advance(LEASE / 2);
    let claimed: Vec<_> = readable.iter().filter(|event| **event % 4 == 0).collect();
    for event in [claimed[0], claimed[claimed.len() - 1]] {
        let in_flight = ClaimOutcome::InFlight { digest: digest(*event), remaining: LEASE / 2 };
        assert_eq!(store.claim(&claim(*event, 2), &TERMS).await.unwrap(), in_flight);
    }

    // A walk skips the damaged page and returns an error at the end.
    clock.advance(LEASE);
    let is_there = |event: u64| {
        let find = "SELECT count(*) FROM klikit_ledger WHERE key = ?1";
        folder.connect().query_row(find, [bytes(event)], |row| row.get::<_, u32>(0)).unwrap() > 0
    };
    assert_eq!(kind(&store.purge(u32::MAX).await.unwrap_err()), SqliteErrorKind::Damaged);
    assert!(!is_there(*claimed[0]) && !is_there(*claimed[claimed.len() - 1]));
    let start = clock.now();
    let claims = claim_all(&store, ALL..ALL + 200, 1).await;
    clock.advance(Duration::from_millis(1));
    let new: Vec<_> = claims.iter().filter(is_readable).map(|(event, _)| *event).collect();
    assert!(new.len() > 180, "{}", new.len());
    // Counting leaves out the damaged page. Forgetting skips it and returns an error at the end.
    let window = (start..clock.now()).into();
    assert_eq!(store.count(&window).await.unwrap(), new.len() as u64);
    assert_eq!(store.count_keys(&window).await.unwrap(), new.len() as u64);
    assert_eq!(kind(&store.forget(&window).await.unwrap_err()), SqliteErrorKind::Damaged);
    assert!(!is_there(new[0]) && !is_there(new[new.len() - 1]));

    // The purge with each claim skips the damaged page too.
    claim_all(&store, ALL..ALL + 200, 1).await;
    clock.advance(LEASE);
    let mut event = 2 * ALL;
    while is_there(new[0]) || is_there(new[new.len() - 1]) {
        let _ = store.claim(&claim(event, 1), &TERMS).await;
        event += 1;
        assert!(event < 4 * ALL, "the rows are never purged");
    }
}

fn later() -> std::time::SystemTime {
    std::time::SystemTime::now() + Duration::from_secs(3600)
}
