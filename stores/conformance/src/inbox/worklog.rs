//! A log of the deliveries that concurrent workers lease.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::yield_now;
use tower_klikit::{
    dedupe::StoreError,
    inbox::{Acceptance, DeliveryId, InboxStore, LeaseRequest, Leased, NewDelivery, SettleOutcome},
};

use super::tested::{REQUEST, RETENTION, done};

/// The number of concurrent calls.
pub(super) const RIVALS: usize = 64;

/// The number of leases that a worker tries. Limited, so that a store that never returns a due delivery does not hang the test.
const MAX_TRIES: usize = 100_000;

/// A record of handled deliveries and of broken rules.
#[derive(Default)]
pub(super) struct Worklog(Mutex<Log>);

/// The contents of a [`Worklog`].
#[derive(Default)]
struct Log {
    /// The ordering keys of the leased deliveries.
    keys: HashSet<String>,
    /// The last leased delivery of each ordering key.
    last: Vec<(String, DeliveryId)>,
    handled: usize,
    wrong: Option<String>,
}

impl Worklog {
    pub(super) async fn accept<S: InboxStore>(&self, store: &S, new: &NewDelivery) -> Result<(), StoreError> {
        let answer = store.accept(new, RETENTION).await?;
        if answer != Acceptance::Accepted {
            self.log().wrong = Some(format!("accept returned {answer:?} for a new delivery"));
        }
        Ok(())
    }

    pub(super) async fn work<S: InboxStore>(&self, store: &S) -> Result<(), StoreError> {
        let request = LeaseRequest { limit: 2, duration: RETENTION, ..REQUEST };
        for _ in 0..MAX_TRIES {
            {
                let log = self.log();
                if log.handled == RIVALS || log.wrong.is_some() {
                    break;
                }
            }
            let leased = store.lease(&request).await?.leased;
            leased.iter().for_each(|leased| self.log().begin(leased));
            yield_now().await;
            for leased in &leased {
                self.log().end(leased);
                let settlement = (*leased.lease(), done(Duration::ZERO));
                let settled = store.settle(&[settlement]).await?;
                let mut log = self.log();
                if settled == [SettleOutcome::Settled] {
                    log.handled += 1;
                } else {
                    log.wrong = Some(format!("settle returned {settled:?} for the current lease {:?}", leased.lease()));
                }
            }
            // Let the acceptors run.
            yield_now().await;
        }
        Ok(())
    }

    /// Returns the number of handled deliveries, and the last broken rule.
    pub(super) fn result(&self) -> (usize, Option<String>) {
        let log = self.log();
        (log.handled, log.wrong.clone())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn begin(&mut self, leased: &Leased) {
        let id = leased.lease().id();
        for key in keys(leased) {
            if !self.keys.insert(key.clone()) {
                self.wrong = Some(format!("{id} was leased while another delivery with its ordering key was leased"));
            }
            match self.last.iter_mut().find(|(other, _)| *other == key) {
                Some((_, last)) => {
                    if *last > id {
                        self.wrong = Some(format!("{id} was leased after {last}, and they share an ordering key"));
                    }
                    *last = id;
                }
                None => self.last.push((key, id)),
            }
        }
    }

    /// Removes the delivery's keys. Call this before settling: another worker may lease the next delivery right after.
    fn end(&mut self, leased: &Leased) {
        for key in keys(leased) {
            self.keys.remove(&key);
        }
    }
}

/// Reads the ordering keys from the body.
fn keys(leased: &Leased) -> impl Iterator<Item = String> {
    let body = String::from_utf8_lossy(leased.body()).into_owned();
    body.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter()
}
