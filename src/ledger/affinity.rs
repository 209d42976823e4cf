//! What identities had, over stops and reboots: below the data dir, and nowhere else.
//!
//! A hint is a symbolic link, `identities/BUCKET/IDENTITY` or, where the container does not say what it is,
//! `containers/BUCKET/ID`, and its text is the [hint](crate::ipam::previous). So it is made in one system call and never half
//! written, needs no lock, and no fsync to be whole after a power cut. Now and then the oldest of a bucket make way:
//! containers with a new id each time fill no disk, and displace nobody who says what it is.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::{Store, entries, remove};
use crate::error::{Error, Result};
use crate::fs::file;
use crate::fs::trust;
use crate::hash::fnv1a;
use crate::net::name::{ContainerId, Identity};

/// Where the hints of identities are, and those of containers that do not say what they are.
const FOLDERS: [&str; 2] = ["identities", "containers"];
/// How many buckets there are for identities, and as many for container ids.
const BUCKETS: u64 = 64;
/// How many hints are left in a bucket that is trimmed.
const BUCKET: usize = 256;

impl Store {
    /// Where the hint of a container is.
    pub(crate) fn hint_path(&self, identity: Option<&Identity>, container: &ContainerId) -> Result<PathBuf> {
        self.data_folder()?.map_or(Ok(()), |folder| trust::check_owner(&self.data_dir, folder))?;
        let [identities, containers] = FOLDERS;
        let (folder, name) = match identity {
            Some(identity) => (identities, identity.as_str()),
            None => (containers, container.as_str()),
        };
        let bucket = format!("{:02x}", (fnv1a(name) >> 32) % BUCKETS);
        Ok(self.data_dir.join(folder).join(bucket).join(name))
    }

    /// The hint at `path`, if there is one.
    pub(crate) fn hint(&self, path: &Path) -> Result<Option<String>> {
        match fs::read_link(path) {
            Ok(text) => Ok(Some(text.to_string_lossy().into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path, &error)),
        }
    }

    /// Makes the hint at `path`, which is there, the newest of its bucket.
    pub(crate) fn renew_hint(&self, path: &Path) -> Result<()> {
        let now = TimeSpec::UTIME_NOW;
        let renewed = utimensat(AT_FDCWD, path, &now, &now, UtimensatFlags::NoFollowSymlink);
        renewed.map_err(|errno| Error::io("renew", path, &errno.into()))
    }

    /// Writes the hint at `path`, in place of what is there; it is the newest of its bucket then.
    ///
    /// # Errors
    /// When it cannot be written: then there may be none any more.
    pub(crate) fn write_hint(&self, path: &Path, text: &str) -> Result<()> {
        let failed = |error: io::Error| Error::io("create", path, &error);
        let Err(error) = symlink(text, path) else { return Ok(()) };
        match (error.kind(), path.parent()) {
            (io::ErrorKind::NotFound, Some(bucket)) => file::make_folder(bucket, 0o700)?,
            (io::ErrorKind::AlreadyExists, _) => remove(path)?,
            _ => return Err(failed(error)),
        }
        match symlink(text, path) {
            // Another container of this identity was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(failed),
        }
    }

    /// Removes all hints.
    pub(super) fn forget_hints(&self) -> Result<()> {
        for folder in FOLDERS.map(|name| self.data_dir.join(name)) {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &folder, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the oldest hints of the bucket that that at `newest` is in, if there are too many.
    pub(crate) fn trim_hints(&self, newest: &Path) -> Result<()> {
        let mut hints = newest.parent().map(entries).transpose()?.unwrap_or_default();
        if hints.len() <= BUCKET {
            return Ok(());
        }
        hints.retain(|hint| hint != newest);
        // One that is gone meanwhile is the oldest there is.
        hints.sort_by_cached_key(|hint| {
            fs::symlink_metadata(hint).and_then(|metadata| metadata.modified()).ok()
        });
        let surplus = hints.len() + 1 - BUCKET;
        hints.iter().take(surplus).try_for_each(|hint| remove(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let store = Store::new("/none".into(), "/none".into(), data.clone(), "/none".into());
        let path = |id: &str| store.hint_path(None, &id.parse().unwrap()).unwrap();
        assert_eq!(store.hint(&path("a")).unwrap(), None);
        let bucket = path("a").parent().unwrap().to_owned();
        let ids = (0..).map(|n| format!("c{n}")).filter(|id| path(id).parent() == Some(&bucket));
        let ids: Vec<_> = ids.take(BUCKET + 9).collect();
        for id in &ids {
            store.write_hint(&path(id), "lan:ip=10.0.0.9").unwrap();
            store.trim_hints(&path(id)).unwrap();
            // The first is renewed again and again: it never is the oldest.
            store.renew_hint(&path(&ids[0])).unwrap();
        }
        assert_eq!(fs::read_dir(&bucket).unwrap().count(), BUCKET);
        let last = ids.last().unwrap();
        assert_eq!(store.hint(&path(last)).unwrap().unwrap(), "lan:ip=10.0.0.9");
        assert_eq!(store.hint(&path(&ids[0])).unwrap().unwrap(), "lan:ip=10.0.0.9");
        assert_eq!(store.hint(&path(&ids[1])).unwrap(), None);
        // An identity of the same name is something else.
        let claimed = store.hint_path(Some(&last.parse().unwrap()), &"x".parse().unwrap()).unwrap();
        assert_eq!(store.hint(&claimed).unwrap(), None);
    }
}
