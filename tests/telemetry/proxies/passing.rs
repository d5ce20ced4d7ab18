//! Deliveries through nginx in its default configuration.

use http::Version;
use tower_klikit::{
    RejectionKind::SignatureMismatch,
    diagnose::{Cause, Certainty},
};

use crate::proxies::{
    receiver::{Receiver, serve, verify},
    sender::{sample, samples, send, send_chunked},
    servers::nginx::Nginx,
};

#[tokio::test]
async fn default_nginx_passes_every_sample() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    for (version, expected) in [("1.0", Version::HTTP_10), ("1.1", Version::HTTP_11)] {
        for buffered in ["on", "off"] {
            let directives = [
                format!("proxy_http_version {version}"),
                format!("proxy_request_buffering {buffered}"),
                format!("proxy_buffering {buffered}"),
            ];
            let Some(nginx) = Nginx::in_front_of(address, &directives.each_ref().map(|line| &**line)) else { return };
            for delivery in samples() {
                for chunked in [false, true] {
                    let status = if chunked {
                        send_chunked(nginx.address(), &delivery).await
                    } else {
                        send(nginx.address(), &delivery).await
                    };
                    let (arrival, handled) = receiver.take();
                    let case = format!("{delivery:?}, {directives:?}, chunked: {chunked}, {:?}", arrival.headers);
                    assert_eq!((status, arrival.version), (200, expected), "{case}");
                    assert!(handled.as_ref() == Some(delivery.body()), "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn altered_delivery_has_no_cause() {
    let (receiver, _guard) = Receiver::listening();
    let address = serve(receiver.route(verify())).await;
    let Some(nginx) = Nginx::in_front_of(address, &[]) else { return };
    assert_eq!(send(nginx.address(), &sample().altered()).await, 403);
    receiver.take_rejected().assert_rejected(SignatureMismatch, Cause::Unknown, Certainty::Unknown);
}
