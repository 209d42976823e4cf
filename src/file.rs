//! Small files: read with a limit and, where it matters, from nobody but root; replaced as a whole.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, symlink};
use std::path::Path;

use nix::libc;
use nix::unistd::geteuid;

use crate::error::{Error, Result};

/// Whose files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anybody's.
    Anybody,
    /// The operator's: see [`check_owner`].
    Operator,
    /// What underlay itself has written: as the operator's, and no symbolic link.
    Own,
    /// What nobody else may know: as [`Trust::Own`], and nobody else can read it.
    Secret,
}

/// Reads the regular file `path`, up to `limit` bytes; `None` if it does not exist.
///
/// # Errors
/// Directories, pipes and devices are refused: opening one must not hang a container's start. So is what is not to be
/// trusted.
pub fn read(path: &Path, limit: u64, trust: Trust) -> Result<Option<Vec<u8>>> {
    let failed = |error: io::Error| Error::io("read", path, &error);
    let is_own = matches!(trust, Trust::Own | Trust::Secret);
    let follow = if is_own { libc::O_NOFOLLOW } else { 0 };
    let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | follow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_own && error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(Error::input(format!("{} is a symbolic link", path.display())));
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::input(format!("{} is not a regular file", path.display())));
    }
    if trust != Trust::Anybody {
        check_owner(path, &metadata)?;
    }
    let mode = metadata.mode() & 0o7777;
    if trust == Trust::Secret && mode & 0o077 != 0 {
        return Err(Error::input(format!(
            "{} can be read by others than root (mode {mode:04o})",
            path.display()
        ))
        .hint(format!("it is no secret any more: `rm {}`, and another one is made", path.display())));
    }
    // Files are replaced as a whole, so there is no more than its length, and no need to ask; a file of /proc has none.
    let length = if metadata.len() == 0 { limit + 1 } else { metadata.len().min(limit + 1) };
    let mut content = Vec::with_capacity(metadata.len().min(limit + 1) as usize);
    (&mut file).take(length).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > limit {
        return Err(Error::input(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(Some(content))
}

/// Whether nobody but root, or the user this program runs as, can change the file or folder `path`.
///
/// # Errors
/// Names its owner or mode.
pub fn check_owner(path: &Path, metadata: &Metadata) -> Result<()> {
    let owner = metadata.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(Error::input(format!("{} belongs to user {owner}, not to root", path.display()))
            .hint(format!("see who made it; then `chown root {}`", path.display())));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(Error::input(format!(
            "{} can be written by others than root (mode {mode:04o})",
            path.display()
        ))
        .hint(format!("see what was written; then `chmod go-w {}`", path.display())));
    }
    Ok(())
}

/// As [`check_owner`], of a folder that need not exist.
///
/// # Errors
/// Also when it cannot be looked at.
pub fn check_folder(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) => check_owner(path, &metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("read", path, &error)),
    }
}

/// Replaces `path`, a file for root alone, by `content`, so that a reader sees the old or the new file and never half of
/// one. Its folder is made where it is missing.
///
/// # Errors
/// The old file, if any, stays.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    replace_as(path, content, 0o600, 0o700)
}

/// As [`replace`], of what nobody else may know: in a file that nobody has opened, or made, before.
///
/// # Errors
/// The old file, if any, stays.
pub fn replace_secret(path: &Path, content: &[u8]) -> Result<()> {
    make_folder(path.parent().unwrap_or(path), 0o700)?;
    let temporary = temporary(path);
    // Left by a killed process, or by somebody else.
    remove(&temporary)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let written =
        file.and_then(|mut file| file.write_all(content)).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, &error)
    })
}

/// As [`replace`], for all to read.
///
/// # Errors
/// The old file, if any, stays.
pub fn publish(path: &Path, content: &[u8]) -> Result<()> {
    replace_as(path, content, 0o644, 0o755)
}

/// Replaces what is in the file `path`, which is there and somebody else's: its owner and mode stay. As [`replace`], a
/// reader sees the old or the new file.
///
/// # Errors
/// The old file stays.
pub fn edit(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = temporary(path);
    let edited = || -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        let file = write(&temporary, content, 0o600)?;
        fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
        file.set_permissions(metadata.permissions())?;
        fs::rename(&temporary, path)
    };
    edited().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, &error)
    })
}

/// Adds `text` to the file `path`, which is made if need be.
///
/// # Errors
/// When it cannot be written.
pub fn append(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Error::io("write", path, &error))
}

