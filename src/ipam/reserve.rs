//! The draft of a record, a container's or that of the host's own link: its addresses, MAC addresses and routes, all of them or
//! none.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::network::Network;
use crate::dhcp::domain_name::DomainName;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::{self, ResolvedAttachment};
use crate::ipam::lease_table::{LeaseTable, Leases};
use crate::ledger::asked::Asked;
use crate::ledger::attached::Attached;
use crate::ledger::holder::Holder;
use crate::ledger::host_link::{self, HostLink};
use crate::ledger::record::{Links, Nsid, Own, Record, Segment, State, VERSION};
use crate::net::driver::Driver;
use crate::net::host_routing::HostRouting;
use crate::net::link::Link;
use crate::net::mac::MacAddr;
use crate::net::name::{ContainerId, Identity};
use crate::net::neighbour::Neighbour;
use crate::net::route::DefaultRoutes;

/// What the host and the container's namespace have before the container is attached.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostFacts {
    /// The addresses the host itself has.
    pub on_host: BTreeSet<IpAddr>,
    /// The host's routes, if it is to have routes to the container.
    pub routing: HostRouting,
    /// The host's neighbours, by the number of the link they are on.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    /// The default routes of the container's namespace.
    pub default_routes: DefaultRoutes,
    /// The other networks on the parents of the container: what they set aside, it does not get.
    pub beside: Vec<Network>,
}

/// The container that asks for leases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applicant<'a> {
    /// The container.
    pub container: &'a ContainerId,
    /// The identity under which it gets the same addresses again, if not its id.
    pub identity: Option<&'a Identity>,
    /// The name by which it calls itself.
    pub host_name: Option<&'a DomainName>,
    /// The process that shows whether it is alive.
    pub holder: &'a Holder,
    /// The number by which the host is going to know its namespace.
    pub nsid: Option<Nsid>,
    /// True if a link that is not in the ledger uses its previous addresses or its derived MAC address.
    pub avoid_previous: bool,
}

impl Applicant<'_> {
    /// The identity under which it gets the same addresses again.
    pub(super) fn identity(self) -> Identity {
        self.identity.cloned().unwrap_or_else(|| Identity::from(self.container))
    }

    /// Its record with these attachments, whose links do not exist yet.
    fn pending(self, attachments: Vec<Attached>) -> Record {
        let Self { container, identity, holder, nsid, .. } = self;
        let own = Own { state: State::Pending, made_for: None, rebuilt: false, nsid, attachments };
        let (container, identity, holder) = (container.clone(), identity.cloned(), holder.clone());
        Record { container, identity, holder, links: Links::Own(own) }
    }
}

/// The time, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Since 1970.
    pub since_epoch: u64,
    /// Since the boot, with the time of suspend (`CLOCK_BOOTTIME`).
    pub since_boot: u64,
}

/// The attachment that addresses are leased for.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) wanted: &'a ResolvedAttachment,
    /// The MAC address that its link has or is going to have, if that is known: neighbours may know it by that.
    pub(crate) mac: Option<MacAddr>,
}

impl Place<'_> {
    pub(crate) fn segment(&self) -> u32 {
        self.wanted.parent.segment()
    }
}

