//! Tests of the commands that only read.

use http::StatusCode;
use serde_json::{Value, json};
use tower_klikit::{inbox::Pause, testing::SignedDelivery};

use crate::{
    service::{OLD_SECRET, order},
    stores::{TestStore, ids},
};

#[tokio::test]
async fn stats_counts_states_and_reasons() {
    for store in TestStore::each("stats counts states and reasons").await {
        let empty = store.json(["inbox", "stats"]);
        assert_eq!((&empty["ready"], &empty["oldest_seconds"]), (&json!(0), &Value::Null));
        store.accept(1..=2).await;
        store.dead_letter("out of paper").await;
        store.accept([3]).await;
        store.dead_letter("no ink").await;
        store.accept(4..=6).await;
        store.service.inbox.operator("budi").pause(&Pause::everything()).await.unwrap();

        let stats = store.json(["inbox", "stats", "--reasons"]);
        let counts = ["ready", "leased", "dead", "done", "pauses"].map(|name| stats[name].as_u64().unwrap());
        assert_eq!(counts, [3, 0, 3, 0, 1]);
        assert!(stats["oldest_seconds"].is_u64());
        let reasons = json!([{"reason": "out of paper", "deliveries": 2}, {"reason": "no ink", "deliveries": 1}]);
        assert_eq!((&stats["reasons"], &stats["other_reasons"]), (&reasons, &json!(0)));
        assert!(store.json(["inbox", "stats"]).get("reasons").is_none());

        let text = store.text(["inbox", "stats", "--reasons"]);
        let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        for line in ["ready 3", "leased 0", "dead 3", "done 0", "2 out of paper", "1 no ink"] {
            assert!(words.contains(&line.split(' ').collect()), "{line} is not in\n{text}");
        }
        assert!(text.contains("The oldest pending delivery was accepted ") && text.contains("Pauses in force: 1."));
    }
}

#[tokio::test]
async fn list_applies_each_part_of_the_filter() {
    for store in TestStore::each("list applies each part of the filter").await {
        store.accept([1]).await;
        store.dead_letter("out of paper").await;
        store.accept([2]).await;
        store.work_until_idle().await;
        assert_eq!(store.service.send(&order(3, 1)).await, StatusCode::OK);
        assert_eq!(store.service.send(&order(3, 1).event_id("copy").event_type("other")).await, StatusCode::OK);
        let all = [1, 2, 3, 4];
        for (options, expected) in [
            (&[][..], &all[..]),
            (&["--state", "dead"], &[1]),
            (&["--state", "dead,done"], &[1, 2]),
            (&["--state", "dead", "--state", "ready"], &[1, 3, 4]),
            (&["--tenant", "default"], &all),
            (&["--tenant", "other"], &[]),
            (&["--event-id", "evt-2"], &[2]),
            (&["--event-type", "other"], &[4]),
            (&["--order", "3"], &[3, 4]),
            (&["--branch", "1"], &[1, 3, 4]),
            (&["--reason", "of paper"], &[1]),
            (&["--attempts", "1.."], &[1, 2]),
            (&["--attempts", "0"], &[3, 4]),
            (&["--older-than", "1h"], &[]),
            (&["--older-than", "0s"], &all),
            (&["--younger-than", "1h"], &all),
            (&["--younger-than", "0s"], &[]),
            (&["--accepted", "2026-01-01T00:00:00Z.."], &all),
            (&["--accepted", "..2026-01-01T00:00:00+07:00"], &[]),
            (&["--same-body-as", "3"], &[3, 4]),
            (&["--same-body-as", "3", "--event-type", "other"], &[4]),
        ] {
            let listed = store.json(["inbox", "list"].iter().chain(options).copied());
            assert_eq!((ids(&listed), &listed["next"]), (expected.to_vec(), &Value::Null), "{options:?}");
        }
    }
}

