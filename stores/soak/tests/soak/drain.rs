//! Tests of SIGTERM under load: a worker releases the deliveries that it cannot finish, and their attempts do not
//! count.

use std::collections::HashMap;

use tower_klikit::inbox::{DeliveryId, DeliveryState, Inbox};

use crate::{
    TIMEOUT, a_while,
    child::{Place, Work},
    client::Client,
    deliveries::{Kind, event},
    journal::{Record, Stage},
    report::Report,
    rounds,
    servers::postgres::PostgresServer,
    soak::{Soak, folder},
};

fn client() -> Client {
    Client::new(|number| {
        let kind = match number % 32 {
            0 => Kind::Slow,
            8 | 24 => Kind::Flaky,
            _ => Kind::Plain,
        };
        event(kind, number)
    })
}

fn drain_in_a_loop(name: &str, mut soak: Soak) {
    let (mut left, mut from) = (0, 1);
    // Use long leases: no process dies in this test, so no lease may expire.
    soak.orders.lease = TIMEOUT;
    for round in 0..rounds() {
        soak.orders.work = Work::AllButSlow;
        soak.start();
        soak.load(a_while());
        soak.terminate(0);
        left += check_pending(&soak.orders.store, &soak.records(), from);
        if round % 10 == 9 || round + 1 == rounds() {
            soak.orders.work = Work::All;
            soak.start();
            soak.settle();
            soak.kill(0);
            from = soak.records().iter().map(|record| record.id).max().unwrap_or(0) + 1;
        }
    }

    let journal = soak.records();
    let report = Report::of(&soak, &journal);
    report.assert_right(name);
    report.assert_nothing_lost();
    let released = journal.iter().filter(|record| record.stage == Stage::Released).count();
    println!("{name}: {} drains have left {left} deliveries pending and released {released}", rounds());
    assert_eq!((report.leased_again, report.handled_again, report.expired), (0, 0, 0), "no lease may expire");
    assert!(left > 0 && released > 0, "the drains had no deliveries to release");
}

/// Checks that no delivery is leased, and that the pending deliveries, whose ids are `from` or more, have only failed
/// attempts. Returns how many deliveries are pending.
#[tokio::main(flavor = "current_thread")]
async fn check_pending(store: &Place, journal: &[Record], from: i64) -> u64 {
    let inbox: Inbox = store.inbox().await;
    let counts = inbox.counts().await.expect("the store counts");
    assert_eq!((counts.leased, counts.dead), (0, 0), "{counts:?}");
    let mut failed: HashMap<i64, u32> = HashMap::new();
    for record in journal.iter().filter(|record| record.stage == Stage::Rescheduled) {
        *failed.entry(record.id).or_default() += 1;
    }
    let mut seen = 0;
    // Try all ids, since they have few gaps.
    for id in from..from + 1_000_000 {
        if seen == counts.ready {
            return seen;
        }
        if let Some(entry) = inbox.show(DeliveryId::new(id)).await.expect("the store shows deliveries") {
            assert_eq!(entry.state, DeliveryState::Ready, "{entry:?}");
            assert_eq!(entry.attempts, failed.get(&id).copied().unwrap_or(0), "{entry:?}");
            seen += 1;
        }
    }
    panic!("only {seen} of {} pending deliveries were found", counts.ready);
}

#[test]
fn sqlite_has_no_leases_after_a_drain() {
    drain_in_a_loop("drain, SQLite", Soak::sqlite(client()));
}

#[test]
fn postgres_has_no_leases_after_a_drain() {
    let Some(postgres) = PostgresServer::start("soak drain") else { return };
    drain_in_a_loop("drain, Postgres", Soak::new(folder(), Place::Postgres(postgres.url().to_owned()), client()));
}
