//! Tests of the layers and the inbox through the public API.

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod budget;
mod dedupe;
mod extractors;
mod inbox;
mod memory_store;
mod payload;
mod preflight;
mod properties;
mod reactions;
mod readiness;
mod rejection_log;
mod rejections;
mod replays;
mod stacks;
mod test_kit;
mod timestamped;
