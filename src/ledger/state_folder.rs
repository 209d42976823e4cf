//! The state folder: found, made, and known to be in place of one that is lost.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use super::{Locked, Store};
use crate::error::{Error, Result};
use crate::fs::file;
use crate::fs::trust;

/// What a state folder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    /// The records of all containers since the boot.
    Whole,
    /// Those that were found after it was lost, and perhaps not all.
    InDoubt,
    /// Nothing of one that is lost, in whose place it was made: nobody has looked for it yet.
    Lost,
}

/// The mode of a state folder, and the bits that tell what it has: they come with the folder itself, and cost no look.
const MODE: u32 = 0o700;
/// `S_ISVTX`: [`Folder::Lost`].
const LOST: u32 = 0o1000;
/// `S_ISGID`: [`Folder::InDoubt`].
const IN_DOUBT: u32 = 0o2000;

impl Folder {
    fn of_mode(mode: u32) -> Self {
        match mode {
            mode if mode & LOST != 0 => Self::Lost,
            mode if mode & IN_DOUBT != 0 => Self::InDoubt,
            _ => Self::Whole,
        }
    }

    fn mode(self) -> u32 {
        match self {
            Self::Whole => MODE,
            Self::InDoubt => MODE | IN_DOUBT,
            Self::Lost => MODE | LOST,
        }
    }

    /// What it has after somebody has looked for all containers: whether one was missing (`lost`), whether all that was
    /// found is written (`written`), and whether that is all there is (`all_found`).
    pub(crate) fn recovered(self, lost: bool, written: bool, all_found: bool) -> Self {
        match (self, written, all_found) {
            (_, true, true) => Self::Whole,
            // The next attach tries once more.
            (_, false, _) if lost => Self::Lost,
            (Self::Whole, _, _) if !lost => Self::Whole,
            (Self::Lost, false, _) => Self::Lost,
            _ => Self::InDoubt,
        }
    }
}

impl Locked<'_> {
    /// Notes what the state folder has now.
    ///
    /// # Errors
    /// When its mode cannot be changed.
    pub(crate) fn note(&self, folder: Folder) -> Result<()> {
        let path = &self.store.state_dir;
        if self.store.folder()? == Some(folder) {
            return Ok(());
        }
        fs::set_permissions(path, fs::Permissions::from_mode(folder.mode()))
            .map_err(|error| Error::io("change the mode of", path, &error))?;
        *self.store.known_folder() = Some(folder);
        Ok(())
    }
}

impl Store {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it cannot be made, or others than root can write to it.
    pub(crate) fn make_folder(&self) -> Result<()> {
        let made = self.made_path();
        // Before the folder: a kill in between costs a look around, and no loss that nobody sees.
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
        file::make_subfolder(&self.state_dir, folder.mode())?;
        *self.known_folder() = None;
        self.folder()?;
        // There are no records that it would lack.
        self.make_namespaces_dir()
    }

    /// What the state folder has, which is root's alone; once it is found, it is not looked for again.
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

    /// Whether the state folder was there since the last boot and is gone, with containers that may live, and nobody has
    /// looked for them yet.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(crate) fn is_lost(&self) -> Result<bool> {
        match self.folder()? {
            Some(folder) => Ok(folder == Folder::Lost),
            None => file::exists(&self.made_path()),
        }
    }

    /// Whether there may be containers that the ledger does not know: what they may need on the host stays.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(crate) fn is_in_doubt(&self) -> Result<bool> {
        Ok(self.folder()?.is_some_and(|folder| folder != Folder::Whole))
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
        store().lock(LONG).unwrap().note(Folder::InDoubt).unwrap();
        assert!(!lost() && store().is_in_doubt().unwrap());
        let store = store();
        store.lock(LONG).unwrap().note(Folder::Whole).unwrap();
        assert!(!lost());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
    }

    #[test]
    fn what_a_look_around_comes_to() {
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
