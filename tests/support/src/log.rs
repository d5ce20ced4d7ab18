//! What is logged, for the tests that read it.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, Once},
};

use tracing_subscriber::{
    filter::LevelFilter,
    fmt::{MakeWriter, format::FmtSpan},
};

/// What is logged on this thread.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn listen(&self) -> tracing::subscriber::DefaultGuard {
        // While there is one subscriber, of one thread, another thread that logs first has `tracing` take it that nobody
        // listens. So there is a second one, for all.
        static FOR_ALL: Once = Once::new();
        FOR_ALL.call_once(|| tracing_subscriber::fmt().with_writer(io::sink).init());
        tracing::subscriber::set_default(
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::WARN)
                .with_writer(self.clone())
                .finish(),
        )
    }

    /// Listens while this runs. Nothing in the program may log while nobody listens: `tracing` would take it that nobody wants
    /// to hear.
    pub fn hear<T>(&self, level: LevelFilter, spans: FmtSpan, run: impl FnOnce() -> T) -> T {
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

/// Runs this on a clock that stands still until everything waits.
pub fn paused(run: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(run);
}

/// Returns for how many seconds a handler has blocked its thread, as the log says.
pub fn blocked_seconds(text: &str) -> f64 {
    let (_, rest) = text.split_once("the handler blocked its thread for ").expect("a blocked handler is logged");
    let (seconds, _) = rest.split_once(" s; use spawn_blocking").expect("a number of seconds");
    seconds.parse().expect("a number")
}
