//! Survey of all network namespaces: finds the links with marks of containers.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::libc;

use super::netns::NetnsFile;
use super::process::{self, Process};
use crate::error::{Error, Result};
use crate::net::link::Link;
use crate::net::name::ContainerId;
use crate::net::netns::Netns;
use crate::net::route::{Route, Table};
use crate::net::seal::{Alias, Key};
use crate::netlink::Socket;

/// A process with CAP_NET_ADMIN in a namespace can make any number of links, addresses and routes there. No attach makes
/// more than this, so the rest is not ours.
const MOST_LINKS: usize = 256;
const MOST_ADDRESSES: usize = 1024;
const MOST_ROUTES: usize = 256;

/// A link with the mark of a container, and the properties that a record has.
#[derive(Clone, Debug)]
pub(crate) struct SurveyedLink {
    /// Its mark and seal.
    pub alias: Alias,
    /// Its namespace, with a path that keeps it, if there is one.
    pub netns: Netns,
    pub link: Link,
    /// The ifindex of its parent on the host.
    pub parent_index: u32,
    /// Its addresses, except those of IPv6 that are link-local or from a router.
    pub addresses: Vec<IpNet>,
    /// Its routes besides those the addresses make.
    pub routes: Vec<Route>,
    /// Its own routing table, if it has one.
    pub table: Option<Table>,
}

impl SurveyedLink {
    /// Returns true if underlay has sealed its mark, and neither mark nor link has changed.
    pub(crate) fn is_proven(&self, key: Option<&Key>) -> bool {
        key.is_some_and(|key| key.proves(&self.alias, &self.link, &self.netns))
    }
}

/// The marked links and the processes of all network namespaces except the host's.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The inode of the host's namespace.
    pub host: u64,
    /// The marked links whose parents lie in the host's namespace.
    pub seen: Vec<SurveyedLink>,
    /// What leads to each namespace, by its inode.
    namespaces: BTreeMap<u64, Vec<Keeper>>,
    /// True if `namespaces` lists all.
    is_listed: bool,
    /// The namespaces that could not be surveyed.
    unread: BTreeSet<u64>,
}

/// What keeps a namespace.
#[derive(Clone, Debug)]
struct Keeper {
    /// The process, unless it is a mount.
    pid: Option<i32>,
    /// The path that leads to the namespace.
    path: PathBuf,
}

/// Surveys all namespaces with a process or a mount, one after the other. `host_netns` is the host's.
///
/// A namespace that cannot be read is logged and left alone: its owner may have made it unreadable on purpose.
pub(crate) fn survey(host_netns: &NetnsFile) -> Result<Survey> {
    let (mut namespaces, is_listed) = namespaces()?;
    namespaces.remove(&host_netns.inode());
    let (all, host) = (namespaces.keys().copied().collect(), host_netns.inode());
    let mut survey = Survey { host, seen: Vec::new(), namespaces, is_listed, unread: BTreeSet::new() };
    survey.look_again(&all, host_netns);
    Ok(survey)
}

/// Searches all processes and mounts for the namespace `netns`, and returns it with a path to it.
pub(crate) fn find_netns(netns: &Netns) -> Result<Option<(PathBuf, NetnsFile)>> {
    let (mut namespaces, _) = namespaces()?;
    for Keeper { path, .. } in namespaces.remove(&netns.inode).unwrap_or_default() {
        if let Ok(Some(found)) = NetnsFile::at_path(&path, netns) {
            return Ok(Some((path, found)));
        }
    }
    Ok(None)
}

/// Whether a process is in the namespace `netns`.
///
/// # Errors
/// When the processes cannot be listed.
pub(crate) fn has_process(netns: &Netns) -> Result<bool> {
    let (namespaces, _) = namespaces()?;
    Ok(namespaces.get(&netns.inode).is_some_and(|keepers| keepers.iter().any(|keeper| keeper.pid.is_some())))
}

