//! Memory grows with the bytes that arrive, never with an announced length. Measured at the allocator.

mod support;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use support::{
    BODY, Handler, SECRET,
    body::{Script, Step},
    rejected,
};
use tokio::runtime::{Builder, Runtime};
use tokio_test::task;
use tower::{Layer, Service};
use tower_klikit::{KlikitVerifyLayer, RejectionKind, VerifiedBody, header::SIGNATURE, testing::SignedDelivery};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

static ZEROES: [u8; 1 << 20] = [0; 1 << 20];

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Measures the allocations of one request whose handler responds at once. The counter is per thread, and everything
/// runs on this thread.
fn cost<B>(layer: &KlikitVerifyLayer, request: Request<B>) -> AllocationInfo
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let handler = |request: Request<VerifiedBody>| {
        assert!(!request.headers().is_empty());
        std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default())))
    };
    let mut service = layer.layer(tower::service_fn(handler));
    let runtime = runtime();
    measure(|| assert_eq!(runtime.block_on(service.call(request)).unwrap().status(), 200))
}

fn signed(length: u64) -> SignedDelivery {
    SignedDelivery::new(SECRET, Bytes::from_static(&ZEROES[..usize::try_from(length).unwrap()]))
}

/// The most allocations of a request. With metrics, watching the delivery takes one more, and the labels take five
/// more.
const ALLOCATIONS: u64 = if cfg!(feature = "metrics") { 12 } else { 6 };

#[test]
fn single_frame_body_is_not_copied() {
    let layer = KlikitVerifyLayer::new(SECRET);
    for length in [KIB, 8 * KIB, MIB] {
        let cost = cost(&layer, signed(length).request::<Full<Bytes>>());
        assert!(cost.count_total <= ALLOCATIONS, "{cost:?}");
        assert!(cost.bytes_total < KIB, "{cost:?}");
    }
}

#[test]
fn one_byte_chunks_take_twice_the_body() {
    let request = signed(MIB).request_with(|body| Script::chunked(&body, 1));
    let cost = cost(&KlikitVerifyLayer::new(SECRET), request);
    // The blocks, and one copy of the body once it is verified.
    assert!(cost.bytes_max < 2 * MIB + 4 * KIB, "{cost:?}");
    assert!(cost.count_total < 34 + ALLOCATIONS, "{cost:?}");
}

#[test]
fn announced_length_allocates_nothing() {
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(usize::MAX / 4);
    let huge = (512 * MIB).to_string();
    let body = |body: Bytes| Script::frames([body.slice(..9)]).then(Step::Fail).announcing(512 * MIB);
    let announcing = SignedDelivery::new(SECRET, BODY).header(header::CONTENT_LENGTH, &huge);
    let unsigned = announcing.clone().without_header(&SIGNATURE);
    let runtime = runtime();
    for (delivery, kind) in [(announcing, RejectionKind::BodyUnreadable), (unsigned, RejectionKind::MissingSignature)] {
        let request = delivery.request_with(body);
        let cost = measure(|| {
            runtime.block_on(rejected(&layer, request, kind));
        });
        assert!(cost.bytes_max < 16 * KIB, "{kind:?}: {cost:?}");
    }
}

#[test]
fn stalled_senders_hold_no_more_than_the_budget() {
    const SENDERS: usize = 3000;
    const BUDGET: usize = 4 << 20;
    const LARGE: usize = 128 << 10;
    let layer = KlikitVerifyLayer::new(SECRET).body_limit(LARGE).buffer_budget(BUDGET);
    let delivery = signed(LARGE as u64);
    // Half of the bodies are large and arrive in two pieces, without their last byte. The others arrive in chunks of
    // one byte.
    let large = || Script::chunked(&delivery.body().slice(1..), LARGE / 2).then(Step::Hang);
    let small = || Script::chunked(&delivery.body().slice(..16), 1).then(Step::Hang);
    let requests: Vec<_> =
        (0..SENDERS).map(|n| delivery.request_with(|_| if n % 2 == 0 { large() } else { small() })).collect();
    let mut waiting = Vec::with_capacity(SENDERS);
    let mut service = layer.layer(Handler::default());
    let runtime = runtime();
    let _inside = runtime.enter();
    let cost = measure(|| {
        for request in requests {
            let mut future = task::spawn(service.call(request));
            if future.poll().is_pending() {
                waiting.push(future);
            }
        }
    });
    let budget = BUDGET as u64;
    assert!(waiting.len() >= BUDGET / LARGE, "only {} senders are waiting", waiting.len());
    assert!(cost.bytes_max > budget / 10 * 9, "the budget is not used up: {cost:?}");
    // In addition to the budget: the futures, and one buffer that is being filled.
    assert!(cost.bytes_max < budget + SENDERS as u64 * 2 * KIB + LARGE as u64, "{cost:?}");
}
