//! The file by which the ledger is locked, `lock` in the state folder: a write lock of its open file description
//! (`F_OFD_SETLK`, fcntl(2)), which only who can write the file can have, and which the kernel gives back with the process.
//!
//! The length of the lock is the pid of its holder, so that who waits can say for whom; nothing else goes by it.
//!
//! Who can only read the file can have a read lock, which no writer's goes with. And whatever is in the place of the file
//! must not be in the way of all. Both are displaced: a new file, locked before it has the name, gets the name by one
//! `RENAME_EXCHANGE`. Meanwhile nobody can lock the old one for writing, and a lock counts only if the file has the name
//! after it was locked: so nobody has the lock by the old one. Of two that displace the same, the first has displaced it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{AT_FDCWD, FcntlArg, RenameFlags, fcntl, renameat2};
use nix::libc;

use crate::file;
use crate::trust;

/// How long to wait without a word.
const PATIENCE: Duration = Duration::from_millis(900);
/// How often who waits looks whether a reader is in the way.
const LOOK: Duration = Duration::from_millis(50);

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    metadata: Metadata,
}

/// Who has it locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A process that can write the file, and says that this is its pid.
    Writer(i64),
    /// One that may be able to read it only.
    Reader,
}

/// What came of waiting.
enum Waited {
    Locked,
    /// The file is not the lock any more.
    Moved,
    /// A reader has it locked.
    InTheWay,
    TooLong(Option<Holder>),
}

/// The lock, or who had it until the time was over.
pub(super) type Acquired = Result<LockFile, Option<Holder>>;

/// Locks the file at `path`, at most waiting for `timeout`; `known` is that file as it was opened before.
pub(super) fn acquire(path: &Path, known: Option<LockFile>, timeout: Duration) -> io::Result<Acquired> {
    let until = Instant::now() + timeout;
    let mut known = known;
    loop {
        let file = match known.take() {
            Some(file) => Some(file),
            None => LockFile::open(path)?,
        };
        let waited = match &file {
            Some(file) if file.try_lock(libc::F_WRLCK)? => Waited::Locked,
            Some(file) => file.wait(path, until)?,
            None => Waited::InTheWay,
        };
        match (waited, file) {
            (Waited::Locked, Some(file)) if file.is_at(path)? => return Ok(Ok(file)),
            (Waited::TooLong(holder), _) => return Ok(Err(holder)),
            (Waited::InTheWay, _) => {
                if let Some(new) = displace(path)? {
                    return Ok(Ok(new));
                }
            }
            (Waited::Locked | Waited::Moved, _) => {}
        }
    }
}

/// Puts a file that is locked already in the place of what is at `path` and is no lock file, or locked by a reader. `None`
/// if that has changed meanwhile.
fn displace(path: &Path) -> io::Result<Option<LockFile>> {
    // Kept open: the number of what is gone may be another's.
    let there = match OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        there => there?,
    };
    let seen = identity(&there.metadata()?);
    let old = options().open(path).and_then(LockFile::of).ok().filter(|old| old.is_sound(path));
    // Until it has the name no more nobody gets the lock by it: by a read lock of our own.
    if let Some(old) = &old
        && (identity(&old.metadata) != seen || !old.try_lock(libc::F_RDLCK)?)
    {
        return Ok(None);
    }
    let temporary = file::temporary(path);
    let new = LockFile::of(options().create_new(true).open(&temporary)?)?;
    let exchange = || renameat2(AT_FDCWD, &temporary, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE);
    let exchanged = || -> io::Result<bool> {
        if !new.try_lock(libc::F_WRLCK)? {
            return Ok(false);
        }
        match exchange() {
            Err(nix::Error::ENOENT) => return Ok(false),
            exchanged => exchanged?,
        }
        if identity(&fs::symlink_metadata(&temporary)?) == seen {
            return Ok(true);
        }
        // Another was faster. Nobody displaces ours, which a writer has locked: so his gets its name back.
        exchange()?;
        Ok(false)
    };
    let exchanged = exchanged();
    // What was displaced, or the new one that is not needed. A folder that is not empty stays.
    let _ = file::remove(&temporary);
    if !exchanged? {
        return Ok(None);
    }
    log::warn!("{} was replaced: a process had it locked that may only read it", path.display());
    Ok(Some(new))
}

