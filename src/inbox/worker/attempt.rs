//! One attempt on one delivery, from its lease to its end, in a task of its own.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use http::{Request, Response, StatusCode};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tower_service::Service;

use super::{
    super::{
        config::Config,
        delivery::{Lease, Leased},
        head::Head,
    },
    BoxError, Outcome, Settings,
    backoff::Backoff,
};
use crate::{
    dedupe::{StoreError, handle},
    event::EventId,
    telemetry::{self, Subject},
    verify::VerifiedBody,
};

/// The pause after an extension that failed.
const EXTENSION_RETRY: Duration = Duration::from_secs(1);

/// The longest pause between attempts to tell the store how it ended.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How many characters of an error's text are kept.
const MAX_REASON: usize = 200;

/// Which attempt a request is. It lies in the extensions of what a worker hands to its handler.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    lease: Lease,
    max_attempts: u32,
    conflict: bool,
}

impl Attempt {
    /// Which one, from 1.
    pub fn number(&self) -> u32 {
        self.lease.attempt()
    }

    /// Whether the delivery is given up if this one fails.
    pub fn is_last(&self) -> bool {
        self.lease.attempt() >= self.max_attempts
    }

    /// Whether the event's id came with another body before.
    pub fn is_conflict(&self) -> bool {
        self.conflict
    }

    /// The lease, for finishing the delivery in a transaction of your own.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }
}

/// How the handler ended.
enum End {
    Answered(StatusCode),
    /// With an error of this text.
    Failed(String),
    Panicked,
    TimedOut,
    /// The lease is no longer ours, or may not be.
    Lost,
    /// The worker has to stop now.
    Cut,
}

/// What the store is to be told.
#[derive(Clone)]
enum Ending {
    Finish,
    Postpone { pause: Duration, reason: String },
    Bury { reason: String },
}

/// Handles what was leased at `leased_at` or later. `cut` turns true when the worker has to stop now.
pub(super) async fn run<S, ResBody>(
    handler: S,
    leased: Leased,
    leased_at: Instant,
    config: Arc<Config>,
    settings: Settings,
    mut cut: watch::Receiver<bool>,
) where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
{
    let Leased { lease, head, body, ran_out } = leased;
    let head = Head::from_text(&head).ok();
    let event_id = head.as_ref().and_then(|head| EventId::parse(head.event_id.as_ref()?.as_bytes()));
    let tenant = head.as_ref().map(|head| head.tenant.clone());
    let subject = Subject::new(event_id.as_ref(), tenant.as_deref());
    let task = Task { config: &config, settings: &settings, lease, subject };
    let mut held_until = leased_at + settings.lease;

    let attempt = async {
        let ending = match head.and_then(|head| Some((head.request(body)?, head.conflict))) {
            // Another version of this crate may have written it, and may read it yet.
            None => task.fail("its head cannot be read".into()),
            Some((mut request, conflict)) => {
                let attempt = Attempt { lease, max_attempts: settings.max_attempts, conflict };
                request.extensions_mut().insert(attempt);
                let pause = if ran_out { task.pause() } else { Duration::ZERO };
                match task.handle(handler, request, pause, &mut held_until, &mut cut).await {
                    End::Lost => return telemetry::lease_lost(task.subject),
                    End::Cut => return task.give_back().await,
                    End::Answered(status) => task.judge(status),
                    End::Failed(reason) => task.fail(reason),
                    End::Panicked => task.fail("the handler panicked".into()),
                    End::TimedOut => task.fail("the handler timed out".into()),
                }
            }
        };
        task.tell(ending, held_until).await;
    };
    telemetry::in_attempt(subject, lease.attempt(), attempt).await;
}

struct Task<'a> {
    config: &'a Config,
    settings: &'a Settings,
    lease: Lease,
    /// For the log.
    subject: Subject<'a>,
}