impl Survey {
    /// Returns true if the survey is complete.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_listed && self.unread.is_empty()
    }

    /// Returns true if a mark names `container`. Even without a proof, it may be the only sign of a living container.
    pub(crate) fn shows(&self, container: &ContainerId) -> bool {
        self.seen.iter().any(|seen| seen.alias.mark.container == *container)
    }

    /// Returns the oldest process in the namespace with this inode, and its start time; `None` if there is none.
    pub(crate) fn first_process_in(&self, inode: u64) -> Option<(i32, u64)> {
        let pids = self.namespaces.get(&inode)?.iter().filter_map(|keeper| keeper.pid);
        let found = pids.filter_map(|pid| {
            let process = Process::open(pid).ok()?;
            // It may have left the namespace since.
            let is_there = process.netns().is_ok_and(|netns| netns.inode() == inode);
            is_there.then_some((process.start_time(), pid))
        });
        found.min().map(|(start_time, pid)| (pid, start_time))
    }

    /// Surveys the namespaces with these inodes again, in place of the earlier result.
    pub(crate) fn look_again(&mut self, inodes: &BTreeSet<u64>, host_netns: &NetnsFile) {
        self.seen.retain(|seen| !inodes.contains(&seen.netns.inode));
        for &inode in inodes {
            self.unread.remove(&inode);
            match look(inode, self.namespaces.get(&inode).map_or(&[], Vec::as_slice), host_netns) {
                Ok(seen) => self.seen.extend(seen),
                Err(error) => {
                    let error = error.within(format!("network namespace net:[{inode}]"));
                    log::warn!("{error}: it is left alone, and its containers count as alive");
                    self.unread.insert(inode);
                }
            }
        }
    }
}