/// The record of one container, or of the host's own link of a network, while it is made.
pub(crate) struct Draft<'a> {
    pub(crate) leases: Leases<'a>,
    /// `None` for the host.
    pub(crate) applicant: Option<Applicant<'a>>,
    pub(crate) facts: &'a HostFacts,
    pub(crate) now: Now,
    /// The segments of its attachments, with what the draft changes in them.
    pub(crate) segments: BTreeMap<u32, Segment>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(table: &'a dyn LeaseTable, facts: &'a HostFacts, now: Now) -> Self {
        Self { leases: Leases::new(table), applicant: None, facts, now, segments: BTreeMap::new() }
    }

    /// Picks addresses and MAC addresses for all attachments of the container of `applicant`, leases them, and returns its
    /// record. `lives` returns true if a holder is alive.
    ///
    /// # Errors
    /// [`Kind::Exhausted`] when no address is left, [`Kind::Taken`] when an address, a MAC address, or the mode of an
    /// ipvlan parent, is held by another container.
    pub(crate) fn record(
        &mut self,
        applicant: Applicant<'a>,
        wanted: &[ResolvedAttachment],
        lives: impl Fn(&Holder) -> bool,
    ) -> Result<Record> {
        self.applicant = Some(applicant);
        let mut attachments = self.attachments(wanted, lives)?;
        assign::routes(wanted, &mut attachments, self.facts.default_routes);
        let record = applicant.pending(attachments);
        record.marked().try_for_each(|(mark, _)| mark.check())?;
        if record.attachments().iter().flat_map(Attached::lasting).next().is_some() {
            record.refuse_shared(&self.leases.table.records()?)?;
        }
        Ok(record)
    }

    /// Picks an address for the container of `applicant`, leases it, and returns a record with that alone.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub(crate) fn address(
        &mut self,
        applicant: Applicant<'a>,
        wanted: &ResolvedAttachment,
        lives: impl Fn(&Holder) -> bool,
    ) -> Result<Record> {
        self.applicant = Some(applicant);
        self.agree_on_mode(wanted, lives)?;
        let addresses = self.addresses(self.place(wanted))?;
        // The host gets a route to whoever has a link.
        let attached = Attached { host_link: None, ..self.attached(wanted, 0, addresses, None)? };
        Ok(applicant.pending(vec![attached]))
    }

    fn attachments(
        &mut self,
        wanted: &[ResolvedAttachment],
        lives: impl Fn(&Holder) -> bool,
    ) -> Result<Vec<Attached>> {
        let mut attachments = Vec::with_capacity(wanted.len());
        for (index, wanted) in wanted.iter().enumerate() {
            self.agree_on_mode(wanted, &lives)?;
            let addresses = self.addresses(self.place(wanted))?;
            let mac = self.mac(wanted)?;
            attachments.push(self.attached(wanted, index, addresses, mac)?);
        }
        Ok(attachments)
    }

    /// Attachment number `index`, whose addresses and MAC address are leased.
    fn attached(
        &mut self,
        wanted: &ResolvedAttachment,
        index: usize,
        addresses: Vec<IpNet>,
        mac: Option<MacAddr>,
    ) -> Result<Attached> {
        let is_picked = |address: &IpAddr| !self.is_exact(wanted, *address);
        let picked = addresses.iter().map(IpNet::addr).filter(is_picked).collect();
        let has = |is_v4| addresses.iter().any(|net| net.addr().is_ipv4() == is_v4);
        let dhcp = if has(true) { None } else { self.dhcp(wanted, index, mac)? };
        let dhcp6 = if has(false) { None } else { self.dhcp6(wanted, index) };
        let is_addressed = !addresses.is_empty() || dhcp.is_some();
        let detection = wanted.network.detection_on(&wanted.parent).filter(|_| is_addressed);
        Ok(Attached {
            network: wanted.network.name.clone(),
            driver: wanted.network.driver,
            parent: wanted.network.parent.clone(),
            parent_index: wanted.parent.ifindex,
            segment: wanted.parent.segment(),
            ifname: wanted.ifname.clone(),
            ifindex: None,
            mac,
            mtu: wanted.network.file.mtu,
            bclim: wanted.network.file.bclim,
            tuning: wanted.network.file.link_options().with_sources(&wanted.request.source_macs),
            host_link: wanted.has_host_access().then(|| host_link::name(&wanted.network.name)),
            detection,
            asked: detection.map(|_| self.asked(wanted, &addresses, dhcp.is_some())).unwrap_or_default(),
            carrier_ups: wanted.parent.carrier_ups,
            announcements: wanted.network.announced(),
            advertised: self.advertised(wanted),
            picked,
            addresses,
            former: Vec::new(),
            claimed: Vec::new(),
            dhcp,
            dhcp6,
            routes: Vec::new(),
            table: None,
        })
    }

    /// Returns when the LAN is asked for `addresses`. Those that the attach probes for are in quarantine no more: the probes
    /// tell whether another host has them still. One that a DHCP server gives `later` is asked for then.
    fn asked(&mut self, wanted: &ResolvedAttachment, addresses: &[IpNet], later: bool) -> Asked {
        if !wanted.parent.is_connected() {
            return Asked::No;
        }
        let Some(segment) = self.segments.get_mut(&wanted.parent.segment()) else { return Asked::Yes };
        let (hints, now) = (&mut segment.hints, self.now.since_boot);
        hints.note_carrier(wanted.parent.carrier_ups, now);
        let is_known = |address| {
            let neighbour = self.facts.neighbours.get(&(wanted.parent.ifindex, address));
            neighbour.is_none() && hints.is_unclaimed(address, wanted.network.probe_ahead(), now)
        };
        if !later && addresses.iter().all(|net| is_known(net.addr())) {
            return Asked::Ahead;
        }
        hints.quarantine.retain(|address, _| addresses.iter().all(|net| net.addr() != *address));
        Asked::Yes
    }

    /// Picks the addresses of the host's own link of `network` on `parent`, and leases them. If `known`, which the ledger
    /// has, fits, it stays where it is.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub(crate) fn host_link(
        &mut self,
        network: &Network,
        parent: &Link,
        known: Option<&HostLink>,
    ) -> Result<HostLink> {
        self.applicant = None;
        let wanted = &ResolvedAttachment::of_host(network, parent, known);
        let (segment, now) = (parent.segment(), self.now);
        let hints = &self.open_segment(wanted)?.hints;
        let has_its_own = |known: &HostLink| {
            known.ifindex.is_some()
                || known.addresses.iter().all(|&address| hints.allow(address, now.since_epoch))
        };
        let suits =
            |known: &&HostLink| known.segment == segment && known.suits(network) && has_its_own(known);
        if let Some(known) = known.filter(suits) {
            let place = (network.driver, &network.parent, parent.ifindex, network.file.mtu);
            // A new link would have no routes to containers whose records are missing.
            if (known.driver, &known.parent, known.parent_index, known.mtu) == place
                || self.leases.table.is_in_doubt()?
            {
                return Ok(known.clone());
            }
        }
        let addresses = self.addresses(self.place(wanted))?;
        Ok(HostLink {
            version: VERSION,
            network: network.name.clone(),
            name: wanted.ifname.clone(),
            driver: network.driver,
            parent: network.parent.clone(),
            parent_index: parent.ifindex,
            segment,
            mtu: network.file.mtu,
            mac: wanted.previous.mac,
            addresses: addresses.iter().map(IpNet::addr).collect(),
            kept: known.is_some_and(|known| known.kept),
            ifindex: None,
        })
    }

    /// Reads what is known of a segment, once.
    ///
    /// # Errors
    /// Those of [`LeaseTable::segment`].
    pub(crate) fn open_segment(&mut self, wanted: &ResolvedAttachment) -> Result<&mut Segment> {
        let number = wanted.parent.segment();
        match self.segments.entry(number) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let parent = wanted.network.parent.clone();
                let known = self.leases.table.segment(number)?;
                let known = known.unwrap_or_else(|| Segment::new(parent.clone()));
                Ok(new.insert(Segment { parent, ..known }))
            }
        }
    }

    /// Refuses an ipvlan mode other than that of the living containers of the parent. The kernel keeps one mode for all
    /// links of a parent, and silently gives the mode of a new link to the others.
    fn agree_on_mode(&mut self, wanted: &ResolvedAttachment, lives: impl Fn(&Holder) -> bool) -> Result<()> {
        let number = wanted.parent.segment();
        let segment = self.open_segment(wanted)?;
        let Driver::Ipvlan { mode, flag } = wanted.network.driver else { return Ok(()) };
        if segment.ipvlan.replace((mode, flag)) == segment.ipvlan {
            return Ok(());
        }
        for record in self.leases.table.records()? {
            let other = record.attachments().iter().find(|attached| {
                let same_kind = attached.driver.kind() == wanted.network.driver.kind();
                attached.segment == number && same_kind && attached.driver != wanted.network.driver
            });
            if let Some(other) = other.filter(|_| lives(&record.holder)) {
                let (parent, network) = (&wanted.parent.name, &wanted.network);
                let text = format!(
                    "parent {parent} carries {} links (container {}), so network {} cannot have {}",
                    other.driver, record.container, network.name, network.driver
                );
                return Err(Error::new(Kind::Taken, text).hint(
                    "all ipvlan links of a parent share one mode and flag; use another parent or the same mode",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
