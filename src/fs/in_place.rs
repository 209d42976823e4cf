//! A file that is changed in place, because it is mounted into containers: these do not see another file that takes its name.
//!
//! It is reached by descriptors, and through no link: neither the file nor its folder can be replaced by another user's.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;

use crate::error::{Error, Result};
use crate::fs::trust::check_owner;

/// No file that is changed is larger.
const LIMIT: u64 = 64 * 1024;

/// An open file, and what it contains.
#[derive(Debug)]
pub(crate) struct InPlace {
    path: PathBuf,
    file: File,
    pub(crate) content: Vec<u8>,
}

impl InPlace {
    /// Opens the file `path`, which only root can change. With `makes`, it is made if it is missing, for all users to read.
    ///
    /// # Errors
    /// When it cannot be opened, or is a link or no regular file, or its folder is a link, or others than root can write either.
    pub(crate) fn open(path: &Path, makes: bool) -> Result<Self> {
        let failed = |error: io::Error| Error::io("open", path, &error);
        let of_errno = |errno: nix::Error| failed(errno.into());
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        };
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let above = OpenOptions::new().read(true).custom_flags(flags).open(folder).map_err(failed)?;
        check_owner(folder, &above.metadata().map_err(failed)?)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let make = if makes { OFlag::O_CREAT } else { OFlag::empty() };
        let mode = Mode::from_bits_truncate(0o644);
        let mut file = File::from(openat(&above, name, flags | make, mode).map_err(of_errno)?);
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() || metadata.nlink() != 1 || metadata.len() > LIMIT {
            let what =
                format!("{} is not a regular file of at most {LIMIT} bytes with one name", path.display());
            return Err(Error::input(what));
        }
        check_owner(path, &metadata)?;
        if makes && metadata.mode() & 0o777 != 0o644 {
            // The umask is the engine's.
            file.set_permissions(PermissionsExt::from_mode(0o644)).map_err(failed)?;
        }
        let mut content = Vec::with_capacity(metadata.len() as usize);
        (&mut file).take(LIMIT).read_to_end(&mut content).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, content })
    }

    /// Makes `content` what it contains. A reader sees nothing of the old content behind the new.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, content: &[u8]) -> Result<()> {
        if self.content == content {
            return Ok(());
        }
        let mut padded = content.to_vec();
        padded.resize(content.len().max(self.content.len()), b'\n');
        let written =
            self.file.write_all_at(&padded, 0).and_then(|()| self.file.set_len(content.len() as u64));
        written.map_err(|error| Error::io("write", &self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(InPlace::open(&path, false).is_err());
        InPlace::open(&path, true).unwrap().write(b"a long text\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        for content in ["short\n", "", "a longer text than before\n"] {
            InPlace::open(&path, false).unwrap().write(content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.ino(), metadata.mode() & 0o777), (inode, 0o644));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        InPlace::open(&path, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        InPlace::open(&path, true).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    }

    #[test]
    fn follows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), "secret").unwrap();
        fs::create_dir(at("real")).unwrap();
        fs::write(at("real/file"), "secret").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("none"), at("dangling")).unwrap();
        symlink(at("real"), at("folder")).unwrap();
        fs::hard_link(at("victim"), at("second")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        fs::write(at("open"), "").unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o666)).unwrap();
        for name in ["link", "dangling", "folder/file", "second", "pipe", "real", "open"] {
            assert!(InPlace::open(&at(name), true).is_err(), "{name}");
        }
        assert!(!at("none").exists());
        fs::set_permissions(at("real"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(InPlace::open(&at("real/file"), false).is_err(), "others can write its folder");
    }
}
