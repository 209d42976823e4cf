//! Which users can change a file or folder: root must not do what other users write.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::libc;
use nix::unistd::geteuid;

use crate::error::{Error, Result};
use crate::escape::shell::Line;

/// What lets others write a file: a word for it, a sentence that begins with the path, and the command that fixes it.
pub(crate) type Fault = (&'static str, String, Line);

/// What lets others than root, and the user of this process, change the file or folder `path` of this owner and mode.
pub(crate) fn faults(path: &Path, owner: u32, mode: u32) -> Vec<Fault> {
    let (name, mut faults) = (path.display(), Vec::new());
    if owner != 0 && owner != geteuid().as_raw() {
        let what = format!("{name} belongs to user {owner}, not to root");
        faults.push(("owner", what, Line::of("chown root").path(path)));
    }
    if mode & 0o022 != 0 {
        let what = format!("{name} can be written by others than root (mode {:04o})", mode & 0o7777);
        faults.push(("mode", what, Line::of("chmod go-w").path(path)));
    }
    faults
}

/// Whether only root, or the user of this process, can change the file or folder `path`.
///
/// # Errors
/// Names its owner or mode.
pub(crate) fn check_owner(path: &Path, metadata: &Metadata) -> Result<()> {
    match faults(path, metadata.uid(), metadata.mode()).into_iter().next() {
        Some((_, what, fix)) => Err(Error::input(what).hint(format!("see who wrote what; then `{fix}`"))),
        None => Ok(()),
    }
}

/// As [`check_owner`], for a folder with a secret in it: no other user can enter it.
///
/// # Errors
/// Names its owner or mode. The hint depends on the secret.
pub(crate) fn check_private(path: &Path, metadata: &Metadata) -> Result<()> {
    check_owner(path, metadata)?;
    let (name, mode) = (path.display(), metadata.mode() & 0o7777);
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::input(format!("{name} can be read by others than root (mode {mode:04o})")))
}

/// Whether only root, or the user of this process, can replace the program at the absolute path `path`, which has no link in
/// it. Each folder above it is checked too. A sticky folder like /tmp will do, because only the owner of a file can replace
/// it there.
///
/// # Errors
/// Names what others can write.
pub(crate) fn check_program(path: &Path) -> Result<()> {
    for part in path.ancestors() {
        let metadata = fs::symlink_metadata(part).map_err(|error| Error::io("look at", part, &error))?;
        check_part(part, &metadata).map_err(|error| {
            let text = format!("{error}: others than root could change the program {}", path.display());
            Error::new(error.kind(), text)
                .hint("install underlay where root alone can write, as in /usr/bin, and call it there")
        })?;
    }
    Ok(())
}

/// As [`check_owner`], for a part of a program's path.
///
/// # Errors
/// Names its owner or mode.
pub(crate) fn check_part(path: &Path, metadata: &Metadata) -> Result<()> {
    let is_sticky = metadata.is_dir() && metadata.mode() & libc::S_ISVTX != 0 && metadata.uid() == 0;
    if is_sticky { Ok(()) } else { check_owner(path, metadata) }
}

/// As [`check_owner`], for a folder that need not exist.
///
/// # Errors
/// Also when its metadata cannot be read.
pub(crate) fn check_folder(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) => check_owner(path, &metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("read", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn who_can_write() {
        let commands = |uid, mode| {
            let faults = faults(Path::new("/a b"), uid, mode).into_iter();
            faults.map(|(_, _, fix)| fix.to_string()).collect::<Vec<_>>()
        };
        assert!(commands(0, 0o100_600).is_empty() && commands(0, 0o040_755).is_empty());
        assert_eq!(commands(0, 0o100_664), ["chmod go-w '/a b'"]);
        assert_eq!(commands(7, 0o041_777), ["chown root '/a b'", "chmod go-w '/a b'"]);
    }

    #[test]
    fn programs_that_are_roots() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bin/program");
        fs::create_dir(folder.path().join("bin")).unwrap();
        assert!(check_program(&path).is_err(), "it is not there");
        fs::write(&path, "").unwrap();
        let set =
            |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        check_program(&path).unwrap();
        for (part, mode, is_root_s) in [
            (path.as_path(), 0o775, false),
            (path.as_path(), 0o755, true),
            (path.parent().unwrap(), 0o777, false),
            (path.parent().unwrap(), 0o1777, geteuid().is_root()),
            (path.parent().unwrap(), 0o755, true),
            (folder.path(), 0o770, false),
            (folder.path(), 0o700, true),
        ] {
            set(part, mode);
            assert_eq!(check_program(&path).is_ok(), is_root_s, "{} {mode:o}", part.display());
        }
        if geteuid().is_root() {
            std::os::unix::fs::chown(folder.path().join("bin"), Some(1000), None).unwrap();
            let error = check_program(&path).unwrap_err().to_string();
            assert!(
                error.contains("/bin belongs to user 1000, not to root: others than root could"),
                "{error}"
            );
        }
    }

    #[test]
    fn folders() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_folder(&folder.path().join("none")).is_ok() && check_folder(folder.path()).is_ok());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let error = check_folder(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("can be written by others than root (mode 1777)"), "{error}");
    }
}
