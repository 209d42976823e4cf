//! Holders of containers: whether they are alive, and their network namespaces.

use std::path::{Path, PathBuf};

use super::netns::NetnsFile;
use super::process::{Process, mount_namespace, pid_namespace};
use crate::error::{Kind, Result};
use crate::ledger::holder::{Holder, NetnsHolder, ProcessHolder};
use crate::ledger::segment_hints::since_boot;
use crate::net::mark::Mark;
use crate::net::netns::Netns;

/// How long an address is kept for an endpoint to come, in seconds.
const AWAITED: u64 = 60;

/// Returns true if the process of a container still runs, or its namespace is still mounted; or if that is unknown: nothing is
/// reclaimed from a container that may be alive.
pub(crate) fn is_alive(holder: &Holder) -> bool {
    match holder {
        Holder::Process(process) => runs(process),
        Holder::Netns(kept) => match NetnsFile::of(holder) {
            Ok(None) => kept.mount_namespace.is_some() && kept.mount_namespace != mount_namespace(),
            Ok(Some(_)) | Err(_) => true,
        },
        // Its engine says when it is over.
        Holder::Endpoint(endpoint) => !endpoint.awaited || since_boot().as_secs() < endpoint.since + AWAITED,
    }
}

fn runs(holder: &ProcessHolder) -> bool {
    if holder.pid_namespace.is_some() && holder.pid_namespace != pid_namespace() {
        return true;
    }
    match Process::open(holder.pid) {
        Ok(process) => process.start_time() == holder.start_time,
        Err(error) => error.kind() != Kind::NotFound,
    }
}

/// Returns true if the process of a container is in the network namespace of its record.
pub(crate) fn is_in(holder: &ProcessHolder) -> Result<bool> {
    Ok(Process::open(holder.pid)?.netns()?.describe(None).is(&holder.netns))
}

/// Returns the holder that `mark` names, whose link is in `netns`; `None` if that is a namespace to which no path leads.
pub(crate) fn made_for(mark: &Mark, netns: &Netns) -> Option<Holder> {
    let (netns, pid, start_time) = (netns.clone(), mark.pid, mark.start_time);
    if pid != 0 {
        let pid_namespace = pid_namespace();
        return Some(Holder::Process(ProcessHolder { pid, start_time, pid_namespace, netns }));
    }
    let mount_namespace = mount_namespace();
    let holder = NetnsHolder { netns, made: start_time, mount_namespace, engine: None };
    holder.netns.path.is_some().then_some(Holder::Netns(holder))
}

impl NetnsFile {
    /// Returns the namespace of `holder`, and a path to it: by the process, else by the path that keeps it.
    /// Returns `None` if neither leads there any more, or not yet. Whether the link of an endpoint is in it, its mark says.
    pub(crate) fn of(holder: &Holder) -> Result<Option<(PathBuf, Self)>> {
        if let Holder::Endpoint(endpoint) = holder {
            let Some(path) = &endpoint.sandbox else { return Ok(None) };
            let host = Self::own()?;
            let found = Self::mounted_at(path)?.filter(|found| !found.is(&host));
            return Ok(found.map(|netns| (path.clone(), netns)));
        }
        if let Holder::Process(process) = holder {
            if let Some(netns) = Self::of_process(process)? {
                return Ok(Some((format!("/proc/{}/ns/net", process.pid).into(), netns)));
            }
        }
        let Some(path) = &holder.netns().path else { return Ok(None) };
        let is_it = |netns: &Self| match holder {
            Holder::Process(_) | Holder::Endpoint(_) => true,
            Holder::Netns(kept) => netns.made() == kept.made,
        };
        Ok(Self::at_path(path, holder.netns())?.filter(is_it).map(|netns| (path.clone(), netns)))
    }

    fn of_process(holder: &ProcessHolder) -> Result<Option<Self>> {
        let by_process = Process::open(holder.pid).and_then(|process| {
            let is_it = process.start_time() == holder.start_time;
            is_it.then(|| process.netns()).transpose()
        });
        match by_process {
            // It has exited.
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            found => Ok(found?.filter(|netns| netns.describe(None).is(&holder.netns))),
        }
    }

