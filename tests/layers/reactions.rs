//! Reactions of the handlers in the tests of the dedupe layer and the inbox.
#![cfg(feature = "dedupe")]

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::sleep};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The reaction of a handler to a delivery.
#[derive(Clone)]
pub(crate) enum Reaction {
    /// Responds with this status.
    Answers(u16),
    /// Responds with 200 after this time.
    AnswersAfter(Duration),
    /// Returns an error.
    Fails,
    Panics,
    /// Never returns.
    Hangs,
    /// Responds with 200 once the semaphore has a permit.
    Waits(Arc<Semaphore>),
}

impl Reaction {
    /// Performs the reaction. Returns the status of the response.
    pub(crate) async fn perform(self) -> Result<u16, BoxError> {
        match self {
            Self::Answers(status) => return Ok(status),
            Self::AnswersAfter(time) => sleep(time).await,
            Self::Fails => return Err("the handler failed".into()),
            Self::Panics => panic!("the handler panicked"),
            Self::Hangs => pending().await,
            Self::Waits(permits) => permits.acquire().await.unwrap().forget(),
        }
        Ok(200)
    }
}
