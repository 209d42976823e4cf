//! The state folder: it is found or made, and a lost one is detected.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use super::{Locked, Store};
use crate::error::{Error, Result};
use crate::fs::file;
use crate::fs::trust;

/// How complete the records of a state folder are. It is the mode of the folder, so that one stat(2) is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    /// The records of all containers since the boot.
    Whole = 0o700,
    /// The records that a repair has found after a loss, perhaps not all (`S_ISGID`).
    InDoubt = 0o2700,
    /// No records: the folder was made in place of a lost one, and no repair has run yet (`S_ISVTX`).
    Lost = 0o1700,
}

impl Folder {
    fn of_mode(mode: u32) -> Self {
        match mode & 0o3000 {
            0 => Self::Whole,
            0o2000 => Self::InDoubt,
            _ => Self::Lost,
        }
    }

    /// Returns the state after a repair: `lost` if a container was missing, `written` if all that was found
    /// was written, and `all_found` if no container can have been missed.
    pub(crate) fn recovered(self, lost: bool, written: bool, all_found: bool) -> Self {
        match (self, written, all_found) {
            (_, true, true) => Self::Whole,
            // The next attach repairs again.
            (_, false, _) if lost => Self::Lost,
            (Self::Whole, _, _) if !lost => Self::Whole,
            (Self::Lost, false, _) => Self::Lost,
            _ => Self::InDoubt,
        }
    }
}

impl Locked<'_> {
    /// Writes the state of the folder.
    pub(crate) fn note(&self, folder: Folder) -> Result<()> {
        let path = &self.store.state_dir;
        if self.store.folder()? == Some(folder) {
            return Ok(());
        }
        fs::set_permissions(path, fs::Permissions::from_mode(folder as u32))
            .map_err(|error| Error::io("change the mode of", path, &error))?;
        *self.store.known_folder() = Some(folder);
        Ok(())
    }
}

impl Store {
    pub(crate) fn make_folder(&self) -> Result<()> {
        let made = self.made_path();
        // Before the folder: a kill in between costs a needless repair, but hides no loss.
        let folder = match file::make(&made, 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Folder::Lost,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                file::make_folder(made.parent().unwrap_or(&made), 0o755)?;
                file::touch(&made)?;
                Folder::Whole
            }
            Err(error) => return Err(Error::io("create", &made, &error)),
            Ok(_) => Folder::Whole,
        };
        file::make_subfolder(&self.state_dir, folder as u32)?;
        *self.known_folder() = None;
        self.folder().map(drop)
    }

    /// Returns the state of the folder, if it exists, or an error if it is not root's alone. It is read only
    /// once.
    pub(crate) fn folder(&self) -> Result<Option<Folder>> {
        let path = &self.state_dir;
        let mut known = self.known_folder();
        if known.is_some() {
            return Ok(*known);
        }
        match fs::metadata(path) {
            Ok(metadata) => {
                trust::check_owner(path, &metadata)?;
                *known = Some(Folder::of_mode(metadata.mode()));
                Ok(*known)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", path, &error)),
        }
    }

    fn known_folder(&self) -> MutexGuard<'_, Option<Folder>> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if the state folder was lost since the boot, and no repair has run yet.
    pub(crate) fn is_lost(&self) -> Result<bool> {
        match self.folder()? {
            Some(folder) => Ok(folder == Folder::Lost),
            None => file::exists(&self.made_path()),
        }
    }

    /// Returns true if there may be containers that the ledger does not know: parents and host links they may
    /// need stay.
    pub(crate) fn is_in_doubt(&self) -> Result<bool> {
        Ok(self.folder()?.is_some_and(|folder| folder != Folder::Whole))
    }

    /// Returns the path of an empty file beside the state folder, which shows that the folder was made. Both
    /// are on the same tmpfs, so a boot removes both.
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

    /// A folder made in place of a lost one is known as such until a repair has run.
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
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        store().lock(LONG).unwrap().note(Folder::InDoubt).unwrap();
        assert!(!lost() && store().is_in_doubt().unwrap());
        let store = store();
        store.lock(LONG).unwrap().note(Folder::Whole).unwrap();
        assert!(!lost());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn state_after_a_repair() {
        use Folder::{InDoubt, Lost, Whole};
        for (before, lost, written, all_found, after) in [
            (Whole, false, true, true, Whole),
            (Whole, false, true, false, Whole),
            (Whole, false, false, true, Whole),
            (Whole, true, true, true, Whole),
            (Whole, true, true, false, InDoubt),
            (Whole, true, false, true, Lost),
            (InDoubt, false, true, true, Whole),
            (InDoubt, false, true, false, InDoubt),
            (InDoubt, false, false, true, InDoubt),
            (InDoubt, true, false, false, Lost),
            (Lost, true, true, true, Whole),
            (Lost, true, true, false, InDoubt),
            (Lost, true, false, true, Lost),
        ] {
            let found = before.recovered(lost, written, all_found);
            assert_eq!(found, after, "{before:?} {lost} {written} {all_found}");
        }
    }
}
