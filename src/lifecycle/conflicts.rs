//! Conflict detection: no container, and no link of the host's own, gets an address that another host on the LAN has.

use std::net::IpAddr;

use crate::config::conflict_detection::MAX_CONFLICTS;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::reserve::HostFacts;
use crate::kernel::{self, PacketSocket, Probes};
use crate::ledger::Locked;
use crate::ledger::attached::Attached;
use crate::ledger::event::Event;
use crate::ledger::host_link::HostLink;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::apart;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp;
use crate::lifecycle::host_access;
use crate::lifecycle::release;
use crate::lifecycle::report::report;
use crate::lifecycle::reserve;
use crate::net::link::Link;
use crate::net::mac::MacAddr;
use crate::net::name::ContainerId;
use crate::netlink::Socket;
use crate::plan;
use crate::random::random;

/// What stays the same during the conflict detection for one container, or for the host's own link of a network.
pub(crate) struct Probing<'a, 's> {
    pub(crate) context: &'a mut Context<'s>,
    pub(crate) wanted: &'a [ResolvedAttachment],
    pub(crate) facts: &'a HostFacts,
}

/// What gets another address after a conflict.
pub(crate) trait Probed: Sized {
    fn attached(&self, index: usize) -> Option<Attached>;

    /// The container; `None` for the host.
    fn container(&self) -> Option<ContainerId>;

    /// Returns it with another address than that of `conflict`, as it is in the ledger then.
    fn replaced(
        &self,
        probing: &mut Probing<'_, '_>,
        locked: &Locked<'_>,
        conflict: &Conflict,
    ) -> Result<Self>;
}

impl Probed for Record {
    fn attached(&self, index: usize) -> Option<Attached> {
        self.attachments().get(index).cloned()
    }

    fn container(&self) -> Option<ContainerId> {
        Some(self.container.clone())
    }

    /// Deletes the host's routes to the container first; they are made when all addresses are final.
    fn replaced(
        &self,
        probing: &mut Probing<'_, '_>,
        locked: &Locked<'_>,
        conflict: &Conflict,
    ) -> Result<Self> {
        host_access::close(locked, self, &mut probing.context.host_netlink)?;
        reserve::replace(locked, self, probing.wanted, conflict, probing.facts)
    }
}

impl Probed for HostLink {
    fn attached(&self, _: usize) -> Option<Attached> {
        Some(HostLink::attached(self))
    }

    fn container(&self) -> Option<ContainerId> {
        None
    }

    fn replaced(
        &self,
        probing: &mut Probing<'_, '_>,
        locked: &Locked<'_>,
        conflict: &Conflict,
    ) -> Result<Self> {
        match (locked.store().host_link(&self.network)?, probing.wanted) {
            (Some(now), [wanted]) if now == *self => {
                reserve::replace_of_host(locked, self, wanted, conflict, probing.facts)
            }
            // Another process has made it, or has chosen other addresses.
            (now, _) => Ok(now.unwrap_or_else(|| self.clone())),
        }
    }
}

impl Probing<'_, '_> {
    /// Sends the first probes of attachments that are probed from their parent. The answers arrive while the
    /// links are made.
    pub(crate) fn begin(&self, record: &Record) -> Result<Probes> {
        let by_parent = |(_, attached): &(usize, &Attached)| attached.driver.is_heard_on_parent();
        self.begin_on_parents(&probed(record).filter(by_parent).collect::<Vec<_>>())
    }

