//! Network namespaces, held by a descriptor and known by device and inode.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic;
use std::path::Path;
use std::thread;

use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};
use crate::net::netns::Netns;

/// An open network namespace. The descriptor keeps it alive, so its inode is not reused.
#[derive(Debug)]
pub(crate) struct NetnsFile {
    file: File,
    identity: (u64, u64),
    made: u64,
}

impl NetnsFile {
    /// Returns the namespace of `file`.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        // Neither is negative, and the sum fits until the year 2554.
        let made = metadata.ctime() as u64 * 1_000_000_000 + metadata.ctime_nsec() as u64;
        Ok(Self { identity: (metadata.dev(), metadata.ino()), made, file })
    }

    /// Returns the namespace of the calling thread.
    pub(crate) fn own() -> Result<Self> {
        let path = Path::new("/proc/thread-self/ns/net");
        let own = File::open(path).and_then(Self::new);
        own.map_err(|error| Error::io("open", path, &error))
    }

    /// Returns the namespace at `path`, if there is one.
    pub(crate) fn at(path: &Path) -> Result<Option<Self>> {
        let (of_namespaces, _) = Self::own()?.identity;
        Self::open(path, |(device, _)| device == of_namespaces)
    }

    /// Returns the namespace that is mounted at `path` itself, if there is one: the mount keeps it.
    pub(crate) fn mounted_at(path: &Path) -> Result<Option<Self>> {
        // A link to the namespace of a process leads to it, but keeps nothing.
        let own = fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
        Ok(Self::at(path)?.filter(|found| own.is_ok_and(|own| own == found.identity)))
    }

    /// Returns the namespace with the inode `inode`, if `path` leads to it; `host_netns` has the same device
    /// number.
    pub(super) fn known(path: &Path, inode: u64, host_netns: &Self) -> Result<Option<Self>> {
        let known = (host_netns.identity.0, inode);
        Self::open(path, |found| found == known)
    }

    /// Opens the file at `path` if `is_it` accepts its device and inode. Nothing else is opened, except with
    /// `O_PATH`: opening a pipe may block, and opening a tape or watchdog has side effects.
    pub(super) fn open(path: &Path, is_it: impl Fn((u64, u64)) -> bool) -> Result<Option<Self>> {
        let looked_at =
            OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).and_then(Self::new);
        let opened = looked_at.and_then(|found| {
            if !is_it(found.identity) {
                return Ok(None);
            }
            // By the descriptor, because `path` may lead to another file by now.
            File::open(format!("/proc/self/fd/{}", found.file.as_raw_fd())).and_then(Self::new).map(Some)
        });
        opened.or_else(|error| match error.raw_os_error() {
            // Dangling, or a loop of symbolic links: not a namespace.
            Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH | libc::ELOOP) => Ok(None),
            _ => Err(Error::io("open", path, &error)),
        })
    }

    /// Its inode, by which the kernel names it.
    pub(crate) fn inode(&self) -> u64 {
        self.identity.1
    }

    /// When the kernel made its file; see [`crate::ledger::holder::NetnsHolder`].
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// Returns its identity, with the path that keeps it, if any.
    pub(crate) fn describe(&self, path: Option<&Path>) -> Netns {
        let (device, inode) = self.identity;
        Netns { device, inode, path: path.map(Path::to_owned) }
    }

    /// Moves the calling thread into this namespace, where it stays.
    pub(crate) fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            Error::kernel("enter the container's network namespace", &errno.into())
                .hint("the hook needs CAP_SYS_ADMIN and CAP_NET_ADMIN on the host: run the engine as root")
        })
    }

    /// Runs `work` on a new thread in this namespace. The thread ends there, so that no thread has to return
    /// to its namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            self.enter()?;
            work()
        })
    }

    /// Runs `work` on a new thread in a new namespace, which the kernel deletes afterwards with all its
    /// links.
    pub(super) fn thrown_away<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            let made = unshare(CloneFlags::CLONE_NEWNET);
            made.map_err(|errno| Error::kernel("make a network namespace", &errno.into()))?;
            work()
        })
    }
}

impl AsFd for NetnsFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` on a new thread.
fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::kernel("start a thread", &error))?;
        thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}
