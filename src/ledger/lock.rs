//! The ledger's lock: only a [`Locked`] can change the ledger.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use fs2::FileExt;

use nix::libc;

use super::Store;
use super::lock_file::{Acquired, FILES, LockFile, Refused, acquire};
use super::lock_holder::{FileId, holder};
use crate::error::{Error, Kind, Result};
use crate::escape::shell;

/// The store while no other process can change it. Dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    pub(super) store: &'a Store,
    /// The locked file.
    file: MutexGuard<'a, Option<LockFile>>,
    /// The state folder, while a version without a lock file may run.
    folder: Option<File>,
}

impl<'a> Locked<'a> {
    pub(crate) fn store(&self) -> &'a Store {
        self.store
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        drop(self.folder.take());
        self.file.iter().for_each(LockFile::unlock);
    }
}

impl Store {
    /// Waits for the lock, at most for `timeout`. Only a process that can write to the state folder can hold
    /// it: see [`lock_file`](super::lock_file).
    ///
    /// # Errors
    /// [`Kind::Busy`] after the timeout; [`Kind::Bug`] if this process holds the lock; [`Kind::Input`] if others than root
    /// can write to the folder.
    pub(crate) fn lock(&self, timeout: Duration) -> Result<Locked<'_>> {
        self.lock_within(timeout)?.map_err(|refused| self.explain(&refused, timeout))
    }

    /// Returns the lock, or why there is none after `timeout`: of the lock file, and also of the folder, as
    /// long as a version without a lock file may run.
    pub(super) fn lock_within(&self, timeout: Duration) -> Result<Result<Locked<'_>, Refused>> {
        let mut file = match self.lock.try_lock() {
            Ok(file) => file,
            Err(TryLockError::Poisoned(file)) => file.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is locked by this very process", self.state_dir.display());
                return Err(Error::bug(text));
            }
        };
        let mut locked = match self.lock_file(LOCK, file.take(), timeout)? {
            Ok(locked) => locked,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut folder = None;
        if locked.age(&self.state_dir.join(LOCK)).is_some_and(|age| age <= UPGRADE) {
            folder = lock_as_before(&self.state_dir);
            // A process that can only read the folder can lock it, too. Wait for it once only, and without
            // the lock, so that it does not block other processes.
            if folder.is_none() && !self.has_waited.swap(true, Ordering::Relaxed) {
                locked.unlock();
                wait_as_before(&self.state_dir);
                locked = match self.lock_file(LOCK, Some(locked), timeout)? {
                    Ok(locked) => locked,
                    Err(refused) => return Ok(Err(refused)),
                };
                folder = lock_as_before(&self.state_dir);
            }
        }
        *file = Some(locked);
        Ok(Ok(Locked { store: self, file, folder }))
    }

    /// Locks the first file named `first` that is not dead; `known` is that of the previous lock.
    pub(super) fn lock_file(
        &self,
        first: &str,
        known: Option<LockFile>,
        timeout: Duration,
    ) -> Result<Acquired> {
        if self.folder()?.is_none() {
            self.make_folder()?;
            // No record is missing in it yet.
            self.make_namespaces_dir()?;
        }
        let path = self.state_dir.join(first);
        let acquired = match acquire(&path, known, timeout) {
            // The folder was removed since it was found.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_folder()?;
                acquire(&path, None, timeout)
            }
            acquired => acquired,
        };
        acquired.map_err(|error| Error::io("lock", &path, &error))
    }

    fn explain(&self, refused: &Refused, timeout: Duration) -> Error {
        match refused {
            Refused::Busy(file) => {
                let folder = self.state_dir.display();
                let ms = timeout.as_millis();
                let text = format!("{folder} was locked by {} for {ms} ms", culprit(&[*file]));
                let hint =
                    "see what it is doing, and try again; `lock_timeout_ms` sets how long underlay waits";
                Error::new(Kind::Busy, text).hint(hint)
            }
            Refused::UsedUp(dead) => self.used_up(LOCK, dead),
        }
    }

    /// The error if all lock files of which the first is named `first` are `dead`.
    pub(super) fn used_up(&self, first: &str, dead: &[FileId]) -> Error {
        let (folder, culprit) = (self.state_dir.display(), culprit(dead));
        let text =
            format!("{folder} cannot be locked: {culprit} has locked its {FILES} lock files for reading");
        let files = shell::path(&self.state_dir.join(format!("{first}.")));
        let hint = format!("end the processes that can read that folder; then `rm {files}*`");
        Error::new(Kind::Busy, text).hint(hint)
    }
}

/// Names a process that has one of `files` locked.
pub(super) fn culprit(files: &[FileId]) -> String {
    holder(files).unwrap_or_else(|| "another process".to_owned())
}

