//! The checks of the server when a store is opened.

use redis::{ErrorKind, InfoDict, RedisResult, ServerErrorKind};

use super::{
    connection::Connection,
    error::{RedisConnectError, RedisConnectErrorKind},
    script::Scripts,
};
use crate::telemetry;

/// Checks that this server is suitable for a ledger, and loads the scripts.
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
        // Reject the policy even without a memory limit, because a limit can be set while the server runs.
        Some(policy) if policy != "noeviction" => return Err(RedisConnectError::evicts(policy)),
        Some(_) => {}
        None => telemetry::may_forget("its maxmemory-policy cannot be read, and should be noeviction"),
    }
    if is("aof_enabled", "0") {
        telemetry::may_forget("it has no append-only file, so a crash loses everything since its last snapshot");
    }

    // Load the scripts now, so that the first claim takes one round trip. This fails if the server is still loading its
    // data or does not allow scripts.
    for script in scripts.all() {
        connection.call(|mut manager| async move { script.load_async(&mut manager).await }).await?;
    }
    Ok(())
}

/// Returns the server's information, or `None` if this user has no permission.
async fn info(connection: &Connection) -> RedisResult<Option<InfoDict>> {
    permitted(connection.call(|mut manager| async move { redis::cmd("INFO").query_async(&mut manager).await }).await)
}

/// Returns the configured eviction policy, or `None` if this user has no permission.
async fn configured_policy(connection: &Connection) -> RedisResult<Option<String>> {
    let answer = connection.call(|mut manager| async move {
        let settings: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(&mut manager).await?;
        Ok(settings)
    });
    // The answer has two elements: the setting's name and its value.
    Ok(permitted(answer.await)?.and_then(|settings| settings.into_iter().nth(1)))
}

/// Returns `None` if the command is denied or unknown, as on managed servers.
fn permitted<T>(result: RedisResult<T>) -> RedisResult<Option<T>> {
    let denied = [ServerErrorKind::NoPerm, ServerErrorKind::ResponseError].map(ErrorKind::Server);
    match result {
        Err(error) if denied.contains(&error.kind()) => Ok(None),
        result => result.map(Some),
    }
}
