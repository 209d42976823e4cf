//! The reservation of the host's own link in a network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::Wanted;
use crate::ipam::lease_table::LeaseTable;
use crate::ipam::reserve::Present;
use crate::ledger::host_link::{self, HostLink};
use crate::ledger::lease_link::{host_lease_target, leased_to_host};
use crate::ledger::record::VERSION;
use crate::ledger::{Holding, Locked};
use crate::net::link::Link;
use crate::net::name::{IfName, NetworkName};

impl Locked<'_> {
    /// Picks the addresses of the host's links of the networks in `wanted` that are to have one, and writes them down,
    /// unless that was done before. `present` is what the host itself has and knows.
    ///
    /// # Errors
    /// [`Kind::Exhausted`] when no address is left, [`Kind::Taken`] when the one that is named is somebody else's.
    pub(crate) fn reserve_host_links(&self, wanted: &[Wanted], present: &Present) -> Result<()> {
        for Wanted { network, parent, .. } in
            wanted.iter().filter(|wanted| wanted.network.file.host_access.is_some())
        {
            self.reserve_host_link(network, parent, present)?;
        }
        Ok(())
    }

    /// The same for one network, which is to have a host's link on `parent`.
    ///
    /// # Errors
    /// As [`Self::reserve_host_links`].
    pub(crate) fn reserve_host_link(
        &self,
        network: &Network,
        parent: &Link,
        present: &Present,
    ) -> Result<()> {
        let mut draft = Draft::new(LeaseTable::real(self), network, parent.segment());
        let reserved = draft.reserve(self, parent, present);
        reserved.inspect_err(|_| draft.leasing.give_back())
    }
}

/// The reservation of a host's link while it is made.
pub(crate) struct Draft<'a> {
    pub(crate) leasing: LeaseTable<'a>,
    network: &'a Network,
    segment: u32,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(leasing: LeaseTable<'a>, network: &'a Network, segment: u32) -> Self {
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
    pub(crate) fn known(&self) -> Result<Option<HostLink>> {
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
    pub(crate) fn link(
        &mut self,
        known: Option<&HostLink>,
        parent: &Link,
        present: &Present,
    ) -> Result<HostLink> {
        let network = self.network;
        // Those that another host has are not kept, unless the network names them: then that is told.
        let aside = self.set_aside();
        let is_ours = |known: &&HostLink| {
            known.ifindex.is_some() || !known.addresses.iter().any(|address| aside.contains(address))
        };
        if let Some(known) = known.filter(|known| self.fits(known, parent)).filter(is_ours) {
            return Ok(known.clone());
        }
        // Made anew it would have no routes to containers that are not found.
        let is_same = |known: &&HostLink| known.segment == self.segment && known.suits(network);
        if let Some(known) = known.filter(is_same) {
            if self.leasing.store.is_in_doubt()? {
                return Ok(known.clone());
            }
        }
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
            mtu: network.file.mtu,
            mac: known.filter(|known| known.driver == network.driver).and_then(|known| known.mac),
            addresses,
            // What a killed process has left bears that name.
            born_as: known
                .map_or_else(|| IfName::temporary(std::process::id()), |known| known.born_as.clone()),
            kept: known.is_some_and(|known| known.kept),
            ifindex: None,
        })
    }

    /// The addresses of the segment that other hosts have.
    fn set_aside(&self) -> BTreeSet<IpAddr> {
        self.leasing.store.quarantined(self.segment).into_iter().map(|(address, _)| address).collect()
    }

    /// Whether all is as it was when the link was written down.
    fn fits(&self, known: &HostLink, parent: &Link) -> bool {
        let network = self.network;
        let place = (network.driver, &network.parent, parent.ifindex, self.segment, network.file.mtu);
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
        if let Some(named) = network.file.host_access.as_ref().and_then(|access| access.of_family(is_v4)) {
            return if self.lease(named)? { Ok(Some(named)) } else { Err(self.taken(named)?) };
        }
        let is_reserved = |address: &IpAddr| network.reservations.holder((*address).into()).is_some();
        let usable = |address: &IpAddr| {
            !is_reserved(address)
                && network.subnet_of(*address).is_some_and(|subnet| !subnet.is_reserved(*address))
        };
        let set_aside = self.set_aside();
        let before = known.and_then(|known| known.addresses.iter().copied().find(of_family));
        let before = before.filter(|address| usable(address) && !set_aside.contains(address));
        if let Some(address) = before {
            if self.lease(address)? {
                return Ok(Some(address));
            }
        }
        let mut subnets = network.subnets.iter().filter(|subnet| of_family(&subnet.net().addr())).peekable();
        if subnets.peek().is_none() {
            return Ok(None);
        }
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
        Ok(self.leasing.lease(self.segment, claim, &host_lease_target(name))?
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