    /// Sends the first probes of `attachments` from their parents.
    pub(crate) fn begin_on_parents(&self, attachments: &[(usize, &Attached)]) -> Result<Probes> {
        let mut probes = Probes::default();
        if !attachments.is_empty() {
            // A socket belongs to the namespace it is opened in.
            self.context.host_netns.get()?.inside(|| {
                for &(index, attached) in attachments {
                    let mac = self.wanted.get(index).and_then(|wanted| wanted.parent.mac);
                    let parent = attached.driver.link_below(attached.parent_index, attached.segment);
                    if let (Some(mac), Some(detection)) = (mac, attached.detection) {
                        let addresses = addresses(attached);
                        let socket = PacketSocket::open(parent, mac, &addresses)?;
                        probes.begin(index, socket, &addresses, detection)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(probes)
    }

    /// Sends the first probes of `attachments`, whose links do not exist yet, from links like them: the parent does not reach those
    /// of other programs on it.
    pub(crate) fn begin_apart(&mut self, attachments: &[Attached]) -> Result<Probes> {
        let mut probes = Probes::default();
        for (index, attached) in attachments.iter().enumerate() {
            if let (Some(wanted), Some(detection)) = (self.wanted.get(index), attached.detection) {
                let addresses = addresses(attached);
                // At random: several processes may ask at once, and the link to come does not wait for this one to be gone.
                let number = random().map(u64::from_ne_bytes)?;
                let mac =
                    MacAddr::derived(self.context.store.machine_key(&wanted.parent), &number.to_string());
                let socket = apart::open(self.context, wanted, &addresses, mac)?;
                probes.begin(index, socket, &addresses, detection)?;
            }
        }
        Ok(probes)
    }

    /// Sends the probes of the other attachments from the links that were made. Replaces addresses of
    /// `record` that are in conflict, and gets those that DHCP servers give. Then adds the addresses to the links and announces
    /// them. On an error, `record` is still what the ledger has.
    pub(crate) fn complete(
        &mut self,
        record: &mut Record,
        made: &[Link],
        mut probes: Probes,
        inside: &mut Socket,
    ) -> Result<()> {
        for (index, attached) in probed(record).filter(|(_, attached)| !attached.driver.is_heard_on_parent())
        {
            let link = made.get(index).and_then(|made| Some((made.ifindex, made.mac?)));
            if let (Some((ifindex, mac)), Some(detection)) = (link, attached.detection) {
                let addresses = addresses(attached);
                probes.begin(index, PacketSocket::open(ifindex, mac, &addresses)?, &addresses, detection)?;
            }
        }
        self.settle(record, &mut probes)?;
        if record.has_dhcp() {
            dhcp::acquire(self, record, made)?;
        }
        for (index, (attached, made)) in record.attachments().iter().zip(made).enumerate() {
            kernel::finish(&plan::finish(attached, made.mtu, since_boot()), made, inside)?;
            if attached.announcements > 0 {
                if let Some(socket) = probes.socket(index) {
                    addresses(attached).into_iter().for_each(|address| socket.announce(address));
                }
                // Neither does the kernel announce them: the link was up before it got them.
                announce_leased(attached, made).unwrap_or_else(|error| log::warn!("{error}"));
            }
        }
        Ok(())
    }

    /// Waits for the answers, and replaces the addresses of `of` that are in conflict. This takes as long as the longest
    /// detection, and is not for the time with the lock.
    pub(crate) fn settle(&mut self, of: &mut impl Probed, probes: &mut Probes) -> Result<()> {
        let mut conflicts = 0;
        while let Some(conflict) = probes.next_conflict()? {
            self.resolve(of, &conflict, probes, &mut conflicts)?;
        }
        Ok(())
    }

    /// Replaces the address of `conflict`, and probes for the new one.
    fn resolve(
        &mut self,
        of: &mut impl Probed,
        conflict: &Conflict,
        probes: &mut Probes,
        conflicts: &mut usize,
    ) -> Result<()> {
        let Conflict { attachment, address, mac } = *conflict;
        let Some(old) = of.attached(attachment) else { return Ok(()) };
        let locked = self.context.lock()?;
        if locked.is_recently_released(old.segment, conflict) {
            log::info!("{mac} has {address}: a link of ours that the kernel is still deleting");
            probes.ignore(conflict);
            return Ok(());
        }
        *conflicts += 1;
        if *conflicts > MAX_CONFLICTS {
            return Err(Error::new(
                Kind::Taken,
                format!(
                    "{MAX_CONFLICTS} addresses of network {} were in use on the LAN, and {address} is too, by {mac}",
                    old.network
                ),
            )
            .hint(format!(
                "set an ip_range that no other host uses; `underlay network inspect {}` shows who has which address",
                old.network
            )));
        }
        let mut replaced = of.replaced(self, &locked, conflict);
        drop(locked);
        let (container, network) = (of.container(), old.network.clone());
        report(self.context.store, &Event::Conflict { container, network, address, mac });
        if replaced.as_ref().is_err_and(|error| error.kind() == Kind::Exhausted)
            && release::reclaim_dead(self.context, self.wanted)?
        {
            let locked = self.context.lock()?;
            replaced = of.replaced(self, &locked, conflict);
        }
        *of = replaced?;
        let new = of.attached(attachment).map(|new| new.addresses).unwrap_or_default();
        let found = new.iter().find(|net| !old.addresses.contains(net));
        let detection =
            self.wanted.get(attachment).and_then(|wanted| wanted.network.detection_on(&wanted.parent));
        if let (Some(found), Some(detection)) = (found, detection) {
            probes.replace(conflict, found.addr(), detection);
        }
        Ok(())
    }
}

/// The attachments with conflict detection, by index.
fn probed(record: &Record) -> impl Iterator<Item = (usize, &Attached)> {
    record.attachments().iter().enumerate().filter(|(_, attached)| attached.is_probed())
}

/// Announces the addresses of the leases of `attached` from the link that was `made`: the sockets that asked for them are closed.
fn announce_leased(attached: &Attached, made: &Link) -> Result<()> {
    let leased: Vec<_> = attached.dhcp_leases().map(|lease| lease.address().addr()).collect();
    if let Some(mac) = made.mac.filter(|_| !leased.is_empty()) {
        let socket = PacketSocket::open(made.ifindex, mac, &leased)?;
        leased.into_iter().for_each(|address| socket.announce(address));
    }
    Ok(())
}

fn addresses(attached: &Attached) -> Vec<IpAddr> {
    attached.addresses.iter().map(|net| net.addr()).collect()
}
