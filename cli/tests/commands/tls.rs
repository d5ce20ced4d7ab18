//! Tests with a receiver behind TLS.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer};

use crate::support::klikit;

/// Starts a server for `localhost` that responds to each request with 200. Writes its certificate to a file.
///
/// Returns the port.
fn start(certificate: &Path) -> u16 {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(certificate, signed.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the versions are supported")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .expect("the key matches");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).expect("the configuration is valid");
            let mut stream = StreamOwned::new(tls, connection.expect("a connection"));
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            // The body is the end of the request: it ends with a brace, which no header does.
            while !request.ends_with(b"}") {
                match stream.read(&mut chunk) {
                    Ok(len @ 1..) => request.extend_from_slice(&chunk[..len]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    port
}

#[test]
fn certificates_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("certificate.pem");
    let port = start(&certificate);
    let send = |host: &str| klikit(["send", &format!("https://{host}:{port}/"), "-", "--retries", "0"]);
    let body = r#"{"orders":[{"id":1}]}"#;

    let trusted = send("localhost").env("SSL_CERT_FILE", certificate.to_str().unwrap()).stdin(body).run();
    assert_eq!((trusted.code, &*trusted.stderr), (Some(0), ""), "{trusted}");

    let unknown = send("localhost").stdin(body).run();
    let start = format!("error: no delivery reached https://localhost:{port}/: invalid peer certificate: ");
    assert!(unknown.code == Some(2) && unknown.stderr.starts_with(&start), "{unknown}");

    let other_name = send("127.0.0.1").env("SSL_CERT_FILE", certificate.to_str().unwrap()).stdin(body).run();
    assert!(other_name.code == Some(2) && other_name.stderr.contains("invalid peer certificate"), "{other_name}");
}

#[test]
fn conform_verifies_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("certificate.pem");
    let url = format!("https://localhost:{}/", start(&certificate));
    let conform = || klikit(["conform", &url, "--only", "genuine"]);

    let trusted = conform().env("SSL_CERT_FILE", certificate.to_str().unwrap()).run();
    assert_eq!((trusted.code, &*trusted.stderr), (Some(0), ""), "{trusted}");

    let unknown = conform().run();
    let start = format!("error: no delivery reached {url}: invalid peer certificate: ");
    assert!(unknown.code == Some(2) && unknown.stderr.starts_with(&start), "{unknown}");
}
