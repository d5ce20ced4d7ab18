//! Tests of `klikit inbox pause`, `resume` and `pauses`.

use serde_json::json;
use tower_klikit::inbox::Pause;

use crate::stores::TestStore;

#[tokio::test]
async fn pauses_are_listed_until_they_are_lifted() {
    for store in TestStore::each("pauses are listed until they are lifted").await {
        store.accept(1..=2).await;
        let dry = store.json(["inbox", "pause", "--tenant", "default", "--dry-run"]);
        assert_eq!((&dry["selected"], &dry["dry_run"]), (&json!(2), &json!(true)));
        assert_eq!(store.text(["inbox", "pauses"]), "No pause is in force.\n");

        let pause = ["inbox", "pause", "--tenant", "default", "--yes", "--operator", "budi"];
        assert_eq!(store.text(pause), "Paused tenant=default. Ready: 2 deliveries.\n");
        store.text(["inbox", "pause", "--all", "--yes", "--operator", "ana"]);
        let listed = store.json(["inbox", "pauses"]);
        let pauses = listed["pauses"].as_array().unwrap();
        assert_eq!(pauses.len(), 2, "{listed}");
        let tenant = pauses.iter().find(|pause| pause["tenant"] == "default").unwrap();
        assert_eq!((&tenant["event_type"], &tenant["operator"]), (&json!(null), &json!("budi")));
        assert!(tenant["since"].as_str().unwrap().ends_with('Z'));
        let text = store.text(["inbox", "pauses"]);
        assert!(text.contains("budi") && text.contains("every"), "{text}");

        assert_eq!(store.text(["inbox", "resume", "--tenant", "default", "--yes"]), "Resumed tenant=default.\n");
        assert_eq!(store.service.inbox.pauses().await.unwrap()[0].pause, Pause::everything());
        store.service.inbox.operator("ana").pause(&Pause::everything().event_type("other")).await.unwrap();
        let lifted = store.json(["inbox", "resume", "--all", "--yes"]);
        assert_eq!((&lifted["selected"], &lifted["changed"]), (&json!(2), &json!(2)));
        assert!(store.service.inbox.pauses().await.unwrap().is_empty());
        assert_eq!(store.text(["inbox", "resume", "--all", "--yes"]), "No pause is in force.\n");
        store.work_until_idle().await;
    }
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
