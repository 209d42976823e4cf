//! Lock files, in the state folder: `lock`, then `lock.1`, `lock.2`, … of the ledger; `agent.lock`, `agent.lock.1`, … of the
//! agent. The lock is a write lock of an open file description (`F_OFD_SETLK`, fcntl(2)). Only a process that can write the
//! file can have it, and the kernel releases it when the process exits.
//!
//! A process that can only read the file can block it by a read lock, or by a lease (`F_SETLEASE`), which
//! delays each open. Then the next file becomes the lock. No file is renamed or removed: a file is marked as
//! dead by its mode, and stays so until a boot empties /run. Anything but a regular file of root's is
//! skipped.
//!
//! Two processes never hold the lock at the same time. A write lock counts only if the file is not dead after
//! it was locked. A process that finds a dead file goes on to the next only when no writer has it: it gets a
//! read lock, or the kernel reports a lease, which exists only while no process has the file open for
//! writing. So the process whose lock counted has released it, and no later lock of that file counts. It does
//! not matter which process marks a file, when, how often, or where it is killed: marking is one system call,
//! and needs no lock.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::lock_holder::{FileId, id};
use crate::fs::trust;

/// The number of lock files.
pub(super) const FILES: u32 = 1024;
/// The mode of a dead file: the sticky bit has no meaning on a file (inode(7)). Setting it needs no disk
/// space and no file open for writing, and does not wait for a lease.
const DEAD: u32 = libc::S_ISVTX | 0o600;
/// How long to wait before the wait is logged.
const PATIENCE: Duration = Duration::from_millis(900);
/// How often a waiting process checks whether a reader blocks the file.
const LOOK: Duration = Duration::from_millis(50);

/// One of the files in its state when it was opened: for writing, unless it is dead.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
    id: FileId,
    is_dead: bool,
    modified: Option<SystemTime>,
}

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum Refused {
    /// Another process had the file locked until the timeout.
    Busy(FileId),
    /// All files are dead.
    UsedUp(Vec<FileId>),
}

/// The outcome of waiting.
enum Waited {
    Locked,
    /// The file is not the lock any more.
    Moved,
    TooLong,
}

/// The lock, or why there is none.
pub(super) type Acquired = Result<LockFile, Refused>;

/// Locks the first file that is not dead, and waits for `timeout` at most. `first` is the path of the first
/// file, `known` the file of the previous lock.
pub(super) fn acquire(first: &Path, known: Option<LockFile>, timeout: Duration) -> io::Result<Acquired> {
    let until = Instant::now() + timeout;
    if let Some(file) = known {
        if file.try_lock(libc::F_WRLCK)? && file.is_current()? {
            return Ok(Ok(file));
        }
    }
    let mut dead = Vec::new();
    for number in 0..FILES {
        while let Some(file) = LockFile::find(name(first, number))? {
            match file.lock(until)? {
                Waited::TooLong => return Ok(Err(Refused::Busy(file.id))),
                Waited::Locked if file.is_dead => {
                    dead.push(file.id);
                    break;
                }
                Waited::Locked if file.is_current()? => return Ok(Ok(file)),
                Waited::Locked | Waited::Moved => {}
            }
        }
    }
    Ok(Err(Refused::UsedUp(dead)))
}

/// Returns true if a process has the lock. No lock is taken for that, which could keep another process from it.
pub(super) fn is_held(first: &Path) -> io::Result<bool> {
    for number in 0..FILES {
        let file = match LockFile::known(name(first, number)) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // A file that is dead may still be the lock of the process that has it.
        let is_locked = i32::from(file.blocker()?.l_type) == libc::F_WRLCK;
        if is_locked || !file.is_dead {
            return Ok(is_locked);
        }
    }
    Ok(false)
}

