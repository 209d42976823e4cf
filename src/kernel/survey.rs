//! All the links of containers that the kernel has, in whatever namespace.

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

/// Who has CAP_NET_ADMIN in a namespace makes as many links there, addresses and routes as he likes. No attach makes more
/// than this: what is beyond is none of ours.
const MOST_LINKS: usize = 256;
const MOST_ADDRESSES: usize = 1024;
const MOST_ROUTES: usize = 256;

/// A link that bears the mark of a container, with all that a record says of it.
#[derive(Clone, Debug)]
pub(crate) struct SurveyedLink {
    /// Whose it says it is.
    pub alias: Alias,
    /// The namespace it lies in, with a path that keeps it, if there is one.
    pub netns: Netns,
    /// The link itself.
    pub link: Link,
    /// The number of its parent on the host.
    pub parent_index: u32,
    /// Its addresses that were given to keep.
    pub addresses: Vec<IpNet>,
    /// Its routes besides those the addresses make.
    pub routes: Vec<Route>,
    /// The routes of its own, if there are any.
    pub table: Option<Table>,
}

impl SurveyedLink {
    /// Whether underlay has marked it, and nobody has changed what it says since.
    pub(crate) fn is_proven(&self, key: Option<&Key>) -> bool {
        key.is_some_and(|key| key.proves(&self.alias, &self.link, &self.netns))
    }
}

/// What there is to see in all network namespaces but the host's.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The marked links whose parents lie in the host's namespace.
    pub seen: Vec<SurveyedLink>,
    /// What leads to each namespace, by its inode.
    namespaces: BTreeMap<u64, Vec<Keeper>>,
    /// Whether these are all.
    is_listed: bool,
    /// Those that could not be looked into.
    unread: BTreeSet<u64>,
}

/// What keeps a namespace, and leads to it.
#[derive(Clone, Debug)]
enum Keeper {
    Mount(PathBuf),
    Process(PathBuf),
}

/// Looks into all namespaces that a process is in or a mount keeps, into one after the other. `home` is the host's.
///
/// One that cannot be read is warned of and left alone: who made it may have meant just that.
///
/// # Errors
/// When the kernel does not tell which there are.
pub(crate) fn survey(home: &NetnsFile) -> Result<Survey> {
    let (mut namespaces, is_listed) = namespaces()?;
    namespaces.remove(&home.inode());
    let all = namespaces.keys().copied().collect();
    let mut survey = Survey { seen: Vec::new(), namespaces, is_listed, unread: BTreeSet::new() };
    survey.look_again(&all, home);
    Ok(survey)
}

/// The namespace `netns`, and a path to it, if a process is in it or a mount keeps it: looked for among all that there are.
///
/// # Errors
/// When the kernel does not tell which there are.
pub(crate) fn find_netns(netns: &Netns) -> Result<Option<(PathBuf, NetnsFile)>> {
    let (mut namespaces, _) = namespaces()?;
    for Keeper::Mount(path) | Keeper::Process(path) in namespaces.remove(&netns.inode).unwrap_or_default() {
        if let Ok(Some(found)) = NetnsFile::at_path(&path, netns) {
            return Ok(Some((path, found)));
        }
    }
    Ok(None)
}

impl Survey {
    /// Whether nothing can have escaped it.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_listed && self.unread.is_empty()
    }

    /// Whether a mark names `container`. Proven or not, it may be the only sign of one that lives.
    pub(crate) fn shows(&self, container: &ContainerId) -> bool {
        self.seen.iter().any(|seen| seen.alias.mark.container == *container)
    }

    /// The process that has been for the longest time in the namespace with this inode, and when it started; `None` if
    /// there is none.
    pub(crate) fn first_process_in(&self, inode: u64) -> Option<(i32, u64)> {
        let keepers = self.namespaces.get(&inode).map_or(&[][..], Vec::as_slice);
        let pid = |keeper: &Keeper| match keeper {
            Keeper::Process(path) => path.iter().nth(2)?.to_str()?.parse().ok(),
            Keeper::Mount(_) => None,
        };
        let found = keepers.iter().filter_map(pid).filter_map(|pid| {
            let process = Process::open(pid).ok()?;
            // It may have gone elsewhere since.
            let is_there = process.netns().is_ok_and(|netns| netns.inode() == inode);
            is_there.then_some((process.start_time(), pid))
        });
        found.min().map(|(start_time, pid)| (pid, start_time))
    }

    /// Looks once more into the namespaces with these inodes, and forgets what was seen there.
    pub(crate) fn look_again(&mut self, inodes: &BTreeSet<u64>, home: &NetnsFile) {
        self.seen.retain(|seen| !inodes.contains(&seen.netns.inode));
        for &inode in inodes {
            self.unread.remove(&inode);
            match look(inode, self.namespaces.get(&inode).map_or(&[], Vec::as_slice), home) {
                Ok(seen) => self.seen.extend(seen),
                Err(error) => {
                    let error = error.within(format!("network namespace net:[{inode}]"));
                    log::warn!("{error}: it is left alone, and whoever is in it counts as alive");
                    self.unread.insert(inode);
                }
            }
        }
    }
}