    /// Returns the namespace `netns`, if `path` leads to it.
    pub(super) fn at_path(path: &Path, netns: &Netns) -> Result<Option<Self>> {
        Self::open(path, |found| found == (netns.device, netns.inode))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_living_and_the_dead() {
        let process = Process::open(std::process::id() as i32).unwrap();
        let netns = Netns { device: 0, inode: 0, path: None };
        let (pid, start_time) = (process.pid(), process.start_time());
        let living = ProcessHolder { pid, start_time, pid_namespace: pid_namespace(), netns };
        let is_alive = |holder: ProcessHolder| is_alive(&Holder::Process(holder));
        assert!(is_alive(living.clone()));
        assert!(!is_alive(ProcessHolder { start_time: start_time + 1, ..living.clone() }), "a reused pid");
        let dead = ProcessHolder { pid: i32::MAX, ..living };
        assert!(!is_alive(dead.clone()));
        assert!(!is_alive(ProcessHolder { pid_namespace: None, ..dead.clone() }));
        assert!(is_alive(ProcessHolder { pid_namespace: Some(1), ..dead }), "a pid of another pid namespace");
        for pid in [0, -1, i32::MAX] {
            assert!(Process::open(pid).is_err());
        }
    }

    /// A symbolic link leads to the namespace as a mount does, which needs rights that not each test run has.
    #[test]
    fn namespaces_that_a_path_keeps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netns");
        // As long as it is open, its file stays as it is.
        let own = NetnsFile::own().unwrap();
        symlink("/proc/self/ns/net", &path).unwrap();
        let kept = NetnsHolder {
            netns: own.describe(Some(&path)),
            made: own.made(),
            mount_namespace: mount_namespace(),
            engine: None,
        };
        let state = |holder: &NetnsHolder| {
            let holder = Holder::Netns(holder.clone());
            let found = NetnsFile::of(&holder).unwrap();
            if let Some((at, netns)) = &found {
                assert!(*at == path && netns.is(&own));
            }
            (is_alive(&holder), found.is_some())
        };
        assert_eq!(state(&kept), (true, true));
        let another = Netns { inode: 1, ..kept.netns.clone() };
        assert_eq!(state(&NetnsHolder { netns: another, ..kept.clone() }), (false, false), "another inode");
        assert_eq!(state(&NetnsHolder { made: 1, ..kept.clone() }), (false, false), "a reused inode");
        let elsewhere = NetnsHolder { mount_namespace: Some(1), ..kept.clone() };
        assert_eq!(state(&elsewhere), (true, true));
        fs::remove_file(&path).unwrap();
        assert_eq!(state(&kept), (false, false), "the path is gone");
        assert_eq!(state(&elsewhere), (true, false), "a path of another mount namespace");
        assert_eq!(state(&NetnsHolder { mount_namespace: None, ..kept.clone() }), (false, false));
        File::create(&path).unwrap();
        assert_eq!(state(&kept), (false, false), "the mount is gone");
        fs::remove_file(&path).unwrap();
        symlink(&path, &path).unwrap();
        assert_eq!(state(&kept), (false, false), "a loop");
    }

    #[test]
    fn what_a_mark_names() {
        let mark: Mark = "underlay:web:0:77:4242:lan".parse().unwrap();
        let netns = Netns { device: 4, inode: 5, path: None };
        let kept = Netns { path: Some("/run/netns/web".into()), ..netns.clone() };
        for netns in [&netns, &kept] {
            let holder = made_for(&mark, netns).unwrap();
            assert_eq!((holder.stamp(), holder.netns()), ((77, 4242), netns));
            assert!(holder.process().is_some());
        }
        let mark = Mark { pid: 0, ..mark };
        assert_eq!(made_for(&mark, &netns), None);
        let holder = made_for(&mark, &kept).unwrap();
        assert_eq!((holder.stamp(), holder.netns()), ((0, 4242), &kept));
        assert!(holder.process().is_none());
    }
}
