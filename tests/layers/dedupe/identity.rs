//! Tests of what identifies a delivery, and of forgetting deliveries.

use super::*;

#[tokio::test]
async fn captured_body_does_not_suppress_real_delivery() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    let stack = stack(&dedupe(), &handler);
    assert_handled(&stack, &other_body()).await;
    assert!(!handler.last_claim().is_conflict());
    assert_handled(&stack, &delivery()).await;
    assert!(handler.last_claim().is_conflict());
    // Retries of each body are duplicates.
    assert_duplicate(&stack, &delivery()).await;
    assert_duplicate(&stack, &other_body()).await;
    assert_eq!(handler.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn captured_body_in_flight_does_not_block() {
    let handler = CountingHandler::new(Reaction::AnswersAfter(seconds(20)));
    let stack = stack(&dedupe(), &handler);
    assert!(tokio::time::timeout(seconds(1), send(&stack, &other_body())).await.is_err());
    handler.set_reaction(Reaction::Answers(200));
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test]
async fn conflict_policies_trust_or_reject() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    let trusting = stack(&dedupe().on_conflict(ConflictPolicy::TrustEventId), &handler);
    assert_handled(&trusting, &delivery()).await;
    assert_duplicate(&trusting, &other_body()).await;

    let rejecting = stack(&dedupe().on_conflict(ConflictPolicy::Reject), &handler);
    assert_handled(&rejecting, &delivery()).await;
    let answer = send(&rejecting, &other_body()).await;
    assert_eq!((answer.status, &*answer.text), (409, r#"{"error":"event id known with another body"}"#));
    assert_duplicate(&rejecting, &delivery()).await;
    assert_eq!(handler.started(), 2);
}

#[tokio::test]
async fn identity_body_ignores_the_id() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    let stack = stack(&dedupe().identity(Identity::Body), &handler);
    assert_handled(&stack, &delivery()).await;
    assert_duplicate(&stack, &delivery().event_id("evt-2")).await;
    assert_handled(&stack, &other_body()).await;
}

#[tokio::test]
async fn delivery_without_id_is_identified_by_body() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    let stack = stack(&dedupe(), &handler);
    assert_handled(&stack, &delivery().without_header(&EVENT_ID)).await;
    assert_duplicate(&stack, &delivery().without_header(&EVENT_ID)).await;
    assert_handled(&stack, &other_body().without_header(&EVENT_ID)).await;
    assert_handled(&stack, &delivery()).await;
}

fn keyring(tenant: &str, id: &str, secret: &str) -> Keyring {
    Keyring::new(tenant, id, WebhookSecret::new(secret).unwrap())
}

#[tokio::test]
async fn retry_with_rotated_secret_is_a_duplicate() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    let keyring = keyring("warung", "old", "old secret");
    let stack = KlikitVerifyLayer::with_keyring(keyring.clone()).layer(dedupe().layer(handler.clone()));
    assert_handled(&stack, &SignedDelivery::new("old secret", BODY).event_id("evt-1")).await;
    keyring.add("new", WebhookSecret::new("new secret").unwrap()).unwrap();
    keyring.retire("old").unwrap();
    assert_duplicate(&stack, &SignedDelivery::new("new secret", BODY).event_id("evt-1")).await;
}

#[tokio::test]
async fn tenants_are_separate_unless_they_share_a_scope() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    for shared in [false, true] {
        let layer = if shared { dedupe().scope("all") } else { dedupe() };
        let tenant = |name: &str| {
            KlikitVerifyLayer::with_keyring(keyring(name, "1", SECRET)).layer(layer.layer(handler.clone()))
        };
        assert_handled(&tenant("warung"), &delivery()).await;
        if shared {
            assert_duplicate(&tenant("kedai"), &delivery()).await;
        } else {
            assert_handled(&tenant("kedai"), &delivery()).await;
        }
    }
}

#[tokio::test]
async fn forgotten_delivery_is_handled_again() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    let layer = dedupe();
    let stack = stack(&layer, &handler);
    let without_id = delivery().without_header(&EVENT_ID);
    for delivery in [&delivery(), &other_body(), &without_id] {
        assert_handled(&stack, delivery).await;
    }
    assert_eq!(layer.forget("kedai", "evt-1").await.unwrap(), 0);
    assert_eq!(layer.forget("default", "evt-1").await.unwrap(), 2, "the delivery and the conflict");
    assert_handled(&stack, &delivery()).await;
    assert_handled(&stack, &other_body()).await;

    assert_duplicate(&stack, &without_id).await;
    assert_eq!(layer.forget_body("default", BODY).await.unwrap(), 1);
    assert_handled(&stack, &without_id).await;

    let (before, soon) = (SystemTime::now() - seconds(60), SystemTime::now() + seconds(60));
    assert_eq!(layer.forget_received(before - seconds(60)..before).await.unwrap(), 0);
    assert_eq!(layer.forget_received(before..soon).await.unwrap(), 3);
    assert_handled(&stack, &without_id).await;
}
