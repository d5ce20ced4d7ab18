//! Backups of the file while the store is open.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::Arc,
    thread,
};

use rusqlite::{Connection, OpenFlags, params};
use tokio::sync::oneshot;

use super::{
    error::{SqliteError, SqliteErrorKind},
    store::SqliteStore,
    writer::Call,
};

/// The number of SQLite's instructions between two looks at whether the copy is still wanted. A row takes a few.
const INSTRUCTIONS: i32 = 100;

impl SqliteStore {
    /// Copies everything that is committed into a new file at `path`, while the store serves other calls. The copy is
    /// one file without a log, private to its owner (mode 0600), and has everything that the file has: also tables of
    /// your own. To restore it, stop all processes, put the copy in the place of the file, delete what is left of the
    /// old one (`-wal` and `-shm`), and start again.
    ///
    /// The file appears under its name when it is complete and on stable storage. Until then its name has `.partial`
    /// and a number at its end. Such a file is left behind only if the process is killed. While the copy is made, the
    /// write-ahead log cannot be cut back, so it grows by what is committed meanwhile.
    ///
    /// One backup is made at a time. If the future is dropped, the copy stops and its file is deleted.
    /// [`close`](Self::close) waits for that.
    ///
    /// # Errors
    ///
    /// Returns an error if there is a file at `path` already, if a file cannot be written there, or if no thread can be
    /// started. Also returns an error if the store's file is lost or damaged, or if the store is closed.
    pub async fn backup(&self, path: impl AsRef<Path>) -> Result<(), SqliteError> {
        let given = path.as_ref();
        // Resolve the path now, in case the process changes its working directory.
        let target = std::path::absolute(given).map_err(|error| cannot(given, error.into()))?;
        let turn = self.turn_for_backup().await;
        self.check_file().await?;
        let (reply, answer) = oneshot::channel();
        let store = self.clone();
        let caller = Arc::new(());
        let is_dropped = {
            let caller = Arc::downgrade(&caller);
            move || caller.strong_count() == 0
        };
        let run = move || {
            let copied = back_up(store.path(), &target, is_dropped);
            drop(turn);
            // If the caller is gone, nobody wants to know.
            let _ = reply.send(copied.map_err(|error| cannot(&target, error)));
        };
        thread::Builder::new()
            .name("klikit-sqlite-backup".into())
            .spawn(run)
            .map_err(|error| SqliteError::because(SqliteErrorKind::Thread, error))?;
        let copied = answer.await.unwrap_or_else(|_| Err(SqliteError::new(SqliteErrorKind::Stopped)));
        drop(caller);
        copied?;
        // A copy is of no use if the file was lost meanwhile.
        self.check_file().await
    }

    /// Checks on the writer thread that the file is not lost.
    async fn check_file(&self) -> Result<(), SqliteError> {
        self.writer().call(Call::Other, |_| Ok(())).await
    }
}

fn cannot(target: &Path, error: SqliteError) -> SqliteError {
    let message = format!("cannot write a backup to {}: {}", target.display(), error.message_with_source());
    error.and_message(message)
}

/// Copies `file` to `target`, unless the caller's future is dropped meanwhile.
fn back_up(
    file: &Path,
    target: &Path,
    is_dropped: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<(), SqliteError> {
    let partial = Partial::new(target)?;
    let not_text = || SqliteError::because(SqliteErrorKind::File, "the path is not UTF-8");
    let name = partial.path.to_str().ok_or_else(not_text)?;
    // Not one of the store's own connections, which are closed and opened anew when the log is lost.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = &mut Connection::open_with_flags(file, flags)?;
    connection.progress_handler(INSTRUCTIONS, Some(is_dropped.clone()))?;
    connection.execute("VACUUM INTO ?1", params![name])?;
    if is_dropped() {
        return Err(SqliteError::new(SqliteErrorKind::Stopped));
    }
    Ok(partial.complete(target)?)
}

/// An incomplete backup. Its file is deleted on drop.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(target: &Path) -> io::Result<Self> {
        if fs::exists(target)? {
            return Err(already_exists());
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // A process that was killed may have left some.
        for number in 0.. {
            let mut path = target.as_os_str().to_owned();
            path.push(format!(".partial-{}-{number}", process::id()));
            match options.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return created.map(|_| Self { path: path.into() }),
            }
        }
        Err(already_exists())
    }

    /// Makes the file durable and renames it to `target`.
    fn complete(self, target: &Path) -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(&self.path)?.sync_all()?;
        // Unlike a rename, a link never replaces a file.
        match fs::hard_link(&self.path, target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(already_exists()),
            // Not every file system has links.
            Err(_) if !fs::exists(target)? => fs::rename(&self.path, target)?,
            linked => linked?,
        }
        #[cfg(unix)]
        if let Some(folder) = target.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // The file has another name if the backup is complete.
        let _ = fs::remove_file(&self.path);
    }
}

fn already_exists() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "it exists already")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_backup_never_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("backup.db");
        let partial = Partial::new(&target).unwrap();
        let another = Partial::new(&target).unwrap();
        fs::write(&partial.path, "first").unwrap();
        fs::write(&another.path, "second").unwrap();
        partial.complete(&target).unwrap();
        assert_eq!(another.complete(&target).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
