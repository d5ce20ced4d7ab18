//! Tests of `RedisStore` on real servers.

mod claims;
mod faults;
mod forget;
mod layer;
mod ledger_suite;
mod loading;
mod proxy;
mod startup;
mod support;
mod tls;

use tower_klikit_test_support::{log, servers};