/// Returns the marked links of a namespace; none if it is gone.
fn look(inode: u64, keepers: &[Keeper], host_netns: &NetnsFile) -> Result<Vec<SurveyedLink>> {
    let mut outcome = Ok(Vec::new());
    for Keeper { pid, path } in keepers {
        match NetnsFile::known(path, inode, host_netns) {
            Ok(Some(netns)) => {
                let kept = pid.is_none().then_some(path.as_path());
                return netns.inside(|| marked(&netns, kept, host_netns));
            }
            Ok(None) => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// Returns the marked links of this thread's namespace.
fn marked(netns: &NetnsFile, path: Option<&Path>, host_netns: &NetnsFile) -> Result<Vec<SurveyedLink>> {
    if has_loopback_alone()? {
        return Ok(Vec::new());
    }
    let mut inside = Socket::open()?;
    let alias = |link: Link| Some((link.alias.as_deref()?.parse::<Alias>().ok()?, link.elsewhere?, link));
    let mut marked: Vec<_> = inside.links()?.into_iter().filter_map(alias).collect();
    if marked.is_empty() {
        return Ok(Vec::new());
    }
    // Only a process that controls a link of the host can make links with parents there.
    let host_nsid = inside.nsid(host_netns)?;
    marked.retain(|(_, parent, _)| Some(parent.nsid) == host_nsid);
    if marked.len() > MOST_LINKS {
        return Err(Error::input(format!("more than {MOST_LINKS} links bear marks of containers")));
    }
    let contents = inside.contents(&marked.iter().map(|(_, _, link)| link.ifindex).collect())?;
    // A blackhole route names no link. It can be attributed only if one container uses the namespace.
    let first = marked.first().map(|(alias, ..)| alias.mark.container.clone());
    let alone = marked.iter().all(|(alias, ..)| Some(&alias.mark.container) == first.as_ref());
    // The first of several rules from one address applies.
    let rules: BTreeMap<_, _> = contents.rules().iter().rev().copied().collect();
    let mut seen = Vec::new();
    for (alias, parent, link) in marked {
        let mut addresses = contents.addresses_of(link.ifindex).to_vec();
        addresses.truncate(MOST_ADDRESSES);
        let routes = |table| contents.routes_of(link.ifindex, table).take(MOST_ROUTES);
        let is_its = |route: &Route| route.is_unicast() || (alone && alias.mark.index == 0);
        let id = addresses.iter().find_map(|net| rules.get(&net.addr()).copied());
        seen.push(SurveyedLink {
            netns: netns.describe(path),
            parent_index: parent.ifindex,
            routes: routes(None).filter(is_its).collect(),
            table: id.map(|id| Table { id, routes: routes(Some(id)).collect() }),
            addresses,
            alias,
            link,
        });
    }
    Ok(seen)
}

/// Returns true if this thread's namespace has no link but `lo`, as is common while containers are made. rtnetlink would
/// wait for its lock, which each start of a container needs; proc_net(5) needs none.
fn has_loopback_alone() -> Result<bool> {
    let path = Path::new("/proc/thread-self/net/dev");
    let text = fs::read_to_string(path).map_err(|error| Error::io("read", path, &error))?;
    Ok(text.lines().skip(HEADINGS).all(|line| line.trim_start().starts_with("lo:")))
}

/// Lines of `/proc/net/dev` before the links.
const HEADINGS: usize = 2;

/// Returns the network namespaces by inode, each with the mounts and then the processes that lead to it; and true if the
/// namespace of every process could be read.
fn namespaces() -> Result<(BTreeMap<u64, Vec<Keeper>>, bool)> {
    let mut is_listed = true;
    let mut found: BTreeMap<u64, Vec<Keeper>> = BTreeMap::new();
    let mounts = Path::new("/proc/self/mountinfo");
    let text = fs::read(mounts).map_err(|error| Error::io("read", mounts, &error))?;
    for (inode, path) in text.split(|&byte| byte == b'\n').filter_map(mounted) {
        found.entry(inode).or_default().push(Keeper { pid: None, path });
    }
    let processes = Path::new("/proc");
    let failed = |error: io::Error| Error::io("read", processes, &error);
    for entry in fs::read_dir(processes).map_err(failed)? {
        let folder = entry.map_err(failed)?.path();
        let pid = folder.file_name().and_then(|name| name.to_str()?.parse().ok());
        let Some(pid) = pid else { continue };
        let mut note = |path: PathBuf| -> io::Result<()> {
            if let Some(inode) = inode(fs::read_link(&path)?.as_os_str().as_encoded_bytes()) {
                found.entry(inode).or_default().push(Keeper { pid: Some(pid), path });
            }
            Ok(())
        };
        let path = folder.join("ns/net");
        match note(path.clone()) {
            Ok(()) => {}
            // The process has exited, or only its first thread has.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                // A thread may have ended since.
                process::threads(pid).iter().for_each(|thread| drop(note(folder.join(thread))));
            }
            Err(error) => {
                is_listed = false;
                // A security module may deny access to many processes.
                if error.kind() != io::ErrorKind::PermissionDenied {
                    log::warn!("{}", Error::io("read", &path, &error));
                }
            }
        }
    }
    Ok((found, is_listed))
}

/// Returns the inode and path of a network namespace, if a line of proc_pid_mountinfo(5) mounts one.
fn mounted(line: &[u8]) -> Option<(u64, PathBuf)> {
    let mut fields = line.split(|&byte| byte == b' ').skip(3);
    let (root, path) = (fields.next()?, fields.next()?);
    Some((inode(root)?, PathBuf::from(OsString::from_vec(unescape(path)?))))
}

/// Returns N of `net:[N]`, the kernel's name of a network namespace.
fn inode(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name.strip_prefix(b"net:[")?.strip_suffix(b"]")?).ok()?.parse().ok()
}

/// Returns the path in a field of mountinfo, where white space and backslashes are written as `\ooo`.
fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    let mut parts = field.split(|&byte| byte == b'\\');
    let mut path = parts.next()?.to_vec();
    for part in parts {
        let (octal, rest) = part.split_at_checked(3)?;
        path.push(u8::from_str_radix(std::str::from_utf8(octal).ok()?, 8).ok()?);
        path.extend(rest);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let read =
            |line: &str| mounted(line.as_bytes()).map(|(inode, path)| (inode, path.display().to_string()));
        assert_eq!(
            read("640 25 0:4 net:[4026532264] /run/netns/my\\040lan\\134 rw shared:5 - nsfs nsfs rw"),
            Some((4_026_532_264, "/run/netns/my lan\\".to_owned()))
        );
        for line in [
            "",
            "22 1 0:21 / /proc rw,nosuid - proc proc rw",
            "640 25 0:4 mnt:[4026532264] /run/mnt rw - nsfs nsfs rw",
            "640 25 0:4 net:[x] /run/netns/a rw - nsfs nsfs rw",
            "640 25 0:4 net:[1]",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
