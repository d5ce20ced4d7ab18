//! Two nodes on one Postgres, killed at random: each delivery is finished once, and those of a branch one after the other.

use std::collections::BTreeSet;

use crate::{
    a_while,
    child::Place,
    client::Client,
    deliveries::{Kind, event},
    journal::{Record, What},
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
    // Those of a branch wait for one another, and it takes a while until so many were handled.
    soak.window = 3;
    soak.start();
    let mut round = 0;
    // On a busy machine one of two takes nearly all for a while.
    while round < rounds() || (round < 10 * rounds() && !were_two_at_work(&soak.records())) {
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
    println!("two nodes: {} kills, {} without an answer", soak.kills, soak.client.unanswered);
    report.assert_right("two nodes");
    report.assert_nothing_lost();
    assert!(were_two_at_work(&journal), "never were two at work");
}

/// Returns whether two nodes were handling deliveries at a time. Otherwise none would go on handling after another has started to.
fn were_two_at_work(journal: &[Record]) -> bool {
    let mut handlers: Vec<_> =
        journal.iter().filter(|record| record.what == What::Handled).map(|record| record.process).collect();
    handlers.dedup();
    let processes: BTreeSet<_> = handlers.iter().collect();
    handlers.len() > processes.len()
}
