//! Tests of how the reaction of the handler determines whether a delivery is handled again.

use super::*;

#[tokio::test]
async fn second_copy_is_ignored() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    let stack = stack(&dedupe(), &handler);
    assert_handled(&stack, &delivery()).await;
    assert_duplicate(&stack, &delivery()).await;
    assert_handled(&stack, &delivery().event_id("evt-2")).await;
    assert_eq!(handler.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn copy_in_flight_is_503() {
    let permits = Arc::new(Semaphore::new(0));
    let handler = CountingHandler::new(Reaction::Waits(Arc::clone(&permits)));
    let stack = stack(&dedupe(), &handler);
    let first = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, &delivery()).await }
    });
    while handler.started() == 0 {
        tokio::task::yield_now().await;
    }
    let answer = send(&stack, &delivery()).await;
    answers::assert_unavailable(&answer, "in flight");
    assert_eq!(answer.retry_after, Some(26), "a second more than the lease");

    permits.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn handler_finishes_after_klikit_hangs_up() {
    let handler = CountingHandler::new(Reaction::AnswersAfter(seconds(12)));
    let stack = stack(&dedupe(), &handler);
    let hung_up = tokio::time::timeout(seconds(10), send(&stack, &delivery())).await;
    assert!(hung_up.is_err());
    assert_unavailable(&stack, &delivery(), "in flight").await;
    sleep(seconds(3)).await;
    assert_eq!(handler.finished(), 1);
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!(handler.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn claim_is_renewed_while_the_handler_runs() {
    let handler = CountingHandler::new(Reaction::AnswersAfter(seconds(120)));
    let stack = stack(&dedupe(), &handler);
    assert!(tokio::time::timeout(seconds(10), send(&stack, &delivery())).await.is_err());
    for _ in 0..10 {
        assert_unavailable(&stack, &delivery(), "in flight").await;
        sleep(seconds(10)).await;
    }
    sleep(seconds(20)).await;
    assert_duplicate(&stack, &delivery()).await;
    assert_eq!((handler.started(), handler.finished()), (1, 1));
}

#[tokio::test]
async fn failure_is_handled_again() {
    let handler = CountingHandler::new(Reaction::Answers(500));
    let stack = stack(&dedupe(), &handler);
    for status in [500, 404, 302, 199, 503] {
        handler.set_reaction(Reaction::Answers(status));
        assert_eq!(send(&stack, &delivery()).await, Answer { status, ..answers::ok("handled") });
    }
    handler.set_reaction(Reaction::Fails);
    let error = stack.clone().oneshot(delivery().request::<Full<Bytes>>()).await.unwrap_err();
    assert_eq!(error.to_string(), "the handler failed");
    for status in [204, 200, 299] {
        handler.set_reaction(Reaction::Answers(status));
        let delivery = delivery().event_id(format!("evt-{status}"));
        assert_eq!(send(&stack, &delivery).await.status, status);
        assert_duplicate(&stack, &delivery).await;
    }
    handler.set_reaction(Reaction::Answers(200));
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test]
async fn panic_reaches_the_caller() {
    let handler = CountingHandler::new(Reaction::Panics);
    let stack = stack(&dedupe(), &handler);
    let call = stack.clone().oneshot(delivery().request::<Full<Bytes>>());
    let panic = std::panic::AssertUnwindSafe(call).catch_unwind().await.unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the handler panicked");
    handler.set_reaction(Reaction::Answers(200));
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test(start_paused = true)]
async fn hanging_handler_is_dropped_at_the_deadline() {
    let handler = CountingHandler::new(Reaction::Hangs);
    let stack = stack(&dedupe(), &handler);
    let started = tokio::time::Instant::now();
    assert_unavailable(&stack, &delivery(), "handler timed out").await;
    assert_eq!(started.elapsed(), KlikitDedupeLayer::DEFAULT_HANDLER_DEADLINE);
    handler.set_reaction(Reaction::Answers(200));
    assert_handled(&stack, &delivery()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_64_concurrent_copies_is_handled() {
    for round in 0..20 {
        let handler = CountingHandler::new(Reaction::AnswersAfter(Duration::from_millis(1)));
        let stack = stack(&dedupe(), &handler);
        let copy = delivery().event_id(format!("evt-{round}"));
        let copies: Vec<_> = (0..64)
            .map(|_| {
                let (stack, copy) = (stack.clone(), copy.clone());
                tokio::spawn(async move { send(&stack, &copy).await })
            })
            .collect();
        for answer in futures_util::future::join_all(copies).await {
            let Answer { status, text, .. } = answer.unwrap();
            assert!(status == 503 || (status == 200 && (text == "handled" || text.contains("duplicate-ignored"))));
        }
        assert_eq!(handler.started(), 1);
        assert_duplicate(&stack, &copy).await;
    }
}

#[tokio::test]
async fn missing_verify_layer_is_500() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    let service = dedupe().layer(handler.clone());
    let strip = |mut request: Request<VerifiedBody>| {
        request.extensions_mut().clear();
        request
    };
    let misbuilt = KlikitVerifyLayer::new(SECRET).layer(tower::util::MapRequest::new(service, strip));
    let response = misbuilt.oneshot(delivery().request::<Full<Bytes>>()).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(handler.started(), 0);
}

#[tokio::test]
async fn claim_is_in_the_request_extensions() {
    let handler = CountingHandler::new(Reaction::Answers(200));
    assert_handled(&stack(&dedupe(), &handler), &delivery()).await;
    let claim = handler.last_claim();
    assert_eq!(claim.key(), claim.event());
    assert_eq!(claim.digest(), &tower_klikit::dedupe::BodyDigest::of(BODY.as_bytes()));
}

#[tokio::test]
async fn inner_service_can_take_another_body() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let handler = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let counted = Arc::clone(&counted);
        async move {
            let body = http_body_util::BodyExt::collect(request.into_body()).await?.to_bytes();
            assert_eq!(body, BODY);
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let inner = dedupe().with_body::<Full<Bytes>>().layer(handler);
    let stack = KlikitVerifyLayer::new(SECRET).layer(inner);
    assert_eq!(send(&stack, &delivery()).await.status, 200);
    assert_eq!(send(&stack, &delivery()).await.text, r#"{"status":"duplicate-ignored"}"#);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
