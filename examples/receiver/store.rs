//! The stores of the receiver.

use std::error::Error;

use tower_klikit::{dedupe::KlikitDedupeLayer, inbox::Inbox, store::MemoryStore};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_redis::RedisStore;
use tower_klikit_sqlite::SqliteStore;

/// Opens a store for the dedupe layer: `memory`, `sqlite:PATH`, `redis://…` or `postgres://…`.
pub(crate) async fn open(store: &str) -> Result<KlikitDedupeLayer, Box<dyn Error>> {
    Ok(match scheme(store) {
        "memory" => KlikitDedupeLayer::new(MemoryStore::new()),
        "sqlite" => KlikitDedupeLayer::new(SqliteStore::builder().create().open(path(store))?),
        "redis" | "rediss" => KlikitDedupeLayer::new(RedisStore::open(store).await?),
        "postgres" | "postgresql" => KlikitDedupeLayer::new(PostgresStore::open(store).await?),
        _ => return Err("--store takes memory, sqlite:PATH, redis://… or postgres://…".into()),
    })
}

/// Opens a durable store for the inbox: `sqlite:PATH` or `postgres://…`.
pub(crate) async fn open_inbox(store: &str) -> Result<Inbox, Box<dyn Error>> {
    Ok(match scheme(store) {
        "sqlite" => Inbox::new(SqliteStore::builder().create().open(path(store))?),
        "postgres" | "postgresql" => Inbox::new(PostgresStore::open(store).await?),
        _ => return Err("--inbox takes sqlite:PATH or postgres://…".into()),
    })
}

fn scheme(store: &str) -> &str {
    store.split(':').next().unwrap_or_default()
}

fn path(store: &str) -> &str {
    store.strip_prefix("sqlite:").unwrap_or(store)
}
