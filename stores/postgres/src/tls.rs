//! Making connections, with or without TLS, as the URL says.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::{Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{Kind, PostgresError};

/// How long a connection may be silent before it is probed. The driver's own default is two hours: too long to find out that a connection
/// is dead.
const KEEPALIVE: Duration = Duration::from_secs(30);
const DRIVER_KEEPALIVE: Duration = Duration::from_secs(2 * 60 * 60);

/// Returns a maker of connections to the server that `url` names.
pub(super) fn manager(url: &str, deadline: Duration) -> Result<Manager, PostgresError> {
    let mut config: Config =
        url.parse().map_err(|error: tokio_postgres::Error| PostgresError::because(Kind::Url, error))?;
    if config.get_application_name().is_none() {
        config.application_name(env!("CARGO_PKG_NAME"));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(deadline);
    }
    if config.get_keepalives_idle() == DRIVER_KEEPALIVE {
        config.keepalives_idle(KEEPALIVE);
    }
    // A closed connection is noticed without asking the server. One that broke unnoticed costs an error.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    match config.get_ssl_mode() {
        SslMode::Disable | SslMode::Prefer => Ok(Manager::from_config(config, NoTls, recycling)),
        _ => Ok(Manager::from_config(config, MakeRustlsConnect::new(client_config()?), recycling)),
    }
}

/// Trusts the certificates that the system trusts.
fn client_config() -> Result<ClientConfig, PostgresError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(match found.errors.into_iter().next() {
            Some(error) => PostgresError::because(Kind::Roots, error),
            None => PostgresError::because(Kind::Roots, "there are none"),
        });
    }
    // Named, because a process with two providers has no default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| PostgresError::because(Kind::Roots, error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
