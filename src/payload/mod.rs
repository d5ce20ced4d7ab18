//! Types for the bodies of deliveries.
//!
//! [`OrderEvent`] is the body of all three events. It requires only the fields that klikit's documentation requires: `brand_id`,
//! `branch_id` and `orders`. klikit may add fields at any time.
//!
//! - Integers may be written as text: `"2"` is 2. An [`OrderId`] may be any text.
//! - Codes such as [`OrderStatus`] accept any number. The known codes are constants.
//! - [`Money`] and [`Quantity`] keep the digits as sent.
//! - [`Order`] keeps its JSON and parses a field only when it is read. So a batch of six large orders (160 kB) takes a
//!   quarter of the time that `serde_json::Value` takes (`cargo bench --features full --bench payload`). Each method
//!   such as [`Order::id`] returns `None` if the field cannot be read. [`Order::require`] returns an error that says why.
//! - [`TimestampedEvent`] is the envelope of deliveries with a [timestamped
//!   signature](crate::verify#timestamped-signatures).
//! - [`PayloadError`] names the field and never quotes the body. It converts into a
//!   [`FailureReason`](crate::FailureReason).
//!
//! The id and the type of the event are in the headers: see [`Delivery`](crate::Delivery).

mod codes;
mod error;
mod error_place;
mod event;
mod fields;
mod from_order;
mod integer;
mod money;
mod number;
mod order;
mod order_id;
mod order_result;
mod problem;
mod quantity;
mod sent_decimal;
mod timestamped;

pub use self::{
    codes::{OrderStatus, OrderType, PaymentChannel, PaymentMethod, PaymentStatus},
    error::{PayloadError, PayloadErrorKind},
    event::OrderEvent,
    from_order::FromOrder,
    money::Money,
    order::{Brand, Order},
    order_id::OrderId,
    order_result::OrderResult,
    quantity::Quantity,
    timestamped::TimestampedEvent,
};
