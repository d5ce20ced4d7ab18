use redis::{ErrorKind, InfoDict, RedisResult, ServerErrorKind};

use super::{
    connection::Connection,
    error::{RedisConnectError, RedisConnectErrorKind},
    script::Scripts,
};
use crate::telemetry;

/// Whether this server can keep a ledger.
pub(super) async fn check(connection: &Connection, scripts: &Scripts) -> Result<(), RedisConnectError> {
    let info = info(connection).await?;
    let field = |name| info.as_ref().and_then(|info| info.get::<String>(name));
    let is = |name, value| field(name).is_some_and(|field| field == value);

    if is("cluster_enabled", "1") {
        return Err(RedisConnectError::new(RedisConnectErrorKind::Cluster));
    }
    if is("role", "slave") {
        return Err(RedisConnectError::new(RedisConnectErrorKind::Replica));
    }
    let policy = match field("maxmemory_policy") {
        Some(policy) => Some(policy),
        None => configured_policy(connection).await?,
    };
    match policy {
        // Also without a limit on memory: it can be set later, while the server runs.
        Some(policy) if policy != "noeviction" => return Err(RedisConnectError::evicts(policy)),
        Some(_) => {}
        None => telemetry::redis_may_forget("its maxmemory-policy cannot be read, and should be noeviction"),
    }
    if is("aof_enabled", "0") {
        telemetry::redis_may_forget("it keeps no append-only file, so what came after its last snapshot ends with it");
    }

    // With them loaded, a first claim takes one round trip. A server that is still reading its data from the disk, or that
    // allows no scripts, says so here.
    for script in scripts.all() {
        connection.call(|mut manager| async move { script.load_async(&mut manager).await }).await?;
    }
    Ok(())
}

/// `None` when this user may not ask.
async fn info(connection: &Connection) -> RedisResult<Option<InfoDict>> {
    permitted(connection.call(|mut manager| async move { redis::cmd("INFO").query_async(&mut manager).await }).await)
}

/// `None` when this user may not ask.
async fn configured_policy(connection: &Connection) -> RedisResult<Option<String>> {
    let answer = connection.call(|mut manager| async move {
        let settings: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(&mut manager).await?;
        Ok(settings)
    });
    // A name and its value.
    Ok(permitted(answer.await)?.and_then(|settings| settings.into_iter().nth(1)))
}

/// Managed servers deny commands, or do not know them.
fn permitted<T>(result: RedisResult<T>) -> RedisResult<Option<T>> {
    let denied = [ServerErrorKind::NoPerm, ServerErrorKind::ResponseError].map(ErrorKind::Server);
    match result {
        Err(error) if denied.contains(&error.kind()) => Ok(None),
        result => result.map(Some),
    }
}
