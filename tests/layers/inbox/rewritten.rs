//! Tests of copies whose body has the same JSON in other bytes.

use tower_klikit::dedupe::{ConflictPolicy, KlikitDedupeLayer};

use super::{log::Log, *};

const ORIGINAL: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"note":"caf\u00e9","total":1.50}]}"#;
const REWRITTEN: &str = r#"{ "orders": [ {"note": "café", "total": 1.50, "id": 42} ], "branch_id": 2, "brand_id": 1 }"#;

fn copy(body: &str) -> SignedDelivery {
    SignedDelivery::new(SECRET, body.to_owned()).event_id("evt-1")
}

async fn handled(inbox: &Inbox, handler: &ScriptedHandler) {
    inbox.worker(handler.clone()).run_until(until_empty(inbox)).await;
}

#[test]
fn rewritten_copy_of_pending_is_a_duplicate() {
    let log = Log::default();
    let _listening = log.listen();
    log::paused(async {
        for policy in [ConflictPolicy::Process, ConflictPolicy::Reject, ConflictPolicy::SameJson] {
            let inbox = inbox().on_conflict(policy);
            let stack = stack(&inbox);
            assert_received(&stack, &copy(ORIGINAL)).await;
            assert_duplicate(&stack, &copy(REWRITTEN)).await;
            assert_eq!(inbox.counts().await.unwrap().ready, 1);
        }
    });
    let text = log.text();
    let lines =
        text.lines().filter(|line| line.contains("event id reused with a reformatted body: the JSON is the same"));
    // Under `SameJson` the copy is an ordinary duplicate.
    assert_eq!(lines.count(), 2, "{text}");
    assert!(!text.contains("different body") && !text.contains("café"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn rewritten_copy_revives_a_dead_letter() {
    let inbox = inbox();
    let stack = stack(&inbox);
    assert_received(&stack, &copy(ORIGINAL)).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200)).first([Reaction::Answers(422)]);
    handled(&inbox, &handler).await;
    assert_eq!(inbox.counts().await.unwrap().dead, 1);
    assert_received(&stack, &copy(REWRITTEN)).await;
    handled(&inbox, &handler).await;
    assert_eq!(inbox.counts().await.unwrap(), Counts::default());
    assert_eq!(handler.attempts(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn rewritten_copy_of_a_kept_delivery_is_a_duplicate() {
    let inbox = inbox().keep_bodies(seconds(1000));
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    assert_received(&stack, &copy(ORIGINAL)).await;
    handled(&inbox, &handler).await;
    assert_duplicate(&stack, &copy(REWRITTEN)).await;
}

#[tokio::test(start_paused = true)]
async fn rewritten_copy_of_a_deleted_delivery_conflicts() {
    let inbox = inbox();
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    assert_received(&stack, &copy(ORIGINAL)).await;
    handled(&inbox, &handler).await;
    assert_received(&stack, &copy(REWRITTEN)).await;
    // Copies of the conflict are duplicates.
    assert_duplicate(&stack, &copy(REWRITTEN)).await;
}

#[tokio::test(start_paused = true)]
async fn changed_json_conflicts() {
    for changed in [
        REWRITTEN.replace("1.50", "1.5"),
        REWRITTEN.replace("42", "43"),
        REWRITTEN.replace("\"brand_id\": 1", "\"brand_id\": 1, \"brand_id\": 1"),
        REWRITTEN.replace('é', "e"),
    ] {
        for policy in [ConflictPolicy::Process, ConflictPolicy::SameJson] {
            let inbox = inbox().on_conflict(policy);
            let stack = stack(&inbox);
            assert_received(&stack, &copy(ORIGINAL)).await;
            assert_received(&stack, &copy(&changed)).await;
            assert_eq!(inbox.counts().await.unwrap().ready, 2, "{changed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn same_json_outlasts_the_body() {
    let inbox = inbox().on_conflict(ConflictPolicy::SameJson);
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    assert_received(&stack, &copy(ORIGINAL)).await;
    handled(&inbox, &handler).await;
    assert_duplicate(&stack, &copy(REWRITTEN)).await;
    assert_eq!(operator(&inbox).forget_event("default", "evt-1").run().await.unwrap(), 1);
    assert_received(&stack, &copy(REWRITTEN)).await;
}

#[tokio::test]
async fn dedupe_layer_compares_json_if_told_to() {
    for (policy, is_same) in [(ConflictPolicy::Process, false), (ConflictPolicy::SameJson, true)] {
        let layer = KlikitDedupeLayer::new(MemoryStore::new()).on_conflict(policy);
        let handler = tower::service_fn(|_: Request<VerifiedBody>| async {
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::from("handled")))
        });
        let stack = KlikitVerifyLayer::new(SECRET).layer(layer.layer(handler));
        assert_eq!(send(&stack, &copy(ORIGINAL)).await, answers::ok("handled"));
        let expected = if is_same { answers::duplicate() } else { answers::ok("handled") };
        assert_eq!(send(&stack, &copy(REWRITTEN)).await, expected);
    }
}
