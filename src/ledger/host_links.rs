//! Records of the host's own links, `host_links/NETWORK.json`, and the leases of their addresses.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Locked, Store, names_in, remove, write_state};
use crate::error::{Error, Kind, Result};
use crate::ledger::host_link::{self, HostLink};
use crate::ledger::lease_link::leased_to_host;
use crate::net::lease_key::LeaseKey;
use crate::net::name::{ContainerId, NetworkName};

impl Store {
    /// Returns the record of the host's link of `network`, if there is one.
    pub(crate) fn host_link(&self, network: &NetworkName) -> Result<Option<HostLink>> {
        let path = self.host_link_path(network);
        let Some(link) = self.read_state::<HostLink>(&path)? else { return Ok(None) };
        if link.network != *network || link.name != host_link::name(network) {
            let text =
                format!("{} is the record of {} in network {}", path.display(), link.name, link.network);
            return Err(Error::new(Kind::Damaged, text).hint(super::REBUILD));
        }
        Ok(Some(link))
    }

    /// Returns the networks with a record of a host's link.
    pub(crate) fn host_links(&self) -> Result<Vec<NetworkName>> {
        names_in(&self.host_links_dir())
    }

    /// Returns true if a container uses the host's link of `network`.
    pub(crate) fn needs_host_link(&self, network: &NetworkName) -> Result<bool> {
        for id in names_in::<ContainerId>(&self.containers_dir())? {
            match self.record(&id) {
                Ok(Some(record)) if record.uses_host_link(network) => return Ok(true),
                Ok(_) => {}
                // An unreadable record may refer to the link: keep it.
                Err(error) if error.kind().is_of_one_file() => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Returns true if `link` stays without containers: it is kept, and matches the definition of its
    /// network.
    pub(crate) fn keeps_host_link(&self, link: &HostLink) -> bool {
        link.kept && self.may_be(&link.network, |network| link.suits(network))
    }

    /// Returns the network in which the host holds `claim` on `segment`, by the lease and the record of its
    /// link.
    pub(crate) fn host_holding(&self, segment: u32, claim: LeaseKey) -> Result<Option<NetworkName>> {
        let Some(network) = leased_to_host(&self.lease_path(segment, claim))? else { return Ok(None) };
        match self.host_link(&network) {
            Ok(Some(link))
                if link.segment == segment
                    && claim.address().is_some_and(|address| link.addresses.contains(&address)) =>
            {
                Ok(Some(network))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind().is_of_one_file() => Ok(Some(network)),
            Err(error) => Err(error),
        }
    }

    /// Returns the paths of the record of `link` and its leases.
    pub(crate) fn paths_of_host_link(&self, link: &HostLink) -> Vec<PathBuf> {
        let leases = link.addresses.iter().map(|&address| self.lease_path(link.segment, address.into()));
        leases.chain([self.host_link_path(&link.network)]).collect()
    }

    pub(crate) fn host_links_dir(&self) -> PathBuf {
        self.state_dir.join("host_links")
    }

    pub(crate) fn host_link_path(&self, network: &NetworkName) -> PathBuf {
        self.host_links_dir().join(format!("{network}.json"))
    }
}

impl Locked<'_> {
    pub(crate) fn write_host_link(&self, link: &HostLink) -> Result<()> {
        write_state(&self.store.host_link_path(&link.network), link)
    }

    /// Releases the addresses of the host's link, then removes its record.
    pub(crate) fn forget_host_link(&self, link: &HostLink) -> Result<()> {
        self.release_host(link, |_| true)?;
        remove(&self.store.host_link_path(&link.network))
    }

    /// Removes the leases of those addresses of `link` for which `given_back` is true.
    pub(crate) fn release_host(&self, link: &HostLink, given_back: impl Fn(&IpAddr) -> bool) -> Result<()> {
        for &address in link.addresses.iter().filter(|address| given_back(address)) {
            let path = self.store.lease_path(link.segment, address.into());
            if leased_to_host(&path)?.is_some_and(|network| network == link.network) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}
