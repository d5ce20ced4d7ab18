//! The credentials of `Authorization: Basic` (RFC 7617), which one of klikit's pages lists. The password is never an
//! argument and never printed.

use std::{env, path::PathBuf};

use base64ct::{Base64, Encoding};
use clap::Args;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{error::CliError, secret};

const VARIABLE: &str = "KLIKIT_BASIC_PASSWORD";

const REMEDY: &str = "set KLIKIT_BASIC_PASSWORD, or name a file with --basic-file";

/// The credentials for a receiver that requires `Authorization: Basic`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BasicArguments {
    /// Send `Authorization: Basic` with this user, such as klikit's partner key
    #[arg(long, value_name = "USER", value_parser = user)]
    basic: Option<String>,

    /// Read the password for --basic from a file, instead of the environment variable KLIKIT_BASIC_PASSWORD
    ///
    /// One line ending at the end of the file is ignored. Without a file and the variable, the command asks for the
    /// password if it runs on a terminal.
    #[arg(long, value_name = "FILE", requires = "basic")]
    basic_file: Option<PathBuf>,
}

impl BasicArguments {
    /// Returns the value of the header, if a user is given.
    pub(crate) fn read(&self) -> Result<Option<HeaderValue>, CliError> {
        let Some(user) = &self.basic else { return Ok(None) };
        let password = self.password()?;
        if password.is_empty() {
            return Err(CliError::new(format_args!("the password for --basic is empty: {REMEDY}")));
        }
        let credentials = Zeroizing::new([user.as_bytes(), b":", &password].concat());
        let encoded = Zeroizing::new(format!("Basic {}", Base64::encode_string(&credentials)));
        let mut header = HeaderValue::from_str(&encoded).expect("Base64 is visible ASCII");
        header.set_sensitive(true);
        Ok(Some(header))
    }

    fn password(&self) -> Result<Zeroizing<Vec<u8>>, CliError> {
        if let Some(path) = &self.basic_file {
            return secret::read_line(path);
        }
        match env::var_os(VARIABLE) {
            Some(password) => Ok(Zeroizing::new(password.into_encoded_bytes())),
            None => Ok(Zeroizing::new(secret::ask("password for --basic", REMEDY)?.as_bytes().to_vec())),
        }
    }
}

/// Parses a user. A colon would end it in the header (RFC 7617, section 2).
fn user(text: &str) -> Result<String, String> {
    let is_user = !text.is_empty() && !text.contains(|char: char| char == ':' || char.is_control());
    is_user.then(|| text.to_owned()).ok_or_else(|| {
        "a user is a text without a colon: the password comes from KLIKIT_BASIC_PASSWORD or --basic-file".into()
    })
}
