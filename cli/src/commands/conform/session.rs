//! The state that the checks of a run share.

use std::time::Duration;

use bytes::Bytes;
use tower_klikit::{EventType, WebhookSecret, testing::SignedDelivery};

use super::{
    finding::{Checked, Finding},
    marks::{Marks, Meaning},
    samples::Samples,
    sender::Sender,
};
use crate::exchange::{Answer, Exchange, NoAnswer};

/// The state that the checks of a run share.
pub(super) struct Session {
    pub(super) sender: Sender,
    pub(super) samples: Samples,
    pub(super) options: Options,
    first: FirstAnswers,
}

/// The parts of the arguments that checks need.
pub(super) struct Options {
    /// The secret before the last rotation.
    pub(super) old_secret: Option<WebhookSecret>,
    /// A body whose handling fails.
    pub(super) failing: Option<Bytes>,
    /// The longest time that a response may take.
    pub(super) answer_within: Duration,
}

/// The responses to the deliveries that a session begins with.
struct FirstAnswers {
    /// The first delivery.
    delivery: SignedDelivery,
    new: Exchange,
    /// The response to the same delivery again.
    repeated: Option<Exchange>,
    marks: Option<Marks>,
}

impl Session {
    /// Sends the first deliveries, which show how the receiver responds to new deliveries and to duplicates.
    pub(super) async fn begin(sender: Sender, samples: Samples, options: Options) -> Self {
        let delivery = samples.delivery().event_type(EventType::OrderCreated);
        let new = sender.send(&delivery).await;
        let (mut repeated, mut marks) = (None, None);
        if let Ok(first) = &new
            && first.status.is_success()
        {
            let second = sender.send(&samples.delivery()).await;
            let duplicate = sender.send(&delivery).await;
            if let (Ok(second), Ok(duplicate)) = (second, &duplicate) {
                marks = Marks::find(&[first.clone(), second], duplicate);
            }
            repeated = Some(duplicate);
        }
        Self { sender, samples, options, first: FirstAnswers { delivery, new, repeated, marks } }
    }

    /// Returns the response to the first delivery.
    pub(super) fn first(&self) -> &Exchange {
        &self.first.new
    }

    /// Returns a delivery that the receiver has accepted.
    pub(super) fn known_delivery(&self) -> &SignedDelivery {
        &self.first.delivery
    }

    /// Returns the response to the first delivery when it was sent again.
    pub(super) fn repeated(&self) -> Checked<&Exchange> {
        self.first.repeated.as_ref().ok_or_else(not_accepted)
    }

    /// Checks that the receiver accepts genuine deliveries. If not, a rejection shows nothing.
    pub(super) fn require_acceptance(&self) -> Checked<()> {
        self.repeated().map(drop)
    }

    /// Returns how the receiver marks duplicates.
    pub(super) fn marks(&self) -> Checked<&Marks> {
        self.first.marks.as_ref().ok_or_else(|| {
            Finding::not_observable(
                "the receiver responds to new deliveries and to duplicates alike, or differently each time",
            )
        })
    }

    /// Returns the meaning of a success, or why it cannot be known.
    pub(super) fn meaning(&self, answer: &Answer) -> Checked<Meaning> {
        Ok(self.marks()?.meaning(answer))
    }

    /// Returns a success unless it is that of a duplicate. `what` names the delivery.
    pub(super) fn counts_as_new(&self, what: &str, answer: Answer) -> Checked<Answer> {
        match self.meaning(&answer)? {
            Meaning::New => Ok(answer),
            Meaning::Duplicate => Err(Finding::fail(format!("{what} is taken for a duplicate: {answer}"))),
            Meaning::Unclear => Err(Finding::not_observable(format!("{what} gets another response: {answer}"))),
        }
    }

    /// Sends a delivery that must be accepted.
    pub(super) async fn accepted(&self, name: &str, delivery: &SignedDelivery) -> Checked<Answer> {
        success(name, self.sender.send(delivery).await)
    }

    /// Sends a delivery that must be rejected.
    pub(super) async fn rejected(&self, name: &str, delivery: &SignedDelivery) -> Checked<Answer> {
        rejection(name, self.sender.send(delivery).await)
    }
}

/// Returns the finding of a check that needs a receiver that accepts genuine deliveries.
fn not_accepted() -> Finding {
    Finding::not_observable("the receiver did not accept a genuine delivery: see the row genuine")
}

/// Returns the response to a delivery that must be accepted.
pub(super) fn success(name: &str, exchange: Exchange) -> Checked<Answer> {
    match exchange {
        Ok(answer) if answer.status.is_success() => Ok(answer),
        Ok(answer) => Err(Finding::fail(format!("{name}: {answer}"))),
        Err(error) => Err(no_answer(name, &error)),
    }
}

/// Returns the response to a delivery that must be rejected.
pub(super) fn rejection(name: &str, exchange: Exchange) -> Checked<Answer> {
    match exchange {
        Ok(answer) if answer.status.is_client_error() => Ok(answer),
        Ok(answer) if answer.status.is_success() => Err(Finding::fail(format!("{name}: accepted with {answer}"))),
        Ok(answer) => Err(Finding::fail(format!("{name}: {answer} instead of 401 or 403"))),
        Err(error) => Err(no_answer(name, &error)),
    }
}

/// Returns the finding of a check that needs a response to this delivery.
pub(super) fn no_answer(name: &str, error: &NoAnswer) -> Finding {
    Finding::fail(format!("{name}: {error}"))
}
