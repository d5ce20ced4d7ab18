//! What is in a delivery: typed, and lenient where klikit is.
//!
//! [`OrderEvent`] is the body of all three events. It requires what klikit's documentation requires, `brand_id`, `branch_id` and
//! `orders`, and nothing else: klikit adds fields as it goes.
//!
//! - Numbers that mean something, such as [`OrderStatus`], keep any number. The known names are constants.
//! - [`Money`] keeps the digits that were sent.
//! - An [`Order`] keeps its JSON and reads a field when it is asked for, so that a large batch costs little.
//! - A [`PayloadError`] names the field and never quotes the body.
//!
//! The id and the type of the event are not in the body: see [`Delivery`](crate::Delivery).

mod codes;
mod error;
mod error_place;
mod event;
mod fields;
mod from_order;
mod money;
mod number;
mod order;
mod problem;
mod timestamped;

pub use self::{
    codes::{OrderStatus, OrderType, PaymentChannel, PaymentMethod, PaymentStatus},
    error::{PayloadError, PayloadErrorKind},
    event::OrderEvent,
    from_order::FromOrder,
    money::Money,
    order::{Brand, Order},
    timestamped::TimestampedEvent,
};
