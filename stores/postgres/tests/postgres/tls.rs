//! Tests of TLS to a server with a self-signed certificate.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use deadpool_postgres::{Manager, Pool};
use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject};
use tokio_postgres_rustls::MakeRustlsConnect;
use tower_klikit_postgres::PostgresStore;

use crate::{client, count, handle, open, patient, servers::postgres::PostgresServer};

const ENCRYPTED: &str = "SELECT count(*) FROM pg_stat_ssl WHERE ssl";

/// A certificate for 127.0.0.1 and `localhost`, as files.
struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(folder.path().join("key.pem"))
            .arg("-out")
            .arg(folder.path().join("cert.pem"))
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { folder }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Installs the certificate on a server and restarts it. The server requires that only its own user can read the key.
    fn install(&self, server: &mut PostgresServer) {
        let data = server.folder().join("data");
        let owner = fs::metadata(&data).unwrap();
        for (from, to) in [("cert.pem", "server.crt"), ("key.pem", "server.key")] {
            let to = data.join(to);
            fs::copy(self.folder.path().join(from), &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
            use std::os::unix::fs::{MetadataExt, chown};
            chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let conf = data.join("postgresql.conf");
        let text = fs::read_to_string(&conf).unwrap();
        fs::write(&conf, format!("{text}\nssl = on\n")).unwrap();
        server.stop();
        server.restart();
    }
}

fn encrypted(server: &PostgresServer) -> String {
    server.url().replace("sslmode=disable", "sslmode=require")
}

fn trusting(path: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(path).unwrap()).unwrap();
    ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test]
async fn rejects_an_untrusted_certificate() {
    let Some(mut server) = PostgresServer::start_own("rejects an untrusted certificate", &[]) else {
        return;
    };
    Certificate::make().install(&mut server);
    let error = PostgresStore::open(&encrypted(&server)).await.unwrap_err();
    let mut text = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = source {
        text.push_str(&format!("{error}; "));
        source = error.source();
    }
    assert!(text.contains("certificate"), "{text}");
    // Without TLS, connecting succeeds, so only the certificate was rejected.
    handle(&open(server.url()).await, 1).await;
}

#[tokio::test]
async fn rejects_a_server_without_required_tls() {
    let Some(server) = PostgresServer::start_own("rejects a server without required tls", &[]) else { return };
    PostgresStore::open(&encrypted(&server)).await.unwrap_err();
    for mode in ["prefer", "disable"] {
        let url = server.url().replace("sslmode=disable", &format!("sslmode={mode}"));
        handle(&patient().table_prefix(format!("t_{mode}_")).open(&url).await.unwrap(), 1).await;
    }
}

#[tokio::test]
async fn own_pool_chooses_trusted_certificates() {
    let Some(mut server) = PostgresServer::start_own("own pool chooses trusted certificates", &[]) else { return };
    let certificate = Certificate::make();
    certificate.install(&mut server);
    let tls = MakeRustlsConnect::new(trusting(&certificate.path()));
    let pool = Pool::builder(Manager::new(encrypted(&server).parse().unwrap(), tls)).max_size(1).build().unwrap();
    let store = PostgresStore::from_pool(pool).await.unwrap();
    handle(&store, 1).await;
    assert_eq!(count(&client(server.url()).await, ENCRYPTED).await, 1);
}

/// Runs in a child process, because the trusted certificates come from the environment.
#[tokio::test]
async fn accepts_a_certificate_that_the_system_trusts() {
    let Some(mut server) = PostgresServer::start_own("accepts a certificate that the system trusts", &[]) else {
        return;
    };
    let certificate = Certificate::make();
    certificate.install(&mut server);
    for (host, file, taken) in
        [("127.0.0.1", "cert.pem", true), ("localhost", "cert.pem", true), ("127.0.0.1", "key.pem", false)]
    {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tls::connects_to_the_url_in_the_environment", "--ignored", "--nocapture"])
            .env("SSL_CERT_FILE", certificate.folder.path().join(file))
            .env("KLIKIT_TEST_TLS_URL", encrypted(&server).replace("127.0.0.1", host))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("running 1 test"), "{text}");
        assert_eq!(output.status.success(), taken, "{host} {file}: {text}");
    }
}

#[tokio::test]
#[ignore = "another test runs it"]
async fn connects_to_the_url_in_the_environment() {
    let url = std::env::var("KLIKIT_TEST_TLS_URL").unwrap();
    let store = open(&url).await;
    let mut event = [0; 8];
    getrandom::fill(&mut event).unwrap();
    handle(&store, u64::from_be_bytes(event)).await;
}
