//! The ledger's lock: holding a [`Locked`] is the only way to change anything.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fs2::FileExt;

use nix::libc;

use super::Store;
use super::lock_file::{LockFile, acquire, describe};
use crate::error::{Error, Kind, Result};
use crate::file;
use crate::trust;

/// The store while no other process changes it. Dropping it gives the lock back.
#[derive(Debug)]
pub struct Locked<'a> {
    pub(super) store: &'a Store,
    file: Option<LockFile>,
    folder: Option<File>,
}

/// Where a store has its lock file.
#[derive(Debug, Default)]
pub(super) enum Slot {
    /// Not opened yet.
    #[default]
    Closed,
    /// Open, and the state folder was looked at.
    Open(LockFile),
    /// In a [`Locked`].
    Taken,
}

impl<'a> Locked<'a> {
    /// The store that is locked.
    pub fn store(&self) -> &'a Store {
        self.store
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        drop(self.folder.take());
        file.unlock();
        *self.store.slot() = Slot::Open(file);
    }
}

impl Store {
    /// Waits for the lock, at most for `timeout`. Only who can write to the state folder can have it: see
    /// [`lock_file`](super::lock_file).
    ///
    /// # Errors
    /// [`Kind::Busy`] when the time is over, and at once when this process has it; [`Kind::Input`] when others than root
    /// can write to the folder.
    pub fn lock(&self, timeout: Duration) -> Result<Locked<'_>> {
        let known = match mem::replace(&mut *self.slot(), Slot::Taken) {
            Slot::Closed => None,
            Slot::Open(file) => Some(file),
            Slot::Taken => {
                let text = format!("{} is locked by this very process", self.state_dir.display());
                return Err(
                    Error::new(Kind::Busy, text).hint("this is a fault of underlay: please report it")
                );
            }
        };
        let file = self.lock_file(known, timeout).inspect_err(|_| *self.slot() = Slot::Closed)?;
        let folder = lock_as_before(&self.state_dir, &file);
        Ok(Locked { store: self, file: Some(file), folder })
    }

    fn lock_file(&self, known: Option<LockFile>, timeout: Duration) -> Result<LockFile> {
        if !self.has_folder()? {
            self.make_folder()?;
        }
        let path = self.state_dir.join("lock");
        let acquired = match acquire(&path, known, timeout) {
            // Somebody has removed the folder since it was found.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_folder()?;
                acquire(&path, None, timeout)
            }
            acquired => acquired,
        };
        let acquired = acquired.map_err(|error| Error::io("lock", &path, &error))?;
        acquired.map_err(|holder| {
            let waited = format!(
                "{} was locked by {} for {} ms",
                self.state_dir.display(),
                describe(holder),
                timeout.as_millis()
            );
            Error::new(Kind::Busy, waited)
                .hint("see what it is doing, and try again; `lock_timeout_ms` is how long is waited")
        })
    }

    fn make_folder(&self) -> Result<()> {
        file::make_folder(&self.state_dir, 0o700)?;
        file::touch(&self.was_made())?;
        self.has_folder().map(drop)
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a state folder, which is root's alone; once it is found, it is not looked for again.
    fn has_folder(&self) -> Result<bool> {
        let path = &self.state_dir;
        if self.has_folder.get().is_some() {
            return Ok(true);
        }
        match fs::metadata(path) {
            Ok(metadata) => {
                trust::check_owner(path, &metadata)?;
                self.has_folder.get_or_init(|| ());
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look at", path, &error)),
        }
    }

    /// Whether the state folder was there since the last boot and is gone, with containers that may live.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_lost(&self) -> Result<bool> {
        let was_made = self.was_made();
        let is_there = || was_made.try_exists().map_err(|error| Error::io("look for", &was_made, &error));
        Ok(!self.has_folder()? && is_there()?)
    }

    /// Beside the state folder, an empty file that tells that it was made: on the same tmpfs, so a boot forgets both.
    fn was_made(&self) -> PathBuf {
        let mut name = self.state_dir.clone().into_os_string();
        name.push(".made");
        name.into()
    }
}

/// How long after the lock file was made a process of a version may run that knows of none.
const UPGRADE: Duration = Duration::from_secs(300);
/// How long such a one is waited for: it holds the lock for some milliseconds.
const COURTESY: Duration = Duration::from_secs(1);
/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(5);

