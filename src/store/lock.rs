//! The ledger's lock: holding a [`Locked`] is the only way to change anything.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fs2::FileExt;

use nix::libc;

use super::Store;
use crate::error::{Error, Kind, Result};
use crate::file;

/// How long to wait without a word.
const PATIENCE: Duration = Duration::from_millis(900);

/// The store while no other process changes it. Dropping it gives the lock back.
#[derive(Debug)]
pub struct Locked<'a> {
    pub(super) store: &'a Store,
    file: Held<'a>,
}

/// What flock(2) holds.
#[derive(Debug)]
enum Held<'a> {
    /// The state folder as the store has it open.
    Folder(&'a File),
    /// The same folder, opened once more to wait for it; closing it ends the lock.
    Waited(#[expect(dead_code, reason = "held, not read")] File),
}

impl<'a> Locked<'a> {
    /// The store that is locked.
    pub fn store(&self) -> &'a Store {
        self.store
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Held::Folder(folder) = self.file {
            // Of a descriptor that is open it cannot fail.
            let _ = FileExt::unlock(folder);
            self.store.is_locked.store(false, Ordering::Release);
        }
    }
}

impl Store {
    /// Waits for the lock, at most for `timeout`. It is the state folder itself that is locked: no file in it can be in
    /// the way.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the time is over; [`Kind::Input`] when others than root can write to the folder.
    pub fn lock(&self, timeout: Duration) -> Result<Locked<'_>> {
        let path = &self.state_dir;
        let folder = match self.folder()? {
            Some(folder) => folder,
            None => {
                file::make_folder(path, 0o700)?;
                file::replace(&self.was_made(), b"")?;
                self.folder()?.ok_or_else(|| Error::io("open", path, &io::ErrorKind::NotFound.into()))?
            }
        };
        // To flock(2) who has the lock by a descriptor may have it again.
        if !self.is_locked.swap(true, Ordering::Acquire) {
            match FileExt::try_lock_exclusive(folder) {
                Ok(()) => return Ok(Locked { store: self, file: Held::Folder(folder) }),
                Err(error) => {
                    self.is_locked.store(false, Ordering::Release);
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Err(Error::io("lock", path, &error));
                    }
                }
            }
        }
        match wait(open_folder(path).map_err(|error| Error::io("open", path, &error))?, timeout) {
            Some(Ok(file)) => Ok(Locked { store: self, file: Held::Waited(file) }),
            Some(Err(error)) => Err(Error::io("lock", path, &error)),
            None => {
                let waited =
                    format!("{} was locked by others for {} ms", path.display(), timeout.as_millis());
                Err(Error::new(Kind::Busy, waited)
                    .hint(format!("see who holds it with `fuser {}`", path.display())))
            }
        }
    }

    /// The state folder, which is opened once and stays open; `None` if there is none.
    fn folder(&self) -> Result<Option<&File>> {
        if let Some(folder) = self.folder.get() {
            return Ok(Some(folder));
        }
        let path = &self.state_dir;
        let failed = |error: io::Error| Error::io("open", path, &error);
        let folder = match open_folder(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        file::check_owner(path, &folder.metadata().map_err(failed)?)?;
        Ok(Some(self.folder.get_or_init(|| folder)))
    }

    /// Whether the state folder was there since the last boot and is gone, with containers that may live.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_lost(&self) -> Result<bool> {
        let was_made = self.was_made();
        let is_there = || was_made.try_exists().map_err(|error| Error::io("look for", &was_made, &error));
        Ok(self.folder()?.is_none() && is_there()?)
    }

    /// Beside the state folder, an empty file that tells that it was made: on the same tmpfs, so a boot forgets both.
    fn was_made(&self) -> PathBuf {
        let mut name = self.state_dir.clone().into_os_string();
        name.push(".made");
        name.into()
    }
}

fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

/// Locks `file` as long as it is open; `false` if another has it locked, or it cannot be.
pub(super) fn try_lock(file: &File) -> bool {
    FileExt::try_lock_exclusive(file).is_ok()
}

/// Waits in the kernel's queue, where nobody is overtaken, as polling would do. flock(2) knows no time limit, so
/// a thread waits; if it comes too late, it closes the file it has locked and ends.
fn wait(file: File, timeout: Duration) -> Option<io::Result<File>> {
    let (sender, receiver) = mpsc::channel();
    let waiting = thread::Builder::new().spawn(move || {
        let locked = FileExt::lock_exclusive(&file).map(|()| file);
        // Nobody listens any more: the lock goes with the file.
        let _ = sender.send(locked);
    });
    if let Err(error) = waiting {
        return Some(Err(error));
    }
    // Who waits shall know for what.
    let first = timeout.min(PATIENCE);
    if let Ok(locked) = receiver.recv_timeout(first) {
        return Some(locked);
    }
    log::warn!("waiting for the ledger, which another process has locked");
    receiver.recv_timeout(timeout - first).ok()
}