/// The marked links of a namespace; none if it is gone meanwhile.
fn look(inode: u64, keepers: &[Keeper], home: &NetnsFile) -> Result<Vec<SurveyedLink>> {
    let mut outcome = Ok(Vec::new());
    for keeper in keepers {
        let (Keeper::Mount(path) | Keeper::Process(path)) = keeper;
        match NetnsFile::known(path, inode, home) {
            Ok(Some(netns)) => {
                let kept = matches!(keeper, Keeper::Mount(_)).then_some(path.as_path());
                return netns.inside(|| marked(&netns, kept, home));
            }
            Ok(None) => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// The marked links of the namespace this thread is in.
fn marked(netns: &NetnsFile, path: Option<&Path>, home: &NetnsFile) -> Result<Vec<SurveyedLink>> {
    if has_loopback_alone()? {
        return Ok(Vec::new());
    }
    let mut inside = Socket::open()?;
    let alias = |link: Link| Some((link.alias.as_deref()?.parse::<Alias>().ok()?, link.elsewhere?, link));
    let mut marked: Vec<_> = inside.links()?.into_iter().filter_map(alias).collect();
    if marked.is_empty() {
        return Ok(Vec::new());
    }
    // Only who has a link of the host's makes others with parents there.
    let home = inside.nsid(home)?;
    marked.retain(|(_, parent, _)| Some(parent.nsid) == home);
    if marked.len() > MOST_LINKS {
        return Err(Error::input(format!("more than {MOST_LINKS} links bear marks of containers")));
    }
    let contents = inside.contents(&marked.iter().map(|(_, _, link)| link.ifindex).collect())?;
    // What leads nowhere tells not whose it is, but where there is but one to have it.
    let first = marked.first().map(|(alias, ..)| alias.mark.container.clone());
    let alone = marked.iter().all(|(alias, ..)| Some(&alias.mark.container) == first.as_ref());
    // Of two rules from one address the first holds; there may be as many as somebody likes.
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

/// Whether the namespace this thread is in has no link but `lo`, as many have while containers are made. rtnetlink would
/// wait for its lock to say so, for which whoever makes a container queues; proc_net(5) needs none.
fn has_loopback_alone() -> Result<bool> {
    let path = Path::new("/proc/thread-self/net/dev");
    let text = fs::read_to_string(path).map_err(|error| Error::io("read", path, &error))?;
    Ok(text.lines().skip(HEADINGS).all(|line| line.trim_start().starts_with("lo:")))
}

/// Lines of `/proc/net/dev` before the links.
const HEADINGS: usize = 2;

/// The network namespaces there are, by inode, with what leads to each: mounts, then processes; and whether that of no
/// process is kept from us.
fn namespaces() -> Result<(BTreeMap<u64, Vec<Keeper>>, bool)> {
    let mut is_listed = true;
    let mut found: BTreeMap<u64, Vec<Keeper>> = BTreeMap::new();
    let mounts = Path::new("/proc/self/mountinfo");
    let text = fs::read(mounts).map_err(|error| Error::io("read", mounts, &error))?;
    for (inode, path) in text.split(|&byte| byte == b'\n').filter_map(mounted) {
        found.entry(inode).or_default().push(Keeper::Mount(path));
    }
    let processes = Path::new("/proc");
    let failed = |error: io::Error| Error::io("read", processes, &error);
    for entry in fs::read_dir(processes).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let path = entry.path().join("ns/net");
        match leads_to(&path) {
            Ok(inode) => note(&mut found, inode, path),
            // Gone meanwhile; or its first thread has ended, and others have not.
            Err(error) if is_absent(&error) => {
                let pid = entry.file_name().to_string_lossy().parse().unwrap_or_default();
                for path in process::threads(pid).into_iter().map(|thread| entry.path().join(thread)) {
                    note(&mut found, leads_to(&path).ok().flatten(), path);
                }
            }
            Err(error) => {
                is_listed = false;
                // A security module may say so of many.
                if error.kind() != io::ErrorKind::PermissionDenied {
                    log::warn!("{}", Error::io("read", &path, &error));
                }
            }
        }
    }
    Ok((found, is_listed))
}

/// The inode of the network namespace that `path` in /proc leads to.
fn leads_to(path: &Path) -> io::Result<Option<u64>> {
    fs::read_link(path).map(|name| inode(name.as_os_str().as_encoded_bytes()))
}

fn note(found: &mut BTreeMap<u64, Vec<Keeper>>, inode: Option<u64>, path: PathBuf) {
    if let Some(inode) = inode {
        found.entry(inode).or_default().push(Keeper::Process(path));
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The inode and path of a network namespace, if that is what a line of proc_pid_mountinfo(5) mounts.
fn mounted(line: &[u8]) -> Option<(u64, PathBuf)> {
    let mut fields = line.split(|&byte| byte == b' ').skip(3);
    let (root, path) = (fields.next()?, fields.next()?);
    Some((inode(root)?, PathBuf::from(OsString::from_vec(unescape(path)))))
}

/// N of `net:[N]`, as the kernel names a network namespace.
fn inode(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name.strip_prefix(b"net:[")?.strip_suffix(b"]")?).ok()?.parse().ok()
}

/// The path in a field of mountinfo, where white space and backslashes stand as `\ooo`.
fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(field.len());
    while let Some((&first, rest)) = field.split_first() {
        let octal = |bytes: &[u8]| u8::from_str_radix(std::str::from_utf8(bytes).ok()?, 8).ok();
        match rest.get(..3).and_then(octal).filter(|_| first == b'\\') {
            Some(byte) => {
                path.push(byte);
                field = rest.get(3..).unwrap_or_default();
            }
            None => {
                path.push(first);
                field = rest;
            }
        }
    }
    path
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
