//! Tests of poisonous deliveries, which kill their process: they are dead-lettered, and do not block other deliveries.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use tower_klikit::inbox::{Entry, LEASE_EXPIRED};

use crate::{
    TIMEOUT,
    child::Place,
    client::Client,
    deliveries::{BRANCHES, Kind, branch, event, kind},
    journal::Stage,
    report::Report,
    servers::postgres::PostgresServer,
    soak::{Soak, folder},
};

const MAX_ATTEMPTS: u32 = 3;

/// The number of poisonous deliveries.
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
    // Later deliveries have larger ids, so they are behind the poisonous ones.
    let enough = soak.client.acknowledged.len() + 64;
    while soak.client.acknowledged.len() < enough {
        soak.load(Duration::from_millis(10));
    }
    soak.settle();
    let dead = dead(&soak.orders.store);
    wait_until_logged(&soak, &dead);
    soak.kill_all();

    let journal = soak.records();
    let dead_ids = dead.iter().map(|entry| entry.id.get()).collect();
    let mut report = Report::of(&soak, &journal);
    report.check_order(&journal, &dead_ids);
    report.assert_right(name);

    // Deliveries that ran next to a poisonous delivery in each attempt are dead too. They do not count as lost.
    let ids: BTreeSet<_> =
        dead.iter().map(|entry| entry.event_id().expect("all deliveries have event ids").to_owned()).collect();
    assert!(report.lost.is_subset(&ids), "lost: {:?}", report.lost.difference(&ids));
    println!(
        "{name}: {:?} aborts; dead: {POISON} poisonous deliveries, {} others",
        soak.aborts,
        ids.len() - poison.len()
    );
    assert!(poison.is_subset(&ids), "only these are dead: {ids:?}");
    for entry in &dead {
        assert_eq!(entry.attempts, MAX_ATTEMPTS, "{entry:?}");
        assert_eq!(entry.reason.as_deref(), Some(LEASE_EXPIRED));
        let event = entry.event_id().expect("all deliveries have event ids");
        let is_unblocked = journal.iter().any(|record| {
            record.stage == Stage::Handled && branch(&record.event) == branch(event) && record.id > entry.id.get()
        });
        assert!(is_unblocked || kind(event) != Kind::Poison, "no delivery behind {event} was handled");
    }
}

/// Waits until each dead letter is logged. A child logs a delivery that another child had leased when it died.
///
/// A log line may be missing if a child died after the delivery's lease had expired: that child may have dead-lettered
/// the delivery and died before it could log that.
fn wait_until_logged(soak: &Soak, dead: &[Entry]) {
    let journal = soak.records();
    let may_be_missing = |entry: &Entry| {
        let leases = journal.iter().filter(|record| record.stage == Stage::Leased && record.id == entry.id.get());
        let expired = leases.map(|record| record.asked).max().expect("each dead letter was leased") + soak.orders.lease;
        journal.iter().any(|record| record.stage == Stage::Died && record.told > expired)
    };
    let started = Instant::now();
    loop {
        let log = fs::read_to_string(&soak.orders.log).expect("the log can be read");
        let (logged, missing): (Vec<_>, Vec<_>) = dead.iter().partition(|entry| is_logged(entry, &log));
        if !logged.is_empty() && missing.iter().all(|entry| may_be_missing(entry)) {
            return println!("{} of {} dead letters are logged", logged.len(), dead.len());
        }
        assert!(started.elapsed() < TIMEOUT, "the log has no line about {missing:?}: {log}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn is_logged(entry: &Entry, log: &str) -> bool {
    let event_id = entry.event_id().expect("all deliveries have event ids");
    let message = format!("dead-lettered a delivery: {LEASE_EXPIRED}");
    let fields = [
        format!(r#"event_id="{event_id}""#),
        format!("delivery_id={} ", entry.id.get()),
        format!("attempts={}", entry.attempts),
    ];
    let errors = log.lines().filter(|line| line.contains(" ERROR ") && line.contains(&message));
    errors.into_iter().any(|line| fields.iter().all(|field| line.contains(field)))
}

#[tokio::main(flavor = "current_thread")]
async fn dead(store: &Place) -> Vec<Entry> {
    store.inbox().await.dead(None, 1000).await.expect("the store lists dead letters")
}

/// Returns a client that sends one poisonous delivery to each of [`POISON`] branches, with others before and behind it.
fn client() -> Client {
    Client::new(|each| {
        let is_poison = (1..=POISON).any(|branch| each == number(branch));
        event(if is_poison { Kind::Poison } else { Kind::Plain }, each)
    })
}

/// Returns the number of a branch's poisonous delivery.
fn number(branch: u64) -> u64 {
    branch + BRANCHES
}

#[test]
fn sqlite_dead_letters_poisonous_deliveries() {
    poison_in_two_branches("poison, SQLite", Soak::sqlite(client()), 1);
}

#[test]
fn postgres_dead_letters_poisonous_deliveries() {
    let Some(postgres) = PostgresServer::start("soak poison") else { return };
    let soak = Soak::new(folder(), Place::Postgres(postgres.url().to_owned()), client());
    poison_in_two_branches("poison, Postgres", soak, 2);
}
