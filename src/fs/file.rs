//! Small files: read with a limit and, if it matters, only from root; replaced as a whole.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::fs::trust::check_owner;
use nix::libc;

/// The users whose files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Any user.
    Anybody,
    /// The operator: see [`trust`](crate::fs::trust).
    Operator,
    /// underlay: as the operator, and the file is not a symbolic link.
    Own,
}

/// The hint for a file whose open would have to wait (fcntl(2), `F_SETLEASE`).
const LEASED: &str = "a process has a lease on it and does not give it up: `lslocks` shows which";

/// Reads the regular file `path`, up to `limit` bytes; `None` if it does not exist.
///
/// # Errors
/// Refuses directories, pipes and devices, because opening one must not block a container's start, and files that are not
/// trusted.
pub(crate) fn read(path: &Path, limit: u64, trust: Trust) -> Result<Option<Vec<u8>>> {
    let failed = |error: io::Error| match Error::io("read", path, &error) {
        // It was opened without blocking and is not a pipe: only a lease makes it wait.
        failed if error.kind() == ErrorKind::WouldBlock => failed.hint(LEASED),
        failed => failed,
    };
    let is_own = trust == Trust::Own;
    let follow = if is_own { libc::O_NOFOLLOW } else { 0 };
    let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | follow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
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
    // Files are replaced as a whole, so a file has no more than its length, and a further read is not needed. Files of
    // /proc have the length 0.
    let length = if metadata.len() == 0 { limit + 1 } else { metadata.len().min(limit + 1) };
    let mut content = Vec::with_capacity(metadata.len().min(limit + 1) as usize);
    (&mut file).take(length).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > limit {
        return Err(Error::input(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(Some(content))
}

/// Replaces `path`, which only root can read, by `content`. A reader sees either the old or the new file. A missing folder
/// is made.
///
/// # Errors
/// The old file, if any, stays.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    replace_as(path, content, 0o600, 0o700)
}

/// As [`replace`], for all users to read.
///
/// # Errors
/// The old file, if any, stays.
pub(crate) fn publish(path: &Path, content: &[u8]) -> Result<()> {
    replace_as(path, content, 0o644, 0o755)
}

/// Opens the file `path` to append to it, or creates it. It follows no link in its place, and does not wait for a pipe.
///
/// # Errors
/// Those of open(2).
pub(crate) fn open_to_append(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

/// Appends `text` to the file `path`, or creates it, in a folder that others may write. It writes to nothing else in its
/// place, and not to a file with a second name, which could belong to another user.
///
/// # Errors
/// When it cannot be written; `EINVAL` if it is not a regular file with one name.
pub(crate) fn append(path: &Path, text: &str) -> Result<()> {
    let written = || {
        let mut file = open_to_append(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        file.write_all(text.as_bytes())
    };
    written().map_err(|error| Error::io("write", path, &error))
}

/// Creates the empty file `path`, unless something of that name exists.
///
/// # Errors
/// When it cannot be created.
pub(crate) fn touch(path: &Path) -> Result<()> {
    ignoring(&[ErrorKind::AlreadyExists], "create", path, make(path, 0o600).map(drop))
}

fn replace_as(path: &Path, content: &[u8], mode: u32, folder_mode: u32) -> Result<()> {
    let temporary = temporary(path);
    let written = match write(&temporary, content, mode) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_subfolder(path.parent().unwrap_or(path), folder_mode)?;
            write(&temporary, content, mode)
        }
        written => written,
    };
    rename(&temporary, path, written.map(drop))
}

/// Replaces `path` by a symbolic link to `target`.
///
/// # Errors
/// The old file, if any, stays.
pub(crate) fn replace_link(path: &Path, target: &Path) -> Result<()> {
    let temporary = temporary(path);
    let made = symlink(target, &temporary);
    rename(&temporary, path, made)
}

/// Returns the target of the symbolic link `path`; `None` if it is missing, or not a symbolic link.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_link(path: &Path) -> Result<Option<PathBuf>> {
    match fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(None),
        Err(error) => Err(Error::io("read", path, &error)),
    }
}

/// Renames `temporary` to `path`, if it was `made`.
fn rename(temporary: &Path, path: &Path, made: io::Result<()>) -> Result<()> {
    made.and_then(|()| fs::rename(temporary, path)).map_err(|error| {
        // A failure to remove it changes nothing.
        let _ = fs::remove_file(temporary);
        Error::io("write", path, &error)
    })
}

/// Creates the file `path`, for all users to read, with `content`. It is on disk when this returns. `false` if the file
/// exists already.
///
/// # Errors
/// Nothing is created.
pub(crate) fn create(path: &Path, content: &[u8]) -> Result<bool> {
    let temporary = temporary(path);
    let written = write(&temporary, content, 0o644).and_then(|file| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    });
    let _ = fs::remove_file(&temporary);
    linked.map_err(|error| Error::io("create", path, &error))
}

/// Makes the folder `path` and missing folders above it.
///
/// # Errors
/// Names the folder.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<()> {
    ignoring(&[], "create", path, fs::DirBuilder::new().recursive(true).mode(mode).create(path))
}

