//! The search for a cause has a thread of its own, which may be busy, or none.

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

fn heard(run: impl FnOnce(&Log)) -> Log {
    let log = Log::default();
    log.hear(LevelFilter::TRACE, FmtSpan::CLOSE, || run(&log));
    log
}

/// What is logged while this runs on a paused clock. The only thread for what blocks is taken, until what it is given is dropped.
fn heard_while_busy<F: Future<Output = ()>>(run: impl FnOnce(Sender<()>, Log) -> F) -> Log {
    heard(|log| {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).max_blocking_threads(1).build();
        let runtime: Runtime = runtime.unwrap();
        let (end, ended) = channel();
        runtime.spawn_blocking(move || ended.recv());
        runtime.block_on(run(end, log.clone()));
    })
}

#[test]
fn a_search_holds_up_nothing_else() {
    let log = heard_while_busy(async |end, log| {
        let mut answer = task::spawn(stack().oneshot(reencoded()));
        assert!(answer.poll().is_pending());
        assert_eq!(warnings(&log).len(), 0);
        drop(end);
        assert_eq!(answer.await.unwrap().status(), 403);
    });
    assert!(warnings(&log)[0].contains(r#"cause="body_reencoded""#), "{:?}", warnings(&log));
}

#[test]
fn one_search_waits_for_its_thread_and_no_other() {
    let log = heard_while_busy(async |end, _| {
        let stack = stack();
        let mut first = task::spawn(stack.clone().oneshot(reencoded()));
        assert!(first.poll().is_pending());
        // Until there would be another turn.
        advance(Duration::from_secs(1)).await;
        let second = stack.clone().oneshot(reencoded()).now_or_never();
        assert_eq!(second.expect("nobody looks for its cause").unwrap().status(), 403);
        drop(end);
        assert_eq!(first.await.unwrap().status(), 403);
        assert_eq!(stack.oneshot(reencoded()).await.unwrap().status(), 403);
    });
    let explained: Vec<_> = warnings(&log).iter().map(|line| line.contains("cause=")).collect();
    assert_eq!(explained, [false, true, true]);
}

#[test]
fn a_refusal_is_told_of_when_its_sender_hangs_up_during_the_search() {
    let log = heard_while_busy(async |end, _| {
        let stack = stack();
        let mut given_up = task::spawn(stack.clone().oneshot(reencoded()));
        assert!(given_up.poll().is_pending());
        drop(given_up);
        drop(end);
        // Behind the search, on the one thread.
        spawn_blocking(|| ()).await.unwrap();
        advance(Duration::from_secs(1)).await;
        stack.oneshot(reencoded()).await.unwrap();
    });
    let text = log.text();
    let [refused, closed, ..] = &text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(refused.contains(" WARN ") && refused.contains("given up before it was answered"), "{text}");
    for line in [refused, closed] {
        assert!(line.contains(r#"reason="signature_mismatch""#) && line.contains(r#"tenant="default""#), "{text}");
    }
    assert!(closed.contains(r#"verdict="rejected""#) && closed.contains("body_wait_ms=0"), "{text}");
    assert!(warnings(&log)[1].contains("cause="), "{text}");
}

#[test]
fn a_search_needs_no_runtime() {
    let log = heard(|_| {
        let answer = stack().oneshot(reencoded()).now_or_never();
        assert_eq!(answer.unwrap().unwrap().status(), 403);
    });
    assert!(warnings(&log)[0].contains(r#"cause="body_reencoded""#), "{:?}", warnings(&log));
}

#[test]
fn a_refusal_is_answered_without_its_cause_when_the_runtime_ends() {
    let log = heard(|_| {
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
