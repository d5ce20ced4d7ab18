//! The statements that lease and read deliveries.

mod ordered;
mod search;
mod statement;

pub(crate) use self::statement::CONTENT_MISSING;
