//! Network namespaces, held by a descriptor and known by device and inode.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::process::Process;
use crate::error::{Error, Kind, Result};
use crate::record::{Holder, Netns};

/// An open network namespace: it stays what it is, and alive, as long as this is held.
#[derive(Debug)]
pub struct NetnsFile {
    file: File,
    identity: (u64, u64),
}

impl NetnsFile {
    /// The namespace `file` stands for.
    ///
    /// # Errors
    /// When its metadata cannot be read.
    pub fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { identity: (metadata.dev(), metadata.ino()), file })
    }

    /// The namespace a record speaks of, if it can still be reached: through its holder, or through the path
    /// that keeps it.
    pub fn of(holder: &Holder) -> Option<Self> {
        let same = |netns: &Self| netns.identity == (holder.netns.device, holder.netns.inode);
        let by_process = || {
            let process = Process::open(holder.pid).ok().filter(|p| p.start_time() == holder.start_time)?;
            process.netns().ok()
        };
        let by_path = || {
            let file = File::open(holder.netns.path.as_ref()?).ok()?;
            Self::new(file).ok()
        };
        by_process().filter(same).or_else(|| by_path().filter(same))
    }

    /// Its identity, with the path that keeps it, if any.
    pub fn describe(&self, path: Option<&Path>) -> Netns {
        let (device, inode) = self.identity;
        Netns { device, inode, path: path.map(Path::to_owned) }
    }

    /// # Errors
    /// When this is the namespace of the calling thread: the container shares the host's network.
    pub fn refuse_own(&self) -> Result<()> {
        let path = Path::new("/proc/thread-self/ns/net");
        let own = path.metadata().map_err(|error| Error::io("read", path, &error))?;
        if self.identity == (own.dev(), own.ino()) {
            return Err(Error::input("the container shares the host's network namespace")
                .hint("start it without `--network host`; with podman, `--network none` suits"));
        }
        Ok(())
    }

    /// Runs `work` on a thread that enters this namespace and ends there, so that nothing ever has to come back.
    ///
    /// # Errors
    /// Those of `work`, or when the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let failed = |error: io::Error| {
            let kind = Kind::Kernel(error.raw_os_error().unwrap_or_default());
            Error::new(kind, format!("cannot enter the container's network namespace: {error}"))
                .hint("the hook needs CAP_SYS_ADMIN and CAP_NET_ADMIN on the host: run the engine as root")
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, || {
                setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
                work()
            });
            match thread.map_err(failed)?.join() {
                Ok(result) => result,
                Err(panic) => panic::resume_unwind(panic),
            }
        })
    }

    /// The descriptor's file, for `IFLA_NET_NS_FD`.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}
