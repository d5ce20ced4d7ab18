//! Numbers that mean something.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A newtype around any number, with the names that are known.
macro_rules! code {
    ($(#[$doc:meta])* $name:ident { $($(#[$known_doc:meta])* $known:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(
            /// The number as klikit sends it.
            pub i64,
        );

        impl $name {
            $($(#[$known_doc])* pub const $known: Self = Self($number);)*

            /// The name, if the number has one that is known.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($known)),)*
                    _ => None,
                }
            }
        }

        /// The name, or the number where none is known.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => fmt::Display::fmt(&self.0, f),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => write!(f, concat!(stringify!($name), "({}: {})"), self.0, name),
                    None => write!(f, concat!(stringify!($name), "({})"), self.0),
                }
            }
        }

        impl From<i64> for $name {
            fn from(number: i64) -> Self {
                Self(number)
            }
        }
    };
}

code! {
    /// Where an order stands: its `status`.
    ///
    /// The names are those of klikit's app. Its current page on events disagrees: it comments 5 as ready, and names `PREPARING` and
    /// `DISPATCHED`, for which no number is known. So decide by numbers that you have seen in your own deliveries, and let those
    /// pass that you do not know.
    OrderStatus {
        /// The order was placed.
        PLACED = 1,
        /// The restaurant has taken it.
        ACCEPTED = 2,
        /// It will not be made.
        CANCELLED = 3,
        /// It waits to be picked up.
        READY = 4,
        /// The customer has it. klikit's page on events comments this number as ready.
        DELIVERED = 5,
        /// It is for later.
        SCHEDULED = 6,
        /// A driver is on the way to the restaurant.
        DRIVER_ASSIGNED = 7,
        /// A driver is at the restaurant.
        DRIVER_ARRIVED = 8,
        /// The driver has it.
        PICKED_UP = 9,
    }
}

code! {
    /// How the customer gets the order: its `type`. The names are those of klikit's developer documentation.
    OrderType {
        /// The customer comes for it.
        PICKUP = 1,
        /// It is brought.
        DELIVERY = 2,
        /// It is eaten there.
        DINE_IN = 3,
    }
}

code! {
    /// Whether the order is paid: its `payment_status`. The names are those of klikit's app.
    PaymentStatus {
        /// It is paid.
        PAID = 1,
        /// The payment failed.
        FAILED = 2,
        /// It is not paid yet.
        PENDING = 3,
        /// The money went back.
        REFUNDED = 4,
    }
}

code! {
    /// Through whom the order is paid: its `payment_channel`. klikit documents no names.
    PaymentChannel {}
}

code! {
    /// By what the order is paid: its `payment_method`. klikit documents no names.
    PaymentMethod {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_codes_show_their_names_and_others_their_numbers() {
        assert_eq!(OrderStatus(4), OrderStatus::READY);
        assert_eq!(OrderStatus(4).to_string(), "READY");
        assert_eq!(OrderStatus(99).to_string(), "99");
        assert_eq!(format!("{:>4}", OrderType(-7)), "  -7");
        assert_eq!(
            format!("{:?} {:?}", PaymentStatus(1), PaymentChannel(8)),
            "PaymentStatus(1: PAID) PaymentChannel(8)"
        );
    }

    #[test]
    fn any_number_passes_through() {
        for number in [0, -1, 4, i64::MAX, i64::MIN] {
            let status: OrderStatus = serde_json::from_str(&number.to_string()).unwrap();
            assert_eq!(serde_json::to_string(&status).unwrap(), number.to_string());
        }
    }
}