impl LockFile {
    /// Opens the file at `path`, which is made if need be; `None` if something else is in its place.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        match options().create(true).open(path) {
            Ok(file) => Self::of(file).map(|file| Some(file).filter(|file| file.is_sound(path))),
            // A link, a folder, a socket, a device.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EISDIR | libc::ENXIO)) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn of(file: File) -> io::Result<Self> {
        Ok(Self { metadata: file.metadata()?, file })
    }

    /// Whether it is a file of ours that nobody else can write, and so lock.
    fn is_sound(&self, path: &Path) -> bool {
        self.metadata.is_file() && trust::check_owner(path, &self.metadata).is_ok()
    }

    /// How long ago it was made: nobody writes to it.
    pub(super) fn age(&self) -> Option<Duration> {
        SystemTime::now().duration_since(self.metadata.modified().ok()?).ok()
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

    /// Who has it locked, besides this descriptor.
    fn holder(&self) -> io::Result<Option<Holder>> {
        let mut found = libc::flock { l_len: 0, ..lock(libc::F_WRLCK) };
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut found))?;
        Ok(match i32::from(found.l_type) {
            libc::F_WRLCK => Some(Holder::Writer(found.l_len)),
            libc::F_RDLCK => Some(Holder::Reader),
            _ => None,
        })
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(named) => Ok(identity(&named) == identity(&self.metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits in the kernel's queue, where nobody is overtaken, as polling would do. fcntl(2) knows no time limit, so a
    /// thread waits; if it comes too late, it closes the description it has locked and ends.
    fn wait(&self, path: &Path, until: Instant) -> io::Result<Waited> {
        let begin = Instant::now();
        if self.holder()? == Some(Holder::Reader) {
            return Ok(Waited::InTheWay);
        }
        let (sender, receiver) = mpsc::channel();
        let file = self.file.try_clone()?;
        thread::Builder::new().spawn(move || {
            let locked = fcntl(&file, FcntlArg::F_OFD_SETLKW(&lock(libc::F_WRLCK)));
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
            let holder = self.holder()?;
            if holder == Some(Holder::Reader) {
                return Ok(Waited::InTheWay);
            }
            if !self.is_at(path)? {
                return Ok(Waited::Moved);
            }
            if left.is_zero() {
                return Ok(Waited::TooLong(holder));
            }
            if !is_told && begin.elapsed() >= PATIENCE {
                is_told = true;
                log::warn!("waiting for the ledger, which {} has locked", describe(holder));
            }
        }
    }
}

/// Who that is, as far as it can be told.
pub(super) fn describe(holder: Option<Holder>) -> String {
    match holder {
        Some(Holder::Writer(pid)) if pid > 0 => {
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let command = command.trim_end();
            if command.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({command})") }
        }
        _ => "another process".to_owned(),
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// From the first byte on, as many as this process's pid.
fn lock(kind: i32) -> libc::flock {
    static PID: OnceLock<u32> = OnceLock::new();
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: (*PID.get_or_init(std::process::id)).into(),
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(path: &Path, known: Option<LockFile>) -> Acquired {
        acquire(path, known, Duration::from_millis(20)).unwrap()
    }

    #[test]
    fn what_was_displaced_counts_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let old = LockFile::open(&path).unwrap().unwrap();
        let held = displace(&path).unwrap().unwrap();
        assert!(matches!(now(&path, Some(old)), Err(Some(Holder::Writer(_)))), "two have it");
        held.unlock();
        assert!(now(&path, None).is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left");
    }

    #[test]
    fn what_a_writer_has_is_not_displaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = now(&path, None).unwrap();
        assert!(displace(&path).unwrap().is_none() && held.is_at(&path).unwrap());
        assert!(now(&path, None).is_err());
        fs::remove_file(&path).unwrap();
        assert!(displace(&path).unwrap().is_none(), "there is nothing to displace");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Of many that displace the same at one time one has the lock.
    #[test]
    fn one_displaces() {
        for _ in 0..200 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("lock");
            fs::create_dir(&path).unwrap();
            let start = std::sync::Barrier::new(4);
            let got = thread::scope(|scope| {
                let all = [(); 4].map(|()| {
                    scope.spawn(|| {
                        start.wait();
                        displace(&path).unwrap()
                    })
                });
                all.map(|one| one.join().unwrap())
            });
            let held: Vec<_> = got.iter().flatten().filter(|file| file.is_at(&path).unwrap()).collect();
            assert_eq!((held.len(), got.iter().flatten().count()), (1, 1));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left");
        }
    }
}
