//! Tests of ordering keys: deliveries that share a key are handled one after the other.

use super::{log::Log, *};

/// Returns the delivery `evt-{number}` for a branch, with orders of these ids.
fn for_branch(branch: u32, orders: &[u32], number: usize) -> SignedDelivery {
    let orders: Vec<_> = orders.iter().map(|id| format!(r#"{{"id":{id}}}"#)).collect();
    let body = format!(r#"{{"brand_id":1,"branch_id":{branch},"orders":[{}]}}"#, orders.join(","));
    SignedDelivery::new(SECRET, body).event_id(format!("evt-{number}"))
}

/// Creates an inbox that has accepted these deliveries.
async fn inbox_with(order_by: OrderBy, deliveries: &[SignedDelivery]) -> Inbox {
    let inbox = inbox().order_by(order_by);
    let stack = stack(&inbox);
    for delivery in deliveries {
        assert_received(&stack, delivery).await;
        sleep(Duration::from_millis(1)).await;
    }
    inbox
}

/// Returns the event ids of the deliveries with these numbers.
fn event_ids(numbers: &[usize]) -> Vec<String> {
    numbers.iter().map(|number| format!("evt-{number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn unordered_deliveries_do_not_block_each_other() {
    let inbox = inbox_with(OrderBy::nothing(), &[for_branch(7, &[1], 0), for_branch(7, &[1], 1)]).await;
    let handler = ScriptedHandler::new(Reaction::Hangs);
    let worker = RunningWorker::start(inbox.worker(handler.clone()).drain_deadline(seconds(0)));
    sleep(seconds(1)).await;
    assert_eq!(handler.begun().len(), 2);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failing_delivery_blocks_only_its_branch() {
    let deliveries = [
        for_branch(7, &[1], 0),
        for_branch(7, &[2], 1),
        for_branch(8, &[3], 2),
        for_branch(7, &[4], 3),
        for_branch(8, &[5], 4),
    ];
    let inbox = inbox_with(OrderBy::branch(), &deliveries).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200)).first([Reaction::Answers(500), Reaction::Answers(200)]);
    let worker = inbox.worker(handler.clone()).concurrency(16).backoff(seconds(100), seconds(100));
    let worker = RunningWorker::start(worker);
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.begun()[..2], event_ids(&[0, 2]));
    let branch =
        |ids: &[usize]| -> Vec<_> { handler.begun().into_iter().filter(|id| event_ids(ids).contains(id)).collect() };
    assert_eq!(branch(&[0, 1, 3]), event_ids(&[0, 0, 1, 3]));
    assert_eq!(branch(&[2, 4]), event_ids(&[2, 4]));
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_one_key_run_one_by_one() {
    let deliveries: Vec<_> = (0..10).map(|number| for_branch(7, &[1], number)).collect();
    let inbox = inbox_with(OrderBy::order(), &deliveries).await;
    let permits = Arc::new(Semaphore::new(0));
    let handler = ScriptedHandler::new(Reaction::Waits(Arc::clone(&permits)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    for done in 0..10 {
        sleep(seconds(5)).await;
        assert_eq!((handler.begun().len(), handler.done().len()), (done + 1, done));
        permits.add_permits(1);
    }
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.done(), event_ids(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
}

#[tokio::test(start_paused = true)]
async fn unblocked_delivery_does_not_wait_for_the_poll() {
    let inbox =
        inbox_with(OrderBy::order(), &[for_branch(7, &[1], 0), for_branch(7, &[1], 1), for_branch(7, &[1], 2)]).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200));
    let started = Instant::now();
    let worker = RunningWorker::start(inbox.worker(handler.clone()).poll_interval(seconds(1000)));
    until_empty(&inbox).await;
    assert!(started.elapsed() < seconds(100));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn batch_waits_for_each_order_and_blocks_each() {
    let deliveries = [
        for_branch(7, &[1], 0),
        for_branch(7, &[2], 1),
        for_branch(7, &[1, 2], 2),
        for_branch(7, &[2], 3),
        for_branch(7, &[1], 4),
    ];
    let inbox = inbox_with(OrderBy::order(), &deliveries).await;
    let permits = Arc::new(Semaphore::new(0));
    let handler = ScriptedHandler::new(Reaction::Waits(Arc::clone(&permits)));
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    sleep(seconds(5)).await;
    assert_eq!(handler.begun(), event_ids(&[0, 1]));
    permits.add_permits(1);
    sleep(seconds(5)).await;
    assert_eq!(handler.begun(), event_ids(&[0, 1]));
    permits.add_permits(1);
    sleep(seconds(5)).await;
    assert_eq!(handler.begun(), event_ids(&[0, 1, 2]));
    permits.add_permits(1);
    sleep(seconds(5)).await;
    assert_eq!(handler.begun()[..3], event_ids(&[0, 1, 2]));
    assert_eq!(handler.begun().len(), 5);
    permits.add_permits(2);
    until_empty(&inbox).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dead_letter_does_not_block() {
    let inbox = inbox_with(OrderBy::branch(), &[for_branch(7, &[1], 0), for_branch(7, &[2], 1)]).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200)).first([Reaction::Answers(422)]);
    let worker = RunningWorker::start(inbox.worker(handler.clone()));
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.begun(), event_ids(&[0, 1]));
    assert_eq!(inbox.counts().await.unwrap().dead, 1);
}

#[tokio::test(start_paused = true)]
async fn custom_keys_order_deliveries() {
    let key = |delivery: &tower_klikit::Delivery, _: &[u8]| {
        let id = delivery.event_id().unwrap().as_str();
        vec![id[id.len() - 1..].to_owned()]
    };
    let deliveries =
        [for_branch(7, &[1], 11), for_branch(7, &[1], 12), for_branch(8, &[2], 21), for_branch(8, &[2], 22)];
    let inbox = inbox_with(OrderBy::keys(key), &deliveries).await;
    let handler = ScriptedHandler::new(Reaction::Hangs);
    let worker = RunningWorker::start(inbox.worker(handler.clone()).drain_deadline(seconds(0)));
    sleep(seconds(1)).await;
    worker.stop().await;
    assert_eq!(handler.begun(), event_ids(&[11, 12]));
}

#[tokio::test(start_paused = true)]
async fn delivery_without_key_is_not_blocked() {
    let bodies = [r"not json", r"{}", r#"{"branch_id":null}"#, r#"{"branch_id":[7]}"#, r#"[{"branch_id":7}]"#];
    let deliveries: Vec<_> = bodies
        .iter()
        .enumerate()
        .map(|(number, body)| SignedDelivery::new(SECRET, *body).event_id(format!("evt-{number}")))
        .collect();
    let inbox = inbox_with(OrderBy::branch(), &deliveries).await;
    let handler = ScriptedHandler::new(Reaction::Hangs);
    let worker = RunningWorker::start(inbox.worker(handler.clone()).drain_deadline(seconds(0)));
    sleep(seconds(1)).await;
    worker.stop().await;
    assert_eq!(handler.begun().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn order_id_is_one_key_as_number_and_text() {
    let text = SignedDelivery::new(SECRET, r#"{"branch_id":"7","orders":[]}"#).event_id("evt-1");
    let inbox = inbox_with(OrderBy::branch(), &[for_branch(7, &[1], 0), text]).await;
    let handler = ScriptedHandler::new(Reaction::Hangs);
    let worker = RunningWorker::start(inbox.worker(handler.clone()).drain_deadline(seconds(0)));
    sleep(seconds(1)).await;
    worker.stop().await;
    assert_eq!(handler.begun(), event_ids(&[0]));
}

#[tokio::test(start_paused = true)]
async fn later_leased_delivery_blocks_retried_one() {
    let inbox =
        inbox_with(OrderBy::branch(), &[for_branch(7, &[1], 0), for_branch(7, &[2], 1), for_branch(7, &[3], 2)]).await;
    let handler = ScriptedHandler::new(Reaction::Answers(200))
        .first([Reaction::Answers(422), Reaction::AnswersAfter(seconds(300))]);
    let worker = RunningWorker::start(inbox.worker(handler.clone()).handler_deadline(seconds(1000)));
    until_counts(&inbox, "one delivery is dead and one is leased", |counts| counts.dead == 1 && counts.leased == 1)
        .await;
    let dead = inbox.dead(None, 1).await.unwrap();
    assert_eq!(operator(&inbox).retry(dead[0].id).run().await.unwrap(), 1);
    sleep(seconds(200)).await;
    assert_eq!(handler.begun(), event_ids(&[0, 1]));
    until_empty(&inbox).await;
    worker.stop().await;
    assert_eq!(handler.begun(), event_ids(&[0, 1, 0, 2]));
}

#[tokio::test(start_paused = true)]
async fn repeated_key_counts_once() {
    let store = faulty_store::FaultyInboxStore::default();
    let inbox = Inbox::new(store.clone()).order_by(OrderBy::order());
    assert_received(&stack(&inbox), &for_branch(7, &[3, 1, 3, 2, 1], 0)).await;
    let keys = store.ordering_keys.lock().unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn tenants_do_not_block_each_other() {
    let inbox = inbox().order_by(OrderBy::branch()).scope("all");
    for (number, name) in ["warung", "kedai"].into_iter().enumerate() {
        let keyring = Keyring::new(name, "1", WebhookSecret::new(SECRET).unwrap());
        let stack = KlikitVerifyLayer::with_keyring(keyring).layer(inbox.acceptor());
        assert_eq!(send(&stack, &for_branch(7, &[1], number)).await.status, 200);
    }
    let handler = ScriptedHandler::new(Reaction::Hangs);
    let worker = RunningWorker::start(inbox.worker(handler.clone()).drain_deadline(seconds(0)));
    sleep(seconds(1)).await;
    worker.stop().await;
    assert_eq!(handler.begun().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn worker_needs_no_ordering_setting() {
    let store = MemoryStore::new();
    let accepts = Inbox::new(store.clone()).order_by(OrderBy::branch());
    for number in 0..10 {
        assert_received(&stack(&accepts), &for_branch(7, &[1], number)).await;
    }
    let started = Instant::now();
    let works = Inbox::new(store);
    let worker = works.worker(ScriptedHandler::new(Reaction::Answers(200))).poll_interval(seconds(1000));
    let worker = RunningWorker::start(worker);
    until_empty(&accepts).await;
    assert!(started.elapsed() < seconds(100));
    worker.stop().await;
}

/// Returns a delivery with a malformed body.
fn malformed(body: &'static [u8], number: usize) -> SignedDelivery {
    SignedDelivery::new(SECRET, body).event_id(format!("evt-{number}"))
}

#[tokio::test(start_paused = true)]
async fn malformed_order_does_not_unorder_its_batch() {
    let bodies: [&[u8]; 5] = [
        include_bytes!("../../reports/null-beside-an-order.json"),
        include_bytes!("../../reports/id-twice-beside-an-order.json"),
        include_bytes!("../../reports/number-too-large-for-f64.json"),
        include_bytes!("../../reports/one-order-three-spellings.json"),
        br#"{"brand_id":1,"branch_id":7,"orders":[{"id":41}],"orders":[{"id":42.0}]}"#,
    ];
    for body in bodies {
        let inbox =
            inbox_with(OrderBy::order(), &[malformed(body, 0), for_branch(7, &[42], 1), for_branch(7, &[1000], 2)])
                .await;
        let handler = ScriptedHandler::new(Reaction::Hangs);
        let worker = RunningWorker::start(inbox.worker(handler.clone()).drain_deadline(seconds(0)));
        sleep(seconds(1)).await;
        assert_eq!(handler.begun(), event_ids(&[0, 2]), "{}", String::from_utf8_lossy(body));
        worker.stop().await;
    }
}

#[test]
fn batch_without_readable_ids_is_logged_once() {
    let log = Log::default();
    let _listening = log.listen();
    log::paused(async {
        let inbox = inbox().order_by(OrderBy::order());
        let stack = stack(&inbox);
        let unreadable = malformed(br#"{"brand_id":1,"branch_id":7,"orders":[null,{"id":true}]}"#, 0);
        assert_received(&stack, &unreadable).await;
        assert_duplicate(&stack, &unreadable).await;
        assert_received(&stack, &for_branch(7, &[42], 1)).await;
    });
    let text = log.text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("cannot read the order id of a delivery")).collect();
    assert!(matches!(lines[..], [line] if line.contains("evt-0")), "{text}");
}
