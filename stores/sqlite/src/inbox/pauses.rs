//! The pauses of leasing.

use rusqlite::{OptionalExtension, named_params, params, types::ValueRef};
use tower_klikit::inbox::{ActivePause, Pause};

use super::deliveries::Deliveries;
use crate::{error::SqliteError, timestamp::time};

/// The pauses in force, for a selection.
pub(super) struct Pauses(Vec<Pause>);

impl Pauses {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether all deliveries of the tenant are paused.
    pub(super) fn select_tenant(&self, tenant: &str) -> bool {
        self.0.iter().any(|pause| pause.event_type.is_none() && pause.matches(tenant, None))
    }

    /// Returns whether some event types of the tenant are paused.
    pub(super) fn select_event_types(&self, tenant: &str) -> bool {
        let selects_tenant = |pause: &Pause| pause.tenant.as_deref().is_none_or(|paused| paused == tenant);
        self.0.iter().any(|pause| pause.event_type.is_some() && selects_tenant(pause))
    }

    fn select(&self, tenant: &str, event_type: Option<&str>) -> bool {
        self.0.iter().any(|pause| pause.matches(tenant, event_type))
    }
}

impl Deliveries<'_> {
    /// Adds a pause, and makes the leased deliveries ready that it selects and that have not started. Returns for each
    /// leased delivery whether it was made ready. If some are unreadable, changes the others and returns an inner
    /// error.
    pub(crate) fn pause(&self, pause: &Pause, operator: &str) -> rusqlite::Result<Result<Vec<bool>, SqliteError>> {
        self.connection.prepare_cached(&self.sql.pause.add)?.execute(named_params! {
            ":tenant": pause.tenant,
            ":event_type": pause.event_type,
            ":operator": operator,
            ":system_time": self.timestamp.system(),
        })?;
        let mut list = self.connection.prepare_cached(&self.sql.pause.list_leased)?;
        let leased: Vec<i64> = list.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut release = self.connection.prepare_cached(&self.sql.pause.release)?;
        self.isolation.each(&leased, |id| {
            let released = release.execute(named_params! {
                ":id": id,
                ":now": self.timestamp.now(),
                ":tenant": pause.tenant,
                ":event_type": pause.event_type,
            })?;
            Ok(released > 0)
        })
    }

    /// Removes a pause. Returns whether there was one.
    pub(crate) fn resume(&self, pause: &Pause) -> rusqlite::Result<bool> {
        let mut remove = self.connection.prepare_cached(&self.sql.pause.remove)?;
        Ok(remove.execute(params![pause.tenant, pause.event_type])? > 0)
    }

    /// Lists the pauses in force.
    pub(crate) fn pauses(&self) -> rusqlite::Result<Vec<ActivePause>> {
        let mut list = self.connection.prepare_cached(&self.sql.pause.list)?;
        let pauses = list.query_map([], |row| {
            Ok(ActivePause {
                pause: Pause { tenant: lossy(row.get_ref(0)?), event_type: lossy(row.get_ref(1)?) },
                operator: lossy(row.get_ref(2)?).unwrap_or_default(),
                since: time(row.get_ref(3)?.as_i64().unwrap_or_default()),
            })
        })?;
        pauses.collect()
    }

    pub(super) fn pauses_in_force(&self) -> rusqlite::Result<Pauses> {
        Ok(Pauses(self.pauses()?.into_iter().map(|active| active.pause).collect()))
    }

    /// Returns whether a pause selects a delivery. A delivery on a damaged page is not paused, so that it is reported.
    pub(super) fn is_paused(&self, pauses: &Pauses, id: i64) -> rusqlite::Result<bool> {
        if pauses.is_empty() {
            return Ok(false);
        }
        let mut read = self.connection.prepare_cached(&self.sql.lease.read_labels)?;
        let is_paused = self.isolation.isolate(|| {
            let is_paused = read.query_row([id], |row| {
                let (tenant, event_type) = (lossy(row.get_ref(0)?), lossy(row.get_ref(1)?));
                Ok(pauses.select(&tenant.unwrap_or_default(), event_type.as_deref()))
            });
            is_paused.optional()
        })?;
        Ok(is_paused.ok().flatten().unwrap_or(false))
    }
}

/// Returns a value as text, or `None` if it is NULL. A pause must stay in force although another program has written a
/// value that is not UTF-8.
pub(super) fn lossy(value: ValueRef<'_>) -> Option<String> {
    value.as_bytes_or_null().ok().flatten().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}
