//! Tests that genuine deliveries are accepted while attackers without the secret try to use up the server's memory. The server
//! uses all defaults.
//!
//! Each test runs a server, an attacker, and a sender of genuine deliveries in separate processes on loopback. The tests do not
//! measure times, but nothing may hang.
//!
//! Run `cargo test --release --test attacks`, because attackers are slower without optimisation. If `KLIKIT_ATTACKS` is set,
//! the tests print a table for each attack: the accepted deliveries and their latencies, before and during the attack. If it
//! is `full`, each attack lasts 30 seconds. `-- --include-ignored` runs all variants.
#![cfg(target_os = "linux")]

mod attackers;
mod child;
mod connection;
mod frames;
mod http1;
mod http2;
mod memory;
mod report;
mod sender;
mod server;
mod shapes;
mod trial;

use std::time::Duration;

use crate::{
    attackers::{Attack, Tally},
    http1::{Framing, Uploads},
    http2::Streams,
    trial::Trial,
};

const MIB: usize = 1024 * 1024;

/// Longer than the layer's deadline for bodies.
const PAST_THE_DEADLINE: Duration = Duration::from_secs(12);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn attack_with_streams(name: &str, streams: Streams) {
    Trial { name, attack: Attack::Http2(streams), min_slow_percent: 99 }.run();
}

/// The server evicts no stream that is younger than a second, so each is reset just before that.
#[test]
fn streams_reset_within_a_second() {
    let attack = Streams { connections: 22, streams: 200, bytes: 1, hold: ms(950), drip: None, max_rate: 11_000 };
    attack_with_streams("1. 4,400 streams of 1 byte, reset after 0.95 s", attack);
}

#[test]
fn streams_reset_as_fast_as_possible() {
    // A server without optimisation accepts fewer streams.
    let (hold, max_rate) = if cfg!(debug_assertions) { (ms(800), 10_000) } else { (ms(260), 55_000) };
    let attack = Streams { connections: 30, streams: 200, bytes: 1, hold, drip: None, max_rate };
    attack_with_streams("2. 6,000 streams of 1 byte, reset soon", attack);
}

fn attack_with_held_connections(name: &str, bytes: usize, framing: Framing) {
    let uploads = Uploads { connections: 5_000, bytes, framing, hold: ms(980), max_rate: 5_000 };
    Trial { name, attack: Attack::Http1(uploads), min_slow_percent: 99 }.run();
}

#[test]
fn connections_held_after_one_byte() {
    attack_with_held_connections("3. 5,000 connections with 1 byte of 1 MB", 1, Framing::Length(1_000_000));
}

/// Uploads of 1 MiB that end one byte short.
struct UnfinishedUploads {
    hold: Duration,
    max_rate: u32,
    min_slow_percent: usize,
}

impl UnfinishedUploads {
    /// Runs the attack. Asserts that at most 1 % of the rejected senders could not read their 503.
    fn run(self, name: &str) {
        let Self { hold, max_rate, min_slow_percent } = self;
        let framing = Framing::Length(MIB);
        let uploads = Uploads { connections: 256, bytes: MIB - 1, framing, hold, max_rate };
        let tally = Trial { name, attack: Attack::Http1(uploads), min_slow_percent }.run();
        let Tally { overloaded, broken, cut_off, .. } = tally;
        let failed = broken + cut_off;
        assert!(failed * 100 <= failed + overloaded, "{failed} senders could not write, {overloaded} read a 503");
    }
}

#[test]
fn uploads_one_byte_short_at_full_speed() {
    let uploads = UnfinishedUploads { hold: ms(20), max_rate: 100_000, min_slow_percent: 95 };
    uploads.run("4. 256 uploads one byte short of 1 MiB");
}

#[test]
fn uploads_one_byte_short_at_a_limited_rate() {
    let uploads = UnfinishedUploads { hold: ms(150), max_rate: 1_600, min_slow_percent: 99 };
    uploads.run("4. 256 uploads one byte short of 1 MiB, 1,600 a second");
}

/// Further attacks on the budget, which take minutes and do not run by default.
mod variants {
    use super::*;

    #[test]
    #[ignore = "takes minutes"]
    fn connections_held_within_a_chunk() {
        attack_with_held_connections("5,000 connections with 1 byte of a chunk", 1, Framing::Chunked);
    }

    #[test]
    #[ignore = "takes minutes"]
    fn connections_held_after_4_kb() {
        attack_with_held_connections("5,000 connections with 4 kB of 1 MB", 4_000, Framing::Length(1_000_000));
    }

    #[test]
    #[ignore = "takes minutes"]
    fn uploads_held_one_byte_short() {
        let uploads = UnfinishedUploads { hold: ms(950), max_rate: 100_000, min_slow_percent: 95 };
        uploads.run("256 uploads one byte short of 1 MiB, held for 0.95 s");
    }

    #[test]
    #[ignore = "takes minutes"]
    fn stalled_streams_of_4_kb() {
        let (hold, drip) = (PAST_THE_DEADLINE, None);
        let attack = Streams { connections: 85, streams: 200, bytes: 4_000, hold, drip, max_rate: 8_000 };
        attack_with_streams("17,000 streams of 4 kB, stalled", attack);
    }

    #[test]
    #[ignore = "takes minutes"]
    fn stalled_streams_of_1_byte() {
        let (hold, drip) = (PAST_THE_DEADLINE, None);
        let attack = Streams { connections: 350, streams: 200, bytes: 1, hold, drip, max_rate: 15_000 };
        attack_with_streams("70,000 streams of 1 byte, stalled", attack);
    }

    #[test]
    #[ignore = "takes minutes"]
    fn streams_reset_while_the_budget_is_full() {
        let attack =
            Streams { connections: 375, streams: 200, bytes: 1, hold: ms(3_200), drip: None, max_rate: 24_000 };
        attack_with_streams("75,000 streams of 1 byte, reset after 3.2 s", attack);
    }

    #[test]
    #[ignore = "takes minutes"]
    fn stalled_streams_of_160_kb() {
        let (hold, drip) = (PAST_THE_DEADLINE, None);
        let attack = Streams { connections: 80, streams: 5, bytes: 160_000, hold, drip, max_rate: 400 };
        attack_with_streams("400 streams of 160 kB, stalled", attack);
    }

    #[test]
    #[ignore = "takes minutes"]
    fn dripping_streams_of_1_byte() {
        let (hold, drip) = (PAST_THE_DEADLINE, Some(ms(100)));
        let attack = Streams { connections: 22, streams: 200, bytes: 1, hold, drip, max_rate: 4_400 };
        attack_with_streams("4,400 streams, dripping a byte every 100 ms", attack);
    }

    #[test]
    #[ignore = "takes minutes"]
    fn dripping_streams_of_33_kb() {
        let (hold, drip) = (PAST_THE_DEADLINE, Some(ms(100)));
        let attack = Streams { connections: 22, streams: 50, bytes: 33_000, hold, drip, max_rate: 1_100 };
        attack_with_streams("1,100 streams of 33 kB, dripping a byte every 100 ms", attack);
    }
}
