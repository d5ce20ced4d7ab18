//! Test of two nodes on one Postgres that are killed at random: each delivery is finished once, and the deliveries of a
//! branch are handled one after the other.

use std::collections::BTreeSet;

use crate::{
    a_while,
    child::Place,
    client::Client,
    deliveries::{Kind, event},
    journal::{Record, Stage},
    random,
    report::Report,
    rounds,
    servers::postgres::PostgresServer,
    soak::{Soak, folder},
};

#[test]
fn killed_nodes_keep_the_order_of_each_branch() {
    let Some(postgres) = PostgresServer::start("soak nodes") else { return };
    let client = Client::new(|number| event(if number.is_multiple_of(16) { Kind::Flaky } else { Kind::Plain }, number));
    let mut soak = Soak::new(folder(), Place::Postgres(postgres.url().to_owned()), client);
    soak.orders.by_branch = true;
    // Keep the backlog small, since the deliveries of a branch are handled one after the other, which takes time.
    soak.window = 3;
    soak.start();
    let mut round = 0;
    // Add rounds if necessary: on a busy machine, one of the nodes may lease nearly all deliveries for some time.
    while round < rounds() || (round < 10 * rounds() && !did_two_nodes_overlap(&soak.records())) {
        soak.start();
        soak.load(a_while());
        soak.kill(usize::from(random(2) == 0));
        if round % 10 == 9 {
            soak.settle();
        }
        round += 1;
    }
    soak.settle();
    soak.kill_all();

    let journal = soak.records();
    let mut report = Report::of(&soak, &journal);
    report.check_order(&journal, &BTreeSet::new());
    println!("two nodes: {} kills, {} unanswered", soak.kills, soak.client.unanswered);
    report.assert_right("two nodes");
    report.assert_nothing_lost();
    assert!(did_two_nodes_overlap(&journal), "the two nodes never handled deliveries at the same time");
}

/// Returns whether two nodes have handled deliveries at the same time: whether a node has handled deliveries both
/// before and after another node has handled one.
fn did_two_nodes_overlap(journal: &[Record]) -> bool {
    let mut handlers: Vec<_> =
        journal.iter().filter(|record| record.stage == Stage::Handled).map(|record| record.process).collect();
    handlers.dedup();
    let processes: BTreeSet<_> = handlers.iter().collect();
    handlers.len() > processes.len()
}
