//! A probe of the file and its folder, which finds the operating system's error where SQLite's error does not name it.

use std::{
    error::Error,
    fs::{self, OpenOptions},
    io, mem,
    path::Path,
};

use rusqlite::ErrorCode;

use crate::error::{SqliteError, SqliteErrorKind};

/// Returns whether missing permissions may have caused the error.
pub(super) fn may_be_denied(error: &SqliteError) -> bool {
    let Some(source) = error.source().filter(|_| error.kind() == SqliteErrorKind::File) else { return false };
    match source.downcast_ref::<rusqlite::Error>() {
        Some(error) => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly)
        ),
        // An error of the operating system explains itself. Any other source is this crate's own text, such as "it is
        // read-only".
        None => !source.is::<io::Error>(),
    }
}

/// Returns why SQLite's log cannot be created next to the file, or why the file cannot be opened. Returns `None` if
/// both are possible now.
pub(super) fn cause(path: &Path) -> Option<String> {
    let folder = path.parent().unwrap_or(path);
    if let Err(error) = create_and_delete_next_to(path) {
        return Some(explain("folder", folder, "is not writable", &error));
    }
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => {
            // Closing the file would drop the locks of this process's other connections to it.
            mem::forget(file);
            None
        }
        Err(error) => Some(explain("file", path, "cannot be opened", &error)),
    }
}

/// Creates a file in the folder of `path`, and deletes the created file again.
fn create_and_delete_next_to(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push("-probe");
    match OpenOptions::new().write(true).create_new(true).open(&name) {
        // Another process is probing too, or ended before it deleted the file.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.and_then(|_| fs::remove_file(&name)),
    }
}

fn explain(object: &str, path: &Path, problem: &str, error: &io::Error) -> String {
    format!("the {object} {} {problem}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanation_includes_system_error() {
        let error = io::Error::new(io::ErrorKind::PermissionDenied, "Permission denied (os error 13)");
        assert_eq!(
            explain("folder", Path::new("/data"), "is not writable", &error),
            "the folder /data is not writable: Permission denied (os error 13)"
        );
    }

    #[test]
    fn finds_no_cause_for_usable_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("klikit.db");
        fs::write(&file, []).unwrap();
        assert_eq!(cause(&file), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the probe must delete the file that it created");
    }
}
