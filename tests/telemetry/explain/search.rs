//! Tests of the thread that searches for the cause: while it is busy, and without a runtime.

use std::{
    future::Future,
    sync::mpsc::{Sender, channel},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    runtime::{Builder, Runtime},
    task::spawn_blocking,
    time::advance,
};
use tokio_test::task;
use tower::{Layer, ServiceExt};
use tower_klikit::{KlikitVerify, KlikitVerifyLayer};
use tracing_subscriber::{filter::LevelFilter, fmt::format::FmtSpan};

use crate::{
    explain::{log::Log, reencoded, warnings},
    support::{Handler, SECRET},
};

fn stack() -> KlikitVerify<Handler> {
    KlikitVerifyLayer::new(SECRET).explain_mismatches().layer(Handler::default())
}

/// Returns the log of a function.
fn logged(run: impl FnOnce(&Log)) -> Log {
    let log = Log::default();
    log.capture_while(LevelFilter::TRACE, FmtSpan::CLOSE, || run(&log));
    log
}

/// Returns the log of a test on a paused clock. The only blocking thread is busy until the test drops the sender.
fn logged_while_busy<F: Future<Output = ()>>(run: impl FnOnce(Sender<()>, Log) -> F) -> Log {
    logged(|log| {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).max_blocking_threads(1).build();
        let runtime: Runtime = runtime.unwrap();
        let (end, ended) = channel();
        runtime.spawn_blocking(move || ended.recv());
        runtime.block_on(run(end, log.clone()));
    })
}

#[test]
fn search_does_not_block_the_runtime() {
    let log = logged_while_busy(async |end, log| {
        let mut answer = task::spawn(stack().oneshot(reencoded()));
        assert!(answer.poll().is_pending());
        assert_eq!(warnings(&log).len(), 0);
        drop(end);
        assert_eq!(answer.await.unwrap().status(), 403);
    });
    assert!(warnings(&log)[0].contains(r#"cause="body_reencoded""#), "{:?}", warnings(&log));
}

#[test]
fn only_one_search_waits_for_the_thread() {
    let log = logged_while_busy(async |end, _| {
        let stack = stack();
        let mut first = task::spawn(stack.clone().oneshot(reencoded()));
        assert!(first.poll().is_pending());
        // Without the waiting search, the next mismatch would be explained now.
        advance(Duration::from_secs(1)).await;
        let second = stack.clone().oneshot(reencoded()).now_or_never();
        assert_eq!(second.expect("the second rejection waits for no search").unwrap().status(), 403);
        drop(end);
        assert_eq!(first.await.unwrap().status(), 403);
        assert_eq!(stack.oneshot(reencoded()).await.unwrap().status(), 403);
    });
    let explained: Vec<_> = warnings(&log).iter().map(|line| line.contains("cause=")).collect();
    assert_eq!(explained, [false, true, true]);
}

#[test]
fn logs_rejection_when_sender_disconnects() {
    let log = logged_while_busy(async |end, _| {
        let stack = stack();
        let mut disconnected = task::spawn(stack.clone().oneshot(reencoded()));
        assert!(disconnected.poll().is_pending());
        drop(disconnected);
        drop(end);
        // The thread runs this after the search.
        spawn_blocking(|| ()).await.unwrap();
        advance(Duration::from_secs(1)).await;
        stack.oneshot(reencoded()).await.unwrap();
    });
    let text = log.text();
    let [rejected, closed, ..] = &text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(rejected.contains(" WARN ") && rejected.contains("dropped before it was answered"), "{text}");
    for line in [rejected, closed] {
        assert!(line.contains(r#"reason="signature_mismatch""#) && line.contains(r#"tenant="default""#), "{text}");
    }
    assert!(closed.contains(r#"verdict="rejected""#) && closed.contains("body_wait_ms=0"), "{text}");
    assert!(warnings(&log)[1].contains("cause="), "{text}");
}

#[test]
fn search_needs_no_runtime() {
    let log = logged(|_| {
        let answer = stack().oneshot(reencoded()).now_or_never();
        assert_eq!(answer.unwrap().unwrap().status(), 403);
    });
    assert!(warnings(&log)[0].contains(r#"cause="body_reencoded""#), "{:?}", warnings(&log));
}

#[test]
fn rejects_without_cause_when_runtime_ends() {
    let log = logged(|_| {
        let runtime = Builder::new_current_thread().build().unwrap();
        let ended = runtime.handle().clone();
        runtime.shutdown_background();
        let _entered = ended.enter();
        let answer = stack().oneshot(reencoded()).now_or_never();
        assert_eq!(answer.unwrap().unwrap().status(), 403);
    });
    let [line] = &warnings(&log)[..] else { panic!("{:?}", warnings(&log)) };
    assert!(line.contains(r#"reason="signature_mismatch""#) && !line.contains("cause="), "{line}");
}
