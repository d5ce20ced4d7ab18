//! The made-up deliveries that the library is tested with.

/// A made-up delivery in the shape that klikit documents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) event_type: &'static str,
    pub(crate) body: &'static str,
}

macro_rules! fixture {
    ($name:literal, $event_type:literal) => {
        Fixture {
            name: $name,
            event_type: concat!("klikit.order.", $event_type),
            body: include_str!(concat!("../deliveries/", $name, ".json")),
        }
    };
}

/// All fixtures.
pub(crate) const FIXTURES: [Fixture; 10] = [
    fixture!("batch-of-six-large-orders", "created.v2"),
    fixture!("cancellation-cancelled", "status.updated"),
    fixture!("cancellation-created", "created.v2"),
    fixture!("cart-updated", "cart.updated"),
    fixture!("documented-example", "status.updated"),
    fixture!("large-basket", "created.v2"),
    fixture!("multi-item-with-modifiers", "created.v2"),
    fixture!("single-item-delivery", "created.v2"),
    fixture!("single-item-dine-in", "created.v2"),
    fixture!("status-ready", "status.updated"),
];

/// The name of the fixture that is sent unless another body is chosen.
pub(crate) const DEFAULT: &str = "single-item-delivery";

/// Returns the fixture with this name.
pub(crate) fn find(name: &str) -> Option<Fixture> {
    FIXTURES.into_iter().find(|fixture| fixture.name == name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str};

    use super::*;

    #[test]
    fn fixtures_match_their_index() {
        let index: Value = from_str(include_str!("../deliveries/index.json")).unwrap();
        let listed = index["deliveries"].as_array().unwrap();
        assert_eq!(listed.len(), FIXTURES.len());
        for entry in listed {
            let fixture = find(entry["file"].as_str().unwrap().strip_suffix(".json").unwrap()).unwrap();
            assert_eq!(
                (fixture.event_type, fixture.body.len() as u64),
                (entry["event_type"].as_str().unwrap(), entry["bytes"].as_u64().unwrap(),)
            );
        }
        assert!(find(DEFAULT).is_some());
    }
}
