//! Tests of `klikit ledger`.

use http::StatusCode;
use serde_json::json;

use crate::{service::order, stores::TestStore};

#[tokio::test]
async fn forget_lets_events_come_again() {
    for store in TestStore::each("forget lets events come again").await {
        store.accept(1..=3).await;
        store.work_until_idle().await;
        // Only the rows of the ledger are left.
        store.text(["inbox", "purge", "--all", "--yes"]);
        let arguments = ["ledger", "forget", "--event-id", "evt-1", "--yes", "--operator", "ana"];
        let expected = json!({"store": store.name, "action": "forget", "operator": "ana", "changed": 1});
        assert_eq!(store.json(arguments), expected);
        let window = ["ledger", "forget", "--accepted", "2026-01-01T00:00:00Z..", "--yes"];
        for (forget, sent, accepted) in [(&[][..], 1, 1), (&[], 2, 1), (&window[..], 2, 2), (&[], 3, 3)] {
            if !forget.is_empty() {
                assert_eq!(store.text(forget.iter().copied()), "Forgot 2 deliveries.\n");
            }
            assert_eq!(store.service.send(&order(sent, sent)).await, StatusCode::OK);
            assert_eq!(store.service.inbox.counts().await.unwrap().ready, accepted, "{forget:?} {sent}");
        }
    }
}

#[test]
fn forget_needs_one_target() {
    let store = TestStore::sqlite();
    for options in [&[][..], &["--event-id", "a", "--accepted", ".."], &["--tenant", "a", "--accepted", ".."]] {
        let ended = store.klikit(["ledger", "forget", "--yes"].iter().chain(options).copied()).run();
        assert!(ended.code == Some(2) && ended.stderr.matches('\n').count() == 1, "{ended}");
    }
    let ended = store.klikit(["ledger", "forget", "--event-id", "evt-1"]).run();
    ended.assert_error("there is no terminal to ask on: pass --yes");
}
