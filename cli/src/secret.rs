//! The webhook secret, which is never an argument and never printed.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::Args;
use tower_klikit::{SecretErrorKind, WebhookSecret};
use zeroize::Zeroizing;

use crate::{error::CliError, input, interrupt::Interrupt};

/// The place of the webhook secret.
///
/// A secret is not an argument, because all users of a machine can see the arguments of its programs.
#[derive(Debug, Clone, Args)]
pub(crate) struct SecretArguments {
    /// Read the webhook secret from a file, instead of the environment variable KLIKIT_WEBHOOK_SECRET
    ///
    /// One line ending at the end of the file is ignored. Without a file and the variable, the command asks for the
    /// secret if it runs on a terminal.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArguments {
    /// Returns the secret from the file, else from the environment, else from a prompt.
    pub(crate) fn read(&self) -> Result<WebhookSecret, CliError> {
        if let Some(path) = &self.secret_file {
            return from_file(path);
        }
        match WebhookSecret::from_env() {
            Err(error) if error.kind() == SecretErrorKind::NotSet => from_prompt(),
            secret => secret.map_err(CliError::new),
        }
    }
}

/// Reads a secret from a file.
pub(crate) fn from_file(path: &Path) -> Result<WebhookSecret, CliError> {
    let bytes = Zeroizing::new(input::read_file(path)?);
    let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    WebhookSecret::new(secret).map_err(|error| CliError::new(format_args!("{}: {error}", path.display())))
}

fn from_prompt() -> Result<WebhookSecret, CliError> {
    const REMEDY: &str = "set KLIKIT_WEBHOOK_SECRET, or name a file with --secret-file";
    // Without a person, nobody would answer the prompt.
    if !io::stderr().is_terminal() {
        return Err(CliError::new(format_args!("no webhook secret was given: {REMEDY}")));
    }
    // Ctrl-c must not end the process before the prompt has restored the terminal.
    let _interrupt = Interrupt::listen();
    let typed = rpassword::prompt_password("webhook secret (not shown): ").map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => CliError::interrupted(),
        _ => CliError::caused("cannot ask for the webhook secret", &error, REMEDY),
    })?;
    WebhookSecret::new(Zeroizing::new(typed)).map_err(CliError::new)
}
