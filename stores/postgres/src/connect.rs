//! The connector, which opens connections to the hosts of a URL.

use std::{future::poll_fn, time::Duration};

use deadpool_postgres::Connect;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error, Socket,
    config::{Host, LoadBalanceHosts},
    tls::{MakeTlsConnect, TlsConnect},
};

/// The server's function that waits for synchronous standbys. Unlike the message, its name is never translated.
const WAIT_FOR_STANDBYS: &str = "SyncRepWaitForLSN";

/// An opener of connections to one or several hosts.
pub(crate) struct Connector<T> {
    tls: T,
    /// The settings of each host, if there are several. Empty if the driver handles the hosts itself.
    hosts: Vec<Config>,
    /// The time after which the next host is tried.
    host_timeout: Duration,
}

impl<T> Connector<T> {
    pub(crate) fn new(config: &Config, tls: T, host_timeout: Duration) -> Self {
        let (names, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
        let (count, ports) = (names.max(addresses), config.get_ports().len());
        // The driver handles a random order, and rejects lists of different lengths.
        let is_ordered = config.get_load_balance_hosts() == LoadBalanceHosts::Disable;
        let matches = [0, count].contains(&names) && [0, count].contains(&addresses) && [0, 1, count].contains(&ports);
        let splits = count > 1 && is_ordered && matches;
        let hosts = if splits { (0..count).map(|host| of_host(config, host)).collect() } else { vec![] };
        Self { tls, hosts, host_timeout }
    }
}

impl<T> Connect for Connector<T>
where
    T: MakeTlsConnect<Socket, Stream: Send, TlsConnect: Send> + Clone + Send + Sync + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = config.clone();
        async move {
            let [_, _, ..] = &self.hosts[..] else { return self.open(&config).await };
            let (mut error, mut slow) = (None, Vec::new());
            for host in &self.hosts {
                // A host that accepts connections but does not respond must not delay the other hosts.
                let mut opening = Box::pin(self.open(host));
                match timeout(self.host_timeout, &mut opening).await {
                    Ok(Ok(connection)) => return Ok(connection),
                    // A server's own error is more useful than an error of connecting to another server.
                    Ok(Err(failed)) => error = error.filter(|error: &Error| error.code().is_some()).or(Some(failed)),
                    Err(_) => slow.push(opening),
                }
            }
            // Wait for the slow hosts: dropping a login would leave its backend running on the server.
            for opening in slow {
                match opening.await {
                    Ok(connection) => return Ok(connection),
                    Err(failed) => error = error.or(Some(failed)),
                }
            }
            Err(error.expect("there are several hosts, and each failed"))
        }
        .boxed()
    }
}

impl<T> Connector<T>
where
    T: MakeTlsConnect<Socket, Stream: Send, TlsConnect: Send> + Clone + Send + Sync + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    async fn open(&self, config: &Config) -> Result<(Client, JoinHandle<()>), Error> {
        let (client, connection) = config.connect(self.tls.clone()).await?;
        Ok((client, tokio::spawn(drive(connection))))
    }
}

/// Drives a connection until it ends.
///
/// Closes the connection if the server warns that a wait for a synchronous standby was cancelled. The server would report
/// a commit that the standby may not have. Closing the connection makes the outcome unknown to the caller, which is correct.
async fn drive<S>(mut connection: Connection<Socket, S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notice(notice))) if notice.routine() == Some(WAIT_FOR_STANDBYS) => return,
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Returns the settings for one of the hosts.
fn of_host(all: &Config, index: usize) -> Config {
    let mut one = Config::new();
    match all.get_hosts().get(index) {
        Some(Host::Tcp(name)) => _ = one.host(name),
        #[cfg(unix)]
        Some(Host::Unix(folder)) => _ = one.host_path(folder),
        None => {}
    }
    if let Some(address) = all.get_hostaddrs().get(index) {
        one.hostaddr(*address);
    }
    let ports = all.get_ports();
    if let Some(port) = ports.get(index).or(ports.first()) {
        one.port(*port);
    }
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    if let Some(name) = all.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    if let Some(name) = all.get_application_name() {
        one.application_name(name);
    }
    if let Some(limit) = all.get_connect_timeout() {
        one.connect_timeout(*limit);
    }
    if let Some(limit) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*limit);
    }
    if let Some(interval) = all.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = all.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding())
        .target_session_attrs(all.get_target_session_attrs());
    one
}

#[cfg(test)]
mod tests {
    use tokio_postgres::NoTls;

    use super::*;

    const SETTINGS: &str = "user=u password=p dbname=d options='-c geqo=off' application_name=a connect_timeout=3 \
        tcp_user_timeout=4 keepalives=1 keepalives_idle=5 keepalives_interval=6 keepalives_retries=7 sslmode=require \
        sslnegotiation=direct channel_binding=require target_session_attrs=read-write";

    #[test]
    fn each_host_keeps_all_other_settings() {
        let parse = |hosts: &str| format!("{hosts} {SETTINGS}").parse::<Config>().unwrap();
        let all = parse("host=a,b hostaddr=127.0.0.1,127.0.0.2 port=1,2");
        let connector = Connector::new(&all, NoTls, Duration::ZERO);
        let each = ["host=a hostaddr=127.0.0.1 port=1", "host=b hostaddr=127.0.0.2 port=2"].map(parse);
        assert_eq!(connector.hosts, each);
        assert_eq!(Connector::new(&parse("host=a,b port=1"), NoTls, Duration::ZERO).hosts[1], parse("host=b port=1"));
    }

    #[test]
    fn driver_handles_random_order_and_mismatches() {
        for settings in ["host=a,b load_balance_hosts=random", "host=a,b hostaddr=127.0.0.1", "host=a,b,c port=1,2"] {
            let all: Config = settings.parse().unwrap();
            assert!(Connector::new(&all, NoTls, Duration::ZERO).hosts.is_empty(), "{settings}");
        }
    }
}
