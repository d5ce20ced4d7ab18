//! Two nodes on one Postgres, killed at random: each delivery is finished once, and those of a branch one after the other.

use std::collections::BTreeSet;

use crate::{
    a_while,
    child::Place,
    client::Client,
    deliveries::{Kind, event},
    journal::What,
    random,
    report::Report,
    rounds,
    servers::postgres::PostgresServer,
    soak::{Soak, folder},
};

#[test]
fn two_nodes_that_are_killed_keep_the_order_of_each_branch() {
    let Some(postgres) = PostgresServer::start("soak nodes") else { return };
    let client = Client::new(|number| event(if number.is_multiple_of(16) { Kind::Flaky } else { Kind::Plain }, number));
    let mut soak = Soak::new(folder(), Place::Postgres(postgres.url().to_owned()), client);
    soak.orders.by_branch = true;
    // Those of a branch wait for one another, and it takes a while until so many were handled.
    soak.window = 3;
    soak.start();
    for round in 0..rounds() {
        soak.start();
        soak.load(a_while());
        soak.kill(usize::from(random(2) == 0));
        if round % 10 == 9 {
            soak.settle();
        }
    }
    soak.settle();
    soak.kill_all();

    let journal = soak.records();
    let mut report = Report::of(&soak, &journal);
    report.check_order(&journal, &BTreeSet::new());
    println!("two nodes: {} kills, {} without an answer", soak.kills, soak.client.unanswered);
    report.assert_right("two nodes");
    report.assert_nothing_lost();
    // One after the other, they would take turns only when one is killed.
    let handled: Vec<_> = journal.iter().filter(|record| record.what == What::Handled).collect();
    let turns = handled.windows(2).filter(|pair| pair[0].process != pair[1].process).count();
    assert!(turns > soak.kills, "never were two at work");
}