impl Task<'_> {
    async fn handle<S, ResBody>(
        &self,
        handler: S,
        request: Request<VerifiedBody>,
        pause: Duration,
        held_until: &mut Instant,
        cut: &mut watch::Receiver<bool>,
    ) -> End
    where
        S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
        S::Error: Into<BoxError>,
    {
        // The response's body is dropped here. An error's own code may panic too.
        let status = async {
            let answered = handle(handler, request).await;
            answered.map(|response| response.status()).map_err(|error| shortened(&error.into().to_string()))
        };
        let handled = async {
            sleep(pause).await;
            timeout(self.settings.handler_deadline, AssertUnwindSafe(status).catch_unwind()).await
        };
        let interrupted = self.interrupted(held_until, cut);
        match select(pin!(handled), pin!(interrupted)).await {
            Either::Left((Ok(Ok(Ok(status))), _)) => End::Answered(status),
            Either::Left((Ok(Ok(Err(reason))), _)) => End::Failed(reason),
            Either::Left((Ok(Err(_)), _)) => End::Panicked,
            Either::Left((Err(_), _)) => End::TimedOut,
            Either::Right((end, _)) => end,
        }
    }

    /// Holds the lease until it is lost or the worker has to stop.
    async fn interrupted(&self, held_until: &mut Instant, cut: &mut watch::Receiver<bool>) -> End {
        // A sender that is gone will not cut any more.
        let cut = async {
            if cut.wait_for(|cut| *cut).await.is_err() {
                pending::<()>().await;
            }
        };
        match select(pin!(self.hold(held_until)), pin!(cut)).await {
            Either::Left(((), _)) => End::Lost,
            Either::Right(((), _)) => End::Cut,
        }
    }

    /// Extends the lease at a third of its time, until it is lost or, as the store does not answer, must be taken to be.
    async fn hold(&self, held_until: &mut Instant) {
        let time = self.settings.lease;
        let third = (time / 3).max(Duration::from_millis(1));
        let mut pause = third;
        loop {
            sleep(pause).await;
            let asked = Instant::now();
            let left = held_until.saturating_duration_since(asked);
            let extended = timeout(left, self.config.store.extend(&self.lease, time)).await;
            pause = match extended.unwrap_or_else(|_| Err(StoreError::deadline())) {
                Ok(true) => {
                    *held_until = asked + time;
                    third
                }
                Ok(false) => return,
                Err(error) => {
                    telemetry::store_failed("extend the lease on", self.subject, &error);
                    if Instant::now() >= *held_until {
                        return;
                    }
                    third.min(EXTENSION_RETRY)
                }
            };
        }
    }

    /// The user's own code, again.
    fn judge(&self, status: StatusCode) -> Ending {
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.settings.outcome)(status)));
        match outcome {
            Ok(Outcome::Done) => Ending::Finish,
            Ok(Outcome::Retry) => self.fail(status.to_string()),
            Ok(Outcome::Dead) => self.bury(status.to_string()),
            Err(_) => self.fail(format!("what {status} means could not be told: that panicked")),
        }
    }

    /// Before one is handled whose worker has died. It may have died of another that it had beside this one: were all of them
    /// begun at once again, one that kills its workers would take the others with it, attempt by attempt.
    fn pause(&self) -> Duration {
        let Backoff { first, last } = self.settings.backoff;
        random_pause(Backoff { first, last: last.min(self.settings.lease) }, self.lease.attempt().saturating_sub(1))
    }

    fn fail(&self, reason: String) -> Ending {
        let attempt = self.lease.attempt();
        if attempt >= self.settings.max_attempts {
            return self.bury(reason);
        }
        let pause = random_pause(self.settings.backoff, attempt);
        telemetry::attempt_failed(self.subject, attempt, pause, &reason);
        Ending::Postpone { pause, reason }
    }

    fn bury(&self, reason: String) -> Ending {
        telemetry::dead(self.subject, self.lease.attempt(), &reason);
        Ending::Bury { reason }
    }

    /// Once: what is not given back now is taken up again when its lease has run out.
    async fn give_back(&self) {
        if let Err(error) = self.config.store.give_back(&self.lease).await {
            telemetry::store_failed("give back", self.subject, &error);
        }
    }

    /// Tells the store how it ended, for as long as the lease can be held: also when the worker has to stop, since what was
    /// handled is not to be handled again.
    async fn tell(&self, ending: Ending, mut held_until: Instant) {
        let told = pin!(self.tell_until_heard(&ending));
        let held = match select(told, pin!(self.hold(&mut held_until))).await {
            Either::Left((held, _)) => held,
            Either::Right(((), _)) => false,
        };
        // Who still holds a lease finds its delivery gone only if the handler has finished it by itself.
        let finished = matches!(ending, Ending::Finish) && Instant::now() < held_until;
        if !held && !finished {
            telemetry::lease_lost(self.subject);
        }
    }

    /// Whether the lease was held.
    async fn tell_until_heard(&self, ending: &Ending) -> bool {
        let (store, lease) = (&self.config.store, &self.lease);
        let mut pause = Duration::from_millis(100);
        loop {
            let told = match ending {
                Ending::Finish => store.finish(lease, self.config.keep_bodies).await,
                Ending::Postpone { pause, reason } => store.postpone(lease, *pause, reason).await,
                Ending::Bury { reason } => store.bury(lease, reason).await,
            };
            match told {
                Ok(held) => return held,
                Err(error) => telemetry::store_failed("settle", self.subject, &error),
            }
            sleep(pause).await;
            pause = (2 * pause).min(MAX_PAUSE);
        }
    }
}

/// A system without random bytes gets the longest pauses.
fn random_pause(backoff: Backoff, attempts: u32) -> Duration {
    backoff.pause(attempts, getrandom::u64().unwrap_or(u64::MAX))
}

fn shortened(text: &str) -> String {
    // Of one line, so that it cannot pass for another in a log.
    let one_line = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().take(MAX_REASON).map(one_line).collect()
}
