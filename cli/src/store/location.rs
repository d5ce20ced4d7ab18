//! The place of a store: a file, or the URL of a database.

use std::{env, fmt, path::PathBuf};

use reqwest::Url;
use zeroize::Zeroizing;

use crate::error::CliError;

const VARIABLE: &str = "KLIKIT_STORE";

/// The place of a store. [`Display`](fmt::Display) writes it without a user name and a password.
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
            // The value is not repeated, because it can contain a password.
            Some(_) => Err(CliError::new(format_args!(
                "{VARIABLE} is a URL of another kind: set it to a SQLite file or a postgres:// URL"
            ))),
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
            Self::File(path) => return write!(f, "{}", path.display()),
            Self::Database(url) => Url::parse(url).ok(),
        };
        // In a URL that cannot be parsed, and in one with several hosts, any part may belong to a password.
        match url.as_ref().and_then(|url| Some((url, url.host_str().filter(|host| !host.is_empty())?))) {
            Some((url, host)) if !url.path().contains('@') => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "{}://{host}{port}{}", url.scheme(), url.path())
            }
            _ => write!(f, "the Postgres database in {VARIABLE}"),
        }
    }
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
        ] {
            assert_eq!(Location::Database(Zeroizing::new(url.to_owned())).to_string(), shown, "{url}");
        }
    }
}
