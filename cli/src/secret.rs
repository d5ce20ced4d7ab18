//! The webhook secret, which is never an argument and never printed.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::Args;
use tower_klikit::{Keyring, SecretError, SecretErrorKind, WebhookSecret};
use zeroize::Zeroizing;

use crate::{
    error::{CliError, one_line},
    input,
    interrupt::Interrupt,
};

const VARIABLE: &str = "KLIKIT_WEBHOOK_SECRET";

/// The environment variable with the secret before a rotation.
pub(crate) const OLD_VARIABLE: &str = "KLIKIT_WEBHOOK_SECRET_OLD";

/// The place of the webhook secret.
///
/// A secret is not an argument, because all users of a machine can see the arguments of its programs.
#[derive(Debug, Clone, Args)]
pub(crate) struct SecretArguments {
    /// Read the webhook secret from a file, instead of the environment variable KLIKIT_WEBHOOK_SECRET
    ///
    /// One line ending at the end of the file is ignored. Without a file and the variable, the command asks for the
    /// secret if it runs on a terminal. Only `doctor` does not ask.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArguments {
    /// Returns the secret from the file, else from the environment, else from a prompt.
    pub(crate) fn read(&self) -> Result<WebhookSecret, CliError> {
        self.read_or(WebhookSecret::from_env)
    }

    /// Returns the secrets that a service accepts: the [secret](Self::read), and the one before a rotation if both are in
    /// the environment.
    pub(crate) fn read_keyring(&self) -> Result<Keyring, CliError> {
        self.read_or(Keyring::from_env)
    }

    /// Returns the same secrets as [`read_keyring`](Self::read_keyring), or why one cannot be used. Does not ask for a
    /// secret.
    pub(crate) fn find_keyring(&self) -> Result<Result<Keyring, SecretError>, CliError> {
        self.find_or(Keyring::from_env)
    }

    /// Returns the secret before a rotation from the environment, unless the secret is in a file.
    pub(crate) fn read_old(&self) -> Result<Option<WebhookSecret>, CliError> {
        if self.secret_file.is_some() {
            return Ok(None);
        }
        WebhookSecret::old_from_env().map_err(CliError::new)
    }

    /// Returns the name of the place that the secret is read from.
    pub(crate) fn place(&self) -> String {
        self.secret_file.as_ref().map_or_else(|| VARIABLE.into(), |path| one_line(&path.to_string_lossy()))
    }

    fn read_or<T: From<WebhookSecret>>(&self, from_env: fn() -> Result<T, SecretError>) -> Result<T, CliError> {
        match (self.find_or(from_env)?, &self.secret_file) {
            (Err(error), None) if error.kind() == SecretErrorKind::NotSet => from_prompt().map(T::from),
            (Err(error), Some(path)) => Err(unusable(path, &error)),
            (secret, _) => secret.map_err(CliError::new),
        }
    }

    fn find_or<T: From<WebhookSecret>>(
        &self,
        from_env: fn() -> Result<T, SecretError>,
    ) -> Result<Result<T, SecretError>, CliError> {
        self.secret_file.as_deref().map_or_else(|| Ok(from_env()), |path| Ok(in_file(path)?.map(T::from)))
    }
}

/// Reads a secret from a file.
pub(crate) fn from_file(path: &Path) -> Result<WebhookSecret, CliError> {
    in_file(path)?.map_err(|error| unusable(path, &error))
}

fn in_file(path: &Path) -> Result<Result<WebhookSecret, SecretError>, CliError> {
    Ok(WebhookSecret::new(read_line(path)?))
}

fn unusable(path: &Path, error: &SecretError) -> CliError {
    CliError::new(format_args!("{}: {error}", path.display()))
}

fn from_prompt() -> Result<WebhookSecret, CliError> {
    let typed = ask("webhook secret", "set KLIKIT_WEBHOOK_SECRET, or name a file with --secret-file")?;
    WebhookSecret::new(typed).map_err(CliError::new)
}

/// Reads a file with a secret text, without one line ending at its end.
pub(crate) fn read_line(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(input::read_file(path)?);
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// Asks for a secret text on a terminal, without showing what is typed.
pub(crate) fn ask(name: &str, remedy: &str) -> Result<Zeroizing<String>, CliError> {
    // Without a person, nobody would answer the prompt.
    if !io::stderr().is_terminal() {
        return Err(CliError::new(format_args!("no {name} was given: {remedy}")));
    }
    // Ctrl-c must not end the process before the prompt has restored the terminal.
    let _interrupt = Interrupt::listen();
    let typed = rpassword::prompt_password(format!("{name} (not shown): ")).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => CliError::interrupted(),
        _ => CliError::caused(format_args!("cannot ask for the {name}"), &error, remedy),
    })?;
    Ok(Zeroizing::new(typed))
}
