//! The receiver that a command sends deliveries to.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::Args;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use reqwest::{Client, ClientBuilder, Url, redirect};
use tokio::{
    net::{self, TcpStream},
    time::timeout,
};

use crate::{error::CliError, exchange::NoAnswer};

/// The time for a first connection, after which klikit would have disconnected.
const CONNECT: Duration = Duration::from_secs(10);

/// The URL of a receiver.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArguments {
    /// The receiver's URL, such as http://localhost:8080/webhooks/klikit
    url: String,

    /// Allow a receiver outside of this machine and of private networks
    ///
    /// Use it only for a receiver of your own.
    #[arg(long)]
    allow_public: bool,
}

/// A receiver whose host name is resolved. All connections go to these addresses, so that a name that resolves to
/// another address later cannot lead elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    url: Url,
    /// Never empty.
    addresses: Vec<SocketAddr>,
}

/// Parses the URL of a receiver.
pub(crate) fn parse(text: &str) -> Result<Url, CliError> {
    const EXAMPLE: &str = "use a URL such as http://localhost:8080/webhooks/klikit";
    // The text is not repeated, because it can contain a password.
    let url = Url::parse(text).map_err(|error| CliError::caused("the URL is invalid", &error, EXAMPLE))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(CliError::new(format_args!("the URL begins with {}: {EXAMPLE}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(CliError::new(
            "the URL contains a user name or a password, which all users of this machine could see: remove it; \
             `klikit send` and `klikit conform` have --basic for it",
        ));
    }
    Ok(url)
}

impl TargetArguments {
    /// Resolves the host name, and rejects a public address unless it is allowed.
    pub(crate) async fn resolve(&self) -> Result<Target, CliError> {
        let url = parse(&self.url)?;
        let host = url.host_str().expect("a URL over HTTP has a host").trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().expect("HTTP has a port");
        let found = net::lookup_host((host.as_str(), port)).await.map_err(|error| {
            CliError::caused(format_args!("cannot resolve {host}"), &error, "correct the URL, or check the network")
        })?;
        let addresses: Vec<_> = found.collect();
        if addresses.is_empty() {
            return Err(CliError::new(format_args!("{host} has no address: correct the URL")));
        }
        match addresses.iter().find(|address| !is_local(address.ip())) {
            Some(public) if !self.allow_public => Err(CliError::new(format_args!(
                "the address of {host}, {}, is neither on this machine nor in a private network: \
                 pass --allow-public if the receiver is yours",
                public.ip()
            ))),
            _ => Ok(Target { url, addresses }),
        }
    }
}

impl Target {
    /// Returns the URL.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the host name and the port, for the header `Host`.
    pub(crate) fn authority(&self) -> &str {
        self.url.authority()
    }

    /// Opens a connection, without TLS.
    pub(crate) async fn connect(&self) -> Result<TcpStream, CliError> {
        let connected = timeout(CONNECT, TcpStream::connect(&*self.addresses)).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            CliError::caused(
                format_args!("cannot connect to {}", self.authority()),
                &error,
                "start the receiver, or correct the URL",
            )
        })
    }

    /// Returns the error for a receiver that responded to no delivery.
    pub(crate) fn unreached(&self, reason: &str) -> CliError {
        CliError::new(format_args!("no delivery reached {}: {reason}: check the URL and the receiver", self.url))
    }

    /// Returns the error for a delivery without a response, after which a command cannot go on.
    pub(crate) fn stopped(&self, reason: &NoAnswer) -> CliError {
        let remedy = match reason {
            NoAnswer::OutOfFiles => "lower --concurrency, or raise the limit with `ulimit -n`",
            _ => "name the URL of a webhook endpoint, not of a stream",
        };
        CliError::new(format_args!("{}: {reason}: {remedy}", self.url))
    }

    /// Creates a client that connects only to the addresses, follows no redirect and uses no proxy. It sends the
    /// credentials with each request.
    pub(crate) fn client(
        &self,
        credentials: Option<HeaderValue>,
        set: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Client, CliError> {
        // Only the first call in a process has an effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = self.url.host_str().unwrap_or_default();
        let client =
            ClientBuilder::new().no_proxy().redirect(redirect::Policy::none()).resolve_to_addrs(host, &self.addresses);
        // Without TLS, a system without certificates is no fault.
        let client = if self.url.scheme() == "http" { client.tls_certs_only([]) } else { client };
        let headers = credentials.into_iter().map(|credentials| (AUTHORIZATION, credentials));
        set(client.default_headers(headers.collect::<HeaderMap>()))
            .build()
            .map_err(|error| CliError::caused("cannot set up HTTP", &error, "check the certificates of this machine"))
    }
}

/// Returns whether an address is on this machine or in a private network.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        // The unspecified address leads to this machine.
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_told_from_public_ones() {
        let is_local = |address: &str| is_local(address.parse().unwrap());
        for local in
            ["127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "172.31.255.1", "192.168.1.1", "::1", "fd00::1"]
        {
            assert!(is_local(local), "{local}");
        }
        for public in
            ["8.8.8.8", "172.32.0.1", "169.254.169.254", "100.64.0.1", "2001:db8::1", "fe80::1", "::ffff:8.8.8.8"]
        {
            assert!(!is_local(public), "{public}");
        }
        assert!(is_local("::ffff:127.0.0.1"));
    }
}
