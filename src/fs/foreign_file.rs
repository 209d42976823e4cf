//! A file in a folder that others may write, like the bundle of a container. It is read and replaced by descriptors, so
//! that files and links that are put there meanwhile redirect nothing.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::libc;
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Error, Result};
use crate::fs::file::temporary_name;

/// A file that was read, and its folder.
#[derive(Debug)]
pub(crate) struct ForeignFile {
    path: PathBuf,
    folder: File,
    name: OsString,
    /// Kept open, because the inode number of a deleted file may be reused.
    _file: File,
    metadata: Metadata,
    pub(crate) content: Vec<u8>,
}

impl ForeignFile {
    /// Reads the regular file `path` of at most `limit` bytes, also through a link.
    ///
    /// # Errors
    /// When it cannot be read, is not a regular file, or is larger.
    pub(crate) fn read(path: &Path, limit: u64) -> Result<Self> {
        let failed = |error: io::Error| Error::io("read", path, &error);
        let of_errno = |errno: nix::Error| failed(errno.into());
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(parent.unwrap_or(Path::new(".")))
            .map_err(failed)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let mut file = File::from(openat(&folder, name.as_os_str(), flags, Mode::empty()).map_err(of_errno)?);
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() || metadata.len() > limit {
            let what = format!("{} is not a regular file of at most {limit} bytes", path.display());
            return Err(Error::input(what));
        }
        let mut content = Vec::with_capacity(metadata.len() as usize);
        (&mut file).take(limit).read_to_end(&mut content).map_err(failed)?;
        Ok(Self { path: path.to_owned(), folder, name, _file: file, metadata, content })
    }

    /// Replaces the file by one with `content` and the same owner and mode. A reader sees either the old or the new one.
    ///
    /// # Errors
    /// The old file stays. Refuses if the name is now a link or another file than the one that was read.
    pub(crate) fn replace(&self, content: &[u8]) -> Result<()> {
        self.check_name()?;
        let temporary = temporary_name(&self.name);
        let replaced = self.write(&temporary, content).and_then(|()| {
            renameat(&self.folder, temporary.as_os_str(), &self.folder, self.name.as_os_str())
                .map_err(io::Error::from)
        });
        replaced.map_err(|error| {
            // It was created exclusively, so it is ours.
            let _ = unlinkat(&self.folder, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
            Error::io("write", &self.path, &error)
        })
    }

    /// Whether the name in the folder is still that of the file, and not a link.
    fn check_name(&self) -> Result<()> {
        let named = fstatat(&self.folder, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| Error::io("look for", &self.path, &errno.into()))?;
        if (named.st_dev, named.st_ino) == (self.metadata.dev(), self.metadata.ino()) {
            return Ok(());
        }
        let text = format!("{} is a link to another file, or was replaced meanwhile", self.path.display());
        Err(Error::input(text).hint("put the file itself there: the target of a link is not changed"))
    }

    fn write(&self, name: &OsStr, content: &[u8]) -> io::Result<()> {
        // `O_EXCL` follows no link.
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        file.write_all(content)?;
        fchown(&file, Some(self.metadata.uid()), Some(self.metadata.gid()))?;
        let mode = self.metadata.mode() & 0o777;
        file.set_permissions(PermissionsExt::from_mode(mode))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use nix::unistd::geteuid;

    use super::*;

    #[test]
    fn owner_and_mode_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(ForeignFile::read(&path, 9).is_err() && ForeignFile::read(folder.path(), 9).is_err());
        fs::write(&path, "old").unwrap();
        assert!(ForeignFile::read(&path, 2).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        if geteuid().is_root() {
            chown(&path, Some(1000), Some(1001)).unwrap();
        }
        let file = ForeignFile::read(&path, 3).unwrap();
        assert_eq!(file.content, b"old");
        file.replace(b"new").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), metadata.mode() & 0o7777), (b"new".to_vec(), 0o640));
        if geteuid().is_root() {
            assert_eq!((metadata.uid(), metadata.gid()), (1000, 1001));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    /// In a folder of another user: whatever is put in the place of the file, nothing else is written.
    #[test]
    fn leads_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("bundle");
        let (victim, path) = (folder.path().join("victim"), bundle.join("file"));
        fs::create_dir(&bundle).unwrap();
        fs::write(&victim, "secret").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&victim, &path).unwrap();
        let error = ForeignFile::read(&path, 99).unwrap().replace(b"x").unwrap_err().to_string();
        assert!(error.ends_with("file is a link to another file, or was replaced meanwhile"), "{error}");
        // Put there after it was read.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "own").unwrap();
        let file = ForeignFile::read(&path, 99).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
        assert!(file.replace(b"x").is_err());
        // The whole folder is replaced.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "own").unwrap();
        let file = ForeignFile::read(&path, 99).unwrap();
        fs::rename(&bundle, folder.path().join("moved")).unwrap();
        fs::create_dir(folder.path().join("other")).unwrap();
        fs::write(folder.path().join("other/file"), "other").unwrap();
        symlink(folder.path().join("other"), &bundle).unwrap();
        file.replace(b"new").unwrap();
        assert_eq!(fs::read(folder.path().join("moved/file")).unwrap(), b"new");
        assert_eq!(fs::read(folder.path().join("other/file")).unwrap(), b"other");
        let metadata = fs::metadata(&victim).unwrap();
        assert_eq!((fs::read(&victim).unwrap(), metadata.mode() & 0o777), (b"secret".to_vec(), 0o600));
    }
}
