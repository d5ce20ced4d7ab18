//! Compiles if sqlx and the stores can be used in one program.

use sqlx::postgres::PgPoolOptions;
use tower_klikit::{KlikitVerifyLayer, inbox::Inbox};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::SqliteStore;

fn main() {
    let _pool = PgPoolOptions::new();
    let _layer = KlikitVerifyLayer::new("secret");
    let _inbox = |store: SqliteStore| Inbox::new(store);
    let _shared = |store: PostgresStore| Inbox::new(store);
}
