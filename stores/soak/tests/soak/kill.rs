//! Tests of `kill -9` in a loop, under load: each acknowledged delivery is handled, and finished once.

use std::{thread, time::Duration};

use crate::{
    a_while,
    child::Place,
    client::Client,
    deliveries::{Kind, event},
    random,
    report::Report,
    rounds,
    servers::postgres::PostgresServer,
    soak::{Soak, folder},
};

fn client() -> Client {
    Client::new(|number| event(if number.is_multiple_of(16) { Kind::Flaky } else { Kind::Plain }, number))
}

fn kill_in_a_loop(name: &str, mut soak: Soak) {
    for round in 0..rounds() {
        if round % 5 == 4 {
            // Kill some processes while they start.
            soak.start_as(soak.orders.command());
            thread::sleep(Duration::from_millis(random(40)));
        } else {
            soak.start();
            soak.client.repeat_some();
            soak.load(a_while());
        }
        soak.kill(0);
    }
    soak.start();
    soak.settle();
    // Since the backlog is empty, the deliveries of the killed process are leased next, but not before their leases
    // expire.
    soak.window = 4;
    for _ in 0..5 {
        soak.client.repeat_some();
        soak.load(Duration::from_millis(random(100)));
        soak.kill(0);
        soak.start();
    }
    soak.settle();
    soak.kill(0);

    let report = Report::of(&soak, &soak.records());
    let (kills, unanswered, rejected) = (soak.kills, soak.client.unanswered, soak.client.rejected);
    println!("{name}: {kills} kills, {unanswered} unanswered, {rejected} rejected");
    report.assert_right(name);
    report.assert_nothing_lost();
    assert!(report.acknowledged > 0 && unanswered > 0, "there was no load");
}

#[test]
fn sqlite_loses_nothing_when_its_process_is_killed() {
    kill_in_a_loop("SQLite", Soak::sqlite(client()));
}

#[test]
fn postgres_loses_nothing_when_its_client_is_killed() {
    let Some(postgres) = PostgresServer::start("soak") else { return };
    kill_in_a_loop("Postgres", Soak::new(folder(), Place::Postgres(postgres.url().to_owned()), client()));
}
