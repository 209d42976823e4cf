//! The files by which the ledger is locked, in the state folder: `lock`, and after it `lock.1`, `lock.2`, … The lock is a
//! write lock of an open file description (`F_OFD_SETLK`, fcntl(2)), which only who can write the file can have, and
//! which the kernel gives back with the process.
//!
//! Who can only read a file can be in the way by a read lock, or by a lease (`F_SETLEASE`), which holds up who opens it.
//! Then the next file is the lock. Nothing is renamed or removed: a file is marked as dead, by its mode, and stays so
//! until the boot that empties /run. What is no regular file of root's is passed over.
//!
//! No two have the lock at one time. A write lock counts only if the file is not dead after it was locked. Who meets a
//! dead file goes on to the next once no writer has it: he gets a read lock, or the kernel says that all who open it are
//! held up by a lease, which is given only where nobody has the file open for writing. So whose lock has counted has given
//! it back, and no other of that file will count. It does not matter who marks a file, when, how often, nor where one is
//! killed: to mark takes one system call, and needs no lock.

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

use super::lock_holder::FileId;
use crate::fs::trust;

/// How many files there are, one after the other.
pub(super) const FILES: u32 = 1024;
/// The mode of a file that is dead: the sticky bit means nothing on a file (inode(7)). To set it takes no space, no file
/// that is open for writing, and waits for no lease.
const DEAD: u32 = libc::S_ISVTX | 0o600;
/// How long to wait without a word.
const PATIENCE: Duration = Duration::from_millis(900);
/// How often who waits looks whether a reader is in the way.
const LOOK: Duration = Duration::from_millis(50);

/// Where a store has its lock file.
#[derive(Debug, Default)]
pub(super) enum Slot {
    /// Not opened yet.
    #[default]
    Closed,
    /// Open, and the state folder was looked at.
    Open(LockFile),
    /// In a [`Locked`](super::Locked).
    Taken,
}

/// One of the files, as it was when it was opened: for writing, unless it is dead.
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
    /// Another has had the file locked until the time was over.
    Busy(FileId),
    /// These are dead, and there are no more.
    UsedUp(Vec<FileId>),
}

/// What came of waiting.
enum Waited {
    Locked,
    /// The file is not the lock any more.
    Moved,
    TooLong,
}

/// The lock, or why there is none.
pub(super) type Acquired = Result<LockFile, Refused>;

/// Locks the first of the files, whose name is `first`, that is not dead, at most waiting for `timeout`; `known` is the
/// one that was the lock before.
pub(super) fn acquire(first: &Path, known: Option<LockFile>, timeout: Duration) -> io::Result<Acquired> {
    let until = Instant::now() + timeout;
    if let Some(file) = known {
        if file.try_lock(libc::F_WRLCK)? && file.is_current()? {
            return Ok(Ok(file));
        }
    }
    let mut dead = Vec::new();
    let mut number = 0;
    while number < FILES {
        let Some(file) = LockFile::find(name(first, number))? else {
            number += 1;
            continue;
        };
        match file.lock(until)? {
            Waited::TooLong => return Ok(Err(Refused::Busy(file.id))),
            Waited::Locked if file.is_dead => {
                dead.push(file.id);
                number += 1;
            }
            Waited::Locked if file.is_current()? => return Ok(Ok(file)),
            Waited::Locked | Waited::Moved => {}
        }
    }
    Ok(Err(Refused::UsedUp(dead)))
}

fn name(first: &Path, number: u32) -> PathBuf {
    let mut name = first.to_owned().into_os_string();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

impl LockFile {
    /// The file at `path`, which is made if need be; `None` if nobody can have the lock by what is there.
    fn find(path: PathBuf) -> io::Result<Option<Self>> {
        let opened = match options().write(true).create(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                mark_leased(&path)?;
                options().open(&path)
            }
            opened => opened,
        };
        match opened {
            Ok(file) => {
                let metadata = file.metadata()?;
                Ok(is_sound(&path, &metadata).then(|| Self {
                    file,
                    path,
                    id: FileId::of(&metadata),
                    is_dead: is_dead(&metadata),
                    modified: metadata.modified().ok(),
                }))
            }
            // A link, a folder, a socket, a device; a dead file that nobody can open, so that nobody has it locked.
            Err(error) => match error.raw_os_error() {
                Some(libc::ELOOP | libc::EISDIR | libc::ENXIO | libc::EAGAIN) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// How long ago the first of them, `first`, was made: nobody writes to it. Those that take its place are younger.
    pub(super) fn age(&self, first: &Path) -> Option<Duration> {
        let made = match self.path == first {
            true => self.modified,
            false => fs::symlink_metadata(first).and_then(|metadata| metadata.modified()).ok(),
        };
        SystemTime::now().duration_since(made?).ok()
    }

    /// Marks the file as dead, if a reader has it locked.
    fn displace(&self) -> io::Result<bool> {
        let mut found = lock(libc::F_WRLCK);
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut found))?;
        if i32::from(found.l_type) != libc::F_RDLCK {
            return Ok(false);
        }
        self.file.set_permissions(Permissions::from_mode(DEAD))?;
        log_dead(&self.path);
        Ok(true)
    }

    fn try_lock(&self, kind: i32) -> io::Result<bool> {
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(kind))) {
            Ok(_) => Ok(true),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the lock back.
    pub(super) fn unlock(&self) {
        // Of a descriptor that is open it cannot fail.
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(libc::F_UNLCK)));
    }

    /// Whether the file has its name, and is not dead.
    fn is_current(&self) -> io::Result<bool> {
        match fs::symlink_metadata(&self.path) {
            Ok(named) => Ok(FileId::of(&named) == self.id && !is_dead(&named)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether who waits for the file would wait in vain; a reader that is in the way is displaced.
    fn has_moved(&self) -> io::Result<bool> {
        Ok(!self.is_dead && (!self.is_current()? || self.displace()?))
    }

    /// Locks the file for writing; one that is dead for reading, which tells that no writer has it.
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

    /// Waits in the kernel's queue, where nobody is overtaken, as polling would do. fcntl(2) knows no time limit, so a
    /// thread waits; if it comes too late, it closes the description it has locked and ends.
    fn wait(&self, kind: i32, until: Instant) -> io::Result<Waited> {
        let begin = Instant::now();
        let (sender, receiver) = mpsc::channel();
        let file = self.file.try_clone()?;
        thread::Builder::new().spawn(move || {
            let locked = fcntl(&file, FcntlArg::F_OFD_SETLKW(&lock(kind)));
            // Nobody listens any more: the lock goes with the file.
            let _ = sender.send(locked.map_err(io::Error::from));
        })?;
        let mut is_told = false;
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
            if !is_told && begin.elapsed() >= PATIENCE {
                is_told = true;
                log::warn!("waiting for the ledger, which another process has locked");
            }
        }
    }
}

/// Marks the file at `path` as dead, which cannot be opened for the lease that a reader has. It is reached by a descriptor
/// that is not open (`O_PATH`), for which nobody waits.
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
    log::warn!("{} is the lock no more: a process has it locked that may only read it", path.display());
}

/// Whether it is a file of ours that nobody else can write, and so lock.
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

/// Of the whole file.
fn lock(kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
mod tests;
