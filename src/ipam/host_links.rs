//! The draft of the host's own link of a network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ipam::lease_table::{Leases, Owner};
use crate::ipam::reserve::HostFacts;
use crate::ledger::host_link::{self, HostLink};
use crate::ledger::record::VERSION;
use crate::net::link::Link;
use crate::net::name::IfName;

/// The record of the host's own link of a network while it is made.
pub(crate) struct HostLinkDraft<'a> {
    /// The network.
    pub network: &'a Network,
    /// The parent that the link is to be made on.
    pub parent: &'a Link,
    /// What the host itself has and knows.
    pub facts: &'a HostFacts,
    /// What the ledger says of the link.
    pub known: Option<&'a HostLink>,
    /// The addresses in quarantine on the segment of the parent.
    pub quarantine: BTreeSet<IpAddr>,
    /// The name that the link has until it is whole, if it is a new one.
    pub temporary: IfName,
}

impl HostLinkDraft<'_> {
    /// Returns the link with its addresses leased: unchanged, if the known one fits.
    ///
    /// # Errors
    /// [`Kind::Exhausted`] when no address is left, [`Kind::Taken`] when the one that is named has another holder.
    pub(crate) fn link(self, leases: &mut Leases<'_>) -> Result<HostLink> {
        let Self { network, parent, .. } = self;
        // An address that another host has is not kept. If the network names it, `pick` leases it again, and a probe tells.
        let is_ours = |known: &&HostLink| {
            known.ifindex.is_some()
                || !known.addresses.iter().any(|address| self.quarantine.contains(address))
        };
        if let Some(known) = self.known.filter(|known| self.fits(known)).filter(is_ours) {
            return Ok(known.clone());
        }
        // A new link would have no routes to containers whose records are missing.
        let is_same = |known: &&HostLink| known.segment == parent.segment() && known.suits(network);
        if let Some(known) = self.known.filter(is_same) {
            if leases.table.is_in_doubt()? {
                return Ok(known.clone());
            }
        }
        let mut addresses = Vec::new();
        for is_v4 in [true, false] {
            addresses.extend(self.pick(is_v4, leases)?);
        }
        let known = self.known;
        Ok(HostLink {
            version: VERSION,
            network: network.name.clone(),
            name: host_link::name(&network.name),
            driver: network.driver,
            parent: network.parent.clone(),
            parent_index: parent.ifindex,
            segment: parent.segment(),
            mtu: network.file.mtu,
            mac: known.filter(|known| known.driver == network.driver).and_then(|known| known.mac),
            addresses,
            // A link that a killed process has left has that name.
            born_as: known.map_or(self.temporary, |known| known.born_as.clone()),
            kept: known.is_some_and(|known| known.kept),
            ifindex: None,
        })
    }

    /// Returns true if network and parent are as they were when `known` was written.
    fn fits(&self, known: &HostLink) -> bool {
        let Self { network, parent, .. } = self;
        let place = (network.driver, &network.parent, parent.ifindex, parent.segment(), network.file.mtu);
        (known.driver, &known.parent, known.parent_index, known.segment, known.mtu) == place
            && known.suits(network)
    }

    /// Leases the address of a family: the one that the network names, the previous one, or the first that is free.
    fn pick(&self, is_v4: bool, leases: &mut Leases<'_>) -> Result<Option<IpAddr>> {
        let Self { network, parent, facts, .. } = *self;
        let segment = parent.segment();
        let of_family = |address: &IpAddr| address.is_ipv4() == is_v4;
        if let Some(named) = network.file.host_access.as_ref().and_then(|access| access.of_family(is_v4)) {
            if self.lease(named, leases)? {
                return Ok(Some(named));
            }
            let by = leases.table.held_by(segment, named.into())?;
            let text = format!("address {named}, host_access of network {}, is held by {by}", network.name);
            return Err(
                Error::new(Kind::Taken, text).hint("name another address, or none to have a free one picked")
            );
        }
        let is_reserved = |address: &IpAddr| network.reservations.holder((*address).into()).is_some();
        let usable = |address: &IpAddr| {
            !is_reserved(address)
                && network.subnet_of(*address).is_some_and(|subnet| !subnet.is_reserved(*address))
        };
        let before = self.known.and_then(|known| known.addresses.iter().copied().find(of_family));
        let before = before.filter(|address| usable(address) && !self.quarantine.contains(address));
        if let Some(address) = before {
            if self.lease(address, leases)? {
                return Ok(Some(address));
            }
        }
        let mut subnets = network.subnets.iter().filter(|subnet| of_family(&subnet.net().addr())).peekable();
        if subnets.peek().is_none() {
            return Ok(None);
        }
        let is_in_use = |address: &IpAddr| {
            let subnet = network.subnet_of(*address);
            let on = [parent.ifindex, segment];
            facts.on_host.contains(address)
                || subnet.is_some_and(|subnet| facts.routing.obstacle(*address, subnet.net(), on).is_some())
                || self.quarantine.contains(address)
                || facts.neighbours.contains_key(&(parent.ifindex, *address))
        };
        for address in subnets.flat_map(|subnet| subnet.candidates(None)).map(|net| net.addr()) {
            if !is_in_use(&address) && !is_reserved(&address) && self.lease(address, leases)? {
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

    /// Leases `address` to the host. Returns false if it has another holder.
    fn lease(&self, address: IpAddr, leases: &mut Leases<'_>) -> Result<bool> {
        let (segment, key, name) = (self.parent.segment(), address.into(), &self.network.name);
        Ok(leases.lease(segment, key, Owner::HostLink(name))?
            || leases.table.leased_to_host(segment, key)?.is_some_and(|network| network == *name))
    }
}

#[cfg(test)]
mod tests;
