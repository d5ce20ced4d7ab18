//! Tests of opening a store: the checks of the server, the warnings and the errors.

use std::error::Error;

use tower_klikit_redis::{RedisConnectError, RedisConnectErrorKind as Kind, RedisStore};

use crate::{
    log::Log,
    servers::{free_port, redis as servers},
    support::{claim, handle, raw, run},
};

async fn rejection(url: &str) -> RedisConnectError {
    RedisStore::open(url).await.unwrap_err()
}

#[tokio::test]
async fn rejects_eviction_policies() {
    let Some(server) = servers::own(&[]) else { return };
    let mut raw = raw(&server.url()).await;
    for maxmemory in ["0", "100mb"] {
        run::<()>(&mut raw, &format!("CONFIG SET maxmemory {maxmemory}")).await;
        let volatile = ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"];
        for policy in volatile.iter().chain(&["allkeys-lru", "allkeys-lfu", "allkeys-random"]) {
            run::<()>(&mut raw, &format!("CONFIG SET maxmemory-policy {policy}")).await;
            let error = rejection(&server.url()).await;
            assert_eq!(error.kind(), Kind::Evicts);
            assert!(!error.is_retryable());
            assert!(error.to_string().contains("noeviction") && error.to_string().contains(policy), "{error}");
        }
        run::<()>(&mut raw, "CONFIG SET maxmemory-policy noeviction").await;
        RedisStore::open(&server.url()).await.unwrap();
    }
}

#[tokio::test]
async fn rejects_a_replica() {
    let Some(primary) = servers::own(&[]) else { return };
    let port = primary.port().to_string();
    for read_only in ["yes", "no"] {
        let arguments = ["--replicaof", "127.0.0.1", &port, "--replica-read-only", read_only];
        let Some(replica) = servers::own(&arguments) else { return };
        assert_eq!(rejection(&replica.url()).await.kind(), Kind::Replica);
    }
}

#[tokio::test]
async fn rejects_a_node_of_a_cluster() {
    let Some(server) = servers::own(&["--cluster-enabled", "yes"]) else { return };
    assert_eq!(rejection(&server.url()).await.kind(), Kind::Cluster);
}

#[tokio::test]
async fn rejects_wrong_passwords_and_missing_permissions() {
    let Some(server) = servers::own(&["--requirepass", "secret"]) else { return };
    let with = |user: &str| server.url().replace("redis://", &format!("redis://{user}@"));
    RedisStore::open(&with(":secret")).await.unwrap();
    assert_eq!(rejection(&server.url()).await.kind(), Kind::Denied);
    let error = rejection(&with(":guessed")).await;
    assert_eq!(error.kind(), Kind::Denied);
    assert!(!error.is_retryable());

    let mut raw = raw(&with(":secret")).await;
    run::<()>(&mut raw, "ACL SETUSER reader on >r ~* +@read +info").await;
    assert_eq!(rejection(&with("reader:r")).await.kind(), Kind::Denied);
}

/// Managed servers deny CONFIG, and may deny INFO too.
#[tokio::test]
async fn unreadable_settings_are_a_warning() {
    let Some(server) = servers::own(&["--appendonly", "yes"]) else { return };
    let mut raw = raw(&server.url()).await;
    let with = |user: &str| server.url().replace("redis://", &format!("redis://{user}@"));
    run::<()>(&mut raw, "ACL SETUSER no-config on >p ~* +@all -config").await;
    run::<()>(&mut raw, "ACL SETUSER no-info on >p ~* +@all -info").await;
    run::<()>(&mut raw, "ACL SETUSER neither on >p ~* +@all -info -config").await;

    let log = Log::default();
    let _guard = log.listen();
    let store = RedisStore::open(&with("no-config:p")).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    RedisStore::open(&with("no-info:p")).await.unwrap();
    assert_eq!(log.taken(), "");
    let store = RedisStore::open(&with("neither:p")).await.unwrap();
    assert!(log.taken().contains("maxmemory-policy cannot be read"));
    handle(&store, &claim(2, 1)).await;

    run::<()>(&mut raw, "CONFIG SET maxmemory-policy allkeys-lru").await;
    assert_eq!(rejection(&with("no-config:p")).await.kind(), Kind::Evicts);
    assert_eq!(rejection(&with("no-info:p")).await.kind(), Kind::Evicts);
}

#[tokio::test]
async fn missing_append_only_file_is_a_warning() {
    let Some(server) = servers::own(&[]) else { return };
    let log = Log::default();
    let _guard = log.listen();
    RedisStore::open(&server.url()).await.unwrap();
    assert!(log.taken().contains("no append-only file"));
    let mut raw = raw(&server.url()).await;
    run::<()>(&mut raw, "CONFIG SET appendonly yes").await;
    RedisStore::open(&server.url()).await.unwrap();
    assert_eq!(log.taken(), "");
}

#[tokio::test]
async fn distinguishes_unreachable_and_invalid_urls() {
    let error = rejection(&format!("redis://127.0.0.1:{}/", free_port())).await;
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(error.is_retryable());
    assert!(error.source().is_some());

    for url in ["", "127.0.0.1", "http://127.0.0.1/", "redis://"] {
        let error = rejection(url).await;
        assert_eq!(error.kind(), Kind::Url, "{url}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn hanging_server_is_unreachable() {
    let Some(server) = servers::own(&[]) else { return };
    server.pause();
    assert_eq!(rejection(&server.url()).await.kind(), Kind::Unreachable);
    server.resume();
    RedisStore::open(&server.url()).await.unwrap();
}

#[tokio::test]
async fn errors_contain_no_password() {
    let Some(server) = servers::own(&["--requirepass", "hunter2"]) else { return };
    let url = server.url().replace("redis://", "redis://:hunter2@");
    let store = RedisStore::open(&url).await.unwrap();
    assert!(!format!("{store:?}").contains("hunter2"));
    let guessed = rejection(&url.replace("hunter2@", "hunter2-guessed@")).await;
    assert_eq!(guessed.kind(), Kind::Denied);
    let port = server.port();
    drop(server);
    let unreachable = rejection(&format!("{url}3")).await;
    let message =
        format!("Redis cannot be reached, at 127.0.0.1:{port}/3: check the URL, and that the server is running");
    assert_eq!(unreachable.to_string(), message);
    // A `main` that returns the error prints its `Debug` form.
    let printed = format!("{unreachable:?}");
    assert!(printed.starts_with(&format!("{message}: ")) && printed.contains("Connection refused"), "{printed}");
    for error in [guessed, unreachable] {
        assert_no_password(&error);
    }
    for url in [
        "redis://u:hunter2@h:port/",
        "redis://u:hunter2@h/database",
        "http://u:hunter2@h/",
        "u:hunter2@h",
        // These passwords contain reserved characters that are not percent-encoded.
        "redis://u:a/hunter2@h/",
        "redis://u:1/hunter2@h/",
        "redis://u:1?hunter2@h/",
        "redis://u:a@b/hunter2@h/",
    ] {
        assert_no_password(&rejection(url).await);
    }
}

/// Checks that neither the error nor its sources contain the password.
fn assert_no_password(error: &dyn Error) {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2"), "{text}");
        next = error.source();
    }
}
