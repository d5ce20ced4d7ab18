//! Tests of how a worker handles deliveries, by the reaction of the handler and by its settings.

use super::*;

/// Stores a delivery and runs a worker until the delivery is done or dead.
async fn settled(
    handler: &ScriptedHandler,
    set: impl FnOnce(Worker<ScriptedHandler>) -> Worker<ScriptedHandler>,
) -> Inbox {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let worker = RunningWorker::start(set(inbox.worker(handler.clone())));
    until_empty(&inbox).await;
    worker.stop().await;
    inbox
}

/// Returns the reason of the only dead letter.
async fn reason(inbox: &Inbox) -> String {
    let dead = inbox.dead(None, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    dead[0].reason.clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn success_deletes_the_delivery() {
    for status in [200, 201, 204] {
        let handler = ScriptedHandler::new(Reaction::Answers(status));
        let inbox = settled(&handler, |worker| worker).await;
        assert_eq!(inbox.counts().await.unwrap(), Counts::default());
        assert_eq!(handler.attempts(), [1]);
    }
}

#[tokio::test(start_paused = true)]
async fn client_errors_dead_letter_at_once() {
    for (status, text) in [(400, "400 Bad Request"), (422, "422 Unprocessable Entity")] {
        let handler = ScriptedHandler::new(Reaction::Answers(status));
        let inbox = settled(&handler, |worker| worker).await;
        assert_eq!(inbox.counts().await.unwrap().dead, 1);
        assert_eq!(reason(&inbox).await, text);
        assert_eq!(handler.attempts(), [1]);
    }
}

#[tokio::test(start_paused = true)]
async fn other_failures_are_retried() {
    let failures = [
        Reaction::Answers(500),
        Reaction::Answers(404),
        Reaction::Answers(302),
        Reaction::Answers(409),
        Reaction::Fails,
        Reaction::Panics,
        Reaction::Hangs,
    ];
    for failure in failures {
        let handler = ScriptedHandler::new(Reaction::Answers(200)).first([failure]);
        let inbox = settled(&handler, |worker| worker).await;
        assert_eq!(inbox.counts().await.unwrap(), Counts::default());
        assert_eq!(handler.attempts(), [1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn meaning_of_a_status_can_be_set() {
    let outcome = |status: StatusCode| match status.as_u16() {
        404 => Outcome::Dead,
        409 => Outcome::Done,
        422 => Outcome::Retry,
        _ => Outcome::of(status),
    };
    let handler = ScriptedHandler::new(Reaction::Answers(409)).first([Reaction::Answers(422)]);
    let inbox = settled(&handler, |worker| worker.outcome(outcome)).await;
    assert_eq!((handler.attempts(), inbox.counts().await.unwrap()), (vec![1, 2], Counts::default()));
    let handler = ScriptedHandler::new(Reaction::Answers(404));
    let inbox = settled(&handler, |worker| worker.outcome(outcome)).await;
    assert_eq!((handler.attempts(), inbox.counts().await.unwrap().dead), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn last_failed_attempt_dead_letters() {
    for (failure, text) in [
        (Reaction::Answers(500), "500 Internal Server Error"),
        (Reaction::Fails, "the handler failed"),
        (Reaction::Panics, "the handler panicked"),
        (Reaction::Hangs, "the handler timed out"),
    ] {
        let handler = ScriptedHandler::new(failure);
        let inbox = settled(&handler, |worker| worker.max_attempts(3)).await;
        assert_eq!(handler.attempts(), [1, 2, 3]);
        let last: Vec<_> = handler.calls().iter().map(|call| call.is_last).collect();
        assert_eq!(last, [false, false, true]);
        assert_eq!(reason(&inbox).await, text);
    }
}

#[tokio::test(start_paused = true)]
async fn long_error_is_cut() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let handler = tower::service_fn(|_: Request<VerifiedBody>| {
        std::future::ready(Err::<Response<Full<Bytes>>, BoxError>("ü".repeat(1000).into()))
    });
    inbox.worker(handler).max_attempts(1).run_until(until_empty(&inbox)).await;
    assert_eq!(reason(&inbox).await, "ü".repeat(200));
}

#[tokio::test(start_paused = true)]
async fn backoff_grows_up_to_a_limit() {
    let inbox = inbox();
    let stack = stack(&inbox);
    for number in 0..40 {
        assert_received(&stack, &numbered(number)).await;
    }
    let handler = ScriptedHandler::new(Reaction::Answers(500));
    let worker = inbox.worker(handler.clone()).concurrency(40).max_attempts(6).backoff(seconds(100), seconds(400));
    let worker = RunningWorker::start(worker);
    until_empty(&inbox).await;
    worker.stop().await;

    let mut longest = [Duration::ZERO; 5];
    let calls = handler.calls();
    for number in 0..40 {
        let id = format!("evt-{number}");
        let times: Vec<_> = calls.iter().filter(|call| call.event_id == id).map(|call| call.at).collect();
        assert_eq!(times.len(), 6);
        for (n, pair) in times.windows(2).enumerate() {
            longest[n] = longest[n].max(pair[1] - pair[0]);
        }
    }
    // The worker polls each second. Each pause is above half of its ceiling with a chance of 1 in 2, so the chance that
    // none of 40 pauses is above it is 1 in 2^40.
    for (n, ceiling) in [100, 200, 400, 400, 400].into_iter().enumerate() {
        assert!(longest[n] <= seconds(ceiling + 1), "{n}: {longest:?}");
        assert!(longest[n] >= seconds(ceiling / 2), "{n}: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lease_is_extended_while_the_handler_runs() {
    let store = MemoryStore::new();
    let [one, other] = [(); 2].map(|()| Inbox::new(store.clone()));
    assert_received(&stack(&one), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(250)));
    let workers = [&one, &other].map(|inbox| RunningWorker::start(inbox.worker(handler.clone()).lease(seconds(10))));
    until_empty(&one).await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(handler.attempts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn redelivers_after_worker_death() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::Hangs);
    let dies = RunningWorker::start(inbox.worker(handler.clone()).lease(seconds(10)));
    until_counts(&inbox, "the delivery is leased", |counts| counts.leased == 1).await;
    let died = Instant::now();
    dies.task.abort();
    assert!(dies.task.await.unwrap_err().is_cancelled());

    handler.set_reaction(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1, 2]);
    let waited = handler.calls()[1].at - died;
    assert!(waited > seconds(8) && waited < seconds(12), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_a_delivery_that_kills_workers() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::Hangs);
    for attempt in 1..=3 {
        let worker = inbox.worker(handler.clone()).max_attempts(3).lease(seconds(1));
        let dies = RunningWorker::start(worker);
        until("the handler has started", async || handler.calls().len() == attempt).await;
        dies.task.abort();
        assert!(dies.task.await.unwrap_err().is_cancelled());
        sleep(seconds(1)).await;
    }
    let worker = RunningWorker::start(inbox.worker(handler.clone()).max_attempts(3));
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1, 2, 3]);
    assert_eq!(reason(&inbox).await, LEASE_EXPIRED);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_respected() {
    let inbox = inbox();
    let stack = stack(&inbox);
    for number in 0..10 {
        assert_received(&stack, &numbered(number)).await;
    }
    let permits = Arc::new(Semaphore::new(0));
    let handler = ScriptedHandler::new(Reaction::Waits(Arc::clone(&permits)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).concurrency(4));
    for done in 0..=6 {
        sleep(seconds(5)).await;
        assert_eq!((handler.done().len(), handler.calls().len()), (done, done + 4));
        permits.add_permits(1);
    }
    permits.add_permits(10);
    until_empty(&inbox).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn own_deliveries_do_not_wait_for_the_poll() {
    let inbox = inbox();
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).poll_interval(seconds(1000)));
    sleep(seconds(1)).await;
    let sent = Instant::now();
    assert_received(&stack(&inbox), &delivery()).await;
    until_empty(&inbox).await;
    assert!(handler.calls()[0].at - sent < seconds(1));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_others_wait_for_the_poll() {
    let store = MemoryStore::new();
    let [accepts, works] = [(); 2].map(|()| Inbox::new(store.clone()));
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(works.worker(handler.clone()).poll_interval(seconds(7)));
    sleep(seconds(1)).await;
    let sent = Instant::now();
    assert_received(&stack(&accepts), &delivery()).await;
    until_empty(&accepts).await;
    assert!(handler.calls()[0].at - sent <= seconds(7));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn worker_waits_until_the_handler_is_ready() {
    let inbox = inbox();
    for number in 0..4 {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    let permits = Arc::new(Semaphore::new(0));
    let handler = ScriptedHandler::new(Reaction::Waits(Arc::clone(&permits)));
    let limited = tower::limit::ConcurrencyLimit::new(handler.clone(), 1);
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(inbox.worker(limited).run_until(stopped));
    for begun in 1..=4 {
        sleep(seconds(40)).await;
        assert_eq!(handler.calls().len(), begun);
        permits.add_permits(1);
    }
    until_empty(&inbox).await;
    drop(stop);
    worker.await.unwrap();
    assert_eq!(handler.attempts(), [1; 4]);
}

#[tokio::test(start_paused = true)]
async fn backlog_does_not_wait_for_the_poll() {
    let inbox = inbox();
    for number in 0..10 {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    let started = Instant::now();
    let worker = inbox.worker(ScriptedHandler::new(Reaction::Answers(200))).concurrency(2).poll_interval(seconds(1000));
    let worker = RunningWorker::start(worker);
    until_empty(&inbox).await;
    assert!(started.elapsed() < seconds(100));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn handler_need_not_be_sync() {
    /// A handler that is not `Sync`, because it contains a cell.
    #[derive(Clone)]
    struct Single(ScriptedHandler, std::cell::Cell<u32>);

    impl Service<Request<VerifiedBody>> for Single {
        type Response = Response<Full<Bytes>>;
        type Error = BoxError;
        type Future = <ScriptedHandler as Service<Request<VerifiedBody>>>::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
            self.1.set(self.1.get() + 1);
            self.0.call(request)
        }
    }

    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(inbox.worker(Single(handler.clone(), 0.into())).run_until(stopped));
    until_empty(&inbox).await;
    drop(stop);
    worker.await.unwrap();
    assert_eq!(handler.attempts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn extreme_times_are_accepted() {
    for time in [Duration::ZERO, Duration::MAX] {
        let handler = ScriptedHandler::new(Reaction::Answers(200)).first([Reaction::Answers(500)]);
        let inbox = settled(&handler, |worker| {
            let worker = worker.lease(time).handler_deadline(Duration::MAX).drain_deadline(time);
            worker.backoff(Duration::ZERO, time).poll_interval(time.min(seconds(10)))
        });
        assert_eq!(inbox.await.counts().await.unwrap(), Counts::default());
        assert_eq!(handler.attempts(), [1, 2]);
    }
    // The worker never polls within the test. The acceptor wakes it.
    let inbox = inbox();
    let worker =
        RunningWorker::start(inbox.worker(ScriptedHandler::new(Reaction::Answers(200))).poll_interval(Duration::MAX));
    assert_received(&stack(&inbox), &delivery()).await;
    until_empty(&inbox).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn panic_in_user_code_is_a_failed_attempt() {
    #[derive(Debug)]
    struct Unspeakable;

    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no words for it")
        }
    }

    impl std::error::Error for Unspeakable {}

    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let handler = tower::service_fn(|_: Request<VerifiedBody>| {
        std::future::ready(Err::<Response<Full<Bytes>>, BoxError>(Unspeakable.into()))
    });
    inbox.worker(handler).max_attempts(2).run_until(until_empty(&inbox)).await;
    assert_eq!(reason(&inbox).await, "the handler panicked");

    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let inbox = settled(&handler, |worker| worker.max_attempts(2).outcome(|_| panic!("no idea"))).await;
    assert_eq!(handler.attempts(), [1, 2]);
    assert_eq!(reason(&inbox).await, "the function that judges outcomes panicked on 200 OK");
}

#[tokio::test(start_paused = true)]
async fn poison_delivery_does_not_take_others_with_it() {
    let inbox = inbox();
    for number in 0..8 {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    // The worker that starts `evt-0` crashes at once, with all deliveries that it holds.
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(Duration::from_millis(20)));
    for _ in 0..25 {
        let dies = RunningWorker::start(inbox.worker(handler.clone()).lease(seconds(1)));
        let before = handler.begun().iter().filter(|id| *id == "evt-0").count();
        let poison = async || handler.begun().iter().filter(|id| *id == "evt-0").count() > before;
        for _ in 0..2_000 {
            if poison().await || inbox.counts().await.unwrap().backlog() == 0 {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        dies.task.abort();
        let _ = dies.task.await;
        sleep(seconds(1)).await;
    }
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    until_empty(&inbox).await;
    worker.stop().await;
    let dead = inbox.dead(None, 10).await.unwrap();
    let dead: Vec<_> = dead.iter().map(|entry| entry.event_id().unwrap()).collect();
    assert_eq!(dead, ["evt-0"]);
}
