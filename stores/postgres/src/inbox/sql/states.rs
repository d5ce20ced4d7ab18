//! The states of deliveries, as they are stored.

use tower_klikit::inbox::DeliveryState;

pub(super) const READY: i16 = DeliveryState::Ready.code();
pub(super) const LEASED: i16 = DeliveryState::Leased.code();
pub(super) const DEAD: i16 = DeliveryState::Dead.code();
pub(super) const DONE: i16 = DeliveryState::Done.code();

/// The condition for a READY or LEASED delivery, in the same form as in the indexes.
pub(super) const PENDING: &str = "state < 2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_match_the_schema() {
        assert_eq!([READY, LEASED, DEAD, DONE], [0, 1, 2, 3]);
    }
}
