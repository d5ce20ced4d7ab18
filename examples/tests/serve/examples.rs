//! Every example stops as the server does.

use crate::{child::Child, peers::Peer};

/// One half-sent head and one silent HTTP/2 peer must not keep an example alive.
fn stops(name: &str, arguments: &[&str], serving: &str) {
    let example = Child::example(name, arguments, serving);
    let _sockets = [Peer::HalfHead.connect(&example), Peer::SilentHttp2.connect(&example)];
    example.signal("TERM");
    let (code, output) = example.end();
    assert_eq!(code, Some(0), "{name}: {output}");
}

#[test]
fn hyper_stops() {
    stops("hyper", &[], "serving");
}

#[test]
fn kitchen_printer_stops() {
    stops("kitchen_printer", &[], "Serving");
}

#[test]
fn metrics_stops() {
    stops("metrics", &[], "Serving");
}

#[test]
fn receiver_stops() {
    stops("receiver", &[], "Serving POST");
}

#[test]
fn receiver_with_inbox_stops() {
    stops("receiver", &["--inbox", "sqlite:klikit.db"], "Serving POST");
}

#[test]
fn tonic_stops() {
    stops("tonic", &[], "serving");
}
