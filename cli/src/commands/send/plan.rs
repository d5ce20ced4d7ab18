//! The deliveries of one run, in their order.

use tower_klikit::{
    WebhookSecret,
    header::{EVENT_TYPE, SIGNATURE},
    testing::SignedDelivery,
};

use super::{sample::Sample, values::Percent};
use crate::random::random;

/// The deliveries of one run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) secret: WebhookSecret,
    /// Sent in turn. Never empty.
    pub(crate) samples: Vec<Sample>,
    /// The number of different deliveries.
    pub(crate) count: u64,
    /// The part of the deliveries that is sent twice.
    pub(crate) duplicates: Percent,
    /// The part of the deliveries that is corrupted after signing.
    pub(crate) corrupt: Percent,
    pub(crate) identity: Identity,
}

/// The ids of a run. By default they are random, so that a second run does not repeat the first.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    first_order: u64,
    run: String,
}

/// A delivery of a run.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) delivery: SignedDelivery,
    /// Whether the body was corrupted after signing, so that the receiver must reject the delivery.
    pub(crate) is_corrupt: bool,
}

impl Identity {
    pub(crate) fn new(first_order: Option<u64>) -> Self {
        let random = random();
        // Receivers may store the id in 32 bits with a sign. The run's last id must fit too.
        let first_order = first_order.unwrap_or(1_000_000 + random % 1_000_000_000);
        Self { first_order, run: format!("{random:016x}") }
    }
}

impl Plan {
    /// Returns the deliveries in the order in which they are sent. A copy follows its original.
    pub(crate) fn deliveries(&self) -> impl Iterator<Item = Planned> {
        (0..self.count).flat_map(move |number| {
            let copies = if self.duplicates.selects(number) { 2 } else { 1 };
            (0..copies).map(move |_| self.delivery(number))
        })
    }

    /// Returns the number of deliveries with their copies.
    pub(crate) fn len(&self) -> u64 {
        self.count + self.duplicates.selected(self.count)
    }

    fn delivery(&self, number: u64) -> Planned {
        // Different files and fixtures take turns.
        let turn = usize::try_from(number % self.samples.len() as u64).expect("the remainder is an index");
        let sample = &self.samples[turn];
        let order = self.identity.first_order.saturating_add(number);
        let delivery = SignedDelivery::signed_with(&self.secret, sample.body(order))
            .event_id(format!("send-{}-{number}", self.identity.run))
            .header(EVENT_TYPE, &sample.event_type);
        // Counted from the end, so that the corrupted deliveries are not mainly those that are sent twice.
        let is_corrupt = self.corrupt.selects(self.count - 1 - number);
        if !is_corrupt {
            return Planned { delivery, is_corrupt };
        }
        // The body stays well-formed, so that a receiver that only parses it does not seem to verify.
        let signature = self.secret.sign(sample.other_body(order)).to_string();
        Planned { delivery: delivery.header(SIGNATURE, signature), is_corrupt }
    }
}
