//! The place of a store: a file, or the URL of a database.

use std::{env, fmt, fs, io, path::PathBuf};

use reqwest::Url;
use zeroize::Zeroizing;

use crate::error::{CliError, one_line};

const VARIABLE: &str = "KLIKIT_STORE";
const SUPPORTED: &str = "set it to the SQLite file of a store, or to a postgres:// URL";

/// The place of a store. [`Display`](fmt::Display) writes it on one line, without a user name and a password.
#[derive(Clone)]
pub(crate) enum Location {
    /// A SQLite file.
    File(PathBuf),
    /// The URL of a Postgres database, which may contain a password.
    Database(Zeroizing<String>),
}

impl Location {
    /// Returns the location that `--store` names, else the one in the environment, if there is one.
    pub(super) fn find(argument: Option<&PathBuf>) -> Result<Option<Self>, CliError> {
        if let Some(path) = argument {
            // A path with `://` in it is unlikely.
            if path.to_str().is_some_and(|path| path.contains("://")) {
                return Err(CliError::new(format_args!(
                    "--store takes a file, because other users of this machine could see a password in a URL: put the \
                     URL into the environment variable {VARIABLE}"
                )));
            }
            return Ok(Some(Self::File(path.clone())));
        }
        let Some(value) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) else { return Ok(None) };
        match value.to_str().and_then(|value| Some((value, value.split_once("://")?.0))) {
            Some((url, "postgres" | "postgresql")) => Ok(Some(Self::Database(Zeroizing::new(url.to_owned())))),
            Some(_) => Err(CliError::new(format_args!("{VARIABLE} is a URL with an unsupported scheme: {SUPPORTED}"))),
            // The value is not repeated, because it can contain a password, as in `host=db password=secret`.
            None if fs::symlink_metadata(&value).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => {
                Err(CliError::new(format_args!("the file that {VARIABLE} names does not exist: {SUPPORTED}")))
            }
            None => Ok(Some(Self::File(value.into()))),
        }
    }

    /// Returns the error of a command that needs a store.
    pub(super) fn missing() -> CliError {
        CliError::new(format_args!(
            "no store was given: name a SQLite file with --store, or set {VARIABLE} to a file or a postgres:// URL"
        ))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match self {
            Self::File(path) => return f.write_str(&one_line(&path.to_string_lossy())),
            Self::Database(url) => public_parts(url),
        };
        f.write_str(&url.unwrap_or_else(|| format!("the Postgres database in {VARIABLE}")))
    }
}

/// Returns the URL's scheme, host, port and path, or `None` if any of them may be a part of a password.
fn public_parts(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    // An unencoded `/`, `?` or `#` in a password ends the host for this parser, and not for the driver's.
    let behind_host = url.as_str().split_once(host)?.1;
    if behind_host.contains('@') || url.fragment().is_some() {
        return None;
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}{}", url.scheme(), url.path()))
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_part_of_a_password() {
        let hidden = "the Postgres database in KLIKIT_STORE";
        for (url, shown) in [
            ("postgres://u:secret@db.example:5433/klikit", "postgres://db.example:5433/klikit"),
            ("postgresql://db.example/klikit?user=u&password=secret", "postgresql://db.example/klikit"),
            ("postgres://u:se/secret@db.example/klikit", hidden),
            ("postgres://u:1/secret@db.example/klikit", hidden),
            ("postgres://u:se?secret@db.example/klikit", hidden),
            ("postgres://u:secret@one.example:5432,two.example:5432/klikit", hidden),
            ("postgres:///klikit?host=/run/postgresql&password=secret", hidden),
            ("postgres://u:1#secret@db.example/klikit", hidden),
            ("postgres://u:1?secret@db.example/klikit", hidden),
            ("postgres://secret#@db.example/klikit", hidden),
            ("postgres://u:1#secret", hidden),
        ] {
            assert_eq!(Location::Database(Zeroizing::new(url.to_owned())).to_string(), shown, "{url}");
        }
    }
}
