//! Tests of a server that takes minutes to load its data.

use tower_klikit::dedupe::Ledger;
use tower_klikit_redis::{RedisConnectErrorKind as Kind, RedisStore};

use crate::{
    servers::redis as servers,
    support::{self, TERMS, claim, done, handle, run},
};

#[tokio::test]
async fn calls_fail_while_the_server_loads() {
    let Some(mut server) = servers::own(&[]) else { return };
    let store = RedisStore::open(&server.url()).await.unwrap();
    for event in 0..100 {
        handle(&store, &claim(event, 1)).await;
    }
    let mut raw = support::raw(&server.url()).await;
    let fill = "for n = 1, 50000 do redis.call('SET', 'filler' .. n, string.rep('x', 60)) end";
    redis::cmd("EVAL").arg(fill).arg(0).exec_async(&mut raw).await.unwrap();
    run::<()>(&mut raw, "SAVE").await;
    server.stop();

    // Loading would take minutes, since each key takes 2 ms. The server answers clients after each kilobyte, which has
    // about 46 keys.
    server.add_args(&["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"]);
    server.start_until("Loading RDB");
    let error = RedisStore::open(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Loading);
    assert!(error.is_retryable());
    let error = store.claim(&claim(1, 2), &TERMS).await.unwrap_err();
    assert!(format!("{error:?}").contains("Loading"), "{error:?}");
    store.claim(&claim(200, 2), &TERMS).await.unwrap_err();

    let mut raw = support::raw(&server.url()).await;
    run::<()>(&mut raw, "CONFIG SET key-load-delay 0").await;
    server.wait_for("Ready to accept connections");
    for event in 0..100 {
        assert_eq!(store.claim(&claim(event, 2), &TERMS).await.unwrap(), done(event));
    }
    RedisStore::open(&server.url()).await.unwrap();
}
