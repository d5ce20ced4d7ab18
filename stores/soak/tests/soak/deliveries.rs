//! The deliveries. A delivery is computed from its event id, so that a child can check the body that it receives.

use tower_klikit::testing::SignedDelivery;

pub(crate) const SECRET: &str = "klikit-soak-secret";

/// The number of branches.
pub(crate) const BRANCHES: u64 = 8;

/// The kind of a delivery, which determines what its handler does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Responds with 200.
    Plain,
    /// Responds with 500 to the first attempt, and then with 200.
    Flaky,
    /// Hangs if the child's orders say so. Otherwise, responds with 200.
    Slow,
    /// Aborts the process.
    Poison,
}

const NAMES: [(Kind, &str); 4] =
    [(Kind::Plain, "plain"), (Kind::Flaky, "flaky"), (Kind::Slow, "slow"), (Kind::Poison, "poison")];

/// Returns the event id for this kind and number.
pub(crate) fn event(kind: Kind, number: u64) -> String {
    let (_, name) = NAMES.into_iter().find(|(other, _)| *other == kind).expect("every kind has a name");
    format!("{name}-{number}")
}

pub(crate) fn kind(event: &str) -> Kind {
    let (name, _) = parts(event);
    NAMES.into_iter().find(|(_, other)| *other == name).expect("an event id begins with a kind").0
}

pub(crate) fn branch(event: &str) -> u64 {
    parts(event).1 % BRANCHES
}

pub(crate) fn delivery(event: &str) -> SignedDelivery {
    let (_, number) = parts(event);
    let padding = if number.is_multiple_of(64) { 40_000 } else { number * 997 % 4096 };
    let padding = "o".repeat(usize::try_from(padding).expect("the padding is short"));
    let body = format!(r#"{{"branch_id":{},"number":{number},"padding":"{padding}"}}"#, branch(event));
    SignedDelivery::new(SECRET, body).event_id(event)
}

fn parts(event: &str) -> (&str, u64) {
    let (name, number) = event.split_once('-').expect("an event id has two parts");
    (name, number.parse().expect("an event id ends with a number"))
}