fn replace_as(path: &Path, content: &[u8], mode: u32, folder_mode: u32) -> Result<()> {
    let temporary = temporary(path);
    let written = match write(&temporary, content, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(path.parent().unwrap_or(path), folder_mode)?;
            write(&temporary, content, mode)
        }
        written => written,
    };
    let written = written.and_then(|_| fs::rename(&temporary, path));
    written.map_err(|error| {
        // What is left of the temporary file is of no use; a failure to remove it changes nothing.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, &error)
    })
}

/// Replaces `path` by a symbolic link to `target`.
///
/// # Errors
/// What was there stays.
pub fn replace_link(path: &Path, target: &Path) -> Result<()> {
    let temporary = temporary(path);
    // Left by a killed process.
    remove(&temporary)?;
    let written = symlink(target, &temporary).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| Error::io("write", path, &error))
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

/// Removes the file or empty folder `path`; one that is gone is no error.
///
/// # Errors
/// When it is still there.
pub fn remove(path: &Path) -> Result<()> {
    let removed = fs::remove_file(path).or_else(|error| match error.kind() {
        io::ErrorKind::IsADirectory => fs::remove_dir(path),
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    removed.map_err(|error| Error::io("remove", path, &error))
}

/// Where the new content of `path` is written first: the same folder, a name no reader looks at, be it one of all
/// `.json` files.
fn temporary(path: &Path) -> std::path::PathBuf {
    let mut name = std::ffi::OsString::from(TEMPORARY);
    name.push(path.file_name().unwrap_or_default());
    name.push("~");
    path.with_file_name(name)
}

/// Whether `path` is what a killed process has left half written.
pub fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()))
}

/// What the names of temporary files begin with; no name of ours does.
const TEMPORARY: &str = "#";

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn reads_regular_files_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read(&path, 10, Trust::Own).unwrap(), None);
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10, Trust::Own).unwrap().unwrap(), b"0123456789");
        assert!(read(&path, 9, Trust::Own).unwrap_err().to_string().ends_with("is larger than 9 bytes"));
        assert!(
            read(folder.path(), 9, Trust::Own).unwrap_err().to_string().ends_with("is not a regular file")
        );
        assert!(read(Path::new("/dev/null"), 9, Trust::Anybody).is_err());
        let below = path.join("below");
        assert!(read(&below, 9, Trust::Own).unwrap_err().to_string().contains("Not a directory"));
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
        assert!(replace(&path.join("below"), b"").is_err());
        replace(&folder.path().join("new/file"), b"").unwrap();
        fs::create_dir(folder.path().join("dir")).unwrap();
        assert!(replace(&folder.path().join("dir"), b"").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn edits_and_appends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(edit(&path, b"new").is_err(), "there is nothing to edit");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1000), Some(1001)).unwrap();
        }
        edit(&path, b"new").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), metadata.mode() & 0o7777), (b"new".to_vec(), 0o640));
        if geteuid().is_root() {
            assert_eq!((metadata.uid(), metadata.gid()), (1000, 1001));
        }
        let log = folder.path().join("log");
        append(&log, "one\n").unwrap();
        append(&log, "two\n").unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        publish(&folder.path().join("cdi/file"), b"x").unwrap();
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("cdi"), mode("cdi/file")), (0o755, 0o644));
    }

    #[test]
    fn reads_what_can_be_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "x").unwrap();
        let set = |mode: u32| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for (mode, trusted) in [(0o600, true), (0o644, true), (0o664, false), (0o606, false)] {
            set(mode);
            assert_eq!(read(&path, 9, Trust::Operator).is_ok(), trusted, "{mode:o}");
            assert_eq!(read(&path, 9, Trust::Own).is_ok(), trusted, "{mode:o}");
            assert!(read(&path, 9, Trust::Anybody).is_ok());
        }
        for (mode, trusted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o644, false)]
        {
            set(mode);
            assert_eq!(read(&path, 9, Trust::Secret).is_ok(), trusted, "{mode:o}");
        }
        set(0o600);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read(&link, 9, Trust::Operator).is_ok() && read(&link, 9, Trust::Own).is_err());
        assert!(read(&link, 9, Trust::Secret).is_err());
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
            let error = read(&path, 9, Trust::Operator).unwrap_err().to_string();
            assert!(error.ends_with("file belongs to user 1000, not to root"), "{error}");
        }
        assert!(check_folder(&folder.path().join("none")).is_ok() && check_folder(folder.path()).is_ok());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let error = check_folder(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("can be written by others than root (mode 1777)"), "{error}");
    }
}
