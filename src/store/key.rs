//! The key that the marks of links are sealed with: beside the data dir, `DATA_DIR.key`, which a reboot, a lost ledger and
//! a memory that is emptied leave alone.
//!
//! It is made once, under the ledger's lock, and replaced as a whole: two hooks make one, and one that is killed leaves
//! none. Nothing breaks when it is lost: another one is made, and `underlay gc` seals the marks of all that is in the ledger.

use std::path::PathBuf;
use std::time::Duration;

use super::{Locked, Store};
use crate::error::{Error, Result};
use crate::file::{self, Trust};
use crate::kernel;
use crate::seal::{KEY, Key};

impl Store {
    /// The key, made where there is none; `timeout` is for the lock.
    ///
    /// # Errors
    /// When it cannot be had: then marks prove nothing, and containers start all the same.
    pub fn key(&self, timeout: Duration) -> Result<&Key> {
        match self.known_key()? {
            Some(key) => Ok(key),
            None => self.lock(timeout)?.make_key(),
        }
    }

    /// The key, if there is one.
    ///
    /// # Errors
    /// When it cannot be read, or is no secret of root's.
    pub fn known_key(&self) -> Result<Option<&Key>> {
        if let Some(key) = self.key.get() {
            return Ok(Some(key));
        }
        // Whoever may write to the folder cannot make a file of root's.
        let read = file::read(&self.key_path(), KEY as u64, Trust::Secret)?;
        // Empty after a power cut, it is as good as none.
        let key = read.and_then(|bytes| <[u8; KEY]>::try_from(bytes).ok()).map(Key::new);
        Ok(key.map(|key| self.key.get_or_init(|| key)))
    }

    pub(super) fn key_path(&self) -> PathBuf {
        let mut name = self.data_dir.clone().into_os_string();
        name.push(".key");
        name.into()
    }
}

impl<'a> Locked<'a> {
    fn make_key(&self) -> Result<&'a Key> {
        let store = self.store;
        // Another process may have been faster.
        if let Some(key) = store.known_key()? {
            return Ok(key);
        }
        file::replace(&store.key_path(), &kernel::random::<KEY>()?)?;
        store
            .known_key()?
            .ok_or_else(|| Error::input(format!("{} was written and is gone", store.key_path().display())))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use super::*;
    use crate::link::eth0;
    use crate::record::Netns;
    use crate::seal::Alias;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn store(folder: &Path) -> Store {
        Store::new("/none".into(), folder.join("run"), folder.join("data"), "/none".into())
    }

    /// What a key makes of a mark: what else could be known of it?
    fn sealed(key: Option<&Key>) -> Option<Alias> {
        let netns = Netns { device: 4, inode: 5, path: None };
        Some(key?.seal("underlay:web:0:1:1:lan".parse().unwrap(), &eth0(), &netns))
    }

    #[test]
    fn made_once_for_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(sealed(store(folder.path()).known_key().unwrap()), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "who only asks makes nothing");
        let first = sealed(store(folder.path()).key(TIMEOUT).ok()).unwrap();
        let path = folder.path().join("data.key");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().len(), 16);
        assert_eq!(sealed(store(folder.path()).key(TIMEOUT).ok()), Some(first.clone()));
        assert_eq!(sealed(store(folder.path()).known_key().unwrap()), Some(first.clone()));
        let others = |name: &str| ["run", "run.made", "data.key"].contains(&name);
        let names = || fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names().all(|name| others(name.to_str().unwrap())), "{:?}", names().collect::<Vec<_>>());
        // What a crash has left of the file, and of one that was half written.
        let left = folder.path().join("#data.key~1-0");
        fs::write(&left, "half").unwrap();
        let mended = store(folder.path()).lock(TIMEOUT).unwrap().left_over().unwrap();
        assert_eq!(mended, std::slice::from_ref(&left), "gc takes it away");
        fs::remove_file(left).unwrap();
        for left in [&b""[..], b"short"] {
            fs::write(&path, left).unwrap();
            let next = sealed(store(folder.path()).key(TIMEOUT).ok()).unwrap();
            assert_ne!(next, first, "another one, which nobody knows");
            assert_eq!(sealed(store(folder.path()).key(TIMEOUT).ok()), Some(next));
        }
        assert!(names().all(|name| others(name.to_str().unwrap())), "{:?}", names().collect::<Vec<_>>());
    }

    #[test]
    fn all_who_come_at_once_have_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..16).map(|_| scope.spawn(|| sealed(store(path).key(TIMEOUT).ok()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys[0].is_some() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    /// What others know, or have written, is not believed, and not replaced either: the operator is told.
    #[test]
    fn no_secret() {
        let folder = tempfile::tempdir().unwrap();
        store(folder.path()).key(TIMEOUT).unwrap();
        let (other, path) = (folder.path().join("other"), folder.path().join("data.key"));
        let before = fs::read(&path).unwrap();
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o644, 0o640, 0o620] {
            set(mode);
            let store = store(folder.path());
            assert!(store.known_key().is_err() && store.key(TIMEOUT).is_err(), "{mode:o}");
        }
        set(0o600);
        assert!(store(folder.path()).known_key().unwrap().is_some());
        fs::rename(&path, &other).unwrap();
        std::os::unix::fs::symlink("other", &path).unwrap();
        assert!(store(folder.path()).key(TIMEOUT).is_err(), "a link leads anywhere");
        assert_eq!(fs::read(&other).unwrap(), before);
    }
}
