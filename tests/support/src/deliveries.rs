//! Ten made-up deliveries in the shape that klikit documents, signed with Python's `hmac`.

use std::{fs, path::Path};

use bytes::Bytes;

/// A signed delivery.
#[derive(Debug, Clone)]
pub struct Sample {
    pub file: String,
    pub event_id: String,
    pub event_type: String,
    pub signature: String,
    pub body: Bytes,
}

/// Returns the secret and the deliveries that were signed with it.
pub fn all() -> (String, Vec<Sample>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deliveries");
    let read = |file: &str| fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let index: serde_json::Value = serde_json::from_slice(&read("index.json")).expect("the index is JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let samples = index["deliveries"].as_array().expect("a list").iter().map(|entry| Sample {
        file: text(&entry["file"]),
        event_id: text(&entry["event_id"]),
        event_type: text(&entry["event_type"]),
        signature: text(&entry["signature"]),
        body: read(&text(&entry["file"])).into(),
    });
    (text(&index["secret"]), samples.collect())
}
