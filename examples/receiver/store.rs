//! Where the receiver remembers what it has handled.

use std::error::Error;

use tower_klikit::{dedupe::KlikitDedupeLayer, store::MemoryStore};

/// `memory`, `sqlite:PATH`, `redis://…` or `postgres://…`.
pub(crate) async fn open(store: &str) -> Result<KlikitDedupeLayer, Box<dyn Error>> {
    Ok(match store.split(':').next().unwrap_or_default() {
        "memory" => KlikitDedupeLayer::new(MemoryStore::new()),
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let path = store.trim_start_matches("sqlite:");
            KlikitDedupeLayer::new(tower_klikit::store::SqliteStore::open(path)?)
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" => KlikitDedupeLayer::new(tower_klikit::store::RedisStore::connect(store).await?),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => KlikitDedupeLayer::new(tower_klikit::store::PostgresStore::connect(store).await?),
        #[allow(unreachable_patterns, reason = "with every feature there is none left")]
        scheme @ ("sqlite" | "redis" | "rediss" | "postgres" | "postgresql") => {
            return Err(format!("built without {scheme}: cargo run --features full --example receiver").into());
        }
        _ => return Err("--store takes memory, sqlite:PATH, redis://… or postgres://…".into()),
    })
}
