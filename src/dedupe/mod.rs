//! Handled before?

mod ledger;

pub(crate) use self::ledger::DynLedger;
pub use self::ledger::{BodyDigest, Claim, ClaimOutcome, EventKey, Ledger, LedgerError, Token};