/// Makes the folder `path` if it is missing, and none above it, so that a lost state folder is not made again by accident.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make_subfolder(path: &Path, mode: u32) -> Result<()> {
    ignoring(&[ErrorKind::AlreadyExists], "create", path, fs::DirBuilder::new().mode(mode).create(path))
}

/// Removes the file or empty folder `path`, if it exists.
///
/// # Errors
/// When it still exists.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => fs::remove_dir(path),
        removed => removed,
    };
    ignoring(&[ErrorKind::NotFound], "remove", path, removed)
}

/// Removes the folder `path` with all that is in it, if it exists. No link in it is followed.
///
/// # Errors
/// When it still exists.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    ignoring(&[ErrorKind::NotFound], "remove", path, fs::remove_dir_all(path))
}

/// Whether something exists at `path`.
///
/// # Errors
/// When that cannot be found out.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| Error::io("look for", path, &error))
}

/// Removes the empty folder `path`, because no file can replace it. Anything else stays until it is replaced.
///
/// # Errors
/// When it is a folder and cannot be removed.
pub(crate) fn make_room(path: &Path) -> Result<()> {
    ignoring(&[ErrorKind::NotFound, ErrorKind::NotADirectory], "remove", path, fs::remove_dir(path))
}

/// The result `done` of what was tried with `path`, where errors of these `kinds` count as success.
pub(crate) fn ignoring(kinds: &[ErrorKind], doing: &str, path: &Path, done: io::Result<()>) -> Result<()> {
    let failed = done.err().filter(|error| !kinds.contains(&error.kind()));
    failed.map_or(Ok(()), |error| Err(Error::io(doing, path, &error)))
}

/// Where the new content of `path` is written first: in the same folder, with a name that no reader looks at and that
/// cannot exist already. `gc` removes what a killed process has left there.
fn temporary(path: &Path) -> PathBuf {
    path.with_file_name(temporary_name(path.file_name().unwrap_or_default()))
}

/// A name as of [`temporary`] for the file `name`. It has the time in nanoseconds, so that it is hard to foresee. A file of
/// that name is created exclusively, so that foreseeing it does no harm.
pub(crate) fn temporary_name(name: &OsStr) -> OsString {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut temporary = OsString::from(TEMPORARY);
    temporary.push(name);
    temporary.push(format!("~{:x}-{count:x}", now.as_nanos()));
    temporary
}

/// Whether `path` has the name of a temporary file, which a killed process has left.
pub(crate) fn is_temporary(path: &Path) -> bool {
    temporary_of(path).is_some()
}

/// Whether `path` has the name of a temporary file of the file `of`.
pub(crate) fn is_temporary_of(path: &Path, of: &Path) -> bool {
    temporary_of(path).is_some_and(|name| of.file_name() == Some(OsStr::new(name)))
}

/// The name of the file that the temporary file `path` was to replace. In earlier versions, temporary names ended with `~`.
fn temporary_of(path: &Path) -> Option<&str> {
    let (name, number) = path.file_name()?.to_str()?.strip_prefix(TEMPORARY)?.rsplit_once('~')?;
    number.chars().all(|c| c.is_ascii_hexdigit() || c == '-').then_some(name)
}

/// The prefix of the names of temporary files. None of our other files has it.
const TEMPORARY: &str = "#";

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    let mut file = make(path, mode)?;
    file.write_all(content)?;
    Ok(file)
}

/// Creates the file `path`, which must not exist. `O_EXCL` follows no link.
///
/// # Errors
/// Those of open(2).
pub(crate) fn make(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use nix::unistd::geteuid;

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
    fn appends_and_publishes() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        append(&log, "one\n").unwrap();
        append(&log, "two\n").unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        publish(&folder.path().join("cdi/file"), b"x").unwrap();
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("cdi"), mode("cdi/file")), (0o755, 0o644));
    }

    /// Nothing that stands in the place of a file, or of a temporary one, is written to.
    #[test]
    fn follows_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), "secret").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("none"), at("dangling")).unwrap();
        fs::hard_link(at("victim"), at("second")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "dangling", "second", "fifo"] {
            assert!(append(&at(name), "x").is_err(), "{name} is appended to");
            assert!(write(&at(name), b"x", 0o644).is_err(), "{name} is written to");
            touch(&at(name)).unwrap();
        }
        assert!(!at("none").exists());
        // Those are replaced themselves.
        for name in ["link", "dangling", "second", "fifo"] {
            replace(&at(name), b"new").unwrap();
            assert!(fs::symlink_metadata(at(name)).unwrap().is_file() && !at("none").exists());
        }
        assert_eq!(fs::read(at("victim")).unwrap(), b"secret");
        assert!(!create(&at("link"), b"x").unwrap());
        // They cannot be made beforehand.
        assert_ne!(temporary(&at("file")), temporary(&at("file")));
        assert!(is_temporary(&temporary(&at("file"))) && is_temporary(&at("#file~")));
        assert!(!is_temporary(&at("#file#")) && !is_temporary(&at("file~")), "an editor's");
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
        set(0o600);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read(&link, 9, Trust::Operator).is_ok() && read(&link, 9, Trust::Own).is_err());
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
            let error = read(&path, 9, Trust::Operator).unwrap_err().to_string();
            assert!(error.ends_with("file belongs to user 1000, not to root"), "{error}");
        }
    }
}
