//! Conflict detection for containers: no container gets an address that another host on the LAN has.

use std::net::IpAddr;

use crate::config::conflict_detection::MAX_CONFLICTS;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::reserve::HostFacts;
use crate::kernel::{self, PacketSocket, Probes};
use crate::ledger::Locked;
use crate::ledger::event::Event;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::{Attached, Record};
use crate::lifecycle::context::Context;
use crate::lifecycle::host_access;
use crate::lifecycle::release;
use crate::lifecycle::report::report;
use crate::lifecycle::reserve;
use crate::net::driver::Kind as Driver;
use crate::net::link::Link;
use crate::netlink::Socket;
use crate::plan;

/// What stays the same during the conflict detection for one container.
pub(crate) struct Probing<'a, 's> {
    pub(crate) context: &'a mut Context<'s>,
    pub(crate) wanted: &'a [ResolvedAttachment],
    pub(crate) facts: &'a HostFacts,
}

impl Probing<'_, '_> {
    /// Sends the first probes of attachments that are probed from their parent. The answers arrive while the
    /// links are made.
    pub(crate) fn begin(&self, record: &Record) -> Result<Probes> {
        let mut probes = Probes::default();
        let by_parent = |attached: &&Attached| attached.driver.is_heard_on_parent();
        if probed(record).any(|(_, attached)| by_parent(&attached)) {
            // A socket belongs to the namespace it is opened in.
            self.context.host_netns.get()?.inside(|| {
                for (index, attached) in probed(record).filter(|(_, attached)| by_parent(attached)) {
                    let mac = self.wanted.get(index).and_then(|wanted| wanted.parent.mac);
                    // If the parent is itself an ipvlan link, the kernel attaches the new link to the link
                    // below it.
                    let parent = match attached.driver.kind() {
                        Driver::Ipvlan => attached.segment,
                        Driver::Macvlan => attached.parent_index,
                    };
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

    /// Sends the probes of the other attachments from the links that were made. Replaces addresses of
    /// `record` that are in conflict. Then adds the addresses to the links and announces them. On an error,
    /// `record` is still what the ledger has.
    pub(crate) fn resolve_conflicts(
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
        let mut conflicts = 0;
        while let Some(conflict) = probes.next_conflict()? {
            self.resolve(record, &conflict, &mut probes, &mut conflicts)?;
        }
        for (index, (attached, made)) in record.attachments().iter().zip(made).enumerate() {
            kernel::finish(&plan::finish(attached), made, inside)?;
            if let Some(socket) = probes.socket(index).filter(|_| attached.announcements > 0) {
                addresses(attached).into_iter().for_each(|address| socket.announce(address));
            }
        }
        Ok(())
    }

    /// Replaces the address of `conflict`, and probes for the new one.
    fn resolve(
        &mut self,
        record: &mut Record,
        conflict: &Conflict,
        probes: &mut Probes,
        conflicts: &mut usize,
    ) -> Result<()> {
        let Conflict { attachment, address, mac } = *conflict;
        let Some(old) = record.attachments().get(attachment).cloned() else { return Ok(()) };
        let locked = self.context.lock()?;
        if locked.is_recently_released(old.segment, conflict) {
            log::info!("{mac} has {address}: a link of ours that the kernel is still deleting");
            probes.ignore(mac);
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
        let mut replaced = self.replace(&locked, record, conflict);
        drop(locked);
        let (container, network) = (Some(record.container.clone()), old.network.clone());
        report(self.context.store, &Event::Conflict { container, network, address, mac });
        if replaced.as_ref().is_err_and(|error| error.kind() == Kind::Exhausted)
            && release::reclaim_dead(self.context, self.wanted)?
        {
            let locked = self.context.lock()?;
            replaced = self.replace(&locked, record, conflict);
        }
        *record = replaced?;
        let new = record.attachments().get(attachment);
        let found = new.and_then(|new| new.addresses.iter().find(|net| !old.addresses.contains(net)));
        if let (Some(found), Some(detection)) = (found, old.detection) {
            probes.replace(conflict, found.addr(), detection);
        }
        Ok(())
    }

    /// Returns the record with another address. Deletes the host's routes to the container first; they are
    /// made when all addresses are final.
    fn replace(&mut self, locked: &Locked<'_>, record: &Record, conflict: &Conflict) -> Result<Record> {
        host_access::close(locked, record, &mut self.context.host_netlink)?;
        reserve::replace(locked, record, self.wanted, conflict, self.facts)
    }
}

/// The attachments with conflict detection, by index.
fn probed(record: &Record) -> impl Iterator<Item = (usize, &Attached)> {
    record.attachments().iter().enumerate().filter(|(_, attached)| attached.is_probed())
}

fn addresses(attached: &Attached) -> Vec<IpAddr> {
    attached.addresses.iter().map(|net| net.addr()).collect()
}
