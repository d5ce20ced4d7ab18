//! A log of the last rejections, in memory, for operators.

mod draft;
mod entry;
mod log;

pub(crate) use self::draft::{Draft, RejectedRequest};
pub use self::{entry::LoggedRejection, log::RejectionLog};
