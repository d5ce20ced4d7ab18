//! Deliveries that take the process with them: they are given up, and hold nobody.

use std::{collections::BTreeSet, time::Duration};

use tower_klikit::inbox::Entry;

use crate::{
    child::Place,
    client::Client,
    deliveries::{BRANCHES, Kind, branch, event, kind},
    journal::What,
    report::Report,
    servers::postgres::PostgresServer,
    soak::{Soak, folder},
};

const MAX_ATTEMPTS: u32 = 3;

/// How many deliveries are poisonous.
const POISON: u64 = 2;

fn poison_in_two_branches(name: &str, mut soak: Soak, nodes: usize) {
    soak.orders.by_branch = true;
    soak.window = 8;
    soak.orders.max_attempts = MAX_ATTEMPTS;
    soak.aborts = Some(0);
    for _ in 0..nodes {
        soak.start();
    }
    let poison: BTreeSet<_> = (1..=POISON).map(|branch| event(Kind::Poison, number(branch))).collect();
    while !poison.is_subset(&soak.client.acknowledged) {
        soak.load(Duration::from_millis(10));
    }
    // Whatever comes from now on has larger ids.
    let enough = soak.client.acknowledged.len() + 64;
    while soak.client.acknowledged.len() < enough {
        soak.load(Duration::from_millis(10));
    }
    soak.settle();
    soak.kill_all();

    let dead = dead(&soak.orders.store);
    let journal = soak.records();
    let given_up = dead.iter().map(|entry| entry.id.get()).collect();
    let mut report = Report::of(&soak, &journal);
    report.check_order(&journal, &given_up);
    report.assert_right(name);

    // Those that had the bad luck to be with it each time are dead too, and not lost.
    let ids: BTreeSet<_> = dead.iter().map(|entry| entry.event_id().expect("all events have ids").to_owned()).collect();
    assert!(report.lost.is_subset(&ids), "lost: {:?}", report.lost.difference(&ids));
    println!(
        "{name}: {:?} aborts; dead: {POISON} that were poisonous, {} others",
        soak.aborts,
        ids.len() - poison.len()
    );
    assert!(poison.is_subset(&ids), "dead: {ids:?}");
    for entry in &dead {
        assert_eq!(entry.attempts, MAX_ATTEMPTS, "{entry:?}");
        assert_eq!(entry.reason.as_deref(), Some("its lease ran out on its last attempt"));
        let event = entry.event_id().expect("all events have ids");
        let goes_on = journal.iter().any(|record| {
            record.what == What::Handled && branch(&record.event) == branch(event) && record.id > entry.id.get()
        });
        assert!(goes_on || kind(event) != Kind::Poison, "nothing was handled behind {event}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn dead(store: &Place) -> Vec<Entry> {
    store.inbox().await.dead(None, 1000).await.expect("the dead")
}

/// One poisonous delivery in each of so many branches, with others before it and behind it.
fn client() -> Client {
    Client::new(|each| {
        let is_poison = (1..=POISON).any(|branch| each == number(branch));
        event(if is_poison { Kind::Poison } else { Kind::Plain }, each)
    })
}

/// Of the poisonous delivery of a branch.
fn number(branch: u64) -> u64 {
    branch + BRANCHES
}

#[test]
fn sqlite_gives_up_what_kills_its_process() {
    poison_in_two_branches("poison, SQLite", Soak::sqlite(client()), 1);
}

#[test]
fn postgres_gives_up_what_kills_its_clients() {
    let Some(postgres) = PostgresServer::start("soak poison") else { return };
    let soak = Soak::new(folder(), Place::Postgres(postgres.url().to_owned()), client());
    poison_in_two_branches("poison, Postgres", soak, 2);
}
