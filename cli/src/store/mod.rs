//! The store that a command acts on.

mod backend;
mod ledger;
mod location;
mod migrations;
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
    backend::Backend,
    ledger::LedgerStore,
    location::Location,
    migrations::{Parts, PendingMigration, PendingMigrations},
    open_error::{OpenError, OpenErrorKind},
};
use crate::{error::CliError, output};

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

/// An open store with an inbox, whose schema is the one of this release.
pub(crate) struct Store {
    pub(crate) inbox: Inbox,
    /// The store's place, without a password.
    pub(crate) name: String,
    pub(crate) backend: Backend,
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

    /// Opens a store with an inbox, and names it on standard error. Neither creates nor migrates tables, because
    /// processes of an older release may be using them.
    pub(crate) async fn open(&self) -> Result<Store, CliError> {
        let location = self.location()?;
        let pending = self.pending_migrations(&location).await?;
        if !pending.is_empty() {
            return Err(pending.error(&location));
        }
        let backend = self.connect(&location, Parts::LedgerAndInbox).await?;
        let store = Store { inbox: backend.inbox(), name: location.to_string(), backend };
        output::note(format_args!("store: {}", store.name));
        Ok(store)
    }

    /// Connects to these parts of the store, and applies the migrations that they lack. Does not create a file.
    ///
    /// A command that must not migrate looks at the pending migrations first.
    pub(crate) async fn connect(&self, location: &Location, parts: Parts) -> Result<Backend, OpenError> {
        let is_ledger_only = parts == Parts::Ledger;
        Ok(match location {
            Location::File(path) => {
                let builder = self.sqlite();
                let builder = if is_ledger_only { builder.ledger_only() } else { builder };
                Backend::Sqlite(builder.open(path).map_err(|error| OpenError::of_sqlite(location, &error))?)
            }
            Location::Database(url) => {
                let builder = self.postgres();
                let builder = if is_ledger_only { builder.ledger_only() } else { builder };
                let store = builder.open(url).await;
                Backend::Postgres(store.map_err(|error| OpenError::of_reached_postgres(location, &error))?)
            }
        })
    }

    /// Returns the migrations that the store lacks.
    pub(crate) async fn pending_migrations(&self, location: &Location) -> Result<PendingMigrations, OpenError> {
        let steps = match location {
            Location::File(path) => {
                let steps = self.sqlite().pending_migrations(path);
                let steps = steps.map_err(|error| OpenError::of_sqlite(location, &error))?;
                steps.iter().map(|step| PendingMigration::new(step.part(), step.version(), step)).collect()
            }
            Location::Database(url) => {
                let steps = self.postgres().pending_migrations(url).await;
                let steps = steps.map_err(|error| OpenError::of_postgres(location, &error))?;
                steps.iter().map(|step| PendingMigration::new(step.part(), step.version(), step)).collect()
            }
        };
        Ok(PendingMigrations(steps))
    }

    /// Returns the versions that these parts have in this release, such as `ledger 1, inbox 2`.
    pub(crate) fn known_versions(&self, location: &Location, parts: Parts) -> Result<String, OpenError> {
        let steps: Vec<(String, u32)> = match location {
            Location::File(_) => {
                let steps = self.sqlite().migrations().map_err(|error| OpenError::of_sqlite(location, &error))?;
                steps.iter().map(|step| (step.part().into(), step.version())).collect()
            }
            Location::Database(_) => {
                let steps = self.postgres().migrations().map_err(|error| OpenError::of_postgres(location, &error))?;
                steps.iter().map(|step| (step.part().into(), step.version())).collect()
            }
        };
        let is_last = |n: usize| steps.get(n + 1).is_none_or(|next| next.0 != steps[n].0);
        let last = steps.iter().enumerate().filter(|(n, (part, _))| is_last(*n) && parts.contains(part));
        let versions: Vec<_> = last.map(|(_, (part, version))| format!("{part} {version}")).collect();
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
