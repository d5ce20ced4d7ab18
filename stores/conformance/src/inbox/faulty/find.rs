//! Faults of finding, dead-lettering and forgetting deliveries by hand.

use std::time::SystemTime;

use tower_klikit::inbox::{DeliveryId, DeliveryState, Filter, Page};

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
            FilterIgnoresTheStart => {
                filter.accepted.iter_mut().for_each(|window| window.start = SystemTime::UNIX_EPOCH);
            }
            FilterIgnoresTheEnd => {
                filter.accepted.iter_mut().for_each(|window| window.end += super::DAY);
            }
            _ => {}
        }
        let after = match self.fault {
            PagesOverlap => after.map(|after| DeliveryId::new(after.get().saturating_sub(1))),
            _ => after,
        };
        let mut page = state.find(&filter, after, if self.fault == PagesHaveNoEnd { u32::MAX } else { limit });
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
            FirstPageIsTheLast => page.next = None,
            NextPageSkipsOne => {
                page.next = page.next.map(|next| DeliveryId::new(next.get() + 1));
            }
            NoDigestIsShown => page.entries.iter_mut().for_each(|entry| entry.digest = None),
            _ => {}
        }
        page
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

    pub(super) fn forgotten_deliveries(
        &self,
        state: &mut ReferenceInbox,
        ids: &[i64],
        states: &[DeliveryState],
    ) -> u64 {
        match self.fault {
            ForgetsAnyState => state.forget_deliveries(ids, &ALL),
            ForgetsNothingPending => {
                let is_finished = |state: &DeliveryState| matches!(state, DeliveryState::Dead | DeliveryState::Done);
                let finished: Vec<_> = states.iter().copied().filter(is_finished).collect();
                state.forget_deliveries(ids, &finished)
            }
            ForgetsOnlyTheFirst => state.forget_deliveries(&ids[..ids.len().min(1)], states),
            ForgottenAreStillKnown => {
                let ledger = state.ledger.clone();
                let forgotten = state.forget_deliveries(ids, states);
                state.ledger = ledger;
                forgotten
            }
            ForgettingFindsDeliveriesTwice => {
                let forgotten = state.forget_deliveries(ids, states);
                forgotten.max(if forgotten > 0 { ids.len() as u64 } else { 0 })
            }
            _ => state.forget_deliveries(ids, states),
        }
    }
}
