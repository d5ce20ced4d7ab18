//! What becomes of a delivery, by what the handler does with it.

use super::*;

/// Stores one delivery, and has it handled until it is done or dead.
async fn settled(handler: &Handler, set: impl FnOnce(Worker<Handler>) -> Worker<Handler>) -> Inbox {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let worker = Running::start(set(inbox.worker(handler.clone())));
    until_empty(&inbox).await;
    worker.stop().await;
    inbox
}

async fn reason(inbox: &Inbox) -> String {
    let dead = inbox.dead(None, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    dead[0].reason.clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_2xx_is_done_and_nothing_is_left() {
    for status in [200, 201, 204] {
        let handler = Handler::new(Does::Answers(status));
        let inbox = settled(&handler, |worker| worker).await;
        assert_eq!(inbox.counts().await.unwrap(), Counts::default());
        assert_eq!(handler.attempts(), [1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_400_and_a_422_are_dead_at_once() {
    for (status, text) in [(400, "400 Bad Request"), (422, "422 Unprocessable Entity")] {
        let handler = Handler::new(Does::Answers(status));
        let inbox = settled(&handler, |worker| worker).await;
        assert_eq!(inbox.counts().await.unwrap().dead, 1);
        assert_eq!(reason(&inbox).await, text);
        assert_eq!(handler.attempts(), [1]);
    }
}

#[tokio::test(start_paused = true)]
async fn anything_else_is_tried_again() {
    let failures = [
        Does::Answers(500),
        Does::Answers(404),
        Does::Answers(302),
        Does::Answers(409),
        Does::Fails,
        Does::Panics,
        Does::Hangs,
    ];
    for failure in failures {
        let handler = Handler::new(Does::Answers(200)).first([failure]);
        let inbox = settled(&handler, |worker| worker).await;
        assert_eq!(inbox.counts().await.unwrap(), Counts::default());
        assert_eq!(handler.attempts(), [1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_means_can_be_set() {
    let outcome = |status: StatusCode| match status.as_u16() {
        404 => Outcome::Dead,
        409 => Outcome::Done,
        422 => Outcome::Retry,
        _ => Outcome::of(status),
    };
    let handler = Handler::new(Does::Answers(409)).first([Does::Answers(422)]);
    let inbox = settled(&handler, |worker| worker.outcome(outcome)).await;
    assert_eq!((handler.attempts(), inbox.counts().await.unwrap()), (vec![1, 2], Counts::default()));
    let handler = Handler::new(Does::Answers(404));
    let inbox = settled(&handler, |worker| worker.outcome(outcome)).await;
    assert_eq!((handler.attempts(), inbox.counts().await.unwrap().dead), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_it_is_dead() {
    for (failure, text) in [
        (Does::Answers(500), "500 Internal Server Error"),
        (Does::Fails, "the handler failed"),
        (Does::Panics, "the handler panicked"),
        (Does::Hangs, "the handler timed out"),
    ] {
        let handler = Handler::new(failure);
        let inbox = settled(&handler, |worker| worker.max_attempts(3)).await;
        assert_eq!(handler.attempts(), [1, 2, 3]);
        let last: Vec<_> = handler.calls().iter().map(|call| call.is_last).collect();
        assert_eq!(last, [false, false, true]);
        assert_eq!(reason(&inbox).await, text);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_long_error_the_beginning_is_kept() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let handler = tower::service_fn(|_: Request<VerifiedBody>| {
        std::future::ready(Err::<Response<Full<Bytes>>, BoxError>("ü".repeat(1000).into()))
    });
    inbox.worker(handler).max_attempts(1).run_until(until_empty(&inbox)).await;
    assert_eq!(reason(&inbox).await, "ü".repeat(200));
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_with_the_attempts_and_have_an_end() {
    let inbox = inbox();
    let stack = stack(&inbox);
    for number in 0..40 {
        assert_received(&stack, &numbered(number)).await;
    }
    let handler = Handler::new(Does::Answers(500));
    let worker = inbox.worker(handler.clone()).concurrency(40).max_attempts(6).backoff(seconds(100), seconds(400));
    let worker = Running::start(worker);
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
    // It is looked for each second. The chance that none of 40 comes to the upper half is one in 2^40.
    for (n, ceiling) in [100, 200, 400, 400, 400].into_iter().enumerate() {
        assert!(longest[n] <= seconds(ceiling + 1), "{n}: {longest:?}");
        assert!(longest[n] >= seconds(ceiling / 2), "{n}: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_extended_for_as_long_as_the_handler_runs() {
    let store = MemoryStore::new();
    let [one, other] = [(); 2].map(|()| Inbox::new(store.clone()));
    assert_received(&stack(&one), &delivery()).await;
    let handler = Handler::new(Does::AnswersAfter(seconds(250)));
    let workers = [&one, &other].map(|inbox| Running::start(inbox.worker(handler.clone()).lease(seconds(10))));
    until_empty(&one).await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(handler.attempts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_had_when_it_died_is_taken_up_when_its_lease_runs_out() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let handler = Handler::new(Does::Hangs);
    let dies = Running::start(inbox.worker(handler.clone()).lease(seconds(10)));
    until_counts(&inbox, "it is leased", |counts| counts.leased == 1).await;
    let died = Instant::now();
    dies.task.abort();
    assert!(dies.task.await.unwrap_err().is_cancelled());

    handler.now(Does::Answers(200));
    let worker = Running::start(inbox.worker(handler.clone()));
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1, 2]);
    let waited = handler.calls()[1].at - died;
    assert!(waited > seconds(8) && waited < seconds(12), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_kills_its_workers_is_dead_after_its_last_attempt() {
    let inbox = inbox();
    assert_received(&stack(&inbox), &delivery()).await;
    let handler = Handler::new(Does::Hangs);
    for attempt in 1..=3 {
        let worker = inbox.worker(handler.clone()).max_attempts(3).lease(seconds(1));
        let dies = Running::start(worker);
        until("it is begun", async || handler.calls().len() == attempt).await;
        dies.task.abort();
        assert!(dies.task.await.unwrap_err().is_cancelled());
        sleep(seconds(1)).await;
    }
    let worker = Running::start(inbox.worker(handler.clone()).max_attempts(3));
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.attempts(), [1, 2, 3]);
    assert_eq!(reason(&inbox).await, "its lease ran out on its last attempt");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_concurrency_are_handled_at_a_time() {
    let inbox = inbox();
    let stack = stack(&inbox);
    for number in 0..10 {
        assert_received(&stack, &numbered(number)).await;
    }
    let permits = Arc::new(Semaphore::new(0));
    let handler = Handler::new(Does::Waits(Arc::clone(&permits)));
    let worker = Running::start(inbox.worker(handler.clone()).concurrency(4));
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
async fn what_this_process_accepts_is_taken_up_without_waiting_for_the_poll() {
    let inbox = inbox();
    let handler = Handler::new(Does::Answers(200));
    let worker = Running::start(inbox.worker(handler.clone()).poll_interval(seconds(1000)));
    sleep(seconds(1)).await;
    let sent = Instant::now();
    assert_received(&stack(&inbox), &delivery()).await;
    until_empty(&inbox).await;
    assert!(handler.calls()[0].at - sent < seconds(1));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_accept_is_taken_up_by_the_next_poll() {
    let store = MemoryStore::new();
    let [accepts, works] = [(); 2].map(|()| Inbox::new(store.clone()));
    let handler = Handler::new(Does::Answers(200));
    let worker = Running::start(works.worker(handler.clone()).poll_interval(seconds(7)));
    sleep(seconds(1)).await;
    let sent = Instant::now();
    assert_received(&stack(&accepts), &delivery()).await;
    until_empty(&accepts).await;
    assert!(handler.calls()[0].at - sent <= seconds(7));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_busy_is_waited_for() {
    let inbox = inbox();
    for number in 0..4 {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    let permits = Arc::new(Semaphore::new(0));
    let handler = Handler::new(Does::Waits(Arc::clone(&permits)));
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
async fn more_than_can_be_handled_at_once_does_not_wait_for_the_poll() {
    let inbox = inbox();
    for number in 0..10 {
        assert_received(&stack(&inbox), &numbered(number)).await;
    }
    let started = Instant::now();
    let worker = inbox.worker(Handler::new(Does::Answers(200))).concurrency(2).poll_interval(seconds(1000));
    let worker = Running::start(worker);
    until_empty(&inbox).await;
    assert!(started.elapsed() < seconds(100));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_need_not_be_sync() {
    /// With a cell in it, as some clients have.
    #[derive(Clone)]
    struct Single(Handler, std::cell::Cell<u32>);

    impl Service<Request<VerifiedBody>> for Single {
        type Response = Response<Full<Bytes>>;
        type Error = BoxError;
        type Future = <Handler as Service<Request<VerifiedBody>>>::Future;

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
    let handler = Handler::new(Does::Answers(200));
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(inbox.worker(Single(handler.clone(), 0.into())).run_until(stopped));
    until_empty(&inbox).await;
    drop(stop);
    worker.await.unwrap();
    assert_eq!(handler.attempts(), [1]);
}
