//! The store that a command acts on.

mod ledger;
mod location;
mod open_error;
pub(crate) mod values;

use std::path::PathBuf;

use clap::Args;
use tower_klikit::{
    dedupe::StoreError,
    inbox::{DeliveryId, Entry, Filter, Inbox},
};
use tower_klikit_postgres::{PostgresStore, PostgresStoreBuilder};
use tower_klikit_sqlite::{SqliteStore, SqliteStoreBuilder};

pub(crate) use self::{
    ledger::LedgerStore,
    location::Location,
    open_error::{OpenError, OpenErrorKind},
};
use crate::{
    error::{CliError, one_line},
    output,
};

/// The number of deliveries that one call reads.
const PAGE: u32 = 500;

/// The place of the store.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreArguments {
    /// The SQLite file of the store, instead of the environment variable KLIKIT_STORE
    ///
    /// KLIKIT_STORE is a SQLite file or a postgres:// URL. A URL is not an argument, because all users of a machine can
    /// see the arguments of its programs, and a URL may contain a password.
    #[arg(long, value_name = "PATH", global = true)]
    store: Option<PathBuf>,

    /// The prefix of the names of the store's tables
    #[arg(long, value_name = "PREFIX", global = true, default_value = SqliteStore::DEFAULT_TABLE_PREFIX)]
    table_prefix: String,
}

/// A migration that a store lacks.
pub(crate) struct PendingMigration {
    /// The part of the schema: `ledger` or `inbox`.
    pub(crate) part: String,
    /// The version of the part after the migration.
    pub(crate) version: u32,
    /// The statements, below a comment that names the part and the version.
    pub(crate) sql: String,
}

/// An open store, whose schema is the one of this release.
pub(crate) struct Store {
    pub(crate) inbox: Inbox,
    /// The store's place, without a password.
    pub(crate) name: String,
    /// The store, if it is a file.
    pub(crate) sqlite: Option<SqliteStore>,
}

impl StoreArguments {
    /// Returns the place of the store.
    pub(crate) fn location(&self) -> Result<Location, CliError> {
        self.location_if_given()?.ok_or_else(Location::missing)
    }

    /// Returns the place of the store, for a command that works without a store too.
    pub(crate) fn location_if_given(&self) -> Result<Option<Location>, CliError> {
        Location::find(self.store.as_ref())
    }

    /// Opens the store and names it on standard error. Neither creates nor migrates tables, because processes of an
    /// older release may be using them.
    pub(crate) async fn open(&self) -> Result<Store, CliError> {
        let location = self.location()?;
        let pending = self.pending_migrations(&location).await?;
        Self::check_migrated(&location, &pending)?;
        let store = self.open_and_migrate(&location).await?;
        output::note(format_args!("store: {}", store.name));
        Ok(store)
    }

    /// Returns an error if the store lacks migrations.
    fn check_migrated(location: &Location, pending: &[PendingMigration]) -> Result<(), CliError> {
        if pending.is_empty() {
            return Ok(());
        }
        let steps: Vec<_> = pending.iter().map(PendingMigration::name).collect();
        let remedy = if pending.iter().any(|step| step.version == 1) {
            "name another store or --table-prefix, or create the tables with `klikit migrate`"
        } else {
            "stop the processes of older releases, and run `klikit migrate`"
        };
        Err(CliError::new(format_args!("{location} lacks the migrations {}: {remedy}", steps.join(", "))))
    }

    /// Opens the store, whose pending migrations were read before, and applies them. Does not create a file.
    pub(crate) async fn open_and_migrate(&self, location: &Location) -> Result<Store, OpenError> {
        let name = one_line(&location.to_string());
        Ok(match location {
            Location::File(path) => {
                let store = self.sqlite().open(path).map_err(|error| OpenError::of_sqlite(location, &error))?;
                Store { inbox: Inbox::new(store.clone()), name, sqlite: Some(store) }
            }
            Location::Database(url) => {
                let store = self.postgres().open(url).await;
                let store = store.map_err(|error| OpenError::of_reached_postgres(location, &error))?;
                Store { inbox: Inbox::new(store), name, sqlite: None }
            }
        })
    }

    /// Returns the migrations that the store lacks, in order.
    pub(crate) async fn pending_migrations(&self, location: &Location) -> Result<Vec<PendingMigration>, OpenError> {
        match location {
            Location::File(path) => {
                let pending =
                    self.sqlite().pending_migrations(path).map_err(|error| OpenError::of_sqlite(location, &error))?;
                Ok(pending.iter().map(|step| PendingMigration::new(step.part(), step.version(), step)).collect())
            }
            Location::Database(url) => {
                let pending =
                    self.postgres().pending_migrations(url).await.map_err(|error| OpenError::of_postgres(&error))?;
                Ok(pending.iter().map(|step| PendingMigration::new(step.part(), step.version(), step)).collect())
            }
        }
    }

    /// Returns the versions of the schema that this release knows, such as `ledger 1, inbox 2`.
    pub(crate) fn known_versions(&self, location: &Location) -> Result<String, OpenError> {
        let mut versions: Vec<(String, u32)> = Vec::new();
        let mut add = |part: &str, version| match versions.last_mut() {
            Some(last) if last.0 == part => last.1 = version,
            _ => versions.push((part.into(), version)),
        };
        match location {
            Location::File(_) => {
                let steps = self.sqlite().migrations().map_err(|error| OpenError::of_sqlite(location, &error))?;
                steps.iter().for_each(|step| add(step.part(), step.version()));
            }
            Location::Database(_) => {
                let steps = self.postgres().migrations().map_err(|error| OpenError::of_postgres(&error))?;
                steps.iter().for_each(|step| add(step.part(), step.version()));
            }
        }
        let versions: Vec<_> = versions.iter().map(|(part, version)| format!("{part} {version}")).collect();
        Ok(versions.join(", "))
    }

    fn sqlite(&self) -> SqliteStoreBuilder {
        SqliteStore::builder().table_prefix(&self.table_prefix)
    }

    fn postgres(&self) -> PostgresStoreBuilder {
        // An operator's command makes one call at a time.
        PostgresStore::builder().table_prefix(&self.table_prefix).max_connections(2)
    }
}

impl PendingMigration {
    fn new(part: &str, version: u32, sql: &impl ToString) -> Self {
        Self { part: part.into(), version, sql: sql.to_string() }
    }

    /// Returns the part and the version, such as `inbox 2`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.part, self.version)
    }
}

impl Store {
    /// Returns the error for a call that failed.
    pub(crate) fn failed(&self, error: &StoreError) -> CliError {
        failed(&self.name, error)
    }

    /// Calls a function for each delivery that the filter selects and whose id is larger than `after`, smallest id
    /// first.
    pub(crate) async fn each(
        &self,
        filter: &Filter,
        mut after: Option<DeliveryId>,
        mut run: impl FnMut(Entry),
    ) -> Result<(), CliError> {
        loop {
            let page = self.inbox.find(filter, after, PAGE).await.map_err(|error| self.failed(&error))?;
            page.entries.into_iter().for_each(&mut run);
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Returns the error for a call that failed on the store with this name.
fn failed(name: &str, error: &StoreError) -> CliError {
    CliError::caused(format_args!("{name} cannot be used"), error, "remove the cause and try again")
}
