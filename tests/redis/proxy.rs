//! A name that leads to one server now and to another later, as those of managed servers do.

use std::sync::{Arc, Mutex};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Proxy {
    port: u16,
    upstream: Arc<Mutex<u16>>,
    /// Counts what is to be silent from now on: connections that are older than this.
    silenced: watch::Sender<u64>,
}

impl Proxy {
    /// Leads to this port. Ends with the runtime.
    pub(crate) async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = Arc::new(Mutex::new(upstream));
        let (silenced, silence) = watch::channel(0);
        let target = upstream.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let port = *target.lock().unwrap();
                let mut silence = silence.clone();
                let age = *silence.borrow_and_update();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let silenced = async { silence.wait_for(|now| *now > age).await.is_ok() };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => return,
                        _ = silenced => {}
                    }
                    // Neither closed nor answered.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { port, upstream, silenced }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// New connections lead there; those that are open stay.
    pub(crate) fn lead_to(&self, port: u16) {
        *self.upstream.lock().unwrap() = port;
    }

    /// Nothing passes any more on connections that are open. New ones work.
    pub(crate) fn silence(&self) {
        self.silenced.send_modify(|age| *age += 1);
    }
}
