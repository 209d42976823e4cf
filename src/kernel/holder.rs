//! Holders of containers: whether the process is alive, and its network namespace.

use std::path::{Path, PathBuf};

use super::netns::NetnsFile;
use super::process::{Process, pid_namespace};
use crate::error::{Kind, Result};
use crate::ledger::holder::Holder;
use crate::net::netns::Netns;

/// Returns true if the process of a container still runs, or if that is unknown: nothing is reclaimed from a
/// container that may be alive.
pub(crate) fn is_alive(holder: &Holder) -> bool {
    if holder.pid_namespace.is_some() && holder.pid_namespace != pid_namespace() {
        return true;
    }
    match Process::open(holder.pid) {
        Ok(process) => process.start_time() == holder.start_time,
        Err(error) => error.kind() != Kind::NotFound,
    }
}

/// Returns true if the process of a container is in the network namespace of its record.
pub(crate) fn is_in(holder: &Holder) -> Result<bool> {
    Ok(Process::open(holder.pid)?.netns()?.describe(None).is(holder.netns()))
}

impl NetnsFile {
    /// Returns the namespace of `holder`, and a path to it: by the process, else by the path that keeps it.
    /// Returns `None` if neither leads there any more.
    pub(crate) fn of(holder: &Holder) -> Result<Option<(PathBuf, Self)>> {
        let same = |netns: &Self| netns.describe(None).is(holder.netns());
        let by_process = Process::open(holder.pid).and_then(|process| {
            let is_it = process.start_time() == holder.start_time;
            is_it.then(|| process.netns()).transpose()
        });
        let by_process = match by_process {
            // It has exited.
            Err(error) if error.kind() == Kind::NotFound => None,
            found => found?.filter(same),
        };
        if let Some(netns) = by_process {
            return Ok(Some((format!("/proc/{}/ns/net", holder.pid).into(), netns)));
        }
        let Some(path) = &holder.netns().path else { return Ok(None) };
        Ok(Self::at_path(path, holder.netns())?.map(|netns| (path.clone(), netns)))
    }

    /// Returns the namespace `netns`, if `path` leads to it.
    pub(super) fn at_path(path: &Path, netns: &Netns) -> Result<Option<Self>> {
        Self::open(path, |found| found == (netns.device, netns.inode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_and_the_dead() {
        let process = Process::open(std::process::id() as i32).unwrap();
        let netns = Netns { device: 0, inode: 0, path: None };
        let (pid, start_time) = (process.pid(), process.start_time());
        let holder = Holder { pid, start_time, pid_namespace: pid_namespace(), netns };
        assert!(is_alive(&holder));
        assert!(!is_alive(&Holder { start_time: holder.start_time + 1, ..holder.clone() }), "a reused pid");
        let dead = Holder { pid: i32::MAX, ..holder };
        assert!(!is_alive(&dead));
        assert!(!is_alive(&Holder { pid_namespace: None, ..dead.clone() }));
        assert!(is_alive(&Holder { pid_namespace: Some(1), ..dead }), "a pid of another pid namespace");
        for pid in [0, -1, i32::MAX] {
            assert!(Process::open(pid).is_err());
        }
    }
}
