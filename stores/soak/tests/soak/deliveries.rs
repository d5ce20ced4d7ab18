//! The deliveries. Everything in one follows from its event's id, so that a child can check what it got.

use tower_klikit::testing::SignedDelivery;

pub(crate) const SECRET: &str = "klikit-soak-secret";

/// The number of branches.
pub(crate) const BRANCHES: u64 = 8;

/// How the handler treats a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Handles it.
    Plain,
    /// Answers its first attempt with 500.
    Flaky,
    /// Hangs, in a child that is told to let slow deliveries hang.
    Slow,
    /// Kills the process.
    Poison,
}

const NAMES: [(Kind, &str); 4] =
    [(Kind::Plain, "plain"), (Kind::Flaky, "flaky"), (Kind::Slow, "slow"), (Kind::Poison, "poison")];

/// Returns the id of an event.
pub(crate) fn event(kind: Kind, number: u64) -> String {
    let (_, name) = NAMES.into_iter().find(|(other, _)| *other == kind).expect("every kind has a name");
    format!("{name}-{number}")
}

pub(crate) fn kind(event: &str) -> Kind {
    let (name, _) = parts(event);
    NAMES.into_iter().find(|(_, other)| *other == name).expect("a name of a kind").0
}

pub(crate) fn branch(event: &str) -> u64 {
    parts(event).1 % BRANCHES
}

pub(crate) fn delivery(event: &str) -> SignedDelivery {
    let (_, number) = parts(event);
    let padding = if number.is_multiple_of(64) { 40_000 } else { number * 997 % 4096 };
    let padding = "o".repeat(usize::try_from(padding).expect("it is small"));
    let body = format!(r#"{{"branch_id":{},"number":{number},"padding":"{padding}"}}"#, branch(event));
    SignedDelivery::new(SECRET, body).event_id(event)
}

fn parts(event: &str) -> (&str, u64) {
    let (name, number) = event.split_once('-').expect("a kind and a number");
    (name, number.parse().expect("a number"))
}
