//! The file that `--junit` names.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

use crate::error::CliError;

/// The file that `--junit` names. Its old content stays until the new content is complete.
pub(super) struct JunitFile {
    path: PathBuf,
    destination: Destination,
}

enum Destination {
    /// A file next to the target, which replaces the target in the end. Removed if the command ends before that.
    Replacement { file: NamedTempFile, target: PathBuf },
    /// A pipe or a device, which cannot be replaced.
    Direct(File),
}

impl JunitFile {
    /// Finds out whether the file can be written, without a change to it.
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        let destination = Destination::open(path).map_err(|error| {
            CliError::caused(format_args!("cannot write {}", path.display()), &error, "name a file that can be written")
        })?;
        Ok(Self { path: path.into(), destination })
    }

    /// Writes the whole content.
    pub(super) fn write(self, xml: &str) -> Result<(), CliError> {
        self.destination.write(xml).map_err(|error| {
            CliError::caused(format_args!("cannot write {}", self.path.display()), &error, "check the disk")
        })
    }
}

impl Destination {
    fn open(path: &Path) -> io::Result<Self> {
        let target = match OpenOptions::new().write(true).open(path) {
            Ok(file) if !file.metadata()?.is_file() => return Ok(Self::Direct(file)),
            // Replace the file that a symlink leads to, and not the symlink.
            Ok(_) => path.canonicalize()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.into(),
            Err(error) => return Err(error),
        };
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = Builder::new();
        builder.prefix(".conform-").suffix(".xml");
        // By default, no other user could read the file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder)?;
        if let Ok(old) = fs::metadata(&target) {
            file.as_file().set_permissions(old.permissions())?;
        }
        Ok(Self::Replacement { file, target })
    }

    fn write(self, xml: &str) -> io::Result<()> {
        match self {
            Self::Direct(mut file) => file.write_all(xml.as_bytes()),
            Self::Replacement { mut file, target } => {
                file.write_all(xml.as_bytes())?;
                file.as_file().sync_all()?;
                file.persist(target)?;
                Ok(())
            }
        }
    }
}
