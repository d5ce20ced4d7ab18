//! Files and standard input.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use crate::{error::CliError, output};

/// The maximum length of a file in bytes, so that a read of `/dev/zero` ends. klikit's largest known batch has 163 kB.
const MAX_LEN: u64 = 64 << 20;

const STDIN: &str = "standard input";

/// Returns the name of an input for messages.
pub(crate) fn name(path: &Path) -> Cow<'_, str> {
    if path == Path::new("-") { STDIN.into() } else { path.to_string_lossy() }
}

/// Reads a whole file, or standard input if the name is `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    if path == Path::new("-") { read_stdin() } else { read_file(path) }
}

/// Reads a whole file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, CliError> {
    let name = path.to_string_lossy();
    let unreadable =
        |error: io::Error| CliError::caused(format_args!("cannot read {name}"), &error, "name a readable file");
    let file = File::open(path).map_err(unreadable)?;
    read_all(file, &name, unreadable)
}

fn read_stdin() -> Result<Vec<u8>, CliError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        output::note("reading standard input until ctrl-d");
    }
    let unreadable =
        |error: io::Error| CliError::caused(format_args!("cannot read {STDIN}"), &error, "name a file, or pipe one in");
    read_all(stdin.lock(), STDIN, unreadable)
}

fn read_all(
    source: impl Read,
    name: &str,
    unreadable: impl FnOnce(io::Error) -> CliError,
) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    source.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(CliError::new(format_args!("{name} is longer than {} MiB: name a delivery's file", MAX_LEN >> 20)));
    }
    Ok(bytes)
}
