//! The ledger's list of the host's own links: `host_links/NETWORK.json`, and the leases of their addresses.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::leasing::Leasing;
use super::{Holding, Locked, Present, Store, names_in, remove, write_state};
use crate::assign::Wanted;
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::host_link::{self, HostLink};
use crate::net::claim::Claim;
use crate::net::link::Link;
use crate::net::name::{ContainerId, IfName, NetworkName};
use crate::record::VERSION;

impl Store {
    /// What is known of the host's link of `network`, if it has or had one.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn host_link(&self, network: &NetworkName) -> Result<Option<HostLink>> {
        let path = self.host_link_path(network);
        let Some(link) = self.read_state::<HostLink>(&path)? else { return Ok(None) };
        if link.network != *network || link.name != host_link::name(network) {
            let text =
                format!("{} is the record of {} in network {}", path.display(), link.name, link.network);
            return Err(Error::new(Kind::Damaged, text).hint(super::REBUILD));
        }
        Ok(Some(link))
    }

    /// The networks in which the host has or had a link.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn host_links(&self) -> Result<Vec<NetworkName>> {
        names_in(&self.host_links_dir())
    }

    /// Whether a container holds addresses to which the host's link of `network` is to lead.
    ///
    /// # Errors
    /// When records cannot be listed.
    pub fn needs_host_link(&self, network: &NetworkName) -> Result<bool> {
        for id in names_in::<ContainerId>(&self.containers_dir())? {
            match self.record(&id) {
                Ok(Some(record)) if record.uses_host_link(network) => return Ok(true),
                Ok(_) => {}
                // Who knows what it needs?
                Err(error) if error.kind().is_of_one_file() => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether `link` stays without a container that needs it: it is kept, and what its network wants now.
    pub fn keeps_host_link(&self, link: &HostLink) -> bool {
        link.kept
            && match self.network(&link.network) {
                Ok(network) => link.suits(&network),
                // A definition that is wrong, or cannot be read for now, may mean it.
                Err(error) => error.kind() != Kind::NotFound,
            }
    }

    /// The network in which the host holds `address` on `segment`, by the lease and the record of its link.
    ///
    /// # Errors
    /// When the lease or the record cannot be read.
    pub fn host_holding(&self, segment: u32, claim: Claim) -> Result<Option<NetworkName>> {
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

    /// The files of the ledger that are the record of `link` and its leases.
    pub fn paths_of_host_link(&self, link: &HostLink) -> Vec<PathBuf> {
        let leases = link.addresses.iter().map(|&address| self.lease_path(link.segment, address.into()));
        leases.chain([self.host_link_path(&link.network)]).collect()
    }

    pub(super) fn host_links_dir(&self) -> PathBuf {
        self.state_dir.join("host_links")
    }

    /// Where the host's link of `network` is written down.
    pub fn host_link_path(&self, network: &NetworkName) -> PathBuf {
        self.host_links_dir().join(format!("{network}.json"))
    }
}

/// The network whose host's link the lease at `path` names; `None` if it is no such lease.
fn leased_to_host(path: &Path) -> Result<Option<NetworkName>> {
    let target = match fs::read_link(path) {
        Ok(target) => target,
        // Gone, or no symbolic link.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("read", path, &error)),
    };
    let network = || target.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok();
    Ok(network().filter(|network| target == lease_target(network)))
}

/// What a lease of the host's link of `network` points to.
fn lease_target(network: &NetworkName) -> PathBuf {
    PathBuf::from(format!("../../host_links/{network}.json"))
}

impl Locked<'_> {
    /// Picks the addresses of the host's links of the networks in `wanted` that are to have one, and writes them down,
    /// unless that was done before. `present` is what the host itself has and knows.
    ///
    /// # Errors
    /// [`Kind::Exhausted`] when no address is left, [`Kind::Taken`] when the one that is named is somebody else's.
    pub fn reserve_host_links(&self, wanted: &[Wanted], present: &Present) -> Result<()> {
        for Wanted { network, parent, .. } in
            wanted.iter().filter(|wanted| wanted.network.host_access.is_some())
        {
            self.reserve_host_link(network, parent, present)?;
        }
        Ok(())
    }

    /// The same for one network, which is to have a host's link on `parent`.
    ///
    /// # Errors
    /// As [`Self::reserve_host_links`].
    pub fn reserve_host_link(&self, network: &Network, parent: &Link, present: &Present) -> Result<()> {
        let mut draft = Draft::new(Leasing::real(self), network, parent.segment());
        let reserved = draft.reserve(self, parent, present);
        reserved.inspect_err(|_| draft.leasing.give_back())
    }

    /// Writes down the host's link of a network.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_host_link(&self, link: &HostLink) -> Result<()> {
        write_state(&self.store.host_link_path(&link.network), link)
    }

    /// Writes a lease that the record of a host's link lists, in place of what is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_host_lease(&self, segment: u32, claim: Claim, network: &NetworkName) -> Result<()> {
        file::make_folder(&self.store.segment_dir(segment), 0o700)?;
        file::replace_link(&self.store.lease_path(segment, claim), &lease_target(network))
    }

    /// Gives back the addresses of the host's link, and forgets it.
    ///
    /// # Errors
    /// The record stays.
    pub fn forget_host_link(&self, link: &HostLink) -> Result<()> {
        self.release_host(link, |_| true)?;
        remove(&self.store.host_link_path(&link.network))
    }

    /// Removes the leases of those addresses of `link` that are `given_back`.
    fn release_host(&self, link: &HostLink, given_back: impl Fn(&IpAddr) -> bool) -> Result<()> {
        for &address in link.addresses.iter().filter(|address| given_back(address)) {
            let path = self.store.lease_path(link.segment, address.into());
            if leased_to_host(&path)?.is_some_and(|network| network == link.network) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// The reservation of a host's link while it is made.
pub(super) struct Draft<'a> {
    pub(super) leasing: Leasing<'a>,
    network: &'a Network,
    segment: u32,
}

impl<'a> Draft<'a> {
    pub(super) fn new(leasing: Leasing<'a>, network: &'a Network, segment: u32) -> Self {
        Self { leasing, network, segment }
    }

    fn reserve(&mut self, locked: &Locked<'_>, parent: &Link, present: &Present) -> Result<()> {
        let known = self.known()?;
        let link = self.link(known.as_ref(), parent, present)?;
        if known.as_ref() == Some(&link) {
            return Ok(());
        }
        locked.write_host_link(&link)?;
        let Some(known) = known else { return Ok(()) };
        // What it has no more; a kill before leaves leases that are nobody's.
        let kept = |address: &IpAddr| known.segment == self.segment && link.addresses.contains(address);
        locked.release_host(&known, |address| !kept(address))
    }

    /// What is written of the link.
    pub(super) fn known(&self) -> Result<Option<HostLink>> {
        match self.leasing.store.host_link(&self.network.name) {
            // What may be sound is not written over: no container of this network is attached meanwhile.
            Err(error) if error.kind() == Kind::Damaged => {
                ::log::warn!("{error}");
                Ok(None)
            }
            known => known,
        }
    }

    /// The link, with its addresses leased: as it is `known`, if that will do.
    pub(super) fn link(
        &mut self,
        known: Option<&HostLink>,
        parent: &Link,
        present: &Present,
    ) -> Result<HostLink> {
        if let Some(known) = known.filter(|known| self.fits(known, parent)) {
            return Ok(known.clone());
        }
        let network = self.network;
        let mut addresses = Vec::new();
        for is_v4 in [true, false] {
            addresses.extend(self.pick(is_v4, known, parent, present)?);
        }
        Ok(HostLink {
            version: VERSION,
            network: network.name.clone(),
            name: host_link::name(&network.name),
            driver: network.driver,
            parent: network.parent.clone(),
            parent_index: parent.ifindex,
            segment: self.segment,
            mtu: network.mtu,
            mac: known.filter(|known| known.driver == network.driver).and_then(|known| known.mac),
            addresses,
            // What a killed process has left bears that name.
            born_as: known
                .map_or_else(|| IfName::temporary(std::process::id()), |known| known.born_as.clone()),
            kept: known.is_some_and(|known| known.kept),
            in_doubt: known.is_some_and(|known| known.in_doubt),
            ifindex: None,
        })
    }

    /// Whether all is as it was when the link was written down.
    fn fits(&self, known: &HostLink, parent: &Link) -> bool {
        let network = self.network;
        let place = (network.driver, &network.parent, parent.ifindex, self.segment, network.mtu);
        (known.driver, &known.parent, known.parent_index, known.segment, known.mtu) == place
            && known.suits(network)
    }

    /// The address of a family: the one that is named, the one it had, or the first that is free.
    fn pick(
        &mut self,
        is_v4: bool,
        known: Option<&HostLink>,
        parent: &Link,
        present: &Present,
    ) -> Result<Option<IpAddr>> {
        let network = self.network;
        let of_family = |address: &IpAddr| address.is_ipv4() == is_v4;
        if let Some(named) = network.host_access.as_ref().and_then(|access| access.of_family(is_v4)) {
            return if self.lease(named)? { Ok(Some(named)) } else { Err(self.taken(named)?) };
        }
        let is_reserved = |address: &IpAddr| network.reservations.holder((*address).into()).is_some();
        let usable = |address: &IpAddr| {
            !is_reserved(address)
                && network.subnet_of(*address).is_some_and(|subnet| !subnet.is_reserved(*address))
        };
        let before = known.and_then(|known| known.addresses.iter().copied().find(of_family)).filter(usable);
        if let Some(address) = before
            && self.lease(address)?
        {
            return Ok(Some(address));
        }
        let mut subnets = network.subnets.iter().filter(|subnet| of_family(&subnet.net().addr())).peekable();
        if subnets.peek().is_none() {
            return Ok(None);
        }
        let set_aside: BTreeSet<_> =
            self.leasing.store.quarantined(self.segment).into_iter().map(|(address, _)| address).collect();
        let is_in_use = |address: &IpAddr| {
            let subnet = network.subnet_of(*address);
            let on = [parent.ifindex, parent.segment()];
            present.on_host.contains(address)
                || subnet.is_some_and(|subnet| present.ways.obstacle(*address, subnet.net(), on).is_some())
                || set_aside.contains(address)
                || present.neighbours.contains_key(&(parent.ifindex, *address))
        };
        for address in subnets.flat_map(|subnet| subnet.candidates(None)).map(|net| net.addr()) {
            if !is_in_use(&address) && !is_reserved(&address) && self.lease(address)? {
                return Ok(Some(address));
            }
        }
        let (name, family) = (&network.name, if is_v4 { "IPv4" } else { "IPv6" });
        Err(Error::new(
            Kind::Exhausted,
            format!("network {name} has no free {family} address left for the host"),
        )
        .hint(format!(
            "`underlay network inspect {name}` shows who holds them; stop a container or widen the range"
        )))
    }

    /// Leases `address` to the host, if nobody else holds it.
    fn lease(&mut self, address: IpAddr) -> Result<bool> {
        let (claim, name) = (address.into(), &self.network.name);
        let has = |network: NetworkName| network == *name;
        Ok(self.leasing.lease(self.segment, claim, &lease_target(name))?
            || leased_to_host(&self.leasing.store.lease_path(self.segment, claim))?.is_some_and(has))
    }

    fn taken(&self, address: IpAddr) -> Result<Error> {
        let by = match self.leasing.store.holding(self.segment, address.into())? {
            Holding::Container(record) => format!("container {}", record.container),
            Holding::Unknown(id) => format!("container {id}, whose record cannot be read"),
            Holding::Host(network) => format!("the host, in network {network}"),
            Holding::Nobody => {
                self.leasing.store.lease_path(self.segment, address.into()).display().to_string()
            }
        };
        let text =
            format!("address {address}, host_access of network {}, is held by {by}", self.network.name);
        Ok(Error::new(Kind::Taken, text).hint("name another address, or none to have a free one picked"))
    }
}
