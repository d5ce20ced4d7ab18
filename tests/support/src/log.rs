//! Captured logs, and helpers for the tests that read them.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, Once},
};

use tracing_subscriber::{
    filter::LevelFilter,
    fmt::{MakeWriter, format::FmtSpan},
};

/// A captured log. Clones share its text.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures warnings and errors of this thread until the guard is dropped.
    pub fn listen(&self) -> tracing::subscriber::DefaultGuard {
        self.listen_at(LevelFilter::WARN)
    }

    /// Captures lines of this level and above of this thread until the guard is dropped.
    pub fn listen_at(&self, level: LevelFilter) -> tracing::subscriber::DefaultGuard {
        // `tracing` disables a call site that is first reached without a subscriber. With this global subscriber, that does not
        // happen.
        static GLOBAL: Once = Once::new();
        GLOBAL.call_once(|| tracing_subscriber::fmt().with_writer(io::sink).init());
        tracing::subscriber::set_default(
            tracing_subscriber::fmt().with_ansi(false).with_max_level(level).with_writer(self.clone()).finish(),
        )
    }

    /// Captures lines of this level and above, and these span events, while `run` runs. No other thread of the program may log
    /// without a subscriber, because `tracing` would then disable the call site for all threads.
    pub fn capture_while<T>(&self, level: LevelFilter, spans: FmtSpan, run: impl FnOnce() -> T) -> T {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_span_events(spans)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, run)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Takes the text out of the log.
    pub fn taken(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Runs the future with a paused clock, which advances only when all tasks wait.
pub fn paused(run: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(run);
}

/// Reads from a log message for how many seconds a handler blocked its thread.
pub fn blocked_seconds(text: &str) -> f64 {
    let (_, rest) = text.split_once("the handler blocked its thread for ").expect("a blocked handler is logged");
    let (seconds, _) = rest.split_once(" s; use spawn_blocking").expect("a number of seconds");
    seconds.parse().expect("a number")
}
