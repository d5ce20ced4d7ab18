//! Tests of the acceptor's responses.

use tower_klikit::dedupe::{ConflictPolicy, Identity, KlikitDedupeLayer};

use super::*;

#[tokio::test(start_paused = true)]
async fn second_copy_is_a_duplicate() {
    let inbox = inbox();
    let stack = stack(&inbox);
    assert_received(&stack, &delivery()).await;
    assert_duplicate(&stack, &delivery()).await;
    assert_received(&stack, &numbered(2)).await;
    assert_eq!(inbox.counts().await.unwrap().ready, 2);
}

#[tokio::test(start_paused = true)]
async fn copy_of_a_handled_delivery_is_a_duplicate() {
    let inbox = inbox();
    let stack = stack(&inbox);
    assert_received(&stack, &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(60)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    until_counts(&inbox, "the delivery is leased", |counts| counts.leased == 1).await;
    assert_duplicate(&stack, &delivery()).await;
    until_empty(&inbox).await;
    assert_duplicate(&stack, &delivery()).await;
    worker.stop().await;
    assert_eq!(handler.done(), ["evt-1"]);
}

#[tokio::test(start_paused = true)]
async fn unverified_request_is_500_and_not_stored() {
    let inbox = inbox();
    let verified = Mutex::new(None);
    // Take a verified request and clear its extensions.
    let strip = tower::service_fn(|mut request: Request<VerifiedBody>| {
        request.extensions_mut().clear();
        *verified.lock().unwrap() = Some(request);
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default())))
    });
    let request = delivery().request::<Full<Bytes>>();
    let _ = KlikitVerifyLayer::new(SECRET).layer(strip).oneshot(request).await.unwrap();
    let request = verified.lock().unwrap().take().unwrap();
    let answer = inbox.acceptor().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(inbox.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn conflict_is_handled_and_flagged() {
    let inbox = inbox();
    let stack = stack(&inbox);
    assert_received(&stack, &delivery()).await;
    assert_received(&stack, &other_body()).await;
    assert_duplicate(&stack, &other_body()).await;
    assert_duplicate(&stack, &delivery()).await;

    let conflicts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&conflicts);
    let handler = tower::service_fn(move |request: Request<VerifiedBody>| {
        let conflict = request.extensions().get::<Attempt>().unwrap().is_conflict();
        seen.lock().unwrap().push((request.into_body().into_bytes(), conflict));
        std::future::ready(Ok::<_, BoxError>(Response::new(Full::<Bytes>::default())))
    });
    let emptied = until_empty(&inbox).map(drop);
    inbox.worker(handler).concurrency(1).run_until(emptied).await;
    let bodies = [delivery().body().clone(), other_body().body().clone()];
    assert_eq!(*conflicts.lock().unwrap(), [(bodies[0].clone(), false), (bodies[1].clone(), true)]);
}

#[tokio::test(start_paused = true)]
async fn conflict_can_be_rejected() {
    let inbox = inbox().on_conflict(ConflictPolicy::Reject);
    let stack = stack(&inbox);
    assert_received(&stack, &delivery()).await;
    assert_eq!(send(&stack, &other_body()).await.status, 409);
    assert_eq!(inbox.counts().await.unwrap().ready, 1);
}

#[tokio::test(start_paused = true)]
async fn trusted_id_still_revives_a_dead_letter() {
    let inbox = inbox().on_conflict(ConflictPolicy::TrustEventId);
    let stack = stack(&inbox);
    assert_received(&stack, &delivery()).await;
    assert_duplicate(&stack, &other_body()).await;
    let handler = ScriptedHandler::new(Reaction::Answers(422));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    until_counts(&inbox, "the delivery is dead", |counts| counts.dead == 1).await;
    handler.set_reaction(Reaction::Answers(200));
    assert_received(&stack, &other_body()).await;
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.done(), ["evt-1", "evt-1"]);
}

#[tokio::test(start_paused = true)]
async fn deliveries_can_be_identified_by_body() {
    let inbox = inbox().identity(Identity::Body);
    let stack = stack(&inbox);
    assert_received(&stack, &delivery()).await;
    assert_duplicate(&stack, &delivery().event_id("evt-2")).await;
    assert_received(&stack, &other_body()).await;
}

#[tokio::test(start_paused = true)]
async fn delivery_without_id_is_identified_by_body() {
    let inbox = inbox();
    let stack = stack(&inbox);
    let anonymous = delivery().without_header(&tower_klikit::header::EVENT_ID);
    assert_received(&stack, &anonymous).await;
    assert_duplicate(&stack, &anonymous).await;
}

