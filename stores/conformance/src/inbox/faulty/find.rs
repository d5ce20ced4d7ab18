//! Faults of finding, dead-lettering and forgetting deliveries by hand.

use std::time::{Duration, SystemTime};

use tower_klikit::inbox::{DeliveryId, DeliveryState, Entry, Filter, LedgerRows, Page, SearchTerm};

use super::FaultyStore;
use crate::inbox::{faulty::faults::InboxFault::*, state::ReferenceInbox};

const ALL: [DeliveryState; 4] = [DeliveryState::Ready, DeliveryState::Leased, DeliveryState::Dead, DeliveryState::Done];

impl FaultyStore {
    pub(super) fn page(&self, state: &ReferenceInbox, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Page {
        let mut filter = filter.clone();
        match self.fault {
            FilterIgnoresStates => filter.states = None,
            FilterTakesOneState => filter.states.iter_mut().for_each(|states| states.truncate(1)),
            FilterIgnoresTheTenant => filter.tenant = None,
            FilterIgnoresTheEventId => filter.event_id = None,
            FilterIgnoresTheBody => filter.body = None,
            FilterIgnoresTheId => filter.id = None,
            FilterIgnoresTheOrder => filter.order = None,
            FilterIgnoresTheBranch => filter.branch = None,
            FilterTakesOneTerm => filter.branch = filter.branch.filter(|_| filter.order.is_none()),
            FilterIgnoresTheEventType => filter.event_type = None,
            FilterIgnoresTheReason => filter.reason = None,
            FilterIgnoresTheAttempts => filter.attempts = None,
            FilterIgnoresTheLeastAge => filter.min_age = None,
            FilterIgnoresTheLargestAge => filter.max_age = None,
            AttemptsExcludeTheEnd => {
                filter.attempts = filter.attempts.map(|range| *range.start()..=range.end().saturating_sub(1));
            }
            FilterIgnoresTheStart => {
                filter.accepted.iter_mut().for_each(|window| window.start = SystemTime::UNIX_EPOCH);
            }
            FilterIgnoresTheEnd => {
                filter.accepted.iter_mut().for_each(|window| window.end += super::DAY);
            }
            _ => {}
        }
        let after = match self.fault {
            IdIgnoresTheStart if filter.id.is_some() => None,
            PagesOverlap => after.map(|after| DeliveryId::new(after.get().saturating_sub(1))),
            _ => after,
        };
        let limit_or_none = if self.fault == PagesHaveNoEnd { u32::MAX } else { limit };
        let mut page = state.find_where(after, limit_or_none, |entry| self.selects(&filter, entry));
        match self.fault {
            NewestComeFirst => {
                page.entries = state.find(&filter, after, u32::MAX).entries;
                page.entries.reverse();
                page.entries.truncate(limit as usize);
            }
            PagesHaveBodies => {
                for entry in &mut page.entries {
                    entry.body = Some(state.deliveries[&entry.id.get()].request.body().clone());
                }
            }
            PagesHaveRecords => {
                for entry in &mut page.entries {
                    entry.history = state.attempts(&state.deliveries[&entry.id.get()]);
                }
            }
            BodiesAreNotAnnounced => page.entries.iter_mut().for_each(|entry| entry.has_body = false),
            PagesHaveNoTerms => page.entries.iter_mut().for_each(|entry| entry.terms.clear()),
            PagesHaveNoAges => page.entries.iter_mut().for_each(|entry| entry.age = Duration::ZERO),
            FirstPageOfTermsIsTheLast if filter.order.is_some() || filter.branch.is_some() => page.next = None,
            FirstPageOfTheDeadIsTheLast if filter.states.as_deref() == Some(&[DeliveryState::Dead]) => {
                page.next = None;
            }
            FirstPageIsTheLast => page.next = None,
            NextPageSkipsOne => {
                page.next = page.next.map(|next| DeliveryId::new(next.get() + 1));
            }
            NoDigestIsShown => page.entries.iter_mut().for_each(|entry| entry.digest = None),
            _ => {}
        }
        page
    }

    /// Handles the faults in comparing one part of a filter.
    fn selects(&self, filter: &Filter, entry: &Entry) -> bool {
        let (mut filter, reason) = (filter.clone(), entry.reason.as_deref().unwrap_or_default());
        let part = filter.reason.clone().unwrap_or_default();
        match self.fault {
            ReasonsIgnoreTheCase if reason.to_lowercase().contains(&part.to_lowercase()) => filter.reason = None,
            ReasonsArePatterns if !reason.is_empty() && ["%", "_"].contains(&&*part) => filter.reason = None,
            ReasonsAreCompared => return filter.matches(entry) && (part.is_empty() || part == reason),
            TermsAreBeginnings => {
                let begins = |term: &SearchTerm| entry.terms.iter().any(|t| t.as_str().starts_with(term.as_str()));
                filter.order = filter.order.filter(|order| !begins(order));
            }
            TermsIgnoreTheKind => {
                let id = |term: &SearchTerm| term.as_str().split(':').nth(1).map(str::to_owned);
                let has = |wanted: &SearchTerm| entry.terms.iter().any(|term| id(term) == id(wanted));
                filter.order = filter.order.filter(|order| !has(order));
            }
            _ => {}
        }
        filter.matches(entry)
    }

    pub(super) fn dead_lettered(
        &self,
        state: &mut ReferenceInbox,
        ids: &[i64],
        states: &[DeliveryState],
        reason: &str,
    ) -> u64 {
        match self.fault {
            DeadLettersAnyState => state.dead_letter(ids, &ALL, reason),
            DoneAreDeadLettered => {
                let is_done = |id: &&i64| state.deliveries.get(id).is_some_and(|d| d.is(DeliveryState::Done));
                let done: Vec<i64> = ids.iter().filter(is_done).copied().collect();
                for id in done {
                    let delivery = state.deliveries.get_mut(&id).expect("it is there");
                    delivery.state = DeliveryState::Dead;
                }
                state.dead_letter(ids, states, reason)
            }
            DeadLettersOnlyTheFirst => state.dead_letter(&ids[..ids.len().min(1)], states, reason),
            DeadLetterByHandHasNoReason => state.dead_letter(ids, states, ""),
            DeadLetterByHandFencesTheLease => {
                let dead_lettered = state.dead_letter(ids, states, reason);
                for id in ids {
                    state.deliveries.get_mut(id).into_iter().for_each(|delivery| delivery.token += 1);
                }
                dead_lettered
            }
            DeadLetterByHandDeletesTheRow => {
                let dead_lettered = state.dead_letter(ids, states, reason);
                for id in ids {
                    if let Some(delivery) = state.deliveries.get(id) {
                        state.ledger.0.remove(&delivery.key());
                    }
                }
                dead_lettered
            }
            _ => state.dead_letter(ids, states, reason),
        }
    }

    pub(super) fn deleted(
        &self,
        state: &mut ReferenceInbox,
        ids: &[i64],
        states: &[DeliveryState],
        ledger: LedgerRows,
    ) -> u64 {
        match self.fault {
            ForgetsAnyState => state.delete(ids, &ALL, ledger),
            ForgetsNothingPending => {
                let is_finished = |state: &DeliveryState| matches!(state, DeliveryState::Dead | DeliveryState::Done);
                let finished: Vec<_> = states.iter().copied().filter(is_finished).collect();
                state.delete(ids, &finished, ledger)
            }
            DeletingAlwaysDeletesTheRows => state.delete(ids, states, LedgerRows::Delete),
            KeptRowsKeepTheQueue if ledger == LedgerRows::Keep => {
                let is_ordered = |id: &&i64| {
                    state.deliveries.get(id).is_some_and(|delivery| !delivery.request.ordering_keys().is_empty())
                };
                let (ordered, others): (Vec<i64>, Vec<i64>) = ids.iter().partition(is_ordered);
                let is_named = |id: &&i64| states.contains(&state.deliveries[id].state);
                let kept = ordered.iter().filter(is_named).count() as u64;
                kept + state.delete(&others, states, ledger)
            }
            KeptRowsKeepTheDelivery if ledger == LedgerRows::Keep => state.dead_letter(ids, states, "deleted"),
            ForgetsOnlyTheFirst => state.delete(&ids[..ids.len().min(1)], states, ledger),
            ForgottenAreStillKnown => state.delete(ids, states, LedgerRows::Keep),
            ForgettingFindsDeliveriesTwice => {
                let forgotten = state.delete(ids, states, ledger);
                forgotten.max(if forgotten > 0 { ids.len() as u64 } else { 0 })
            }
            _ => state.delete(ids, states, ledger),
        }
    }
}
