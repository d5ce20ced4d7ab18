//! Senders that keep calling a store and record which of their deliveries were acknowledged.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tower_klikit::inbox::Inbox;

use crate::{ends, inbox::send};

/// The number of failures of each sender after which all senders count as failing.
const FAILURES: u64 = 4;

const PAUSE: Duration = Duration::from_millis(5);

/// Tasks that each send one delivery after another. Like klikit, they send a delivery again until it is acknowledged.
pub(crate) struct Senders {
    shared: Arc<SenderState>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// The state that the senders share.
struct SenderState {
    acknowledged: Mutex<Vec<String>>,
    each: Vec<Tally>,
}

/// The numbers of a sender's successes and failures.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl Senders {
    /// Starts senders to the acceptor of an inbox. The body of a delivery is its id.
    pub(crate) fn to(inbox: &Inbox, senders: usize) -> Self {
        let inbox = Arc::new(inbox.clone());
        Self::calling(senders, move |id| {
            let inbox = Arc::clone(&inbox);
            async move {
                match send(&inbox, &id, &id).await {
                    StatusCode::OK => true,
                    StatusCode::SERVICE_UNAVAILABLE => false,
                    other => panic!("{id}: {other}"),
                }
            }
        })
    }

    /// Starts senders that make this call, which returns whether it succeeded.
    pub(crate) fn calling<F>(senders: usize, call: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send,
    {
        let each = (0..senders).map(|_| Tally::default()).collect();
        let shared = Arc::new(SenderState { acknowledged: Mutex::default(), each });
        let (stop, stopped) = watch::channel(false);
        let call = Arc::new(call);
        let tasks = (0..senders).map(|sender| {
            let (shared, stopped, call) = (Arc::clone(&shared), stopped.clone(), Arc::clone(&call));
            tokio::spawn(async move {
                let mut event = 0;
                while !*stopped.borrow() {
                    let id = format!("evt-{sender}-{event}");
                    if ends(call(id.clone())).await {
                        shared.acknowledged.lock().unwrap().push(id);
                        shared.each[sender].acknowledged.fetch_add(1, Ordering::SeqCst);
                        event += 1;
                    } else {
                        shared.each[sender].failed.fetch_add(1, Ordering::SeqCst);
                        sleep(PAUSE).await;
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { shared, stop, tasks }
    }

    /// Waits until another delivery of each sender is acknowledged.
    pub(crate) async fn all_succeed(&self) {
        self.each_has(1, |tally| &tally.acknowledged).await;
    }

    /// Waits until each sender has failed several more times. Checks that no sender succeeds once all of them have failed.
    pub(crate) async fn all_fail(&self) {
        // The call that fails first may have begun before the fault.
        self.each_has(2, |tally| &tally.failed).await;
        let before = self.acknowledged();
        self.each_has(FAILURES, |tally| &tally.failed).await;
        assert_eq!(self.acknowledged(), before, "no delivery is acknowledged while all senders fail");
    }

    /// Stops the senders, and returns the acknowledged deliveries.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.stop.send_replace(true);
        for task in self.tasks {
            ends(task).await.unwrap();
        }
        std::mem::take(&mut *self.shared.acknowledged.lock().unwrap())
    }

    fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().unwrap().len()
    }

    /// Waits until this number has grown by `more` for each sender.
    async fn each_has(&self, more: u64, number: impl Fn(&Tally) -> &AtomicU64) {
        let now = || self.shared.each.iter().map(|tally| number(tally).load(Ordering::SeqCst));
        let wanted: Vec<_> = now().map(|number| number + more).collect();
        until(|| async {
            assert!(self.tasks.iter().all(|task| !task.is_finished()), "a sender has failed");
            now().zip(&wanted).all(|(number, wanted)| number >= *wanted)
        })
        .await;
    }
}

/// Returns the acknowledged deliveries that are not in the inbox's table.
pub(crate) async fn lost(client: &tokio_postgres::Client, acknowledged: &[String]) -> Vec<String> {
    let sql = "
        SELECT id
        FROM unnest($1::text[]) AS id
        WHERE id NOT IN (SELECT event_id FROM klikit_inbox)";
    client.query(sql, &[&acknowledged]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    ends(async {
        while !condition().await {
            sleep(PAUSE).await;
        }
    })
    .await;
}
