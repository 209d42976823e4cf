//! All the links of containers that the kernel has, in whatever namespace.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::libc;

use super::netns::NetnsFile;
use super::socket::Socket;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::record::Netns;
use crate::route::{Route, Table};
use crate::seal::{Alias, Key};

/// A link that bears the mark of a container, with all that a record says of it.
#[derive(Clone, Debug)]
pub struct Seen {
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

impl Seen {
    /// Whether underlay has marked it, and nobody has changed what it says since.
    pub fn is_proven(&self, key: Option<&Key>) -> bool {
        key.is_some_and(|key| key.proves(&self.alias, &self.link, &self.netns))
    }
}

/// The marked links of all namespaces that a process is in or a mount keeps, as far as their parents lie in `home`, the
/// host's namespace.
///
/// # Errors
/// When a namespace cannot be looked into: then nothing is known.
pub fn survey(home: &NetnsFile) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for (netns, path) in namespaces()?.into_values() {
        if !netns.is(home) {
            seen.extend(netns.inside(|| marked(&netns, path.as_deref(), home))?);
        }
    }
    Ok(seen)
}

/// The marked links of the namespace this thread is in.
fn marked(netns: &NetnsFile, path: Option<&Path>, home: &NetnsFile) -> Result<Vec<Seen>> {
    if has_loopback_alone()? {
        return Ok(Vec::new());
    }
    let mut inside = Socket::open()?;
    let mark = |link: Link| Some((link.alias.as_deref()?.parse::<Alias>().ok()?, link));
    let marked: Vec<_> = inside.links()?.into_iter().filter_map(mark).collect();
    if marked.is_empty() {
        return Ok(Vec::new());
    }
    let home = inside.nsid(home)?;
    let rules = inside.rules()?;
    // What leads nowhere tells not whose it is, but where there is but one to have it.
    let first = marked.first().map(|(alias, _)| alias.mark.container.clone());
    let alone = marked.iter().all(|(alias, _)| Some(&alias.mark.container) == first.as_ref());
    let mut seen = Vec::new();
    for (alias, link) in marked {
        let Some(parent) = link.elsewhere.filter(|parent| Some(parent.nsid) == home) else { continue };
        let addresses = inside.addresses_of(link.ifindex)?;
        let mut routes = inside.routes_of(link.ifindex, None)?;
        routes.retain(|route| route.leads_on() || (alone && alias.mark.index == 0));
        let rule = rules.iter().find(|(from, _)| addresses.iter().any(|net| net.addr() == *from));
        let table = match rule {
            Some(&(_, id)) => Some(Table { id, routes: inside.routes_of(link.ifindex, Some(id))? }),
            None => None,
        };
        seen.push(Seen {
            alias,
            netns: netns.describe(path),
            parent_index: parent.ifindex,
            addresses,
            routes,
            table,
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

/// The network namespaces there are, by inode: those that mounts keep, with a path, then those of processes.
fn namespaces() -> Result<BTreeMap<u64, (NetnsFile, Option<PathBuf>)>> {
    let mut found = BTreeMap::new();
    let mounts = Path::new("/proc/self/mountinfo");
    let text = fs::read(mounts).map_err(|error| Error::io("read", mounts, &error))?;
    for (inode, path) in text.split(|&byte| byte == b'\n').filter_map(mounted) {
        if let Some(netns) = NetnsFile::at(&path)?.filter(|netns| netns.inode() == inode) {
            found.entry(inode).or_insert((netns, Some(path)));
        }
    }
    let processes = Path::new("/proc");
    let failed = |error: io::Error| Error::io("read", processes, &error);
    for entry in fs::read_dir(processes).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let path = entry.path().join("ns/net");
        let name = match fs::read_link(&path) {
            Ok(name) => name,
            // Gone meanwhile, or none of our business.
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(Error::io("read", &path, &error)),
        };
        let Some(inode) = inode(name.as_os_str().as_encoded_bytes()) else { continue };
        if !found.contains_key(&inode)
            && let Some(netns) = NetnsFile::at(&path)?.filter(|netns| netns.inode() == inode)
        {
            found.insert(inode, (netns, None));
        }
    }
    Ok(found)
}

fn is_absent(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [libc::ENOENT, libc::ESRCH, libc::EACCES, libc::EPERM].into_iter().any(|absent| errno == Some(absent))
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
