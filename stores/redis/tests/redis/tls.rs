//! Tests of connections with TLS.

use std::fs;

use tower_klikit_redis::{RedisConnectErrorKind as Kind, RedisStore};

use crate::{
    servers::redis::{self as servers, RedisServer},
    support::{claim, handle},
};

/// Starts a server with a self-signed certificate for this host name. Returns the server and the certificate.
fn server(name: &str) -> Option<(RedisServer, String)> {
    let mut server = servers::prepare(&[])?;
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(server.folder().join("cert.pem"), certified.cert.pem()).unwrap();
    fs::write(server.folder().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    server.use_tls();
    server.start();
    Some((server, certified.cert.pem()))
}

#[tokio::test]
async fn accepts_a_trusted_certificate() {
    let Some((server, certificate)) = server("127.0.0.1") else { return };
    let store = RedisStore::builder().root_certificates(&certificate).open(&server.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
}

#[tokio::test]
async fn rejects_an_untrusted_certificate() {
    let Some((server, _)) = server("127.0.0.1") else { return };
    let error = RedisStore::open(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let error = RedisStore::builder().root_certificates(other).open(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
}

#[tokio::test]
async fn rejects_a_certificate_for_another_name() {
    let Some((server, certificate)) = server("redis.example") else { return };
    // The `redis` crate's way to switch verification off in the URL must not work.
    for url in [server.url(), format!("{}#insecure", server.url())] {
        RedisStore::builder().root_certificates(&certificate).open(&url).await.unwrap_err();
    }
}

#[tokio::test]
async fn rejects_mismatched_tls_settings() {
    let Some((server, certificate)) = server("127.0.0.1") else { return };
    let plain = server.url().replace("rediss:", "redis:");
    assert_eq!(RedisStore::open(&plain).await.unwrap_err().kind(), Kind::Unreachable);
    let error = RedisStore::builder().root_certificates(&certificate).open(&plain).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Url);
    let error = RedisStore::builder().root_certificates("no certificate").open(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Url);
}
