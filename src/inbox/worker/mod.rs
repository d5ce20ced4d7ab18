//! The worker, which leases stored deliveries and calls the handler with them.

mod attempt;
mod backoff;
mod expiry;
mod extension;
mod misrouted;
mod name;
mod outcome;
mod preflight;
mod queue;
mod run;
mod running;
mod settings;
#[allow(clippy::module_inception, reason = "the file is named after the type that it holds")]
mod worker;

use std::error::Error;

pub(super) use self::running::RunningDeliveries;
pub use self::{attempt::Attempt, expiry::Expired, outcome::Outcome, worker::Worker};

type HandlerError = Box<dyn Error + Send + Sync>;