#[tokio::test(start_paused = true)]
async fn tenants_are_separate_unless_they_share_a_scope() {
    let tenant = |name: &str| Keyring::new(name, "1", WebhookSecret::new(SECRET).unwrap());
    let stacks = |inbox: &Inbox| {
        ["warung", "kedai"].map(|name| KlikitVerifyLayer::with_keyring(tenant(name)).layer(inbox.acceptor()))
    };
    let [one, other] = stacks(&inbox());
    assert_received(&one, &delivery()).await;
    assert_received(&other, &delivery()).await;
    let [one, other] = stacks(&inbox().scope("all"));
    assert_received(&one, &delivery()).await;
    assert_duplicate(&other, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn delivery_handled_by_dedupe_layer_is_duplicate() {
    let store = MemoryStore::new();
    let inbox = Inbox::new(store.clone());
    let inline =
        KlikitVerifyLayer::new(SECRET).layer(KlikitDedupeLayer::new(store).layer(crate::support::Handler::default()));
    let answer = inline.oneshot(delivery().request::<Full<Bytes>>()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_duplicate(&stack(&inbox), &delivery()).await;
    assert_eq!(inbox.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn delivery_in_flight_in_dedupe_layer_is_503() {
    let store = MemoryStore::new();
    let hangs = tower::service_fn(|_: Request<VerifiedBody>| pending::<Result<Response<Full<Bytes>>, BoxError>>());
    let inline = KlikitVerifyLayer::new(SECRET).layer(KlikitDedupeLayer::new(store.clone()).layer(hangs));
    assert!(
        tokio::time::timeout(seconds(1), inline.oneshot(delivery().request::<Full<Bytes>>())).await.is_err(),
        "the handler hangs"
    );
    assert_unavailable(&stack(&Inbox::new(store)), &delivery(), "in flight").await;
}

#[tokio::test(start_paused = true)]
async fn retention_ends_but_not_while_pending() {
    let inbox = inbox().retention(seconds(100));
    let stack = stack(&inbox);
    assert_received(&stack, &delivery()).await;
    sleep(seconds(200)).await;
    assert_duplicate(&stack, &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    until_empty(&inbox).await;
    assert_duplicate(&stack, &delivery()).await;
    sleep(seconds(200)).await;
    assert_received(&stack, &delivery()).await;
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.done().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn full_backlog_is_503_until_it_shrinks() {
    let inbox = inbox().max_backlog(3);
    let stack = stack(&inbox);
    for number in 0..3 {
        assert_received(&stack, &numbered(number)).await;
    }
    assert_unavailable(&stack, &numbered(3), "backlog full").await;
    assert_eq!(inbox.counts().await.unwrap().ready, 3);

    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))));
    until_empty(&inbox).await;
    sleep(Duration::from_millis(100)).await;
    assert_received(&stack, &numbered(3)).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_other_nodes_fill_the_backlog() {
    let store = MemoryStore::new();
    let [one, other] = [(); 2].map(|()| stack(&Inbox::new(store.clone()).max_backlog(10)));
    assert_received(&one, &numbered(0)).await;
    for number in 1..10 {
        assert_received(&other, &numbered(number)).await;
    }
    sleep(seconds(1)).await;
    // Accepted by the old count. A new count is made in the background.
    assert_eq!(send(&one, &numbered(10)).await.status, 200);
    sleep(Duration::from_millis(1)).await;
    assert_unavailable(&one, &numbered(11), "backlog full").await;
}

#[tokio::test(start_paused = true)]
async fn dead_letter_does_not_fill_the_backlog() {
    let inbox = inbox().max_backlog(1);
    let stack = stack(&inbox);
    let worker = RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(422))));
    for number in 0..3 {
        assert_received(&stack, &numbered(number)).await;
        until_empty(&inbox).await;
        sleep(seconds(1)).await;
    }
    worker.stop().await;
    assert_eq!(inbox.counts().await.unwrap().dead, 3);
}

#[tokio::test(start_paused = true)]
async fn copies_do_not_fill_the_backlog() {
    let inbox = inbox().max_backlog(3);
    let stack = stack(&inbox);
    for _ in 0..10 {
        assert_eq!(send(&stack, &delivery()).await.status, 200);
    }
    assert_received(&stack, &numbered(2)).await;
    assert_received(&stack, &numbered(3)).await;
    assert_unavailable(&stack, &numbered(4), "backlog full").await;
}
