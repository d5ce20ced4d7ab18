//! What workers that race write down, so that what they got can be checked.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::yield_now;

use super::subject::{MANY_ATTEMPTS, RETENTION};
use crate::{
    dedupe::StoreError,
    inbox::{Acceptance, DeliveryId, InboxStore, Leased, NewDelivery},
};

/// How many race.
pub(super) const RIVALS: usize = 64;

/// Against stores that never give what is due.
const PATIENCE: usize = 100_000;

/// What workers have in hand.
#[derive(Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    /// The keys of what is leased.
    keys: HashSet<String>,
    /// The last of each key.
    last: Vec<(String, DeliveryId)>,
    finished: usize,
    wrong: Option<String>,
}

impl Book {
    pub(super) async fn accept<S: InboxStore>(&self, store: &S, new: &NewDelivery) -> Result<(), StoreError> {
        let answer = store.accept(new, RETENTION).await?;
        if answer != Acceptance::Accepted {
            self.pages().wrong = Some(format!("accept gave {answer:?} for what is new"));
        }
        Ok(())
    }

    pub(super) async fn work<S: InboxStore>(&self, store: &S) -> Result<(), StoreError> {
        for _ in 0..PATIENCE {
            {
                let pages = self.pages();
                if pages.finished == RIVALS || pages.wrong.is_some() {
                    break;
                }
            }
            let all = store.lease(2, RETENTION, MANY_ATTEMPTS).await?;
            all.iter().for_each(|leased| self.pages().begin(leased));
            yield_now().await;
            for leased in &all {
                self.pages().end(leased);
                let finished = store.finish(leased.lease(), Duration::ZERO).await?;
                let mut pages = self.pages();
                pages.finished += usize::from(finished);
                if !finished {
                    pages.wrong = Some(format!("finish gave false to the worker that holds {:?}", leased.lease()));
                }
            }
            // So that whoever accepts gets a turn.
            yield_now().await;
        }
        Ok(())
    }

    /// How many were finished, and what was wrong.
    pub(super) fn result(&self) -> (usize, Option<String>) {
        let pages = self.pages();
        (pages.finished, pages.wrong.clone())
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn begin(&mut self, leased: &Leased) {
        let id = leased.lease().id();
        for key in keys(leased) {
            if !self.keys.insert(key.clone()) {
                self.wrong = Some(format!("two that share an ordering key were leased at once, one of them {id}"));
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

    /// Before the store is told, since another may get the next as soon as it has heard.
    fn end(&mut self, leased: &Leased) {
        for key in keys(leased) {
            self.keys.remove(&key);
        }
    }
}

/// The body of each tells its keys.
fn keys(leased: &Leased) -> impl Iterator<Item = String> {
    let body = String::from_utf8_lossy(leased.body()).into_owned();
    body.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter()
}
