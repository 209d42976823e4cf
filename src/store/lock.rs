//! The ledger's lock: holding a [`Locked`] is the only way to change anything.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use fs2::FileExt;

use super::Store;
use crate::error::{Error, Kind, Result};
use crate::file;

/// The store while no other process changes it. Dropping it gives the lock back.
#[derive(Debug)]
pub struct Locked<'a> {
    pub(super) store: &'a Store,
    /// Closing it ends the lock (flock(2)).
    _file: File,
}

impl Store {
    /// Waits for the lock, at most for `timeout`. It lies in a file of its own, which is never replaced.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the time is over.
    pub fn lock(&self, timeout: Duration) -> Result<Locked<'_>> {
        let path = self.state_dir.join("lock");
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                file::make_folder(&self.state_dir, 0o700)?;
                open()
            }
            opened => opened,
        };
        let file = file.map_err(|error| Error::io("open", &path, &error))?;
        let until = Instant::now() + timeout;
        let mut pause = Duration::from_micros(200);
        while let Err(error) = FileExt::try_lock_exclusive(&file) {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(Error::io("lock", &path, &error));
            }
            if Instant::now() >= until {
                return Err(Error::new(
                    Kind::Busy,
                    format!(
                        "{} was locked by another process for {} ms",
                        path.display(),
                        timeout.as_millis()
                    ),
                )
                .hint(format!("see who holds it with `fuser {}`", path.display())));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(Locked { store: self, _file: file })
    }
}
