//! Tests of the examples: they verify deliveries, and stop with open peers.

use axum::body::Body;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::runtime::Runtime;
use tower_klikit::testing::SignedDelivery;
use tower_klikit_examples::setup::DEMO_SECRET;
use tower_klikit_test_support::servers::postgres::PostgresServer;

use crate::{
    child::Child,
    peers::Peer,
    server::{PATH, SECRET},
};

const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"status":1}]}"#;

struct Example {
    name: &'static str,
    arguments: &'static [&'static str],
    /// The text that the example prints once it serves, if it does not print its address last.
    ready: Option<&'static str>,
}

const EXAMPLES: [Example; 11] = [
    Example { name: "dedupe", arguments: &[], ready: None },
    Example { name: "hyper", arguments: &[], ready: None },
    Example { name: "inbox", arguments: &[], ready: None },
    Example { name: "kitchen_printer", arguments: &[], ready: None },
    Example { name: "metrics", arguments: &[], ready: None },
    Example { name: "receiver", arguments: &[], ready: Some("Serving until") },
    Example { name: "receiver", arguments: &["--inbox", "sqlite:klikit.db"], ready: Some("Serving until") },
    Example { name: "tenants", arguments: &[], ready: None },
    Example { name: "tonic", arguments: &[], ready: None },
    Example { name: "typed", arguments: &[], ready: None },
    Example { name: "verify", arguments: &[], ready: None },
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

/// Sends deliveries with another secret and with the demo secret. Waits until the example has printed `handled`, and then
/// ends it.
fn assert_verifies(child: Child, path: &str, handled: Option<&str>) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let runtime = Runtime::new().expect("a runtime");
    let url = format!("http://{}{path}", child.address());
    for (secret, status) in [(SECRET, 403), (DEMO_SECRET, 200)] {
        let request = SignedDelivery::new(secret, BODY).event_id("evt-1").uri(&url).request();
        let response = runtime.block_on(client.request(request)).expect("a response");
        assert_eq!(response.status(), status, "{child:?}");
    }
    if let Some(handled) = handled {
        child.wait_for(handled);
    }
    child.signal("TERM");
    let (code, output) = child.end();
    assert_eq!(code, Some(0), "{output}");
}

#[test]
fn examples_verify_with_the_demo_secret() {
    for name in ["receiver", "tonic"] {
        assert_verifies(Child::demo(name), PATH, None);
    }
    for name in ["dedupe", "hyper", "inbox", "verify"] {
        assert_verifies(Child::demo(name), PATH, Some("received evt-1: 60 bytes"));
    }
    assert_verifies(Child::demo("typed"), PATH, Some("received evt-1: order 42 is PLACED"));
}

#[test]
fn examples_verify_with_the_secret_before_a_rotation() {
    let rotated = [("KLIKIT_WEBHOOK_SECRET", "the new webhook secret"), ("KLIKIT_WEBHOOK_SECRET_OLD", DEMO_SECRET)];
    for name in ["dedupe", "hyper", "inbox", "kitchen_printer", "receiver", "tonic", "typed", "verify"] {
        assert_verifies(Child::demo_with(name, &rotated), PATH, None);
    }
}

#[test]
fn tenants_have_their_own_paths() {
    let handled = "received evt-1 for bali-bites: 60 bytes";
    assert_verifies(Child::demo("tenants"), &format!("{PATH}/bali-bites"), Some(handled));
}

#[test]
fn postgres_example_handles_stored_deliveries() {
    let Some(server) = PostgresServer::start("Postgres example handles stored deliveries") else { return };
    let child = Child::demo_with("postgres", &[("DATABASE_URL", server.url())]);
    assert_verifies(child, PATH, Some("received evt-1: 60 bytes"));
}
