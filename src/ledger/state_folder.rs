//! The state folder: found, made, and known to be in place of one that is lost.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::{Locked, Store};
use crate::error::{Error, Result};
use crate::fs::file;
use crate::fs::trust;

/// What a state folder is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// It has what was written since the boot.
    Whole,
    /// It was made in place of one that is lost: what containers have had is still to be found.
    Lost,
}

/// The mode of a state folder, and the bit of one that is [`Folder::Lost`] (`S_ISVTX`): it comes with the folder itself, and
/// costs no look.
const MODE: u32 = 0o700;
const LOST: u32 = 0o1000;

impl Locked<'_> {
    /// Notes that what a lost state folder had was looked for.
    ///
    /// # Errors
    /// The next attach looks once more.
    pub(crate) fn recovered(&self) -> Result<()> {
        let path = &self.store.state_dir;
        match self.store.folder()? {
            Some(Folder::Lost) => fs::set_permissions(path, fs::Permissions::from_mode(MODE))
                .map_err(|error| Error::io("change the mode of", path, &error)),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it cannot be made, or others than root can write to it.
    pub(super) fn make_folder(&self) -> Result<()> {
        let mode = if self.was_made()? { MODE | LOST } else { MODE };
        file::make_folder(&self.state_dir, mode)?;
        file::touch(&self.made_path())?;
        self.folder().map(drop)
    }

    /// The state folder, which is root's alone; once it is found, it is not looked for again.
    pub(super) fn folder(&self) -> Result<Option<Folder>> {
        let path = &self.state_dir;
        if let Some(&folder) = self.folder.get() {
            return Ok(Some(folder));
        }
        match fs::metadata(path) {
            Ok(metadata) => {
                trust::check_owner(path, &metadata)?;
                let folder = if metadata.mode() & LOST == 0 { Folder::Whole } else { Folder::Lost };
                Ok(Some(*self.folder.get_or_init(|| folder)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", path, &error)),
        }
    }

    /// Whether the state folder was there since the last boot and is gone, with containers that may live.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(crate) fn is_lost(&self) -> Result<bool> {
        match self.folder()? {
            Some(folder) => Ok(folder == Folder::Lost),
            None => self.was_made(),
        }
    }

    /// Whether there was a state folder since the last boot.
    fn was_made(&self) -> Result<bool> {
        let path = self.made_path();
        path.try_exists().map_err(|error| Error::io("look for", &path, &error))
    }

    /// Beside the state folder, an empty file that tells that it was made: on the same tmpfs, so a boot forgets both.
    fn made_path(&self) -> PathBuf {
        let mut name = self.state_dir.clone().into_os_string();
        name.push(".made");
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A folder in place of one that is gone is known for that until somebody has looked for what it had.
    #[test]
    fn lost_until_it_is_recovered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let store = || Store::new("/none".into(), path.clone(), "/none".into(), "/none".into());
        let lost = || store().is_lost().unwrap();
        assert!(!lost(), "there was none since the boot");
        drop(store().lock(LONG).unwrap());
        assert!(!lost());
        fs::remove_dir_all(&path).unwrap();
        assert!(lost());
        drop(store().lock(LONG).unwrap());
        assert!(lost());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        let store = store();
        store.lock(LONG).unwrap().recovered().unwrap();
        assert!(!lost());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
    }
}