fn name(first: &Path, number: u32) -> PathBuf {
    let mut name = first.to_owned().into_os_string();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

impl LockFile {
    /// Opens the file at `path`, and makes it if it is missing. Returns `None` if it cannot serve as a lock.
    fn find(path: PathBuf) -> io::Result<Option<Self>> {
        let opened = match options().write(true).create(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                mark_leased(&path)?;
                options().open(&path)
            }
            opened => opened,
        };
        Self::of(path, opened)
    }

    /// Opens the file at `path`, to look at it. Returns `None` if it cannot serve as a lock.
    fn known(path: PathBuf) -> io::Result<Option<Self>> {
        let opened = options().open(&path);
        Self::of(path, opened)
    }

    fn of(path: PathBuf, opened: io::Result<File>) -> io::Result<Option<Self>> {
        match opened {
            Ok(file) => {
                let metadata = file.metadata()?;
                Ok(is_sound(&path, &metadata).then(|| Self {
                    file,
                    path,
                    id: id(&metadata),
                    is_dead: is_dead(&metadata),
                    modified: metadata.modified().ok(),
                }))
            }
            // A link, a folder, a socket, a device; or a dead file with a lease, so that no process has it
            // locked.
            Err(error) => match error.raw_os_error() {
                Some(libc::ELOOP | libc::EISDIR | libc::ENXIO | libc::EAGAIN) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Returns how long ago the file at `first` was made: nothing is ever written to it. Later files are
    /// younger.
    pub(super) fn age(&self, first: &Path) -> Option<Duration> {
        let made = match self.path == first {
            true => self.modified,
            false => fs::symlink_metadata(first).and_then(|metadata| metadata.modified()).ok(),
        };
        SystemTime::now().duration_since(made?).ok()
    }

    /// Marks the file as dead if a reader has it locked. Returns true if it did.
    fn displace(&self) -> io::Result<bool> {
        if i32::from(self.blocker()?.l_type) != libc::F_RDLCK {
            return Ok(false);
        }
        self.file.set_permissions(Permissions::from_mode(DEAD))?;
        log_dead(&self.path);
        Ok(true)
    }

    /// Returns a lock of another process that keeps this one from a write lock; one of the type `F_UNLCK`, if there is none.
    fn blocker(&self) -> io::Result<libc::flock> {
        let mut found = lock(libc::F_WRLCK);
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut found))?;
        Ok(found)
    }

    fn try_lock(&self, kind: i32) -> io::Result<bool> {
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(kind))) {
            Ok(_) => Ok(true),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn unlock(&self) {
        // It cannot fail on an open descriptor.
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(libc::F_UNLCK)));
    }

    /// Returns true if the path still leads to this file, and the file is not dead.
    pub(super) fn is_current(&self) -> io::Result<bool> {
        match fs::symlink_metadata(&self.path) {
            Ok(named) => Ok(id(&named) == self.id && !is_dead(&named)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns true if waiting for the file is in vain. Marks the file as dead if a reader blocks it.
    fn has_moved(&self) -> io::Result<bool> {
        Ok(!self.is_dead && (!self.is_current()? || self.displace()?))
    }

    /// Locks the file for writing, or a dead file for reading, which proves that no writer has it.
    fn lock(&self, until: Instant) -> io::Result<Waited> {
        let kind = if self.is_dead { libc::F_RDLCK } else { libc::F_WRLCK };
        if self.try_lock(kind)? {
            Ok(Waited::Locked)
        } else if self.has_moved()? {
            Ok(Waited::Moved)
        } else if Instant::now() >= until {
            Ok(Waited::TooLong)
        } else {
            self.wait(kind, until)
        }
    }

    /// Waits in the kernel's queue, because polling would let later processes go first. fcntl(2) has no
    /// timeout, so a thread waits. If it gets the lock after the timeout, it closes the file, which releases
    /// the lock.
    fn wait(&self, kind: i32, until: Instant) -> io::Result<Waited> {
        let begin = Instant::now();
        let (sender, receiver) = mpsc::channel();
        let file = self.file.try_clone()?;
        thread::Builder::new().spawn(move || {
            let locked = fcntl(&file, FcntlArg::F_OFD_SETLKW(&lock(kind)));
            // After the timeout there is no receiver: the lock is released with the file.
            let _ = sender.send(locked.map_err(io::Error::from));
        })?;
        let mut is_logged = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left.min(LOOK)) {
                Ok(locked) => return locked.map(|_| Waited::Locked),
                Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.has_moved()? {
                return Ok(Waited::Moved);
            }
            if left.is_zero() {
                return Ok(Waited::TooLong);
            }
            if !is_logged && begin.elapsed() >= PATIENCE {
                is_logged = true;
                log::warn!("waiting for the ledger, which another process has locked");
            }
        }
    }
}

/// Marks the file at `path` as dead; it cannot be opened because a reader has a lease. An `O_PATH` descriptor
/// does not wait for the lease.
fn mark_leased(path: &Path) -> io::Result<()> {
    let there = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let metadata = there.metadata()?;
    if is_sound(path, &metadata) && !is_dead(&metadata) {
        fs::set_permissions(format!("/proc/self/fd/{}", there.as_raw_fd()), Permissions::from_mode(DEAD))?;
        log_dead(path);
    }
    Ok(())
}

fn log_dead(path: &Path) {
    log::warn!("{} is not the lock any more: a process that can only read it has locked it", path.display());
}

/// Returns true if it is a regular file that only root can write, and so lock.
fn is_sound(path: &Path, metadata: &Metadata) -> bool {
    metadata.is_file() && trust::check_owner(path, metadata).is_ok()
}

fn is_dead(metadata: &Metadata) -> bool {
    metadata.mode() & libc::S_ISVTX != 0
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// Returns the argument of fcntl(2) for the whole file.
fn lock(kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
mod tests;
