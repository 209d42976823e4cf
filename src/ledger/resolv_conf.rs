//! The name servers of containers by DHCP, as files that engines mount: `dns/ID/resolv.conf`, and
//! `dns/by-identity/IDENTITY/resolv.conf` for containers with an identity, whose file is there before the container and stays
//! after it, so that it can be mounted. They are no part of the ledger: what they say is in the records.
//!
//! `dns/ID/engine` is a symbolic link to the file of an engine that has the same content, if there is one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Store, parsed_names, remove};
use crate::dhcp::domain_name::DomainName;
use crate::dhcp::lease::Lease;
use crate::error::Result;
use crate::fs::file;
use crate::fs::in_place::InPlace;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::net::name::{ContainerId, Identity, NetworkName};

/// The first line of what is written, up to where it comes from.
pub(crate) const FIRST_LINE: &str = "# Written by underlay from ";

const NAME: &str = "resolv.conf";
const BY_IDENTITY: &str = "by-identity";
/// How long the file of an identity that holds nothing stays: it may be made a while before its first container.
const UNUSED: Duration = Duration::from_secs(24 * 3600);

/// What is written for `record`: the name servers of its leases, those of its default route first. `None` if it uses none.
pub(crate) fn text(record: &Record) -> Option<String> {
    let told = |attached: &Attached| -> Vec<_> {
        attached.told_leases().map(|lease| (attached.network.clone(), lease)).collect()
    };
    let mut attachments: Vec<_> = record.attachments().iter().collect();
    attachments.sort_by_key(|attached| !attached.dhcp.as_ref().is_some_and(|dhcp| dhcp.default_route));
    let leases: Vec<_> = attachments.into_iter().flat_map(told).collect();
    let source = |(network, lease): &(NetworkName, Lease)| {
        format!("the DHCP lease of network {network}, by server {}", lease.server())
    };
    let sources: Vec<_> = leases.iter().map(source).collect();
    let mut seen = BTreeSet::new();
    let servers = leases.iter().flat_map(|(_, lease)| lease.dns());
    let servers: Vec<_> = servers.filter(|&server| seen.insert(server)).collect();
    let mut seen = BTreeSet::new();
    let domains = leases.iter().flat_map(|(_, lease)| lease.search());
    let domains: Vec<_> = domains.map(DomainName::as_str).filter(|&domain| seen.insert(domain)).collect();
    if servers.is_empty() && domains.is_empty() {
        return None;
    }
    let mut text = format!("{FIRST_LINE}{}: changes are lost.\n", sources.join(" and "));
    if !domains.is_empty() {
        text += &format!("search {}\n", domains.join(" "));
    }
    servers.iter().for_each(|server| text += &format!("nameserver {server}\n"));
    Some(text)
}

impl Store {
    fn dns_dir(&self) -> PathBuf {
        self.state_dir.join("dns")
    }

    fn dns_of(&self, container: &ContainerId) -> PathBuf {
        self.dns_dir().join(container.as_str())
    }

    fn dns_of_identity(&self, identity: &Identity) -> PathBuf {
        self.dns_dir().join(BY_IDENTITY).join(identity.as_str())
    }

    fn engine_link(&self, container: &ContainerId) -> PathBuf {
        self.dns_of(container).join("engine")
    }

    /// Returns the file of `identity`, which is made if it is missing.
    pub(crate) fn make_resolv_conf(&self, identity: &Identity) -> Result<PathBuf> {
        if self.folder()?.is_none() {
            self.make_folder()?;
        }
        let folder = self.dns_of_identity(identity);
        self.make_dns_folder(&folder)?;
        let path = folder.join(NAME);
        // Docker makes an empty folder of what is to be mounted and is not there.
        let _ = fs::remove_dir(&path);
        InPlace::open(&path, true)?;
        Ok(path)
    }

    fn open_resolv_conf(&self, folder: &Path) -> Result<InPlace> {
        self.make_dns_folder(folder)?;
        InPlace::open(&folder.join(NAME), true)
    }

    /// Makes `folder`, but not the state folder: a lost one is not made again by accident.
    fn make_dns_folder(&self, folder: &Path) -> Result<()> {
        let below: Vec<_> = folder.ancestors().take_while(|part| *part != self.state_dir).collect();
        below.into_iter().rev().try_for_each(|part| file::make_subfolder(part, 0o700))
    }

    /// Writes `text` into the files of the container of `record`.
    pub(crate) fn write_resolv_conf(&self, record: &Record, text: &str) -> Result<()> {
        let folders = [
            Some(self.dns_of(&record.container)),
            record.identity.as_ref().map(|id| self.dns_of_identity(id)),
        ];
        let mut folders = folders.into_iter().flatten();
        folders.try_for_each(|folder| self.open_resolv_conf(&folder)?.write(text.as_bytes()))
    }

    /// Notes that the file `path` of an engine has the same content as that of `container`.
    pub(crate) fn note_engine_file(&self, container: &ContainerId, path: &Path) -> Result<()> {
        self.make_dns_folder(&self.dns_of(container))?;
        file::replace_link(&self.engine_link(container), path)
    }

    /// Returns the file of an engine that has the same content as that of `container`, if there is one.
    pub(crate) fn engine_file(&self, container: &ContainerId) -> Result<Option<PathBuf>> {
        file::read_link(&self.engine_link(container))
    }

    /// Removes the file of `container`, but not that of its identity.
    pub(crate) fn remove_resolv_conf(&self, container: &ContainerId) -> Result<()> {
        let folder = self.dns_of(container);
        [folder.join(NAME), self.engine_link(container), folder].iter().try_for_each(|path| remove(path))
    }

