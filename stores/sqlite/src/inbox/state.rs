//! The states of deliveries as they are stored.

use rusqlite::types::ValueRef;
use tower_klikit::inbox::DeliveryState;

pub(super) const READY: i16 = DeliveryState::Ready.code();
pub(super) const LEASED: i16 = DeliveryState::Leased.code();
pub(super) const DEAD: i16 = DeliveryState::Dead.code();
pub(super) const DONE: i16 = DeliveryState::Done.code();

/// Returns the state that a stored value represents. Every value represents a state, by the same conditions as in the
/// partial indexes.
pub(super) fn state_of(value: ValueRef<'_>) -> DeliveryState {
    match value {
        ValueRef::Integer(1) => DeliveryState::Leased,
        ValueRef::Integer(3) => DeliveryState::Done,
        ValueRef::Integer(..=0) | ValueRef::Null => DeliveryState::Ready,
        ValueRef::Real(number) if number < 2.0 => DeliveryState::Ready,
        // In SQLite's order, text and blobs come after all numbers.
        _ => DeliveryState::Dead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_represents_a_state() {
        for state in [DeliveryState::Ready, DeliveryState::Leased, DeliveryState::Dead, DeliveryState::Done] {
            assert_eq!(state_of(ValueRef::Integer(state.code().into())), state);
        }
        for (value, state) in [
            (ValueRef::Integer(-1), DeliveryState::Ready),
            (ValueRef::Real(1.5), DeliveryState::Ready),
            (ValueRef::Integer(4), DeliveryState::Dead),
            (ValueRef::Real(2.5), DeliveryState::Dead),
            (ValueRef::Text(b"1"), DeliveryState::Dead),
            (ValueRef::Blob(b""), DeliveryState::Dead),
        ] {
            assert_eq!(state_of(value), state, "{value:?}");
        }
    }
}
