//! The connection to the server, with its timeouts and its recovery.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use redis::{
    Client, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};
use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};

/// The time limit of a call. It is less than the 2 s deadline of a claim, so that the log shows this error.
const CALL_TIMEOUT: Duration = Duration::from_millis(1500);
/// The time limit for connecting. It is less than [`CALL_TIMEOUT`], so that a failed attempt to connect has ended
/// before the next call needs the connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection for pipelined calls, which is replaced when it is lost.
pub(super) struct Connection {
    client: Client,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Current {
    manager: ConnectionManager,
    /// The number of connections before this one.
    generation: u64,
}

impl Connection {
    /// Returns a connection that connects at the first call.
    pub(super) fn new(url: &str, root_certificates: Option<&[u8]>) -> RedisResult<Self> {
        let info = url.into_connection_info()?;
        // Without this option, a small call may wait for the answer to an earlier call.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let info = info.set_redis_settings(settings);
        if url.starts_with("rediss:") && CryptoProvider::get_default().is_none() {
            // If two providers are compiled in and none is installed, rustls panics. Installing fails only if another
            // thread has installed one meanwhile.
            let _ = ring::default_provider().install_default();
        }
        let client = match root_certificates {
            Some(pem) => {
                if CertificateDer::pem_slice_iter(pem).next().is_none() {
                    return Err((ErrorKind::InvalidClientConfig, "there is no certificate").into());
                }
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) })?
            }
            None => Client::open(info)?,
        };
        let manager = manager(&client)?;
        Ok(Self { client, current: Mutex::new(Current { manager, generation: 0 }) })
    }

    /// Returns the host, the port and the database, without the user and the password.
    pub(super) fn target(&self) -> String {
        let info = self.client.get_connection_info();
        format!("{}/{}", info.addr(), info.redis_settings().db())
    }

    /// Makes a call, and repeats it if the connection was cut: servers and proxies close idle connections, and that
    /// must not fail a delivery. A call may therefore take effect twice.
    pub(super) async fn call<T, F>(&self, call: impl Fn(ConnectionManager) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Current { manager, generation } = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let attempts = async {
            match call(manager.clone()).await {
                // The manager is already reconnecting.
                Err(error) if error.is_connection_dropped() => call(manager).await,
                result => result,
            }
        };
        let result = match tokio::time::timeout(CALL_TIMEOUT, attempts).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "Redis did not answer in time").into()),
        };
        if result.as_ref().is_err_and(is_lost) {
            self.replace(generation);
        }
        result
    }

    /// Replaces the connection, unless that has already happened. The manager reconnects by itself only after a cut,
    /// not after a timeout.
    fn replace(&self, generation: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.generation == generation
            && let Ok(manager) = manager(&self.client)
        {
            *current = Current { manager, generation: generation + 1 };
        }
    }
}

/// Returns whether a new connection may help: it may reach a server that answers. If this server became a replica, the
/// host name or the proxy may lead to the new primary.
fn is_lost(error: &RedisError) -> bool {
    let demoted = [ServerErrorKind::ReadOnly, ServerErrorKind::MasterDown].map(ErrorKind::Server);
    error.is_timeout() || demoted.contains(&error.kind())
}

fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        // The timeout of a call includes the response.
        .set_response_timeout(None)
        .set_connection_timeout(Some(CONNECTION_TIMEOUT))
        // If the server cannot be reached, the call fails at once, and the next call tries again.
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
