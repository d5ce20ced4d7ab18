//! The server and the command line that all examples share. Also runs the examples of the README, and of the guides that
//! need stores, as doctests.

pub mod serve;
pub mod setup;

/// The README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// The guide "Deploying".
#[cfg(doctest)]
#[doc = include_str!("../../docs/deploying.md")]
pub struct Deploying;

/// The guide "Running several nodes".
#[cfg(doctest)]
#[doc = include_str!("../../docs/several-nodes.md")]
pub struct SeveralNodes;

/// The guide "Backup and upgrade".
#[cfg(doctest)]
#[doc = include_str!("../../docs/backup-and-upgrade.md")]
pub struct BackupAndUpgrade;
