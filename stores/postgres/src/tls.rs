//! Connection settings from a URL, with or without TLS.

use std::{error::Error, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use futures_util::FutureExt;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::{
    Config, NoTls, Socket,
    config::{Host, SslMode},
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    connect::Connector,
    connection::Cancel,
    error::{Kind, PostgresError, Target},
};

/// The idle time after which a connection is probed. The driver's default of two hours is too long to detect a dead
/// connection.
const KEEPALIVE: Duration = Duration::from_secs(30);
const DRIVER_KEEPALIVE: Duration = Duration::from_secs(2 * 60 * 60);

/// The time after which a connection with unacknowledged data counts as broken, for example because the server's machine is
/// gone. The connection's slot is taken until then.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// The means to connect to the server that a URL names.
pub(crate) struct Access {
    pub(crate) manager: Manager,
    pub(crate) cancel: Cancel,
    /// The hosts and the database, for messages.
    pub(crate) target: Target,
}

/// Returns the means to connect to the server that `url` names.
pub(crate) fn access(url: &str, deadline: Duration) -> Result<Access, PostgresError> {
    let mut config = parse(url)?;
    let target = target(&config);
    if config.get_application_name().is_none() {
        config.application_name(env!("CARGO_PKG_NAME"));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(deadline);
    }
    if config.get_keepalives_idle() == DRIVER_KEEPALIVE {
        config.keepalives_idle(KEEPALIVE);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED);
    }
    // `Fast` checks without a query whether a connection is closed. An undetected broken connection costs one retry.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let (manager, cancel) = match config.get_ssl_mode() {
        SslMode::Disable | SslMode::Prefer => {
            let connector = Connector::new(&config, NoTls, deadline);
            (Manager::from_connect(config, connector, recycling), cancel_with(NoTls))
        }
        _ => {
            let tls = MakeRustlsConnect::new(client_config()?);
            let connector = Connector::new(&config, tls.clone(), deadline);
            (Manager::from_connect(config, connector, recycling), cancel_with(tls))
        }
    };
    Ok(Access { manager, cancel, target })
}

/// Returns a function that cancels statements on a server that is reached without TLS.
pub(crate) fn cancel_without_tls() -> Cancel {
    cancel_with(NoTls)
}

fn cancel_with<T>(tls: T) -> Cancel
where
    T: MakeTlsConnect<Socket, Stream: Send, TlsConnect: Send> + Clone + Send + Sync + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    Arc::new(move |token| {
        let tls = tls.clone();
        async move { token.cancel_query(tls).await }.boxed()
    })
}

/// Parses a URL, or settings in the form `key=value`.
///
/// The driver splits a URL at the first `@`. If the password contains an `@` that is not percent-encoded, the driver takes
/// the rest of the password for the host. Such a URL is rejected, so that no error contains that rest.
fn parse(url: &str) -> Result<Config, PostgresError> {
    let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    if is_url && url.matches('@').count() > 1 {
        return Err(PostgresError::new(Kind::Url));
    }
    let parsed = url.parse::<Config>().map_err(|error| match error.source().map(ToString::to_string) {
        // This reason names a setting, but not its value. Other reasons may repeat a part of the URL.
        Some(reason) if reason.starts_with("invalid value for option") => PostgresError::because(Kind::Url, reason),
        _ => PostgresError::new(Kind::Url),
    })?;
    if parsed.get_hosts().is_empty() && parsed.get_hostaddrs().is_empty() {
        return Err(PostgresError::because(Kind::Url, "the URL names no host"));
    }
    Ok(parsed)
}

/// Returns the hosts, the ports and the database, without the user and the password.
fn target(config: &Config) -> Target {
    let mut ports = config.get_ports().iter().copied().cycle();
    let hosts: Vec<_> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => format!("{name}:{}", ports.next().unwrap_or(5432)),
            #[cfg(unix)]
            Host::Unix(folder) => folder.display().to_string(),
        })
        .collect();
    let hosts = if hosts.is_empty() { config.get_hostaddrs().iter().map(ToString::to_string).collect() } else { hosts };
    let database = config.get_dbname().map(|name| format!("/{name}")).unwrap_or_default();
    Target(Some(format!("{}{database}", hosts.join(","))))
}

/// Returns a TLS configuration that trusts the system's certificates.
fn client_config() -> Result<ClientConfig, PostgresError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(match found.errors.into_iter().next() {
            Some(error) => PostgresError::because(Kind::Certificates, error),
            None => PostgresError::because(Kind::Certificates, "the system has no certificates"),
        });
    }
    // Choose the provider explicitly, because a process with two providers has no default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| PostgresError::because(Kind::Certificates, error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
