//! Tests that the table of metrics and the descriptions are complete.

use std::{fs, path::Path, sync::Mutex};

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tower_klikit::metrics;

#[test]
fn every_metric_is_in_the_table() {
    let names = [
        metrics::DELIVERIES,
        metrics::VERIFIED,
        metrics::LAST_VERIFIED,
        metrics::BODY_BYTES,
        metrics::BUFFERED,
        metrics::ACK,
        metrics::DUPLICATES,
        metrics::CONFLICTS,
        metrics::REPLAYS,
        metrics::HANDLER,
        metrics::ATTEMPTS,
        metrics::DEAD_LETTERS,
        metrics::EXPIRED,
        metrics::DEAD_LETTERS_EXPIRED,
        metrics::LEASES_LOST,
        metrics::INBOX,
        metrics::INBOX_OLDEST,
        metrics::INBOX_COUNTED,
        metrics::INBOX_STORED,
    ];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/metrics.rs");
    let source = fs::read_to_string(source).unwrap();
    assert_eq!(source.matches(": &str = ").count(), names.len(), "a metric that is not checked here");
    for name in names {
        assert_eq!(source.matches(&format!("//! | [`{name}`]")).count(), 1, "{name} is not in the table");
    }
}

#[test]
fn descriptions_match_the_table() {
    let described = Described::default();
    ::metrics::with_local_recorder(&described, metrics::describe);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/metrics.rs");
    let source = fs::read_to_string(source).unwrap();
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split_once("`]"));
    let kind = |row: &str| row.split(" | ").nth(1).unwrap().to_owned();
    let mut expected: Vec<_> = rows.map(|(name, row)| (name.to_owned(), kind(row), unit_of(name))).collect();
    let mut described = described.0.into_inner().unwrap();
    expected.sort();
    described.sort();
    assert_eq!(described, expected);
}

/// Returns the unit at the end of a metric's name.
fn unit_of(name: &str) -> Option<String> {
    let units = [Unit::Seconds, Unit::Bytes].map(|unit| unit.as_str().to_owned());
    units.into_iter().find(|unit| name.ends_with(unit.as_str()))
}

/// A recorder that collects the name, kind and unit of each description.
#[derive(Default)]
struct Described(Mutex<Vec<(String, String, Option<String>)>>);

impl Described {
    fn add(&self, name: &KeyName, kind: &str, unit: Option<Unit>) {
        let unit = unit.map(|unit| unit.as_str().to_owned());
        self.0.lock().unwrap().push((name.as_str().to_owned(), kind.to_owned(), unit));
    }
}

impl Recorder for Described {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.add(&name, "counter", unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.add(&name, "gauge", unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.add(&name, "histogram", unit);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
