//! Ctrl-c, which stops a command cleanly.

use std::{future, process};

#[cfg(windows)]
use tokio::signal::windows::ctrl_c as signals;
use tokio::sync::watch;

/// A request to stop, by ctrl-c. A second ctrl-c ends the process at once.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

#[cfg(unix)]
fn signals() -> std::io::Result<tokio::signal::unix::Signal> {
    use tokio::signal::unix::{SignalKind, signal};

    signal(SignalKind::interrupt())
}

impl Interrupt {
    /// Starts to listen. From now on, ctrl-c does not end the process by itself.
    pub(crate) fn listen() -> Self {
        let (request, requested) = watch::channel(false);
        // If the process cannot listen, ctrl-c still ends it.
        if let Ok(mut signals) = signals() {
            tokio::spawn(async move {
                signals.recv().await;
                request.send_replace(true);
                signals.recv().await;
                process::exit(130);
            });
        }
        Self(requested)
    }

    /// Runs a future until ctrl-c, which drops it. Returns `None` then. A call that was sent to a database may still take
    /// effect.
    pub(crate) async fn run_until<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.requested() => None,
        }
    }

    /// Waits until a stop is requested.
    pub(crate) async fn requested(&self) {
        if self.0.clone().wait_for(|requested| *requested).await.is_err() {
            future::pending::<()>().await;
        }
    }

    /// Returns whether a stop was requested.
    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}
