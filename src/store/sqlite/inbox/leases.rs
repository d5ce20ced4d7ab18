//! What is done with leases.
//!
//! What was picked where deliveries are read is taken where they are written. Since the former saw an older state, each delivery
//! is checked again when it is taken. Its token says whether it is still the one whose head and body were read: each lease, and each
//! new request in its place, gives it another.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, named_params, types::ToSql};

use super::{
    deliveries::Deliveries,
    lines::Lines,
    picking::{Candidate, Picked},
};
use crate::inbox::{DeliveryId, Lease, Leased, RAN_OUT};

/// What became of those that were picked.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) leased: Vec<Leased>,
    /// Whether somebody else was faster.
    pub(super) missed: bool,
    /// Whether some were buried, so that those behind them may be free.
    pub(super) buried: bool,
}

impl Deliveries<'_> {
    pub(super) fn take(&self, picked: &mut Picked, time: Duration, max_attempts: u32) -> rusqlite::Result<Taken> {
        let mut taken = Taken { leased: Vec::with_capacity(picked.to_lease.len()), missed: false, buried: false };
        for (id, token) in &picked.to_bury {
            let changes = named_params! {
                ":id": id, ":token": token, ":now": self.moment.now(), ":max_attempts": max_attempts, ":reason": RAN_OUT,
            };
            taken.buried |= self.end(&self.sql.bury_run_out, *id, changes)?;
        }
        let mut lines = Lines::default();
        let mut take = self.connection.prepare_cached(&self.sql.take)?;
        for candidate in &mut picked.to_lease {
            let Candidate { id, token, ordering, .. } = &*candidate;
            let attempt = match lines.is_first(self, *id, ordering.as_deref())? {
                false => None,
                true => {
                    let changes = named_params! {
                        ":id": id, ":token": token, ":now": self.moment.now(), ":until": self.moment.after(time),
                    };
                    take.query_row(changes, |row| row.get(0)).optional()?
                }
            };
            match attempt {
                Some(attempt) => {
                    let lease = Lease::new(DeliveryId::new(*id), token + 1, attempt);
                    // Cloned, since this may be run again.
                    let leased = Leased::new(lease, candidate.head.clone(), candidate.body.clone());
                    taken.leased.push(if candidate.ran_out { leased.after_a_lease_that_ran_out() } else { leased });
                }
                None => taken.missed = true,
            }
        }
        Ok(taken)
    }

    pub(super) fn extend(&self, lease: &Lease, time: Duration) -> rusqlite::Result<bool> {
        let until = self.moment.after(time);
        self.change(
            &self.sql.extend,
            named_params! {
                ":id": lease.id().get(),
                ":token": lease.token(),
                ":until": until,
                ":now": self.moment.now(),
            },
        )
    }

    pub(super) fn finish(&self, lease: &Lease, keep: Duration) -> rusqlite::Result<bool> {
        let (id, token) = (lease.id().get(), lease.token());
        if !keep.is_zero() {
            let until = self.moment.after(keep);
            return self.end(&self.sql.keep, id, named_params! { ":id": id, ":token": token, ":until": until });
        }
        let held = self.end(&self.sql.finish, id, named_params! { ":id": id, ":token": token })?;
        if held {
            self.delete_delivery(id)?;
        }
        Ok(held)
    }

    pub(super) fn postpone(&self, lease: &Lease, pause: Duration, reason: &str) -> rusqlite::Result<bool> {
        let until = self.moment.after(pause);
        let (id, token) = (lease.id().get(), lease.token());
        let changes = named_params! { ":id": id, ":token": token, ":until": until, ":reason": reason };
        self.change(&self.sql.postpone, changes)
    }

    pub(super) fn bury(&self, lease: &Lease, reason: &str) -> rusqlite::Result<bool> {
        let (id, token) = (lease.id().get(), lease.token());
        self.end(&self.sql.bury, id, named_params! { ":id": id, ":token": token, ":reason": reason })
    }

    pub(super) fn give_back(&self, lease: &Lease) -> rusqlite::Result<bool> {
        let now = self.moment.now();
        self.change(
            &self.sql.give_back,
            named_params! { ":id": lease.id().get(), ":token": lease.token(), ":until": now },
        )
    }

    fn change(&self, sql: &str, changes: &[(&str, &dyn ToSql)]) -> rusqlite::Result<bool> {
        Ok(self.connection.prepare_cached(sql)?.execute(changes)? > 0)
    }

    /// Runs what has a delivery no longer be in line, and returns its ordering keys.
    fn end(&self, sql: &str, id: i64, changes: &[(&str, &dyn ToSql)]) -> rusqlite::Result<bool> {
        let ordering = |row: &Row<'_>| row.get::<_, Option<Vec<u8>>>(0);
        let ended = self.connection.prepare_cached(sql)?.query_row(changes, ordering).optional()?;
        let Some(ordering) = ended else { return Ok(false) };
        self.leave_line(id, ordering.as_deref())?;
        Ok(true)
    }
}
