//! The tables, and the migrations that create and change them.

mod inbox;
mod ledger;
mod migrate;
mod migration;
#[cfg(test)]
mod tests;

pub(crate) use self::migrate::{Schema, SchemaFailure};
pub use self::migration::Migration;
