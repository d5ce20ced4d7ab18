//! The states of deliveries, as they are stored.

use tower_klikit::inbox::DeliveryState;

pub(super) const READY: i16 = DeliveryState::Ready.code();
pub(super) const LEASED: i16 = DeliveryState::Leased.code();
pub(super) const DEAD: i16 = DeliveryState::Dead.code();
pub(super) const DONE: i16 = DeliveryState::Done.code();

/// The condition that a delivery is READY or LEASED, as the indexes spell it.
pub(super) const UNFINISHED: &str = "state < 2";

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema has these numbers too.
    #[test]
    fn codes_are_those_of_the_schema() {
        assert_eq!([READY, LEASED, DEAD, DONE], [0, 1, 2, 3]);
    }
}
