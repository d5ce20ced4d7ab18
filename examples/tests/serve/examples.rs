//! Tests that every example stops with open peers.

use crate::{child::Child, peers::Peer};

struct Example {
    name: &'static str,
    arguments: &'static [&'static str],
    /// The text that the example prints once it serves, if it does not print its address last.
    ready: Option<&'static str>,
}

const EXAMPLES: [Example; 6] = [
    Example { name: "hyper", arguments: &[], ready: None },
    Example { name: "kitchen_printer", arguments: &[], ready: None },
    Example { name: "metrics", arguments: &[], ready: None },
    Example { name: "receiver", arguments: &[], ready: Some("Serving until") },
    Example { name: "receiver", arguments: &["--inbox", "sqlite:klikit.db"], ready: Some("Serving until") },
    Example { name: "tonic", arguments: &[], ready: None },
];

/// Neither a half-sent head nor a silent HTTP/2 peer keeps an example alive.
#[test]
fn examples_stop_with_open_peers() {
    let children = EXAMPLES.map(|Example { name, arguments, ready }| {
        let child = Child::example(name, arguments);
        if let Some(ready) = ready {
            child.wait_for(ready);
        }
        let sockets = [Peer::HalfHead, Peer::SilentHttp2].map(|peer| peer.connect(&child));
        child.signal("TERM");
        (name, child, sockets)
    });
    for (name, child, _sockets) in children {
        let (code, output) = child.end();
        assert_eq!(code, Some(0), "{name}: {output}");
    }
}
