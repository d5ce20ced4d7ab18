//! The checks of the store and its schema.

use std::time::Duration;

use tokio::time::timeout;
use tower_klikit::{ErrorChain, inbox::Pause};

use super::{
    clock, inbox,
    row::{Check, Row},
};
use crate::{
    error::CliError,
    store::{Location, OpenError, OpenErrorKind, PendingMigration, Store, StoreArguments},
};

/// The time limit for each step. A session that locks a table keeps all others waiting.
const DEADLINE: Duration = Duration::from_secs(15);

/// A store that the checks of the inbox can use, or the rows of a store that they cannot use.
type Opened = Result<Store, Vec<Row>>;

/// Checks the store, its schema, its inbox and its clock.
pub(super) async fn check(arguments: &StoreArguments, max_stored: u64) -> Result<Vec<Row>, CliError> {
    let Some(location) = arguments.location_if_given()? else {
        let rows = [Check::Store, Check::Schema].into_iter().chain(Check::OF_OPEN_STORE);
        return Ok(rows.map(|check| check.not_checked("no store was given with --store or KLIKIT_STORE")).collect());
    };
    let known = arguments.known_versions(&location)?;
    let store = match open(arguments, &location).await? {
        Ok(store) => store,
        Err(rows) => return Ok(rows),
    };
    let examined = async {
        let mut rows = inbox::check(&store, max_stored).await?;
        rows.push(clock::check(&store).await?);
        Ok(rows)
    };
    let examined = timeout(DEADLINE, examined).await.unwrap_or_else(|_| Err(late()));
    let (first, rows) = match examined {
        Ok(rows) => (writable(&store).await, rows),
        Err(seen) => (Check::Store.blocker(seen, REMOVE_CAUSE), unusable().collect()),
    };
    let schema = Check::Schema.ok(format!("{known}, the versions of this release"));
    Ok([first, schema].into_iter().chain(rows).collect())
}

/// Checks that the store takes writes: with a lock on a SQLite file, or on a standby, only reads succeed. Lifts a pause
/// that is not in force, which changes nothing.
async fn writable(store: &Store) -> Row {
    let pause = Pause::everything().tenant("klikit doctor: the name of no tenant");
    let operator = store.inbox.operator("klikit doctor");
    match timeout(DEADLINE, operator.resume(&pause)).await {
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
    if !pending.is_empty() {
        let steps: Vec<_> = pending.iter().map(PendingMigration::name).collect();
        let action = "stop the processes of older releases, and run `klikit migrate`";
        let schema = Check::Schema.warning(format!("lacks the migrations {}", steps.join(", ")), action);
        return Ok(Err([Check::Store.ok("reachable"), schema].into_iter().chain(unusable()).collect()));
    }
    match in_time(arguments.open_and_migrate(location)).await {
        Ok(store) => Ok(Ok(store)),
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
    Ok(first.into_iter().chain(unusable()).collect())
}

const UNUSABLE: &str = "the store cannot be used as it is";

fn unusable() -> impl Iterator<Item = Row> {
    Check::OF_OPEN_STORE.into_iter().map(|check| check.not_checked(UNUSABLE))
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
