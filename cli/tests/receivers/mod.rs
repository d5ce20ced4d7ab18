//! Receivers to check: sound ones, and ones with exactly one fault.

pub(crate) mod flawed;
pub(crate) mod own;
mod raw;

use axum::Router;
use tokio::{net::TcpListener, runtime::Runtime};

pub(crate) use self::raw::keeps_white_space;

/// A receiver that runs until this value is dropped.
pub(crate) struct Receiver {
    url: String,
    _runtime: Runtime,
}

impl Receiver {
    /// Serves the router on a port of its own. The router is made in the runtime that serves it.
    pub(crate) fn serve(app: impl FnOnce() -> Router) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (listener, app) = runtime.block_on(async { (listen().await, app()) });
        let url = url(&listener);
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { url, _runtime: runtime }
    }

    /// Returns the URL of the webhook.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}/webhooks/klikit", listener.local_addr().expect("an address"))
}
