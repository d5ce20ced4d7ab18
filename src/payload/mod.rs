//! Types for the bodies of deliveries.
//!
//! [`OrderEvent`] is the body of all three events. It requires only the fields that klikit's documentation requires: `brand_id`,
//! `branch_id` and `orders`. klikit may add fields at any time.
//!
//! - Codes such as [`OrderStatus`] accept any number. The known codes are constants.
//! - [`Money`] keeps the digits as sent.
//! - [`Order`] keeps its JSON and parses a field only when it is read. So a batch of six large orders (160 kB) takes a
//!   quarter of the time that `serde_json::Value` takes (`cargo bench --features full --bench payload`).
//! - [`TimestampedEvent`] is the envelope of deliveries with a [timestamped
//!   signature](crate::verify#timestamped-signatures).
//! - [`PayloadError`] names the field and never quotes the body.
//!
//! The id and the type of the event are in the headers: see [`Delivery`](crate::Delivery).

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
