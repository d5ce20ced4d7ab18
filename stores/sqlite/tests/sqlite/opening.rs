//! Tests of opening a store: paths, errors, and ledger-only stores.

use std::{env, fs, path::Path, time::SystemTime};

use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger, LedgerAdmin, StoreError},
    inbox::{DeliveryId, Filter, InboxAdmin, InboxStore, LedgerRows, Pause, ShowBody},
};
use tower_klikit_sqlite::{SqliteError, SqliteErrorKind, SqliteStore};

use crate::{
    deliveries::{accept, delivery, ids, lease, request},
    support::{Folder, RETENTION, TERMS, claim, kind},
};

fn create(path: &Path) -> Result<SqliteStore, SqliteError> {
    SqliteStore::builder().create().open(path)
}

#[test]
fn mistyped_path_creates_nothing() {
    let folder = Folder::new();
    let typo = folder.path().join("typo.db");
    for path in [&typo, &folder.path().join("no/such/folder.db")] {
        assert_eq!(SqliteStore::open(path).unwrap_err().kind(), SqliteErrorKind::NotFound);
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
    drop(create(&typo).unwrap());
    SqliteStore::open(&typo).unwrap();
}

#[test]
fn not_found_error_tells_the_remedy() {
    let error = SqliteStore::open("no-such-folder/typo.db").unwrap_err();
    let folder = env::current_dir().unwrap().join("no-such-folder");
    let expected = format!(
        "no-such-folder/typo.db does not exist in the folder {}: correct the path, or call create() on the builder to \
         create the file",
        folder.display()
    );
    assert_eq!(error.to_string(), expected);
    // A `main` that returns the error prints its `Debug` form.
    assert_eq!(format!("{error:?}"), format!("{expected}: No such file or directory (os error 2)"));
}

#[test]
fn debug_of_errors_is_one_line() {
    let error = SqliteStore::open("no\n\u{202e}such.db").unwrap_err();
    assert!(format!("{error:?}").starts_with(r"no\n\u{202e}such.db does not exist"), "{error:?}");
}

#[test]
fn errors_name_the_path_and_the_cause() {
    let folder = Folder::new();
    let text = folder.path().join("text");
    fs::write(&text, "no database, but long enough to have been one, and not empty either").unwrap();
    let within = |name: &str| folder.path().join(name);
    for (path, expected) in [
        (within("no/such.db"), format!("the folder {} does not exist: No such file", within("no").display())),
        (text.clone(), format!("text in the folder {}: ", folder.path().display())),
        (text.clone(), "file is not a database".into()),
        (folder.path().into(), format!("the file {} cannot be opened: Is a directory", folder.path().display())),
        ("".into(), "at the path \"\"".into()),
    ] {
        let error = create(&path).unwrap_err();
        assert_eq!(error.kind(), SqliteErrorKind::File, "{error}");
        assert!(error.to_string().contains(&expected), "{error}: {expected}");
    }
    assert!(fs::read_to_string(&text).unwrap().starts_with("no database"));
}

#[test]
fn error_says_that_another_process_may_migrate() {
    let folder = Folder::new();
    let other = folder.connect();
    let migrate = "
        PRAGMA journal_mode = WAL;

        BEGIN IMMEDIATE;

        CREATE TABLE klikit_migrated (c);
        ";
    other.execute_batch(migrate).unwrap();
    let error = create(&folder.file()).unwrap_err();
    assert_eq!(error.kind(), SqliteErrorKind::Busy);
    assert!(error.to_string().ends_with("another process has the file locked, perhaps to migrate it"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    create(&folder.file()).unwrap();
}

#[tokio::test]
async fn ledger_only_store_has_no_inbox() {
    let folder = Folder::new();
    let store = SqliteStore::builder().create().ledger_only().open(folder.file()).unwrap();
    assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(folder.tables(), ["klikit_clock", "klikit_ledger", "klikit_schema"]);

    let new = delivery("evt-1", "one", &[]);
    let event = new.claim().event();
    let window = SystemTime::UNIX_EPOCH..SystemTime::now();
    let errors = [
        store.accept(&new, RETENTION).await.map(drop),
        store.lease(&request(1, 1)).await.map(drop),
        store.start(&[], "worker").await.map(drop),
        store.extend(&[], RETENTION).await.map(drop),
        store.settle(&[]).await.map(drop),
        store.backlog(1).await.map(drop),
        store.counts().await.map(drop),
        store.purge_done(1).await.map(drop),
        store.stored(1).await.map(drop),
        store.evict_done(1).await.map(drop),
        store.purge_dead(RETENTION, 1).await.map(drop),
        store.find(&Filter::new(), None, 1).await.map(drop),
        store.dead_letter(&[], &[], "").await.map(drop),
        store.delete(&[], &[], LedgerRows::Keep).await.map(drop),
        store.show(DeliveryId::new(1), ShowBody::Omit).await.map(drop),
        store.requeue(&[], &[]).await.map(drop),
        store.pause(&Pause::everything(), "operator").await.map(drop),
        store.resume(&Pause::everything()).await.map(drop),
        store.pauses().await.map(drop),
        store.count_keys(&event.into()).await.map(drop),
        store.count_keys(&window.clone().into()).await.map(drop),
        store.forget_keys(&event.into()).await.map(drop),
        store.forget_keys(&window.into()).await.map(drop),
    ];
    for (n, error) in errors.into_iter().enumerate() {
        assert_eq!(error.as_ref().map_err(kind_of), Err(SqliteErrorKind::LedgerOnly), "{n}");
    }
    assert_eq!(store.entries(&claim(1, 1).event().into(), None, 10).await.unwrap().len(), 1);
    assert_eq!(store.forget(&event.into()).await.unwrap(), 0);

    // Another store on the file may have an inbox.
    let other = folder.open();
    accept(&other, "evt-1", &[]).await;
    assert_eq!(ids(&lease(&other, 1, 1).await), [1]);
    assert_eq!(kind(&store.counts().await.unwrap_err()), SqliteErrorKind::LedgerOnly);
}

fn kind_of(error: &StoreError) -> SqliteErrorKind {
    kind(error)
}
