//! Small files: read with a limit, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Error, Result};

/// Reads the regular file `path`, up to `limit` bytes; `None` if it does not exist.
///
/// # Errors
/// Directories, pipes and devices are refused: opening one must not hang a container's start.
pub fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let failed = |error: io::Error| Error::io("read", path, &error);
    let mut file = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::input(format!("{} is not a regular file", path.display())));
    }
    let mut content = Vec::with_capacity(metadata.len().min(limit) as usize + 1);
    (&mut file).take(limit + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > limit {
        return Err(Error::input(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(Some(content))
}

/// Replaces `path`, a file for root alone, by `content`, so that a reader sees the old or the new file and never half of one.
///
/// # Errors
/// The old file, if any, stays.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = temporary(path);
    let written = write(&temporary, content, 0o600).and_then(|_| fs::rename(&temporary, path));
    written.map_err(|error| {
        // What is left of the temporary file is of no use; a failure to remove it changes nothing.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, &error)
    })
}

/// Makes the file `path`, for all to read, with `content`, on disk when this returns; `false` if there is one already.
///
/// # Errors
/// Nothing is made.
pub fn create(path: &Path, content: &[u8]) -> Result<bool> {
    let temporary = temporary(path);
    let made =
        write(&temporary, content, 0o644).and_then(|file| file.sync_all()).and_then(
            |()| match fs::hard_link(&temporary, path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            },
        );
    let _ = fs::remove_file(&temporary);
    made.map_err(|error| Error::io("create", path, &error))
}

/// Makes the folder `path` and what is missing above it.
///
/// # Errors
/// Names the folder.
pub fn make_folder(path: &Path, mode: u32) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| Error::io("create", path, &error))
}

/// Where the new content of `path` is written first: the same folder, a name no reader looks at.
fn temporary(path: &Path) -> std::path::PathBuf {
    let mut name = std::ffi::OsString::from("#");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_regular_files_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read(&path, 10).unwrap(), None);
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"0123456789");
        assert!(read(&path, 9).unwrap_err().to_string().ends_with("is larger than 9 bytes"));
        assert!(read(folder.path(), 9).unwrap_err().to_string().ends_with("is not a regular file"));
        assert!(read(Path::new("/dev/null"), 9).is_err());
        let below = path.join("below");
        assert!(read(&below, 9).unwrap_err().to_string().contains("Not a directory"));
    }

    #[test]
    fn replaces_and_creates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(create(&path, b"one").unwrap());
        assert!(!create(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        assert!(replace(&folder.path().join("no/file"), b"").is_err());
        fs::create_dir(folder.path().join("dir")).unwrap();
        assert!(replace(&folder.path().join("dir"), b"").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
