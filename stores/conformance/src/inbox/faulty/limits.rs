//! Faults of counting, evicting and purging what is stored.

use std::time::Duration;

use tower_klikit::inbox::DeliveryState;

use super::FaultyStore;
use crate::inbox::{faulty::faults::InboxFault::*, state::ReferenceInbox};

impl FaultyStore {
    pub(super) fn stored_of(&self, state: &ReferenceInbox, limit: u64) -> u64 {
        let [ready, leased, dead, done] = state.counts();
        let over = state.deliveries.keys().filter(|id| state.is_over(**id)).count() as u64;
        let all = ready + leased + dead + done;
        match self.fault {
            StoredHasNoLimit => all,
            StoredLeavesOutTheLeased => limit.min(all - leased),
            StoredLeavesOutTheDead => limit.min(all - dead),
            StoredLeavesOutTheDone => limit.min(all - done),
            StoredLeavesOutThePurgeable => limit.min(all - over),
            _ => limit.min(all),
        }
    }

    pub(super) fn evicted(&self, state: &mut ReferenceInbox, limit: u32) -> u64 {
        let mut kept = state.kept();
        match self.fault {
            EvictsOnlyThePurgeable => kept.retain(|id| state.is_over(*id)),
            NeverEvictsThePurgeable => kept.retain(|id| !state.is_over(*id)),
            EvictionSparesTheHistory => kept.retain(|id| state.deliveries[id].has_body),
            EvictsTheDead => kept.extend(state.dead()),
            EvictsInOrderOfAcceptance => kept.sort_unstable(),
            EvictsTheLatestFirst => kept.reverse(),
            _ => {}
        }
        if self.fault != EvictionIgnoresItsLimit {
            kept.truncate(limit as usize);
        }
        match self.fault {
            EvictionDeletesTheRow => self.forget_keys(state, &kept),
            EvictionDeadLetters => {
                for id in &kept {
                    state.deliveries.get_mut(id).expect("the delivery is kept").state = DeliveryState::Dead;
                }
                return kept.len() as u64;
            }
            _ => {}
        }
        state.remove(&kept)
    }

    pub(super) fn purged_dead(&self, state: &mut ReferenceInbox, age: Duration, limit: u32) -> u64 {
        let mut old = state.old_dead(age);
        match self.fault {
            PurgeOfDeadIgnoresTheAge => old = state.dead(),
            PurgeOfDeadGoesByTheLastLease => old.retain(|id| state.deliveries[id].due + age <= state.now),
            PurgeOfDeadTakesTheDone => old.extend(state.kept()),
            NewestDeadArePurgedFirst => old.reverse(),
            _ => {}
        }
        if self.fault != PurgeOfDeadIgnoresItsLimit {
            old.truncate(limit as usize);
        }
        if self.fault == PurgeOfDeadDeletesTheRow {
            self.forget_keys(state, &old);
        }
        state.remove(&old)
    }

    fn forget_keys(&self, state: &mut ReferenceInbox, ids: &[i64]) {
        for id in ids {
            let key = state.deliveries[id].key();
            state.ledger.0.remove(&key);
        }
    }
}
