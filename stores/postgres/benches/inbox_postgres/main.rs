//! A benchmark of the inbox on `PostgresStore`, compared with a textbook queue and with Graphile Worker.
//!
//! There are one server with its default durability, 64 clients, 10 connections for each queue, distinct bodies of 8 kB that
//! do not compress, and two processors for everything. Every request goes through the verify layer. The cases run one after
//! another, each in its own database. The figures are medians of three rounds, with the disk's own fsync and with an fsync
//! that is slower by a millisecond.
//!
//! `cargo bench -p tower-klikit-postgres --bench inbox_postgres`. Arguments after `--` select groups of cases:
//! `accept`, `handle`, `life` and `snapshot`. These environment variables change what runs:
//!
//! - `KLIKIT_BENCH_SLOW_FSYNC_US`, by default `0 1000`: the microseconds that are added to fsync in each run.
//! - `KLIKIT_BENCH_ROUNDS`, by default 3: the number of rounds.
//! - `KLIKIT_BENCH_SNAPSHOT_SECONDS`, by default 30: the time for which the old snapshot is held, in the run without a slower
//!   fsync.
//!
//! The benchmark needs Postgres, a C compiler for the library that slows fsync down, and a system that can preload libraries.
//! Graphile Worker's cases need Node and `npm ci --prefix stores/postgres/tests/graphile`.
#![allow(missing_docs)]

mod deliveries;
mod figures;
mod graphile;
mod ours;
mod server;
mod slow;
mod snapshot;
mod textbook;

use std::{env, path::Path};

use figures::Report;
use graphile::Graphile;
use ours::Node;
use server::Server;
use textbook::{Statements, Textbook};
use tower_klikit::inbox::OrderBy;

/// The number of deliveries that each case accepts and handles.
const DELIVERIES: usize = 125 * deliveries::CLIENTS;

/// The number of Graphile Worker's jobs. Smaller, because `add_job` is slow.
const JOBS: usize = 25 * deliveries::CLIENTS;

const ACCEPT_TEXTBOOK: &str = "accept: textbook";
const ACCEPT_OURS: &str = "accept: ours";
const HANDLE_TEXTBOOK: &str = "handle: textbook, 10 workers";
const HANDLE_BATCHED: &str = "handle: graphile-worker, batched";
const HANDLE_OURS: &str = "handle: ours";
const HANDLE_ORDERED: &str = "handle: ours, order_by";
const HANDLE_TWO: &str = "handle: ours, two nodes";
const LIFE_TEXTBOOK: &str = "whole life: textbook";
const LIFE_OURS: &str = "whole life: ours";

/// The name of each case's database.
const DATABASE: &str = "bench";
const GRAPHILE: &str = "graphile";

fn main() {
    let Some(slow) = slow::slowed_by() else {
        slow::run_slowed();
        return;
    };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(run(slow));
}

async fn run(slow: u32) {
    let Some(server) = Server::start().await else { return };
    let commit = server.commit().await.as_micros();
    println!("fsync +{slow} µs; a small commit takes {commit} µs");
    assert!(commit >= u128::from(slow), "the server's fsync is slowed down");
    let (accept, handle, life) = (is_selected("accept"), is_selected("handle"), is_selected("life"));
    let folder = if accept || handle { Graphile::folder() } else { None };
    if let Some(folder) = &folder {
        let url = server.create(GRAPHILE, None).await;
        Graphile::install(folder, &url).await;
    }
    let rounds = env::var("KLIKIT_BENCH_ROUNDS").map_or(3, |text| text.parse().expect("a number of rounds"));
    let mut report = Report::default();
    for _ in 0..rounds {
        if accept || handle {
            textbook(&server, &mut report).await;
            if let Some(folder) = &folder {
                graphile(&server, folder, &mut report).await;
            }
            ours(&server, &mut report).await;
        }
        if life {
            live(&server, &mut report).await;
        }
    }
    report.print();
    report.print_ratio(ACCEPT_OURS, ACCEPT_TEXTBOOK);
    report.print_ratio(HANDLE_OURS, HANDLE_TEXTBOOK);
    report.print_ratio(HANDLE_OURS, HANDLE_BATCHED);
    report.print_ratio(HANDLE_ORDERED, HANDLE_OURS);
    report.print_ratio(HANDLE_TWO, HANDLE_OURS);
    report.print_ratio(LIFE_OURS, LIFE_TEXTBOOK);
    if slow == 0 && is_selected("snapshot") {
        snapshot::run(&server).await;
    }
    println!();
}

/// Returns whether the arguments select this group of cases. Without arguments, all groups are selected.
fn is_selected(group: &str) -> bool {
    // Cargo passes `--bench`.
    let mut groups = env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    groups.peek().is_none() || groups.any(|selected| selected == group)
}

async fn textbook(server: &Server, report: &mut Report) {
    let textbook = Textbook::open(&server.create(DATABASE, None).await).await;
    report.add(ACCEPT_TEXTBOOK, textbook.accept(server, DELIVERIES, Statements::Unnamed).await);
    if is_selected("handle") {
        report.add(HANDLE_TEXTBOOK, textbook.handle(server).await);
    }
    if is_selected("accept") {
        let textbook = Textbook::open(&server.create(DATABASE, None).await).await;
        report.add("accept: textbook, prepared", textbook.accept(server, DELIVERIES, Statements::Prepared).await);
    }
}

async fn graphile(server: &Server, folder: &Path, report: &mut Report) {
    let graphile = Graphile::new(server.create(DATABASE, Some(GRAPHILE)).await);
    let mut jobs = 0;
    if is_selected("accept") {
        report.add("accept: graphile-worker", graphile.accept(server, JOBS).await);
        jobs = JOBS;
    }
    if is_selected("handle") {
        graphile.fill(jobs, DELIVERIES).await;
        let figures = graphile.handle(server, folder, graphile::Settings::Default, DELIVERIES).await;
        report.add("handle: graphile-worker, default", figures);
        let graphile = Graphile::new(server.create(DATABASE, Some(GRAPHILE)).await);
        graphile.fill(0, DELIVERIES).await;
        let figures = graphile.handle(server, folder, graphile::Settings::Batched, DELIVERIES).await;
        report.add(HANDLE_BATCHED, figures);
    }
}

async fn ours(server: &Server, report: &mut Report) {
    let url = server.create(DATABASE, None).await;
    let node = Node::open(&url, OrderBy::nothing()).await;
    report.add(ACCEPT_OURS, node.accept(server, DELIVERIES).await);
    if is_selected("handle") {
        report.add(HANDLE_OURS, ours::handle(server, &[node]).await);
    }
    let node = Node::open(&server.create(DATABASE, None).await, OrderBy::order()).await;
    report.add("accept: ours, order_by", node.accept(server, DELIVERIES).await);
    if is_selected("handle") {
        report.add(HANDLE_ORDERED, ours::handle(server, &[node]).await);
        let url = server.create(DATABASE, None).await;
        let node = Node::open(&url, OrderBy::nothing()).await;
        node.accept(server, DELIVERIES).await;
        let nodes = [node, Node::open(&url, OrderBy::nothing()).await];
        report.add(HANDLE_TWO, ours::handle(server, &nodes).await);
    }
}

async fn live(server: &Server, report: &mut Report) {
    let textbook = Textbook::open(&server.create(DATABASE, None).await).await;
    report.add(LIFE_TEXTBOOK, textbook.live(server, DELIVERIES).await);
    let node = Node::open(&server.create(DATABASE, None).await, OrderBy::nothing()).await;
    report.add(LIFE_OURS, node.live(server, DELIVERIES).await);
}
