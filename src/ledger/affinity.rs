//! Affinities: the previous assignments of identities, below the data dir, which survives a reboot.
//!
//! An affinity is a symbolic link `identities/BUCKET/IDENTITY` or, for a container without an identity,
//! `containers/BUCKET/ID`. Its text says [what it had](crate::ipam::previous). A link is made in one system call,
//! so it is never half written, and needs neither lock nor fsync. The oldest affinities of a bucket are removed at
//! times. So containers with ever new ids do not fill the disk, and do not displace the affinities of identities.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::{Store, entries, parsed_names, remove};
use crate::error::{Error, Result};
use crate::fs::file;
use crate::fs::trust;
use crate::hash::fnv1a;
use crate::net::name::{ContainerId, Identity};

/// The folders of affinities: of identities, and of containers without one.
const FOLDERS: [&str; 2] = ["identities", "containers"];
/// The number of buckets in each folder.
const BUCKETS: u64 = 64;
/// The number of affinities that trimming leaves in a bucket.
const BUCKET: usize = 256;

impl Store {
    /// Returns the path of a container's affinity, or an error if others than root can write to the data dir.
    pub(crate) fn affinity_path(
        &self,
        identity: Option<&Identity>,
        container: &ContainerId,
    ) -> Result<PathBuf> {
        self.data_folder()?.map_or(Ok(()), |folder| trust::check_owner(&self.data_dir, folder))?;
        let [identities, containers] = FOLDERS;
        let (folder, name) = match identity {
            Some(identity) => (identities, identity.as_str()),
            None => (containers, container.as_str()),
        };
        let bucket = format!("{:02x}", (fnv1a(name) >> 32) % BUCKETS);
        Ok(self.data_dir.join(folder).join(bucket).join(name))
    }

    /// Returns true if there is an affinity of `identity`.
    pub(super) fn has_affinity(&self, identity: &Identity) -> Result<bool> {
        // An identity has the alphabet of a container's id, which does not count here.
        let no_container = identity.as_str().parse()?;
        Ok(self.affinity(&self.affinity_path(Some(identity), &no_container)?)?.is_some())
    }

    /// Returns all identities that have an affinity, each with its text.
    pub(crate) fn known_identities(&self) -> Result<Vec<(Identity, String)>> {
        let mut known = Vec::new();
        for bucket in entries(&self.data_dir.join(FOLDERS[0]))? {
            for identity in parsed_names::<Identity>(&bucket, "")? {
                let text = self.affinity(&bucket.join(identity.as_str()))?;
                known.extend(text.map(|text| (identity, text)));
            }
        }
        Ok(known)
    }

    /// Returns the affinity at `path`, if there is one.
    pub(crate) fn affinity(&self, path: &Path) -> Result<Option<String>> {
        match fs::read_link(path) {
            Ok(text) => Ok(Some(text.to_string_lossy().into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path, &error)),
        }
    }

    /// Makes the existing affinity at `path` the newest of its bucket.
    pub(crate) fn renew_affinity(&self, path: &Path) -> Result<()> {
        let now = TimeSpec::UTIME_NOW;
        let renewed = utimensat(AT_FDCWD, path, &now, &now, UtimensatFlags::NoFollowSymlink);
        renewed.map_err(|errno| Error::io("renew", path, &errno.into()))
    }

    /// Writes the affinity at `path`, in place of an older one. It is then the newest of its bucket. After an
    /// error there may be no affinity at all.
    pub(crate) fn write_affinity(&self, path: &Path, text: &str) -> Result<()> {
        let Err(error) = symlink(text, path) else { return Ok(()) };
        match (error.kind(), path.parent()) {
            (ErrorKind::NotFound, Some(bucket)) => file::make_folder(bucket, 0o700)?,
            (ErrorKind::AlreadyExists, _) => remove(path)?,
            _ => return Err(Error::io("create", path, &error)),
        }
        // Another container of this identity may have been faster.
        file::ignoring(&[ErrorKind::AlreadyExists], "create", path, symlink(text, path))
    }

    pub(super) fn forget_affinities(&self) -> Result<()> {
        for folder in FOLDERS.map(|name| self.data_dir.join(name)) {
            file::remove_folder(&folder)?;
        }
        Ok(())
    }

    /// Removes the oldest affinities of the bucket of `newest`, if there are too many.
    pub(crate) fn trim_affinities(&self, newest: &Path) -> Result<()> {
        let mut affinities = newest.parent().map(entries).transpose()?.unwrap_or_default();
        if affinities.len() <= BUCKET {
            return Ok(());
        }
        affinities.retain(|affinity| affinity != newest);
        // An affinity that has disappeared sorts as the oldest.
        affinities.sort_by_cached_key(|affinity| {
            fs::symlink_metadata(affinity).and_then(|metadata| metadata.modified()).ok()
        });
        let surplus = affinities.len() + 1 - BUCKET;
        affinities.iter().take(surplus).try_for_each(|affinity| remove(affinity))
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
        let path = |id: &str| store.affinity_path(None, &id.parse().unwrap()).unwrap();
        assert_eq!(store.affinity(&path("a")).unwrap(), None);
        let bucket = path("a").parent().unwrap().to_owned();
        let ids = (0..).map(|n| format!("c{n}")).filter(|id| path(id).parent() == Some(&bucket));
        let ids: Vec<_> = ids.take(BUCKET + 9).collect();
        for id in &ids {
            store.write_affinity(&path(id), "lan:ip=10.0.0.9").unwrap();
            store.trim_affinities(&path(id)).unwrap();
            // The first is renewed again and again: it never is the oldest.
            store.renew_affinity(&path(&ids[0])).unwrap();
        }
        assert_eq!(fs::read_dir(&bucket).unwrap().count(), BUCKET);
        let last = ids.last().unwrap();
        assert_eq!(store.affinity(&path(last)).unwrap().unwrap(), "lan:ip=10.0.0.9");
        assert_eq!(store.affinity(&path(&ids[0])).unwrap().unwrap(), "lan:ip=10.0.0.9");
        assert_eq!(store.affinity(&path(&ids[1])).unwrap(), None);
        // An identity of the same name is something else.
        let claimed = store.affinity_path(Some(&last.parse().unwrap()), &"x".parse().unwrap()).unwrap();
        assert_eq!(store.affinity(&claimed).unwrap(), None);
    }
}
