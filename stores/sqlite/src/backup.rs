//! Copying the file while the store is open.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use rusqlite::params;
use tokio::sync::oneshot;

use super::{
    connection::Database,
    error::{SqliteError, SqliteErrorKind},
    files::Lost,
    store::SqliteStore,
};

impl SqliteStore {
    /// Copies everything that is committed into a new file at `path`, while the store serves other calls. The copy is
    /// one file without a log, private to its owner (mode 0600), and has everything that the file has: also tables of
    /// your own. To restore it, stop all processes, put it in the place of the file, delete what is left of the old one
    /// (`-wal` and `-shm`), and start again.
    ///
    /// The file appears under its name when it is complete and on stable storage. It is written next to that under a name
    /// that ends in `.partial` and a number, which is left behind only if the process is killed. While the copy is made,
    /// the write-ahead log cannot be cut back, so it grows by what is committed meanwhile.
    ///
    /// The copy goes on if the future is dropped.
    ///
    /// # Errors
    ///
    /// If there is a file at `path` already, if a file cannot be written there, or if the store's file is damaged.
    pub async fn backup(&self, path: impl AsRef<Path>) -> Result<(), SqliteError> {
        let (target, database) = (path.as_ref().to_owned(), self.another_connection());
        let (reply, answer) = oneshot::channel();
        // The caller may be gone when the copy is complete.
        let run = move || drop(reply.send(back_up(&database, &target)));
        thread::Builder::new()
            .name("klikit-sqlite-backup".into())
            .spawn(run)
            .map_err(|error| SqliteError::because(SqliteErrorKind::Stopped, error))?;
        answer.await.unwrap_or_else(|_| Err(SqliteError::new(SqliteErrorKind::Stopped)))
    }
}

fn back_up(database: &Database, target: &Path) -> Result<(), SqliteError> {
    let cannot = |error: io::Error| {
        let message = format!("cannot write a backup to {}: {error}", target.display());
        SqliteError::because(SqliteErrorKind::File, error).and_message(message)
    };
    if fs::exists(target).map_err(cannot)? {
        return Err(cannot(io::Error::new(io::ErrorKind::AlreadyExists, "it exists already")));
    }
    let partial = Partial::new(target).map_err(cannot)?;
    copy(database, &partial.path)?;
    partial.complete(target).map_err(cannot)
}

fn copy(database: &Database, path: &Path) -> Result<(), SqliteError> {
    let not_text = || SqliteError::because(SqliteErrorKind::File, "the backup's path is not UTF-8");
    let name = path.to_str().ok_or_else(not_text)?;
    let mut session = database.session()?;
    session.check().map_err(Lost::into_error)?;
    session.connection().execute("VACUUM INTO ?1", params![name])?;
    // What was copied is of no use if the file was lost meanwhile.
    session.check().map_err(Lost::into_error)
}

/// A backup that is not complete yet. It is deleted when it is dropped.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(target: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".partial-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&name)?;
        Ok(Self { path: name.into() })
    }

    /// Gives the file its name, once it is on stable storage.
    fn complete(self, target: &Path) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, target)?;
        #[cfg(unix)]
        if let Some(folder) = target.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is gone if the backup is complete.
        let _ = fs::remove_file(&self.path);
    }
}
