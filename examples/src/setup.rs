//! The arguments, the secret and the port of an example.
//!
//! The examples have few options, so this file replaces a crate such as `clap`.

use std::{env, error::Error, fmt, net::Ipv4Addr, process, sync::Once};

use tokio::net::TcpListener;
use tower_klikit::{Keyring, SecretError, SecretErrorKind, WebhookSecret};

/// A secret for demos, which is public.
pub const DEMO_SECRET: &str = "klikit-demo-secret";

/// The arguments of this process that were not read yet.
#[derive(Debug)]
pub struct Arguments {
    usage: &'static str,
    rest: Vec<String>,
}

impl Arguments {
    /// Reads the arguments of this process. With `--help`, prints `usage` and ends the process.
    pub fn read(usage: &'static str) -> Self {
        let rest: Vec<_> = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
        if rest.iter().any(|argument| ["--help", "-h"].contains(&argument.as_str())) {
            println!("{usage}");
            process::exit(0);
        }
        Self { usage, rest }
    }

    /// Returns whether an option without a value is given.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.rest.len();
        self.rest.retain(|argument| argument != name);
        self.rest.len() < before
    }

    /// Returns the value of an option, or `default` if the option is given without one. An option without a value and
    /// without a default ends the process.
    pub fn value(&mut self, name: &str, default: Option<&str>) -> Option<String> {
        let index = self.rest.iter().position(|argument| argument == name)?;
        self.rest.remove(index);
        match self.rest.get(index) {
            Some(value) if !value.starts_with("--") => Some(self.rest.remove(index)),
            _ => Some(default.map_or_else(|| self.fail(&format!("{name} needs a value")), Into::into)),
        }
    }

    /// Ends the process if there are arguments that were not read. Names the first of them.
    pub fn finish(self) {
        if let Some(argument) = self.rest.first() {
            // Leave out the rest of a URL, which may contain a password.
            let shown = argument.split([':', '=', '@']).next().unwrap_or_default();
            let cut = if shown.len() < argument.len() { "…" } else { "" };
            self.fail(&format!("unexpected argument: {shown}{cut}"));
        }
    }

    /// Prints an error and the usage, and ends the process with exit code 2.
    pub fn fail(&self, message: &str) -> ! {
        eprintln!("error: {message}\n\n{}", self.usage);
        process::exit(2);
    }
}

/// Returns the secrets in `KLIKIT_WEBHOOK_SECRET` and `KLIKIT_WEBHOOK_SECRET_OLD`, or the [demo secret](DEMO_SECRET) if
/// the first variable is not set.
///
/// A service must not fall back to a public secret. It calls `KlikitVerifyLayer::from_env()`.
///
/// # Errors
///
/// Returns an error if a variable is empty or blank.
pub fn keyring() -> Result<Keyring, SecretError> {
    or_demo_secret(Keyring::from_env())
}

/// Returns the secret in `KLIKIT_WEBHOOK_SECRET`, or the [demo secret](DEMO_SECRET) if the variable is not set.
///
/// # Errors
///
/// Returns an error if the variable is empty or blank.
pub fn secret() -> Result<WebhookSecret, SecretError> {
    or_demo_secret(WebhookSecret::from_env())
}

fn or_demo_secret<T: From<WebhookSecret>>(read: Result<T, SecretError>) -> Result<T, SecretError> {
    static NOTICE: Once = Once::new();
    match read {
        Err(error) if error.kind() == SecretErrorKind::NotSet => {
            NOTICE.call_once(|| {
                println!("KLIKIT_WEBHOOK_SECRET is not set: using the demo secret {DEMO_SECRET:?}, which is public.");
            });
            WebhookSecret::new(DEMO_SECRET).map(T::from)
        }
        read => read,
    }
}

/// Listens on 127.0.0.1, at the port in `PORT` or at port 8080.
///
/// # Errors
///
/// Returns an error if `PORT` is not a port number, or if the port is in use.
pub async fn listen() -> Result<TcpListener, SetupError> {
    let port = match env::var_os("PORT") {
        None => 8080,
        Some(port) => port.to_str().and_then(|port| port.parse().ok()).ok_or_else(|| {
            SetupError(format!("PORT is {port:?}: set it to a port number, or to 0 for any free port"))
        })?,
    };
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| {
        SetupError(format!(
            "cannot listen on 127.0.0.1:{port}: {error}: set PORT to another port, or to 0 for any free port"
        ))
    })
}

/// An error in the environment of an example.
pub struct SetupError(String);

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes the message, because a `main` that returns the error prints its `Debug`.
impl fmt::Debug for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for SetupError {}
