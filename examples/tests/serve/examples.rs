//! Tests that every example stops with open peers.

use crate::{child::Child, peers::Peer};

/// The name and the arguments of each example, and the text after its address that it prints once it serves.
const EXAMPLES: [(&str, &[&str], &str); 6] = [
    ("hyper", &[], ""),
    ("kitchen_printer", &[], ""),
    ("metrics", &[], ""),
    ("receiver", &[], "Serving until"),
    ("receiver", &["--inbox", "sqlite:klikit.db"], "Serving until"),
    ("tonic", &[], ""),
];

/// Neither a half-sent head nor a silent HTTP/2 peer keeps an example alive.
#[test]
fn examples_stop_with_open_peers() {
    let examples = EXAMPLES.map(|(name, arguments, ready)| {
        let example = Child::example(name, arguments, ready);
        let sockets = [Peer::HalfHead, Peer::SilentHttp2].map(|peer| peer.connect(&example));
        example.signal("TERM");
        (name, example, sockets)
    });
    for (name, example, _sockets) in examples {
        let (code, output) = example.end();
        assert_eq!(code, Some(0), "{name}: {output}");
    }
}
