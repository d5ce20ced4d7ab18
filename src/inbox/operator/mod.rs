//! The actions of operators on stored deliveries.

mod action;
mod actor;
mod forget;
#[allow(clippy::module_inception, reason = "the file is named after the type that it holds")]
mod operator;
mod requeue;

pub use self::{action::Action, forget::Forget, operator::Operator, requeue::Requeue};