    /// Returns the folders of containers that have no record, and of identities that are not known and that had no file for a
    /// day.
    pub(crate) fn stale_resolv_confs(&self) -> Result<Vec<PathBuf>> {
        let mut stale = Vec::new();
        // Read before the records, so that none of a container that comes now is stale.
        let containers: Vec<ContainerId> = parsed_names(&self.dns_dir(), "")?;
        let identities: Vec<Identity> = parsed_names(&self.dns_dir().join(BY_IDENTITY), "")?;
        for id in containers.iter().filter(|id| id.as_str() != BY_IDENTITY) {
            if !file::exists(&self.record_path(id))? {
                stale.push(self.dns_of(id));
            }
        }
        if identities.is_empty() {
            return Ok(stale);
        }
        let records = self.records()?;
        if !records.unknown.is_empty() {
            return Ok(stale);
        }
        for identity in identities {
            let folder = self.dns_of_identity(&identity);
            let is_held = records.sound.iter().any(|record| record.identity.as_ref() == Some(&identity));
            if !is_held && !self.has_affinity(&identity)? && is_old(&folder.join(NAME)) {
                stale.push(folder);
            }
        }
        Ok(stale)
    }
}

fn is_old(path: &Path) -> bool {
    let changed = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    changed.is_ok_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|age| age > UNUSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{
        "version": 2, "container": "web", "identity": "db", "state": "attached",
        "holder": {"pid": 7, "start_time": 8, "netns": {"device": 4, "inode": 5}}, "attachments": [LINKS]}"#;

    fn link(network: &str, more: &str, lease: &str) -> String {
        format!(
            r#"{{"network": "{network}", "driver": {{"kind": "macvlan", "mode": "bridge"}}, "parent": "eth0", "parent_index": 2,
                "segment": 2, "ifname": "eth0", "addresses": [], "routes": [],
                "dhcp": {{"client_id": "01020000000009", "vendor_class": "underlay", {more}
                    "lease": {{"server": "10.0.0.1", "mac": "02:00:00:00:00:09", "client_id": "01020000000009",
                        "address": "10.0.0.9/24", {lease} "times": {{"obtained": 0}}}}}}}}"#
        )
    }

    fn record(links: &[String]) -> Record {
        serde_json::from_str(&RECORD.replace("LINKS", &links.join(","))).unwrap()
    }

    #[test]
    fn what_is_written() {
        let dns = r#""dns": ["10.0.0.2", "10.0.0.3"], "domain": "b.example", "search": ["a.example", "b.example"],"#;
        let used = r#""dns": true,"#;
        let said = |links: &[String]| text(&record(links));
        let by_lan = "# Written by underlay from the DHCP lease of network lan, by server 10.0.0.1: changes are lost.\n";
        let servers = "nameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        assert_eq!(
            said(&[link("lan", used, dns)]).unwrap(),
            format!("{by_lan}search a.example b.example\n{servers}")
        );
        let domain = r#""domain": "b.example","#;
        assert_eq!(said(&[link("lan", used, domain)]).unwrap(), format!("{by_lan}search b.example\n"));
        assert_eq!(said(&[link("lan", "", dns)]), None);
        assert_eq!(said(&[link("lan", used, "")]), None);
        let other = r#""dns": ["10.0.0.3", "10.0.0.4"],"#;
        let with_route = r#""dns": true, "default_route": true,"#;
        let both = said(&[link("san", used, dns), link("lan", with_route, other)]).unwrap();
        let (first, rest) = both.split_once('\n').unwrap();
        assert!(
            first.contains("network lan, by server 10.0.0.1 and the DHCP lease of network san"),
            "{first}"
        );
        let servers = "nameserver 10.0.0.3\nnameserver 10.0.0.4\nnameserver 10.0.0.2\n";
        assert_eq!(rest, format!("search a.example b.example\n{servers}"));
    }

    #[test]
    fn files_of_containers_and_identities() {
        let folder = tempfile::tempdir().unwrap();
        let (path, data) = (folder.path().join("run"), folder.path().join("data"));
        let store = Store::new("/none".into(), path.clone(), data, "/none".into());
        let record = record(&[]);
        assert!(store.write_resolv_conf(&record, "a").is_err(), "the state folder is not made by it");
        let made = store.make_resolv_conf(&"db".parse().unwrap()).unwrap();
        assert_eq!(made, path.join("dns/by-identity/db/resolv.conf"));
        assert_eq!(fs::read_to_string(&made).unwrap(), "");
        store.write_resolv_conf(&record, "one\n").unwrap();
        let own = path.join("dns/web/resolv.conf");
        assert_eq!(fs::read_to_string(&own).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&made).unwrap(), "one\n");
        assert_eq!(store.make_resolv_conf(&"db".parse().unwrap()).unwrap(), made);
        assert_eq!(fs::read_to_string(&made).unwrap(), "one\n", "it keeps its content");
        store.note_engine_file(&record.container, Path::new("/x")).unwrap();
        assert_eq!(store.engine_file(&record.container).unwrap(), Some("/x".into()));
        // There is no record of it, and the identity is young.
        assert_eq!(store.stale_resolv_confs().unwrap(), [path.join("dns/web")]);
        let old = SystemTime::now() - UNUSED - Duration::from_secs(60);
        fs::File::options().write(true).open(&made).unwrap().set_modified(old).unwrap();
        assert_eq!(store.stale_resolv_confs().unwrap().len(), 2);
        store.remove_resolv_conf(&record.container).unwrap();
        store.remove_resolv_conf(&record.container).unwrap();
        assert!(!path.join("dns/web").exists() && made.exists());
    }
}
