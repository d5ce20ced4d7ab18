//! Tests of `klikit inbox pause`, `resume` and `pauses`.

use serde_json::json;
use tower_klikit::inbox::Pause;

use crate::stores::TestStore;

#[tokio::test]
async fn pauses_are_listed_until_they_are_lifted() {
    for store in TestStore::each("pauses are listed until they are lifted").await {
        store.accept(1..=2).await;
        let dry = store.json(["inbox", "pause", "--tenant", "default", "--dry-run"]);
        assert_eq!((&dry["selected"], &dry["dry_run"], &dry["applied"]), (&json!(2), &json!(true), &json!(false)));
        assert_eq!(store.text(["inbox", "pauses"]), "No pause is in force.\n");

        let pause = ["inbox", "pause", "--tenant", "default", "--yes", "--operator", "budi"];
        assert_eq!(store.text(pause), "Paused tenant=default. Ready: 2 deliveries.\n");
        let paused = store.json(["inbox", "pause", "--all", "--yes", "--operator", "ana"]);
        let paused = (&paused["selected"], &paused["changed"], &paused["applied"]);
        assert_eq!(paused, (&json!(2), &json!(0), &json!(true)));
        let listed = store.json(["inbox", "pauses"]);
        let pauses = listed["pauses"].as_array().unwrap();
        assert_eq!(pauses.len(), 2, "{listed}");
        let tenant = pauses.iter().find(|pause| pause["tenant"] == "default").unwrap();
        assert_eq!((&tenant["event_type"], &tenant["operator"]), (&json!(null), &json!("budi")));
        assert!(tenant["since"].as_str().unwrap().ends_with('Z'));
        let text = store.text(["inbox", "pauses"]);
        assert!(text.contains("budi") && text.contains("every"), "{text}");

        let dry = store.text(["inbox", "resume", "--all", "--dry-run"]);
        assert!(dry.starts_with("Resume would lift the pauses of "), "{dry}");
        assert!(dry.contains("tenant=default (paused by budi)") && dry.contains("everything (paused by ana)"), "{dry}");
        let resumed = store.text(["inbox", "resume", "--tenant", "default", "--yes"]);
        assert_eq!(resumed, "Resumed tenant=default (paused by budi).\n");
        assert_eq!(store.service.inbox.pauses().await.unwrap()[0].pause, Pause::everything());
        store.service.inbox.operator("ana").pause(&Pause::everything().event_type("other")).await.unwrap();
        let lifted = store.json(["inbox", "resume", "--all", "--yes"]);
        let lifted = (&lifted["selected"], &lifted["changed"], &lifted["applied"]);
        assert_eq!(lifted, (&json!(2), &json!(2), &json!(true)));
        assert!(store.service.inbox.pauses().await.unwrap().is_empty());
        assert_eq!(store.text(["inbox", "resume", "--all", "--yes"]), "No pause is in force.\n");
        store.work_until_idle().await;
    }
}

#[tokio::test]
async fn pause_counts_a_bounded_number() {
    let store = TestStore::sqlite();
    store.accept(1..=10_001).await;
    let pause = |options: &[&'static str]| store.text(["inbox", "pause"].iter().chain(options).copied());
    let at_least = "Pause would hold back at least 10000 deliveries.\n";
    assert_eq!(pause(&["--tenant", "default", "--dry-run"]), at_least);
    assert_eq!(pause(&["--all", "--dry-run"]), "Pause would hold back 10001 deliveries.\n");
}

#[test]
fn pause_and_resume_need_a_part() {
    let store = TestStore::sqlite();
    for action in ["pause", "resume"] {
        let ended = store.klikit(["inbox", action, "--yes"]).run();
        ended.assert_error(&format!("{action} needs --tenant, --event-type or --all: see --help"));
        let ended = store.klikit(["inbox", action, "--all"]).run();
        ended.assert_error("there is no terminal to ask on: pass --yes");
    }
    let ended = store.klikit(["inbox", "resume", "--tenant", "warung", "--yes"]).run();
    assert_eq!(ended.code, Some(2), "{ended}");
    let line = format!("error: {} has no pause of tenant=warung: see `klikit inbox pauses`\n", store.name);
    assert!(ended.stderr.ends_with(&line), "{ended}");
}
