//! The selection of deliveries to lease, on the reader's connection.
//!
//! A delivery is free if it is due, no other delivery blocks its ordering keys, and no pause selects it. The free
//! deliveries of a tenant are selected in the order in which they are due, and the tenants take turns. The selection
//! examines as many deliveries of each tenant as it needs.
//!
//! To find free deliveries that have ordering keys, the selection first examines up to 500 deliveries, longest due
//! first, which usually suffices. If too many of them are blocked, for example by one delivery that keeps failing, the
//! selection then examines the head of each queue. That takes time in proportion to the number of queues, not to the
//! number of deliveries.
//!
//! The deliveries of a paused tenant are not examined. Those of a paused event type are, and each takes a look at its
//! row, so that a backlog of paused deliveries makes selections slower.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Row, named_params};
use tower_klikit::inbox::{Lease, OrderingKey};

use super::{
    deliveries::Deliveries,
    ordering_keys,
    search::Search,
    selection::{SelectTerms, Selection},
    tenant::Tenant,
};

impl Deliveries<'_> {
    /// Selects deliveries to lease, in the order of the tenants' turns.
    pub(crate) fn select(&self, terms: &SelectTerms) -> rusqlite::Result<Selection> {
        let mut selection = Selection::default();
        let mut held_keys = Vec::new();
        let mut leased = HashMap::new();
        for lease in &terms.held {
            let Some(held) = self.held(lease)? else { continue };
            *leased.entry(held.tenant).or_default() += 1;
            if let Some(keys) = held.expired_keys {
                selection.held.push(*lease);
                held_keys.extend(keys);
            }
        }
        for id in &terms.leased {
            if let Some(tenant) = self.tenant(*id)? {
                *leased.entry(tenant).or_default() += 1;
            }
        }
        let mut search = Search::new(self, terms, &held_keys)?;
        let mut turns = search.turns(&leased)?;
        search.look_for_misdated(&turns)?;
        selection.candidates = search.candidates(&mut turns, terms.limit, terms.free_handlers)?;
        selection.expired = search.expired;
        selection.unreadable = search.unreadable;
        selection.repairs = search.queues.repairs();
        Ok(selection)
    }

    /// Reads the delivery of a held lease. Returns `None` if it is gone or on a damaged page.
    fn held(&self, lease: &Lease) -> rusqlite::Result<Option<HeldDelivery>> {
        let values = named_params! {
            ":id": lease.id().get(), ":token": lease.token(), ":now": self.timestamp.now(),
        };
        let mut read = self.connection.prepare_cached(&self.sql.lease.read_held)?;
        let held = |row: &Row<'_>| {
            let is_expired: Option<bool> = row.get(2)?;
            let keys = ordering_keys::readable(row.get_ref(1)?);
            let expired_keys = is_expired.unwrap_or(false).then_some(keys);
            Ok(HeldDelivery { tenant: Tenant::from_value(row.get_ref(0)?), expired_keys })
        };
        let found = self.isolation.isolate(|| read.query_row(values, held).optional())?;
        Ok(found.ok().flatten())
    }

    fn tenant(&self, id: i64) -> rusqlite::Result<Option<Tenant>> {
        let mut read = self.connection.prepare_cached(&self.sql.lease.read_tenant)?;
        let tenant = |row: &Row<'_>| Ok(Tenant::from_value(row.get_ref(0)?));
        let found = self.isolation.isolate(|| read.query_row([id], tenant).optional())?;
        Ok(found.ok().flatten())
    }
}

/// The delivery of a lease whose handler the process is running.
struct HeldDelivery {
    tenant: Tenant,
    /// The ordering keys if the lease is current and has expired.
    expired_keys: Option<Vec<OrderingKey>>,
}
