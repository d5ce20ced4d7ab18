//! Codes that klikit sends as numbers, or as numbers in text.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::integer;

/// Defines a newtype around any number, with constants for the known codes. It is also read from a number that is written as text.
macro_rules! code {
    ($(#[$doc:meta])* $name:ident { $($(#[$known_doc:meta])* $known:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(
            /// The number as klikit sends it.
            #[serde(deserialize_with = "integer::deserialize")]
            pub i64,
        );

        impl $name {
            $($(#[$known_doc])* pub const $known: Self = Self($number);)*

            /// Returns whether the code is one of the constants of this type.
            pub const fn is_known(self) -> bool {
                self.name().is_some()
            }

            const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($known)),)*
                    _ => None,
                }
            }
        }

        /// Writes the name of a known code, and the number of any other.
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
    /// The `status` of an order.
    ///
    /// The names are those of klikit's app. klikit's current page on events disagrees: it describes 5 as ready, and names `PREPARING`
    /// and `DISPATCHED` without a number. Therefore rely on numbers that you have seen in your own deliveries, and ignore unknown ones.
    OrderStatus {
        /// The order was placed.
        PLACED = 1,
        /// The restaurant accepted the order.
        ACCEPTED = 2,
        /// The order was cancelled.
        CANCELLED = 3,
        /// The order is ready for pickup.
        READY = 4,
        /// The customer has the order. klikit's page on events describes this number as ready.
        DELIVERED = 5,
        /// The order is scheduled for later.
        SCHEDULED = 6,
        /// A driver is on the way to the restaurant.
        DRIVER_ASSIGNED = 7,
        /// A driver is at the restaurant.
        DRIVER_ARRIVED = 8,
        /// The driver has the order.
        PICKED_UP = 9,
    }
}

code! {
    /// The `type` of an order: how the customer gets it. The names are those of klikit's developer documentation.
    OrderType {
        /// The customer picks the order up.
        PICKUP = 1,
        /// The order is delivered to the customer.
        DELIVERY = 2,
        /// The customer eats at the restaurant.
        DINE_IN = 3,
    }
}

code! {
    /// The `payment_status` of an order. The names are those of klikit's app.
    PaymentStatus {
        /// The order is paid.
        PAID = 1,
        /// The payment failed.
        FAILED = 2,
        /// The order is not paid yet.
        PENDING = 3,
        /// The payment was refunded.
        REFUNDED = 4,
    }
}

code! {
    /// The `payment_channel` of an order: the provider of the payment. klikit documents no names.
    PaymentChannel {}
}

code! {
    /// The `payment_method` of an order. klikit documents no names.
    PaymentMethod {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_names_of_known_codes() {
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
    fn knows_its_constants() {
        assert!(OrderStatus(9).is_known() && OrderType::PICKUP.is_known());
        assert!(!OrderStatus(10).is_known() && !PaymentChannel(8).is_known());
    }

    #[test]
    fn accepts_numbers_in_text() {
        for (json, number) in [("\"4\"", 4), ("\"-1\"", -1), ("\"0\"", 0)] {
            assert_eq!(serde_json::from_str::<OrderStatus>(json).unwrap(), OrderStatus(number));
        }
        for json in ["\"\"", "\"READY\"", "\"+4\"", "\" 4\"", "\"4.0\"", "4.0", "true", "{}", "\"9223372036854775808\""]
        {
            assert!(serde_json::from_str::<OrderStatus>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn accepts_any_number() {
        for number in [0, -1, 4, i64::MAX, i64::MIN] {
            let status: OrderStatus = serde_json::from_str(&number.to_string()).unwrap();
            assert_eq!(serde_json::to_string(&status).unwrap(), number.to_string());
        }
    }
}
