//! Properties of arbitrary bodies, frames, secrets and headers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use proptest::{collection::vec, prelude::*};
use tower_klikit::{
    KlikitVerifyLayer, RejectionKind,
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
    testing::SignedDelivery,
};

use crate::support::{
    SECRET, accepted,
    body::{Script, Step},
    send,
};

/// Runs a future on a runtime with a paused clock.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Generates a body in frames, some of them empty, with waits and trailers between them.
fn frames() -> impl Strategy<Value = Vec<Step>> {
    let data = vec(any::<u8>(), 0..300).prop_map(|bytes| Step::Data(bytes.into()));
    vec(prop_oneof![8 => data, 1 => Just(Step::Yield), 1 => Just(Step::Trailers)], 0..40)
}

/// Returns the data of all frames.
fn concat_data(steps: &[Step]) -> Bytes {
    let data = steps.iter().filter_map(|step| if let Step::Data(data) = step { Some(&data[..]) } else { None });
    data.collect::<Vec<_>>().concat().into()
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    let hex = "[0-9a-fA-F]{60,68}".prop_map(String::into_bytes);
    prop_oneof![hex, vec(any::<u8>(), 0..80)]
        .prop_filter_map("a header cannot hold the value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let names: Vec<HeaderName> = vec![
        SIGNATURE,
        EVENT_ID,
        EVENT_TYPE,
        http::header::CONTENT_LENGTH,
        http::header::TRANSFER_ENCODING,
        http::header::AUTHORIZATION,
        http::header::TRAILER,
    ];
    vec((proptest::sample::select(names), header_value()), 0..12).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    })
}

proptest! {
    #[test]
    fn handler_sees_signed_bytes_for_any_frames(steps in frames()) {
        let body = concat_data(&steps);
        let delivery = SignedDelivery::new(SECRET, body.clone());
        let seen = block_on(accepted(&KlikitVerifyLayer::new(SECRET), delivery.request_with(|_| Script::new(steps))));
        prop_assert_eq!(seen.bytes, body);
    }

    #[test]
    fn other_body_never_verifies(steps in frames(), other in frames()) {
        prop_assume!(concat_data(&steps) != concat_data(&other));
        let delivery = SignedDelivery::new(SECRET, concat_data(&steps));
        let (answer, seen) = block_on(send(&KlikitVerifyLayer::new(SECRET), delivery.request_with(|_| Script::new(other))));
        prop_assert!(seen.is_none());
        prop_assert_eq!(answer.rejected, Some(RejectionKind::SignatureMismatch));
    }

    #[test]
    fn other_secret_never_verifies(secret in "[!-~]{0,40}[0-9A-Za-z][!-~]{0,39}", body in vec(any::<u8>(), 0..200)) {
        prop_assume!(secret != SECRET);
        let (answer, seen) = block_on(send(&KlikitVerifyLayer::new(SECRET), SignedDelivery::new(secret, body).request::<Full<Bytes>>()));
        prop_assert!(seen.is_none());
        prop_assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn rejects_exactly_the_bodies_over_the_limit(steps in frames(), limit in 0_usize..6000) {
        let body = concat_data(&steps);
        let delivery = SignedDelivery::new(SECRET, body.clone());
        let layer = KlikitVerifyLayer::new(SECRET).body_limit(limit);
        let (answer, seen) = block_on(send(&layer, delivery.request_with(|_| Script::new(steps))));
        let expected = (body.len() > limit).then_some(RejectionKind::BodyTooLarge);
        prop_assert_eq!(answer.rejected, expected);
        prop_assert_eq!(seen.is_some(), expected.is_none());
    }

    #[test]
    fn arbitrary_headers_are_rejected_without_panic(headers in headers(), steps in frames()) {
        let mut request = Request::new(Script::new(steps));
        *request.headers_mut() = headers;
        let (answer, seen) = block_on(send(&KlikitVerifyLayer::new(SECRET), request));
        prop_assert!(seen.is_none());
        prop_assert!(answer.status.is_client_error());
    }
}
