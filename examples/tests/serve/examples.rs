//! Tests that every example stops with open peers.

use axum::body::Body;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::runtime::Runtime;
use tower_klikit::testing::SignedDelivery;
use tower_klikit_examples::setup::DEMO_SECRET;

use crate::{
    child::Child,
    peers::Peer,
    server::{PATH, SECRET},
};

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

#[test]
fn examples_verify_with_the_demo_secret() {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let runtime = Runtime::new().expect("a runtime");
    for name in ["hyper", "receiver", "tonic"] {
        let child = Child::demo(name);
        let url = format!("http://{}{PATH}", child.address());
        for (secret, status) in [(DEMO_SECRET, 200), (SECRET, 403)] {
            let request = SignedDelivery::new(secret, "{}").uri(&url).request();
            let response = runtime.block_on(client.request(request)).expect("a response");
            assert_eq!(response.status(), status, "{name}");
        }
        child.signal("TERM");
        let (code, output) = child.end();
        assert_eq!(code, Some(0), "{name}: {output}");
    }
}
