//! The checks of the store and its schema.

use std::time::Duration;

use tokio::time::timeout;
use tower_klikit::{ErrorChain, dedupe::EventKey};

use super::{
    clock, inbox,
    row::{Check, Row},
};
use crate::{
    error::CliError,
    store::{Backend, Location, OpenError, OpenErrorKind, Parts, StoreArguments},
};

/// The time limit for each step. A session that locks a table keeps all others waiting.
const DEADLINE: Duration = Duration::from_secs(15);

/// An open store and its parts, or the rows of a store that cannot be used.
type Opened = Result<(Backend, Parts), Vec<Row>>;

/// Checks the store, its schema, its inbox and its clock.
pub(super) async fn check(arguments: &StoreArguments, max_stored: u64) -> Result<Vec<Row>, CliError> {
    let Some(location) = arguments.location_if_given()? else {
        let rows = [Check::Store, Check::Schema].into_iter().chain(Check::OF_OPEN_STORE);
        return Ok(rows.map(|check| check.not_checked("no store was given with --store or KLIKIT_STORE")).collect());
    };
    let (backend, parts) = match open(arguments, &location).await? {
        Ok(opened) => opened,
        Err(rows) => return Ok(rows),
    };
    let known = arguments.known_versions(&location, parts)?;
    let examined = timeout(DEADLINE, examine(&backend, parts, max_stored)).await.unwrap_or_else(|_| Err(late()));
    let (first, rows) = match examined {
        Ok(rows) => (writable(&backend).await, rows),
        Err(seen) => (Check::Store.blocker(seen, REMOVE_CAUSE), not_checked(UNUSABLE)),
    };
    let schema = Check::Schema.ok(format!("{known}, the versions of this release"));
    Ok([first, schema].into_iter().chain(rows).collect())
}

/// Checks the inbox and the clock. Returns the text of the error if the store fails.
async fn examine(backend: &Backend, parts: Parts, max_stored: u64) -> Result<Vec<Row>, String> {
    if parts == Parts::Ledger {
        return Ok(not_checked("the store has no inbox, which the dedupe layer does not need"));
    }
    let stored = backend.inbox();
    let mut rows = inbox::check(&stored, max_stored).await?;
    rows.push(clock::check(backend, &stored).await?);
    Ok(rows)
}

/// Checks that the store takes writes: with a lock on a SQLite file, or on a standby, only reads succeed. Forgets an event
/// that does not exist, which changes nothing.
async fn writable(backend: &Backend) -> Row {
    let no_event = EventKey::of_event("klikit doctor", "the id of no event").into();
    match timeout(DEADLINE, backend.forget(&no_event)).await {
        Ok(Ok(_)) => Check::Store.ok("reachable, reads and writes"),
        Ok(Err(error)) => Check::Store.blocker(
            format!("reads, but takes no writes: {}", ErrorChain::new(&error)),
            "remove the lock, or what else keeps the store from writing",
        ),
        Err(_) => Check::Store.blocker(late(), REMOVE_CAUSE),
    }
}

const REMOVE_CAUSE: &str = "remove the cause, and run `klikit doctor` again";

/// Opens a store whose schema is the one of this release.
async fn open(arguments: &StoreArguments, location: &Location) -> Result<Opened, CliError> {
    let pending = match in_time(arguments.pending_migrations(location)).await {
        Ok(pending) => pending,
        Err(error) => return cannot_open(error).map(Err),
    };
    let parts = pending.parts();
    let pending = pending.of(parts);
    if !pending.is_empty() {
        let schema = Check::Schema.warning(format!("lacks the migrations {}", pending.names()), pending.remedy());
        return Ok(Err([Check::Store.ok("reachable"), schema].into_iter().chain(not_checked(UNUSABLE)).collect()));
    }
    match in_time(arguments.connect(location, parts)).await {
        Ok(backend) => Ok(Ok((backend, parts))),
        Err(error) => cannot_open(error).map(Err),
    }
}

/// Returns the rows for a store that cannot be opened, or an error if the arguments name no store.
fn cannot_open(error: OpenError) -> Result<Vec<Row>, CliError> {
    let first = match (error.kind, error.remedy) {
        (OpenErrorKind::Arguments, _) => return Err(error.into()),
        (OpenErrorKind::Store, remedy) => {
            let schema = Check::Schema.not_checked(UNUSABLE);
            [Check::Store.blocker(error.message, remedy.unwrap_or(REMOVE_CAUSE)), schema]
        }
        (OpenErrorKind::NewerSchema, _) => {
            let action = "use the release that migrated the tables, or a later one";
            [Check::Store.ok("reachable"), Check::Schema.blocker(error.message, action)]
        }
        (OpenErrorKind::Schema, _) => {
            [Check::Store.ok("reachable"), Check::Schema.blocker(error.message, REMOVE_CAUSE)]
        }
    };
    Ok(first.into_iter().chain(not_checked(UNUSABLE)).collect())
}

const UNUSABLE: &str = "the store cannot be used as it is";

fn not_checked(why: &str) -> Vec<Row> {
    Check::OF_OPEN_STORE.into_iter().map(|check| check.not_checked(why)).collect()
}

/// Returns the result of a call, or an error if the call takes too long.
async fn in_time<T>(call: impl Future<Output = Result<T, OpenError>>) -> Result<T, OpenError> {
    timeout(DEADLINE, call)
        .await
        .unwrap_or_else(|_| Err(OpenError { kind: OpenErrorKind::Store, message: late(), remedy: None }))
}

fn late() -> String {
    format!(
        "the store did not answer within {} seconds: another session may have locked its tables",
        DEADLINE.as_secs()
    )
}
