//! The story of the probes: nobody gets an address that somebody else on the LAN has.

use std::net::IpAddr;

use crate::config::conflict_detection::MAX_CONFLICTS;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::reserve::HostFacts;
use crate::kernel::{self, CreatedLink, PacketSocket, Probes};
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
use crate::netlink::Socket;
use crate::plan;

/// What does not change while the addresses of a container are probed for.
pub(crate) struct Probing<'a, 's> {
    pub(crate) context: &'a mut Context<'s>,
    pub(crate) wanted: &'a [ResolvedAttachment],
    pub(crate) present: &'a HostFacts,
}

impl Probing<'_, '_> {
    /// Sends the first probes that go out by parents: the answers come while the links are made.
    ///
    /// # Errors
    /// When a parent is gone.
    pub(crate) fn begin(&self, record: &Record) -> Result<Probes> {
        let mut probes = Probes::default();
        let by_parent = |attached: &&Attached| attached.driver.is_heard_on_parent();
        if probed(record).any(|(_, attached)| by_parent(&attached)) {
            // Sockets are of the namespace they are opened in.
            self.context.host_netns.get()?.inside(|| {
                for (index, attached) in probed(record).filter(|(_, attached)| by_parent(attached)) {
                    let mac = self.wanted.get(index).and_then(|wanted| wanted.parent.mac);
                    // The kernel hangs an ipvlan link on what is below the ipvlan link that is its parent.
                    let parent = match attached.driver.kind() {
                        Driver::Ipvlan => attached.segment,
                        Driver::Macvlan => attached.parent_index,
                    };
                    if let (Some(mac), Some(detection)) = (mac, attached.detection) {
                        let addresses = addresses(attached);
                        let wire = PacketSocket::open(parent, mac, &addresses)?;
                        probes.begin(index, wire, &addresses, detection)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(probes)
    }

    /// Probes from the links that were made, gives other addresses to `record` where there is a conflict, then the
    /// addresses to the links.
    ///
    /// # Errors
    /// When an address that was asked for is somebody else's, or none can be found that is not. `record` is what the
    /// ledger says.
    pub(crate) fn settle(
        &mut self,
        record: &mut Record,
        made: &[CreatedLink],
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
            kernel::settle(&plan::settle(attached), made, inside)?;
            if let Some(socket) = probes.socket(index).filter(|_| attached.announcements > 0) {
                addresses(attached).into_iter().for_each(|address| socket.announce(address));
            }
        }
        Ok(())
    }

    /// Gives another address to the container, and has that probed for.
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
        if locked.is_ghost(old.segment, conflict) {
            log::info!("{mac} has {address}, a link of ours that the kernel is taking away");
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
                "set an ip_range apart that others leave alone; `underlay network inspect {}` shows who has what",
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

    /// The record with another address. What the host reaches the container by comes back with its last one.
    fn replace(&mut self, locked: &Locked<'_>, record: &Record, conflict: &Conflict) -> Result<Record> {
        host_access::close(locked, record, &mut self.context.host_netlink)?;
        reserve::replace(locked, record, self.wanted, conflict, self.present)
    }
}

/// The attachments whose addresses are probed for, by number.
fn probed(record: &Record) -> impl Iterator<Item = (usize, &Attached)> {
    record.attachments().iter().enumerate().filter(|(_, attached)| attached.detection.is_some())
}

fn addresses(attached: &Attached) -> Vec<IpAddr> {
    attached.addresses.iter().map(|net| net.addr()).collect()
}
