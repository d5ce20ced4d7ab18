//! The beginnings of incidents of the guide "Operating".

use std::time::Duration;

use http::StatusCode;
use tower_klikit::{
    inbox::{DeliveryState, Filter},
    testing::SignedDelivery,
};

use super::{HANGS, RunningWorker, Service, order};

impl Service {
    /// Dead-letters the deliveries 1 to 3 because of the printer, and then delivery 4 because of a table.
    pub async fn dead_letter_four(&self) -> RunningWorker {
        self.answers(StatusCode::UNPROCESSABLE_ENTITY, "the printer is out of paper");
        let worker = self.work();
        self.accept(1..=3).await;
        self.until("three are dead", |counts| counts.dead == 3).await;
        self.answers(StatusCode::UNPROCESSABLE_ENTITY, "table 7 is closed");
        self.accept([4]).await;
        self.until("four are dead", |counts| counts.dead == 4).await;
        worker
    }

    /// Dead-letters delivery 1 after two attempts on the worker `kitchen-1`.
    pub async fn fail_twice(&self) {
        self.answers(StatusCode::SERVICE_UNAVAILABLE, "the printer is offline");
        // With a short pause, the retry may come before the worker knows that the failure is stored, and then counts no
        // attempt.
        let pause = Duration::from_secs(2);
        let worker = self.work_as(|worker| worker.name("kitchen-1").max_attempts(2).backoff(pause, pause));
        self.accept([1]).await;
        self.until("it is dead", |counts| counts.dead == 1).await;
        worker.stop().await;
    }

    /// Accepts two deliveries of a branch, of which the second waits for the first. The first crashes three workers.
    pub async fn crash_three_workers(&self) {
        for number in 1..=2 {
            assert_eq!(self.send(&order(number, 1)).await, StatusCode::OK);
        }
        self.answers(HANGS, "");
        for attempts in 1..=3 {
            // The next worker takes the delivery over after this time.
            let worker = self.work_as(|worker| worker.lease(Duration::from_millis(100)));
            self.until_found(&Filter::new().states([DeliveryState::Leased]).attempts(attempts..=attempts)).await;
            worker.crash().await;
        }
        self.answers(StatusCode::OK, "");
    }

    /// Waits until delivery 1 expires, and starts a worker that dead-letters it for that reason.
    pub async fn expire_first(&self) -> RunningWorker {
        let limit = Duration::from_millis(100);
        self.accept([1]).await;
        self.until_found(&Filter::new().states([DeliveryState::Ready]).older_than(limit)).await;
        let worker = self.work_as(|worker| worker.expire_after(super::CREATED, limit));
        self.until("it has expired", |counts| counts.dead == 1).await;
        worker
    }

    /// Accepts a genuine delivery and then three copies of it with other event ids. Returns the genuine one.
    pub async fn accept_copies(&self) -> SignedDelivery {
        let genuine = order(1, 1);
        assert_eq!(self.send(&genuine).await, StatusCode::OK);
        for number in 0..3 {
            let copy = genuine.clone().event_id(format!("copy-{number}"));
            assert_eq!(self.send(&copy).await, StatusCode::OK);
        }
        genuine
    }

    /// Dead-letters delivery 1 by a faulty release of the handler, whose worker still runs.
    pub async fn release_bug(&self) -> RunningWorker {
        self.answers(StatusCode::UNPROCESSABLE_ENTITY, "a bug");
        let worker = self.work();
        self.accept([1]).await;
        self.until("it is dead", |counts| counts.dead == 1).await;
        worker
    }
}
