//! Ctrl-c and SIGTERM, which stop a command cleanly.

use std::{future, io, process};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, ctrl_c};
use tokio::sync::watch;

/// A request to stop, by ctrl-c or SIGTERM. A second one ends the process at once.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

/// The signals that request a stop.
#[cfg(unix)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signal that requests a stop.
#[cfg(windows)]
struct Signals(CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        ctrl_c().map(Self)
    }

    async fn recv(&mut self) {
        self.0.recv().await;
    }
}

impl Interrupt {
    /// Starts to listen. From now on, the signals do not end the process by themselves.
    pub(crate) fn listen() -> Self {
        let (request, requested) = watch::channel(false);
        // If the process cannot listen, the signals still end it.
        if let Ok(mut signals) = Signals::listen() {
            tokio::spawn(async move {
                signals.recv().await;
                request.send_replace(true);
                signals.recv().await;
                process::exit(130);
            });
        }
        Self(requested)
    }

    /// Runs a future. If a stop is requested first, drops the future and returns `None`. A call that was sent to a
    /// database may still take effect.
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
