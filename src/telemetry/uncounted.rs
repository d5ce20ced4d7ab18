//! A replacement for the module `metrics` without the feature `metrics`: it counts nothing.
#![cfg_attr(not(feature = "inbox"), allow(dead_code, reason = "the inbox uses all of it"))]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;

use crate::keyring::{Keyring, Signer};

pub(super) fn start_counters(_: &Keyring, _mismatch: &'static str) {}

pub(super) fn verified(_: &Signer, _bytes: usize, _received_at: SystemTime) {}

pub(super) fn rejected(_reason: &'static str, _tenant: Option<&Arc<str>>) {}

pub(super) fn abandoned(_tenant: Option<&Arc<str>>) {}

pub(super) fn answered(_: Option<StatusCode>, _elapsed: Duration) {}

pub(super) fn not_answered(_elapsed: Duration) {}

pub(super) fn buffered(_bytes: usize) {}

pub(super) fn released(_bytes: usize) {}

pub(super) fn duplicate(_tenant: &str) {}

pub(super) fn conflict(_tenant: &str) {}

pub(super) fn replay(_tenant: &str) {}

pub(super) fn start_worker_counters(_outcomes: &[&'static str]) {}

pub(super) fn handled(_caller: &'static str, _elapsed: Duration) {}

pub(super) fn attempt_ended(_outcome: &'static str) {}

pub(super) fn dead_letter(_tenant: Option<&str>) {}

pub(super) fn expired(_tenant: Option<&str>) {}

pub(super) fn lease_lost() {}

pub(super) fn stored_ratio(_ratio: f64) {}

pub(super) fn dead_letters_expired(_deliveries: u64) {}
