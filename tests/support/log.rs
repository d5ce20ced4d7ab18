//! What is logged, for the tests that read it.
#![allow(unreachable_pub, missing_docs)]

use std::{
    io,
    sync::{Arc, Mutex, Once},
};

use tracing_subscriber::fmt::MakeWriter;

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