/// The first lock file.
const LOCK: &str = "lock";

/// How long after the lock file was made a process of a version without a lock file may still run.
const UPGRADE: Duration = Duration::from_secs(300);
/// How long to wait for such a process: it holds the lock for some milliseconds.
const COURTESY: Duration = Duration::from_secs(1);
/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// Locks the state folder (flock(2)), as versions without a lock file do: such a process may still run just
/// after an upgrade. Returns `None` if another process has locked it. The next version can do without.
fn lock_as_before(path: &Path) -> Option<File> {
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).ok()?;
    FileExt::try_lock_exclusive(&folder).is_ok().then_some(folder)
}

/// Waits until the folder is not locked any more, at most as long as a process of such a version would take.
fn wait_as_before(path: &Path) {
    let until = Instant::now() + COURTESY;
    while lock_as_before(path).is_none() {
        if Instant::now() >= until {
            log::warn!(
                "{} is locked with flock(2), as an older version does: not waiting for it",
                path.display()
            );
            return;
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use nix::fcntl::{FcntlArg, fcntl};
    use tempfile::TempDir;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("run")).unwrap();
        folder
    }

    fn store(folder: &TempDir) -> Store {
        Store::new("/none".into(), folder.path().join("run"), "/none".into(), "/none".into())
    }

    /// As five minutes after it was made.
    fn age(folder: &TempDir) {
        let file = File::options().write(true).open(folder.path().join("run/lock")).unwrap();
        file.set_modified(std::time::SystemTime::now() - UPGRADE - COURTESY).unwrap();
    }

    #[test]
    fn one_at_a_time() {
        let folder = folder();
        let (one, two) = (store(&folder), store(&folder));
        let held = one.lock(Duration::ZERO).unwrap();
        let begin = Instant::now();
        let error = one.lock(LONG).unwrap_err();
        assert!(
            begin.elapsed() < COURTESY && error.to_string().ends_with("run is locked by this very process")
        );
        let error = two.lock(Duration::from_millis(20)).unwrap_err();
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let own = format!("run was locked by pid {} ({}) for 20 ms", std::process::id(), comm.trim());
        assert!(error.kind() == Kind::Busy && error.to_string().ends_with(&own), "{error}");
        let waits = thread::scope(|scope| {
            let waits = scope.spawn(|| two.lock(LONG).map(drop));
            thread::sleep(Duration::from_millis(100));
            assert!(!waits.is_finished());
            drop(held);
            waits.join().unwrap()
        });
        waits.unwrap();
        one.lock(LONG).unwrap();
        two.lock(LONG).unwrap();
    }

    /// A read lock, which needs no write access, blocks neither new nor waiting processes.
    #[test]
    fn readers_block_no_writer() {
        let folder = folder();
        let (one, two) = (store(&folder), store(&folder));
        let path = |number: u32| match number {
            0 => folder.path().join("run/lock"),
            _ => folder.path().join(format!("run/lock.{number}")),
        };
        drop(one.lock(LONG).unwrap());
        let read_lock = |number: u32| {
            let file = File::open(path(number)).unwrap();
            let mut lock = libc::flock { l_type: 0, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
            lock.l_type = libc::F_RDLCK as i16;
            fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).map(|_| file)
        };
        for number in 0..3 {
            // The thread of a wait that timed out may have it for a moment.
            let _reader = loop {
                if let Ok(reader) = read_lock(number) {
                    break reader;
                }
            };
            let _held = one.lock(Duration::from_millis(500)).unwrap();
            assert!(read_lock(number + 1).is_err(), "the writer has it");
            assert!(two.lock(Duration::from_millis(20)).is_err());
        }
        // The reader gets the lock that another writer waits for.
        let held = one.lock(LONG).unwrap();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let file = File::open(path(3)).unwrap();
                let mut lock = libc::flock { l_type: 0, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
                lock.l_type = libc::F_RDLCK as i16;
                fcntl(&file, FcntlArg::F_OFD_SETLKW(&lock)).map(|_| file)
            });
            // Blocked locks have an arrow (proc_locks(5)).
            let inode = format!(":{} ", fs::metadata(path(3)).unwrap().ino());
            let is_queued = |line: &str| line.contains("-> OFDLCK") && line.contains(&inode);
            while !fs::read_to_string("/proc/locks").unwrap().lines().any(is_queued) {
                thread::sleep(Duration::from_millis(1));
            }
            let waits = scope.spawn(|| two.lock(LONG).map(drop));
            thread::sleep(Duration::from_millis(100));
            drop(held);
            let _reader = reader.join().unwrap().unwrap();
            waits.join().unwrap().unwrap();
        });
        assert!(path(4).exists() && !path(5).exists());
    }

    /// The error names the reader, and its hint works.
    #[test]
    fn readers_use_up_all_files() {
        let folder = folder();
        let store = store(&folder);
        let path = |name: &str| folder.path().join("run").join(name);
        let make_dead = |name: String| {
            fs::write(path(&name), "").unwrap();
            fs::set_permissions(path(&name), fs::Permissions::from_mode(0o1600)).unwrap();
        };
        make_dead("lock".to_owned());
        (1..FILES).for_each(|number| make_dead(format!("lock.{number}")));
        let error = |culprit: &str| {
            let error = store.lock(LONG).unwrap_err();
            let said = format!("run cannot be locked: {culprit} has locked its 1024 lock files for reading");
            assert!(error.kind() == Kind::Busy && error.to_string().ends_with(&said), "{error}");
            error
        };
        error("another process");
        let reader = File::open(path("lock.7")).unwrap();
        let mut lock = libc::flock { l_type: 0, l_whence: 0, l_start: 9, l_len: 1, l_pid: 0 };
        lock.l_type = libc::F_RDLCK as i16;
        fcntl(&reader, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let error = error(&format!("pid {} ({})", std::process::id(), comm.trim()));
        let remove = error.hint_text().unwrap().split('`').nth(1).unwrap();
        assert!(std::process::Command::new("sh").args(["-c", remove]).status().unwrap().success());
        store.lock(LONG).unwrap();
    }

    /// Neither another kind of file in its place nor a file that others can lock blocks the ledger.
    #[test]
    fn something_else_in_its_place() {
        type Put<'a> = (&'a str, &'a dyn Fn(&Path));
        let puts: [Put<'_>; 7] = [
            ("folder", &|path| fs::create_dir(path).unwrap()),
            ("full folder", &|path| fs::create_dir_all(path.join("below")).unwrap()),
            ("link", &|path| symlink("elsewhere", path).unwrap()),
            ("link to itself", &|path| symlink("lock", path).unwrap()),
            ("pipe", &|path| {
                nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            }),
            ("socket", &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
            ("everybody's", &|path| {
                fs::write(path, "").unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
            }),
        ];
        for (what, put) in puts {
            let folder = folder();
            let (one, two) = (store(&folder), store(&folder));
            put(&folder.path().join("run/lock"));
            let held = one.lock(Duration::from_secs(1)).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(two.lock(Duration::from_millis(20)).is_err(), "{what}");
            drop(held);
            // The thread of the wait that timed out may have it for a moment.
            two.lock(LONG).unwrap();
            assert!(!folder.path().join("run/elsewhere").exists());
        }
    }

    /// If the file or the state folder is removed, another process gets a lock too. Later there is one lock
    /// again.
    #[test]
    fn removed_while_it_is_held() {
        let folder = folder();
        let (one, two) = (store(&folder), store(&folder));
        let held = one.lock(Duration::ZERO).unwrap();
        fs::remove_file(folder.path().join("run/lock")).unwrap();
        let other = two.lock(Duration::ZERO).unwrap();
        drop(held);
        assert!(one.lock(Duration::from_millis(20)).is_err(), "the new file counts");
        drop(other);
        one.lock(LONG).unwrap();
        fs::remove_dir_all(folder.path().join("run")).unwrap();
        let held = one.lock(LONG).unwrap();
        assert!(two.lock(Duration::from_millis(20)).is_err());
        drop(held);
    }

    /// Just after an upgrade, this version and an older one, which locks the folder, wait for each other.
    #[test]
    fn versions_without_a_lock_file() {
        let folder = folder();
        let store = store(&folder);
        let before = File::open(folder.path().join("run")).unwrap();
        let locked = store.lock(Duration::ZERO).unwrap();
        assert!(FileExt::try_lock_exclusive(&before).is_err());
        drop(locked);
        FileExt::try_lock_exclusive(&before).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| store.lock(LONG).map(drop));
            thread::sleep(Duration::from_millis(100));
            assert!(!waits.is_finished());
            FileExt::unlock(&before).unwrap();
            waits.join().unwrap().unwrap();
        });
        // A process that can only read the folder delays each process once, and later not at all.
        FileExt::try_lock_exclusive(&before).unwrap();
        let (one, two) = (self::store(&folder), self::store(&folder));
        let begin = Instant::now();
        thread::scope(|scope| {
            for store in [&one, &two] {
                scope.spawn(|| (0..3).for_each(|_| drop(store.lock(LONG).unwrap())));
            }
        });
        assert!(begin.elapsed() >= COURTESY && begin.elapsed() < 2 * COURTESY, "{:?}", begin.elapsed());
        age(&folder);
        let store = self::store(&folder);
        let begin = Instant::now();
        drop(store.lock(Duration::ZERO).unwrap());
        assert!(begin.elapsed() < COURTESY);
    }
}
