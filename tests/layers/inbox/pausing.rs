//! Tests of pauses.

use tower_klikit::inbox::{DeliveryState, Filter, Pause};

use super::*;

const CREATED: &str = "klikit.order.created.v2";
const UPDATED: &str = "klikit.order.status.updated";

#[tokio::test(start_paused = true)]
async fn paused_event_type_is_not_handled() {
    let inbox = inbox();
    let stack = stack(&inbox);
    let pause = Pause::everything().event_type(CREATED);
    assert_eq!(operator(&inbox).pause(&pause).await.unwrap(), 0);
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    assert_received(&stack, &numbered(0).event_type(CREATED)).await;
    assert_received(&stack, &numbered(1).event_type(UPDATED)).await;
    sleep(seconds(100)).await;
    assert_eq!(handler.begun(), ["evt-1"]);
    let active = inbox.pauses().await.unwrap();
    assert_eq!((active.len(), &active[0].pause, &*active[0].operator), (1, &pause, "ana"));
    assert!(operator(&inbox).resume(&pause).await.unwrap());
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.begun(), ["evt-1", "evt-0"]);
    assert!(inbox.pauses().await.unwrap().is_empty());
    assert!(!operator(&inbox).resume(&pause).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn resuming_does_not_wait_for_the_poll() {
    let inbox = inbox();
    let pause = Pause::everything();
    operator(&inbox).pause(&pause).await.unwrap();
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let worker = RunningWorker::start(inbox.worker(handler).poll_interval(seconds(1000)));
    assert_received(&stack(&inbox), &delivery()).await;
    sleep(seconds(1)).await;
    let resumed = Instant::now();
    operator(&inbox).resume(&pause).await.unwrap();
    until_empty(&inbox).await;
    assert!(resumed.elapsed() < seconds(100));
    worker.stop().await;
}

/// Two nodes share a store. Within two seconds of a pause, neither starts a handler.
#[tokio::test(start_paused = true)]
async fn pause_holds_on_all_nodes() {
    let store = MemoryStore::new();
    let (one, other) = (Inbox::new(store.clone()), Inbox::new(store));
    let warung = stack_for(&one, "warung");
    let handlers = [&one, &other].map(|_| ScriptedHandler::new(Reaction::AnswersAfter(Duration::from_millis(100))));
    let workers = [(&one, &handlers[0]), (&other, &handlers[1])]
        .map(|(inbox, handler)| RunningWorker::start(inbox.worker(handler.clone()).concurrency(1).prefetch(10)));
    for number in 0..400 {
        assert_received(&warung, &numbered(number)).await;
    }
    sleep(seconds(5)).await;
    operator(&one).pause(&Pause::everything().tenant("warung")).await.unwrap();
    sleep(seconds(2)).await;
    let begun = || handlers.iter().map(|handler| handler.begun().len()).sum::<usize>();
    let when_paused = begun();
    assert!(when_paused < 350, "{when_paused}");
    sleep(seconds(60)).await;
    assert_eq!(begun(), when_paused);
    // Another tenant is not affected.
    assert_received(&stack_for(&other, "kedai"), &numbered(0)).await;
    sleep(seconds(5)).await;
    assert_eq!(begun(), when_paused + 1);
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn running_handler_is_not_interrupted() {
    let inbox = inbox();
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(seconds(100)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    assert_received(&stack(&inbox), &delivery()).await;
    sleep(seconds(1)).await;
    assert_eq!(operator(&inbox).pause(&Pause::everything()).await.unwrap(), 0);
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.done(), ["evt-1"]);
    assert_eq!(inbox.counts().await.unwrap(), Counts::default());
}

/// The deliveries wait in the worker for a free handler.
#[tokio::test(start_paused = true)]
async fn pause_releases_what_has_not_started() {
    let inbox = inbox();
    let stack = stack(&inbox);
    let handler = ScriptedHandler::new(Reaction::AnswersAfter(Duration::from_millis(50)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()).concurrency(2).prefetch(20));
    for number in 0..300 {
        assert_received(&stack, &numbered(number)).await;
    }
    let mut released = 0;
    for _ in 0..100 {
        sleep(Duration::from_millis(10)).await;
        let pause = Pause::everything();
        released = operator(&inbox).pause(&pause).await.unwrap();
        if released > 0 {
            break;
        }
        operator(&inbox).resume(&pause).await.unwrap();
    }
    assert!(released > 0);
    let running = handler.begun().len();
    sleep(seconds(60)).await;
    assert_eq!((handler.begun().len(), handler.done().len()), (running, running));
    let ready = inbox.find(&Filter::new().states([DeliveryState::Ready]), None, 1000).await.unwrap().entries;
    assert_eq!(ready.len(), 300 - running);
    assert!(ready.iter().all(|entry| entry.attempts == 0));
    worker.stop().await;
}
