//! A server that may forget what it has committed is warned of.

use std::{
    io,
    sync::{Arc, Mutex, Once},
};

use tower_klikit::store::postgres::PostgresStore;
use tracing_subscriber::fmt::MakeWriter;

use crate::{client, servers::postgres::PostgresServer};

#[tokio::test]
async fn settings_that_forget_are_warned_of() {
    let Some(server) = PostgresServer::start_own("settings that forget are warned of", &["fsync=on"]) else { return };
    let log = Log::default();
    let _guard = log.listen();
    PostgresStore::connect(server.url()).await.unwrap();
    assert_eq!(log.taken(), "");
    client(server.url()).await.batch_execute("ALTER ROLE klikit SET synchronous_commit = off").await.unwrap();
    PostgresStore::connect(server.url()).await.unwrap();
    let warned = log.taken();
    assert!(warned.contains("synchronous_commit is off") && !warned.contains("fsync"), "{warned}");
    client(server.url()).await.batch_execute("ALTER ROLE klikit SET synchronous_commit = local").await.unwrap();
    PostgresStore::connect(server.url()).await.unwrap();
    assert_eq!(log.taken(), "");

    let server = PostgresServer::start_own("a server without fsync is warned of", &["fsync=off"]).unwrap();
    PostgresStore::connect(server.url()).await.unwrap();
    let warned = log.taken();
    assert!(warned.contains("fsync is off") && !warned.contains("synchronous_commit"), "{warned}");
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
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

    fn taken(&self) -> String {
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