/// Before there was a lock file, the state folder was the lock (flock(2)): where a process of that time may run, just after
/// an upgrade, it is locked too. As anybody can lock it who can read it, nobody is waited for longer than such a process
/// would take. The next version does without.
fn lock_as_before(path: &Path, file: &LockFile) -> Option<File> {
    if file.age().is_some_and(|age| age > UPGRADE) {
        return None;
    }
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).ok()?;
    let until = Instant::now() + COURTESY;
    while let Err(error) = FileExt::try_lock_exclusive(&folder) {
        if error.kind() != io::ErrorKind::WouldBlock || Instant::now() >= until {
            log::warn!("{} is locked as before the lock file: not waited for", path.display());
            return None;
        }
        thread::sleep(PAUSE);
    }
    Some(folder)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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

    /// A read lock, which who can only read the file can have, is in nobody's way: not of who comes, nor of who waits.
    #[test]
    fn readers_lock_nobody_out() {
        let folder = folder();
        let (one, two) = (store(&folder), store(&folder));
        let path = folder.path().join("run/lock");
        drop(one.lock(LONG).unwrap());
        let read_lock = || {
            let file = File::open(&path).unwrap();
            let mut lock = libc::flock { l_type: 0, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
            lock.l_type = libc::F_RDLCK as i16;
            fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).map(|_| file)
        };
        for _ in 0..3 {
            // Who has given up may have it for an instant.
            let _reader = loop {
                if let Ok(reader) = read_lock() {
                    break reader;
                }
            };
            let _held = one.lock(Duration::from_millis(500)).unwrap();
            assert!(read_lock().is_err(), "the writer has it");
            assert!(two.lock(Duration::from_millis(20)).is_err());
        }
        // It gets the lock that a third waits for.
        let held = one.lock(LONG).unwrap();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let file = File::open(&path).unwrap();
                let mut lock = libc::flock { l_type: 0, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
                lock.l_type = libc::F_RDLCK as i16;
                fcntl(&file, FcntlArg::F_OFD_SETLKW(&lock)).map(|_| file)
            });
            thread::sleep(Duration::from_millis(50));
            let waits = scope.spawn(|| two.lock(LONG).map(drop));
            thread::sleep(Duration::from_millis(100));
            drop(held);
            let _reader = reader.join().unwrap().unwrap();
            waits.join().unwrap().unwrap();
        });
        assert_eq!(fs::read_dir(folder.path().join("run")).unwrap().count(), 1, "nothing is left");
    }

    /// Readers that lock all the time let no two writers in at once.
    #[test]
    fn readers_let_no_two_in() {
        let folder = folder();
        let path = folder.path().join("run/lock");
        drop(store(&folder).lock(LONG).unwrap());
        age(&folder);
        let (inside, done, entered) = (AtomicU32::new(0), AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let Ok(file) = File::open(&path) else { continue };
                        let mut lock = libc::flock { l_type: 0, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
                        lock.l_type = libc::F_RDLCK as i16;
                        let _ = fcntl(&file, FcntlArg::F_OFD_SETLK(&lock));
                        thread::sleep(Duration::from_micros(200));
                    }
                });
            }
            let writers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let store = store(&folder);
                        let tries = Cell::new(0);
                        while tries.replace(tries.get() + 1) < 60 {
                            let locked = store.lock(LONG).unwrap();
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                            thread::sleep(Duration::from_micros(300));
                            inside.fetch_sub(1, Ordering::SeqCst);
                            entered.fetch_add(1, Ordering::SeqCst);
                            drop(locked);
                        }
                    })
                })
                .collect();
            let all: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            assert!(all.iter().all(Result::is_ok));
        });
        assert_eq!(entered.into_inner(), 240);
    }

    /// Whatever has the name of the lock file is not in the way of all, nor is a file that others could lock.
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
            // The thread of the one that gave up may have it for an instant.
            two.lock(LONG).unwrap();
            assert!(!folder.path().join("run/elsewhere").exists());
        }
    }

    /// As with the whole state folder, who removes it lets another in; but nobody is locked out, and it is one again.
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

    /// An older version has the folder locked: just after an upgrade it is waited for, and waits for us.
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
        // Who can only read the folder holds nobody up longer than that would take, and later not at all.
        FileExt::try_lock_exclusive(&before).unwrap();
        let begin = Instant::now();
        drop(store.lock(Duration::ZERO).unwrap());
        assert!(begin.elapsed() >= COURTESY);
        age(&folder);
        let store = self::store(&folder);
        let begin = Instant::now();
        drop(store.lock(Duration::ZERO).unwrap());
        assert!(begin.elapsed() < COURTESY);
    }
}
