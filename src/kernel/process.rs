//! Processes, each by a descriptor of its folder in /proc: a process that reuses the pid has another folder.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::sys::stat::Mode;

use super::netns::NetnsFile;
use crate::error::{Error, Kind, Result};

/// The longest `/proc/PID/stat` (52 numbers and a name). It is read at once.
const STAT: usize = 2048;

/// A process that was alive when it was opened. Once it has exited, its methods fail.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    folder: OwnedFd,
    start_time: u64,
}

impl Process {
    /// Opens the process `pid`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none, or it is a zombie.
    pub(crate) fn open(pid: i32) -> Result<Self> {
        if pid <= 0 {
            return Err(Error::input(format!("pid {pid} is no process")));
        }
        Self::in_proc(pid).map_err(|error| failed(pid, &error))
    }

    fn in_proc(pid: i32) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(Path::new(&format!("/proc/{pid}")), flags, Mode::empty())?;
        let mut stat = [0; STAT];
        let length = open_at(&folder, "stat".as_ref())?.read(&mut stat)?;
        let stat = String::from_utf8_lossy(stat.get(..length).unwrap_or_default());
        let start_time = start_time(&stat).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        Ok(Self { pid, folder, start_time })
    }

    /// Its pid in the pid namespace of /proc.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// When it started, in clock ticks since boot.
    pub(crate) fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Opens its network namespace.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it has exited.
    pub(crate) fn netns(&self) -> Result<NetnsFile> {
        let open = |path: &Path| open_at(&self.folder, path).and_then(NetnsFile::new);
        // A first thread that has ended is in no namespace; the others are.
        let netns = open("ns/net".as_ref())
            .or_else(|error| threads(self.pid).iter().find_map(|path| open(path).ok()).ok_or(error));
        netns.map_err(|error| failed(self.pid, &error))
    }
}

fn open_at(folder: &OwnedFd, path: &Path) -> io::Result<File> {
    Ok(openat(folder, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.into())
}

/// Returns the paths of the network namespaces of the threads of `pid`, below its folder in /proc.
pub(super) fn threads(pid: i32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| Path::new("task").join(entry.file_name()).join("ns/net")).collect()
}

/// Returns the inode of this program's pid namespace.
pub(crate) fn pid_namespace() -> Option<u64> {
    static OWN: OnceLock<Option<u64>> = OnceLock::new();
    *OWN.get_or_init(|| fs::metadata("/proc/self/ns/pid").ok().map(|metadata| metadata.ino()))
}

/// Returns the inode of this program's mount namespace.
pub(crate) fn mount_namespace() -> Option<u64> {
    static OWN: OnceLock<Option<u64>> = OnceLock::new();
    *OWN.get_or_init(|| fs::metadata("/proc/self/ns/mnt").ok().map(|metadata| metadata.ino()))
}

/// Returns true if this program is in another user namespace than process 1, as if started by a rootless engine. It has no
/// rights to the host's links then, whatever its capabilities (user_namespaces(7)).
pub(crate) fn is_rootless() -> bool {
    // The first user namespace maps all ids to themselves.
    let is_whole = |map: &str| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    // A host that is a container itself has a user namespace of its own. The link of process 1 cannot be read without rights in
    // its user namespace.
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_whole(&map))
        && namespace("self") != namespace("1")
}

fn failed(pid: i32, error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => {
            Error::new(Kind::NotFound, format!("process {pid} of the container is gone: {error}"))
        }
        _ => Error::io("look up", format!("/proc/{pid}").as_ref(), error),
    }
}

/// Returns field 22 of proc_pid_stat(5); `None` for a dead process (state Z or X, and no other thread left). The name of the
/// program, in parentheses, may contain anything.
fn start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X" | "x");
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    // The first thread may end before the others: pthread_exit(3).
    if is_dead && threads < 2 {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times() {
        let stat = |name: &str, state: &str| {
            format!(
                "7 ({name}) {state} 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1 18446744073709551615"
            )
        };
        let first_thread_gone = stat("sh", "Z").replace(" 20 0 1 0 ", " 20 0 2 0 ");
        assert_eq!(start_time(&first_thread_gone), Some(4242));
        assert_eq!(start_time(&stat("sh", "S")), Some(4242));
        assert_eq!(start_time(&stat("a) Z (b", "R")), Some(4242));
        assert_eq!(start_time(&stat("sh", "Z")), None);
        assert_eq!(start_time(""), None);
        assert_eq!(start_time("7 (sh) S 1"), None);
    }

    #[test]
    fn a_process_that_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap();
        assert!(process.netns().is_ok());
        child.kill().unwrap();
        while Process::open(process.pid()).is_ok() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(process.netns().is_err());
    }
}
