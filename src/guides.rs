//! Guides to running a service that receives deliveries.
//!
//! | guide | covers |
//! |---|---|
//! | [Deploying](deploying) | starting, probing and stopping the process: systemd, containers, signals |
//! | [In front of it](in_front_of_it) | the server, proxies, and problems that no layer can detect |
//! | [Running several nodes](several_nodes) | Postgres, PgBouncer, Redis, rolling restarts, clocks |
//! | [Local development](local_development) | the receiver example, curl, captured deliveries, tunnels |
//! | [Testing your handler](testing) | signed requests, klikit's retries, paused clocks |
//! | [Backup and upgrade](backup_and_upgrade) | backups, restores, migrations, rolling back |
//! | [Operating](operating) | ten incidents: dead letters, a full disk, replays, a branch without orders, and others |
//! | [Security](security) | promises, signed and unsigned parts, threats |

/// Makes a module of a guide.
///
/// The links of a guide's file lead to files in the repository. The definitions here come first, so they win in
/// rustdoc.
macro_rules! guide {
    ($name:ident, $text:expr) => {
        /// [16 event ids in an hour]: crate::dedupe#replays
        /// [Backup and upgrade]: crate::guides::backup_and_upgrade
        /// [Deploying]: crate::guides::deploying
        /// [In front of it]: crate::guides::in_front_of_it
        /// [Operating]: crate::guides::operating
        /// [Running several nodes]: crate::guides::several_nodes
        /// [Security]: crate::guides::security
        /// [`ConflictPolicy::TrustEventId`]: crate::dedupe::ConflictPolicy::TrustEventId
        /// [`Delivery::is_copy`]: crate::Delivery::is_copy
        /// [`Delivery::received_at`]: crate::Delivery::received_at
        /// [`FakeKlikit::pauses`]: crate::testing::FakeKlikit::pauses
        /// [`FakeKlikit`]: crate::testing::FakeKlikit
        /// [`Identity::Body`]: crate::dedupe::Identity::Body
        /// [`Filter`]: crate::inbox::Filter
        /// [`Inbox::counts`]: crate::inbox::Inbox::counts
        /// [`Inbox::find`]: crate::inbox::Inbox::find
        /// [`Inbox::health`]: crate::inbox::Inbox::health
        /// [`Inbox::operator`]: crate::inbox::Inbox::operator
        /// [`Inbox::order_by`]: crate::inbox::Inbox::order_by
        /// [`Operator::purge`]: crate::inbox::Operator::purge
        /// [`Operator::retry`]: crate::inbox::Operator::retry
        /// [`Inbox::scope`]: crate::inbox::Inbox::scope
        /// [`Inbox::show`]: crate::inbox::Inbox::show
        /// [`Inbox`]: crate::inbox::Inbox
        /// [`Keyring`]: crate::Keyring
        /// [`KlikitDedupeLayer`]: crate::dedupe::KlikitDedupeLayer
        /// [`KlikitVerifyLayer`]: crate::KlikitVerifyLayer
        /// [`KlikitVerifyLayer::from_env`]: crate::KlikitVerifyLayer::from_env
        /// [`MemoryStore`]: crate::store::MemoryStore
        /// [`RejectionLog`]: crate::RejectionLog
        /// [`SignedDelivery::curl`]: crate::testing::SignedDelivery::curl
        /// [`SignedDelivery::to_delivery`]: crate::testing::SignedDelivery::to_delivery
        /// [`SignedDelivery`]: crate::testing::SignedDelivery
        /// [`Worker::backoff`]: crate::inbox::Worker::backoff
        /// [`Worker::drain_deadline`]: crate::inbox::Worker::drain_deadline
        /// [`Worker::metrics_interval`]: crate::inbox::Worker::metrics_interval
        /// [`accept_timestamped`]: crate::KlikitVerifyLayer::accept_timestamped
        /// [`allow_missing_event_id`]: crate::KlikitVerifyLayer::allow_missing_event_id
        /// [`body_deadline`]: crate::KlikitVerifyLayer::body_deadline
        /// [`body_limit`]: crate::KlikitVerifyLayer::body_limit
        /// [`buffer_budget`]: crate::KlikitVerifyLayer::buffer_budget
        /// [`diagnose`]: mod@crate::diagnose
        /// [`explain_mismatches`]: crate::KlikitVerifyLayer::explain_mismatches
        /// [`expire_after`]: crate::inbox::Worker::expire_after
        /// [`keep_bodies`]: crate::inbox::Inbox::keep_bodies
        /// [`keep_dead_letters`]: crate::inbox::Inbox::keep_dead_letters
        /// [`keep_history`]: crate::inbox::Inbox::keep_history
        /// [`klikit_inbox_oldest_seconds`]: crate::metrics::INBOX_OLDEST
        /// [`max_stored`]: crate::inbox::Inbox::max_stored
        /// [`metrics`]: mod@crate::metrics
        /// [`orders`]: crate::testing::orders
        /// [`preflight`]: mod@crate::preflight
        /// [`replay_limit`]: crate::dedupe::KlikitDedupeLayer::replay_limit
        /// [`require_basic_auth`]: crate::KlikitVerifyLayer::require_basic_auth
        /// [accepted]: crate::KlikitVerifyLayer::accept_timestamped
        /// [leases]: crate::inbox::Worker::lease
        /// [limit on replays]: crate::dedupe#replays
        /// [live]: crate::inbox::Health::is_live
        /// [polls]: crate::inbox::Worker::poll_interval
        /// [ready]: crate::inbox::Health::is_ready
        /// [table of symptoms]: crate::diagnose#troubleshooting
        /// [timestamped signature]: crate::verify#timestamped-signatures
        /// [timestamped signatures]: crate::verify#timestamped-signatures
        ///
        #[doc = $text]
        pub mod $name {}
    };
}

/// Makes a module of a guide whose examples need the stores. The package `tower-klikit-examples` runs them.
macro_rules! guide_with_stores {
    ($name:ident, $text:expr) => {
        #[cfg(not(doctest))]
        guide!($name, $text);
        #[cfg(doctest)]
        pub mod $name {}
    };
}

guide_with_stores!(deploying, include_str!("../docs/deploying.md"));
guide!(in_front_of_it, include_str!("../docs/in-front-of-it.md"));
guide_with_stores!(several_nodes, include_str!("../docs/several-nodes.md"));
guide!(local_development, include_str!("../docs/local-development.md"));
guide!(testing, include_str!("../docs/testing.md"));
guide_with_stores!(backup_and_upgrade, include_str!("../docs/backup-and-upgrade.md"));
guide!(operating, include_str!("../docs/operating.md"));
guide!(security, include_str!("../docs/security.md"));
