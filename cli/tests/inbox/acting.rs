//! Tests of the actions on deliveries.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::json;
use tower_klikit::inbox::Counts;

use crate::{
    service::order,
    stores::{TestStore, ids},
};

/// Returns the numbers of ready, dead and done deliveries.
async fn counts(store: &TestStore) -> [u64; 3] {
    let Counts { ready, dead, done, .. } = store.service.inbox.counts().await.unwrap();
    [ready, dead, done]
}

#[tokio::test]
async fn retry_makes_dead_letters_pending() {
    for store in TestStore::each("retry makes dead letters pending").await {
        store.accept(1..=2).await;
        store.dead_letter("out of paper").await;
        store.accept([3]).await;
        store.dead_letter("no ink").await;

        let dry = store.json(["inbox", "retry", "--reason", "out of paper", "--dry-run", "--yes", "--operator", "ana"]);
        let expected = json!({
            "store": store.name, "action": "retry", "operator": "ana", "selected": 2, "changed": 0, "applied": false,
            "dry_run": true,
        });
        assert_eq!(dry, expected);
        assert_eq!(counts(&store).await, [0, 3, 0]);

        let arguments = ["inbox", "retry", "--reason", "out of paper", "--yes", "--operator", "ana"];
        let ended = store.klikit(arguments).run();
        store.assert_success(&ended);
        assert_eq!(ended.stdout, "Retried 2 deliveries.\n");
        let audit = ended.stderr.lines().nth(1).unwrap();
        for part in ["tower_klikit::inbox::audit", "operator=ana", "action=\"retry\"", "out of paper", "deliveries=2"] {
            assert!(audit.contains(part), "{part} is not in {audit}");
        }
        assert_eq!(counts(&store).await, [2, 1, 0]);

        // Repeated ids count once, and a delivery that is not dead is left out.
        let retried = store.json(["inbox", "retry", "3", "3", "1", "9", "--yes"]);
        assert_eq!((&retried["selected"], &retried["changed"]), (&json!(1), &json!(1)));
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        assert_eq!(retried["applied"], true);
        assert_eq!(retried["operator"], String::from_utf8(user).unwrap().trim());
        assert_eq!(counts(&store).await, [3, 0, 0]);
        assert_eq!(store.text(["inbox", "retry", "--all", "--yes"]), "Retry applies to no delivery.\n");
    }
}

#[tokio::test]
async fn rate_limits_ids_and_selections() {
    let store = TestStore::sqlite();
    store.accept(1..=3).await;
    for arguments in [&["retry", "1", "2", "3"][..], &["retry", "--all"]] {
        store.dead_letter("out of paper").await;
        let started = Instant::now();
        let retried = store.json(["inbox"].iter().chain(arguments).copied().chain(["--rate", "4", "--yes"]));
        assert_eq!(retried["changed"], 3);
        // The first one becomes pending at once.
        assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn replay_makes_handled_deliveries_pending() {
    for store in TestStore::each("replay makes handled deliveries pending").await {
        store.accept(1..=2).await;
        store.work_until_idle().await;
        assert_eq!(store.text(["inbox", "replay", "--order", "2", "--yes"]), "Replayed 1 delivery.\n");
        assert_eq!(counts(&store).await, [1, 0, 1]);
    }
}

#[tokio::test]
async fn dead_letter_needs_ids_or_states() {
    for store in TestStore::each("dead letter needs ids or states").await {
        store.accept(1..=4).await;
        let line = ["inbox", "dead-letter", "--reason-text", "crashes the handler", "--yes"];
        let text = |options: &[&'static str]| store.text(line.iter().chain(options).copied());
        assert_eq!(text(&["2"]), "Dead-lettered 1 delivery.\n");
        assert_eq!(text(&["--state", "ready", "--order", "3"]), "Dead-lettered 1 delivery.\n");
        assert_eq!(counts(&store).await, [2, 2, 0]);
        let listed = store.json(["inbox", "list", "--reason", "crashes the handler"]);
        assert_eq!(ids(&listed), [2, 3]);
        assert_eq!(text(&["--all"]), "Dead-lettered 2 deliveries.\n");

        let ended = store.klikit(line.iter().copied().chain(["--order", "3"])).run();
        let message = "dead-letter stops pending deliveries, which a selection must name: add --state ready, --state leased \
                       or both";
        ended.assert_error(message);
    }
}

#[tokio::test]
async fn deleting_actions_differ_in_what_they_remember() {
    for store in TestStore::each("deleting actions differ in what they remember").await {
        store.accept(1..=3).await;
        store.work_until_idle().await;
        store.accept([4]).await;
        assert_eq!(store.text(["inbox", "forget", "1", "--yes"]), "Forgot 1 delivery.\n");
        assert_eq!(store.text(["inbox", "erase", "2", "--yes"]), "Erased 1 delivery.\n");
        assert_eq!(store.text(["inbox", "purge", "--all", "--yes"]), "Purged 1 delivery.\n");
        assert_eq!(counts(&store).await, [1, 0, 0]);
        // Only the forgotten one is accepted again.
        for number in 1..=3 {
            assert_eq!(store.service.send(&order(number, number)).await, StatusCode::OK);
        }
        assert_eq!(counts(&store).await, [2, 0, 0]);
        assert_eq!(store.text(["inbox", "forget", "--all", "--yes"]), "Forget applies to no delivery.\n");
        assert_eq!(store.text(["inbox", "erase", "--state", "ready", "--yes"]), "Erased 2 deliveries.\n");
    }
}

#[tokio::test]
async fn audit_lines_have_the_number_of_deliveries() {
    for store in TestStore::each("audit lines have the number of deliveries").await {
        store.accept(1..=5).await;
        for (arguments, expected) in [
            (&["dead-letter", "1", "2", "--reason-text", "a test"][..], &[1, 1][..]),
            (&["retry", "--all"], &[2]),
            (&["dead-letter", "--all", "--reason-text", "a test"], &[5]),
            (&["erase", "1"], &[1]),
            (&["forget", "2", "9"], &[1, 0]),
            (&["purge", "--all"], &[3]),
        ] {
            let ended = store.klikit(["inbox"].iter().chain(arguments).copied().chain(["--yes"])).run();
            let numbers = ended.stderr.lines().filter_map(|line| line.split_once(" deliveries="));
            let numbers: Vec<u64> = numbers.map(|(_, number)| number.parse().unwrap()).collect();
            assert_eq!(numbers, expected, "{ended}");
        }
    }
}

#[test]
fn action_needs_a_selection_that_suits_it() {
    let store = TestStore::sqlite();
    for (arguments, message) in [
        (&["retry"][..], "retry needs ids or a selection: see --help, or pass --all"),
        (&["purge", "--all", "--order", "1"], "--all selects everything: leave it out, or the ids and the selection"),
        (&["erase", "--all", "1"], "--all selects everything: leave it out, or the ids and the selection"),
        (
            &["retry", "--state", "done"],
            "retry does not apply to deliveries that are done: name dead, or leave out --state",
        ),
        (
            &["purge", "--state", "dead,ready"],
            "purge does not apply to deliveries that are ready: name dead or done, or leave out --state",
        ),
        (&["retry", "1"], "there is no terminal to ask on: pass --yes"),
    ] {
        store.klikit(["inbox"].iter().chain(arguments).copied()).run().assert_error(message);
    }
    let ended = store.klikit(["inbox", "dead-letter", "1", "--yes"]).run();
    assert!(ended.code == Some(2) && ended.stderr.contains("--reason-text"), "{ended}");
}