#[tokio::test]
async fn list_shows_what_is_known_of_a_delivery() {
    let store = TestStore::sqlite();
    store.accept([1]).await;
    store.dead_letter("out\nof paper").await;
    assert_eq!(store.service.send(&order(1, 1).event_id("copy")).await, StatusCode::OK);

    let listed = store.json(["inbox", "list"]);
    let first = &listed["deliveries"][0];
    for (name, value) in [
        ("id", json!(1)),
        ("state", json!("dead")),
        ("attempts", json!(1)),
        ("tenant", json!("default")),
        ("secret_id", json!("2026-06")),
        ("event_id", json!("evt-1")),
        ("event_type", json!("klikit.order.created.v2")),
        ("orders", json!(["1"])),
        ("branch", json!("1")),
        ("is_copy", json!(false)),
        ("is_conflict", json!(false)),
        ("has_body", json!(true)),
        ("method", json!("POST")),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    assert!(first["accepted_at"].as_str().unwrap().ends_with('Z') && first["age_seconds"].is_u64());
    assert_eq!(listed["deliveries"][1]["is_copy"], true);

    let text = store.text(["inbox", "list"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("id") && lines[1].contains("evt-1") && lines[2].contains("copy"), "{text}");
    assert_eq!(store.text(["inbox", "list", "--state", "done"]), "No delivery was found.\n");
}

#[tokio::test]
async fn list_continues_after_a_page() {
    for store in TestStore::each("list continues after a page").await {
        store.accept(1..=5).await;
        let first = store.json(["inbox", "list", "--limit", "3"]);
        assert_eq!(ids(&first), [1, 2, 3]);
        let next = first["next"].to_string();
        assert!(
            store.text(["inbox", "list", "--limit", "3"]).ends_with(&format!("There may be more: --after {next}\n"))
        );
        let second = store.json(["inbox", "list", "--limit", "3", "--after", &next]);
        assert_eq!((ids(&second), &second["next"]), (vec![4, 5], &Value::Null));
    }
}

#[tokio::test]
async fn show_has_attempts_and_the_body_on_request() {
    for store in TestStore::each("show has attempts and the body on request").await {
        store.accept([1]).await;
        store.dead_letter("out of paper").await;
        let shown = store.json(["inbox", "show", "1"]);
        assert_eq!((&shown["id"], &shown["state"]), (&json!(1), &json!("dead")));
        assert!(shown.get("body").is_none());
        let attempt = &shown["history"][0];
        assert_eq!((&attempt["number"], &attempt["status"]), (&json!(1), &json!(422)));
        assert!(attempt["ended_at"].is_string() && attempt["worker"].is_string());
        assert!(attempt["reason"].as_str().unwrap().contains("out of paper"), "{attempt}");

        let body = r#"{"brand_id":1,"branch_id":1,"orders":[{"id":1}]}"#;
        assert_eq!(store.json(["inbox", "show", "1", "--body"])["body"], body);
        let text = store.text(["inbox", "show", "1"]);
        assert!(text.contains("evt-1") && text.contains("422") && !text.contains("brand_id"), "{text}");
        assert!(store.text(["inbox", "show", "1", "--body"]).ends_with(&format!("\n\n{body}\n")));
    }
}

#[tokio::test]
async fn show_leaves_out_control_characters() {
    let store = TestStore::sqlite();
    let delivery = SignedDelivery::new(OLD_SECRET, b"\x1b[2J\xff".to_vec());
    assert_eq!(store.service.send(&delivery.event_id("evt-1")).await, StatusCode::OK);
    let text = store.text(["inbox", "show", "1", "--body"]);
    assert!(text.ends_with("\n\n\u{fffd}[2J\u{fffd}\n"), "{text:?}");
    let shown = store.json(["inbox", "show", "1", "--body"]);
    assert_eq!((&shown["body_hex"], shown.get("body")), (&json!("1b5b324aff"), None));
}

#[tokio::test]
async fn closed_pipe_ends_quietly() {
    let store = TestStore::sqlite();
    store.accept([1]).await;
    let ended = store.klikit(["inbox", "list"]).run_with_closed_pipe();
    assert_eq!((ended.code, ended.stderr), (Some(0), format!("store: {}\n", store.name)));
}
