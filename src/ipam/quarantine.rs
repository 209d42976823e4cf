//! Addresses that other hosts of the LAN have: they are not picked, and a container that was given one gets another.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{Error, Kind, Result};
use crate::ipam::assign::{self, ResolvedAttachment};
use crate::ipam::reserve::{Draft, Place};
use crate::ledger::asked::Asked;
use crate::ledger::quarantine::{Conflict, Quarantined, SegmentHints};
use crate::ledger::record::Record;
use crate::net::neighbour::Neighbour;
use crate::net::subnet::Subnet;

impl<'a> Place<'a> {
    /// The attachment of `record` that `conflict` is about.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn of(record: &Record, wanted: &'a [ResolvedAttachment], conflict: &Conflict) -> Result<Self> {
        let number = conflict.attachment;
        match (record.attachments().get(number), wanted.get(number)) {
            (Some(attached), Some(wanted)) => Ok(Self { wanted, mac: attached.mac }),
            _ => Err(Error::bug(format!("there is no attachment number {number}"))),
        }
    }
}

/// Puts `found` in the place of the address of `conflict`.
fn swap(record: &mut Record, conflict: &Conflict, found: Option<IpNet>) {
    let (Some(attached), Some(found)) = (record.attachments_mut().get_mut(conflict.attachment), found) else {
        return;
    };
    attached.addresses.iter_mut().filter(|net| net.addr() == conflict.address).for_each(|net| *net = found);
    attached
        .picked
        .iter_mut()
        .filter(|picked| **picked == conflict.address)
        .for_each(|picked| *picked = found.addr());
}

impl Draft<'_> {
    /// Puts the address of `conflict` in quarantine.
    ///
    /// # Errors
    /// When the segment of `place` cannot be read.
    pub(crate) fn quarantine(&mut self, place: Place<'_>, conflict: &Conflict) -> Result<()> {
        let now = self.now.since_epoch;
        self.open_segment(place.wanted)?.hints.set_aside(conflict, now);
        Ok(())
    }

    /// Leases another address in place of that of `conflict`, and returns the record with it.
    ///
    /// # Errors
    /// [`Kind::Taken`] when the container has asked for this very address, [`Kind::Exhausted`] when there is no other.
    pub(crate) fn replace(
        &mut self,
        record: &Record,
        wanted: &[ResolvedAttachment],
        place: Place<'_>,
        conflict: &Conflict,
    ) -> Result<Record> {
        self.refuse_exact(place.wanted, conflict)?;
        let address = conflict.address;
        let found = self.pick(place, address.is_ipv4())?;
        let mut record = record.clone();
        swap(&mut record, conflict, found);
        record.attachments_mut().iter_mut().for_each(|attached| attached.clear_routes());
        assign::routes(wanted, record.attachments_mut(), self.facts.default_routes);
        Ok(record)
    }

    /// As [`replace`](Self::replace), for a container that runs: only by an address of the same subnet, so that its routes stay,
    /// and only by one for which the LAN was asked lately. The container keeps the lease of the former address, too.
    pub(crate) fn replace_late(
        &mut self,
        record: &Record,
        place: Place<'_>,
        conflict: &Conflict,
    ) -> Result<Record> {
        let wanted = place.wanted;
        self.refuse_exact(wanted, conflict)?;
        let network = &wanted.network;
        let subnet = |address| network.subnet_of(address).map(Subnet::net);
        let found = self.pick(place, conflict.address.is_ipv4())?;
        let (limit, now) = (network.probe_ahead(), self.now.since_boot);
        let hints = &mut self.open_segment(wanted)?.hints;
        hints.note_carrier(wanted.parent.carrier_ups, now);
        let is_unclaimed = |net: &IpNet| hints.is_unclaimed(net.addr(), limit, now);
        let found = found.filter(|net| is_unclaimed(net) && subnet(net.addr()) == subnet(conflict.address));
        let Some(found) = found else {
            let text = format!("no other address of network {} was asked for lately", network.name);
            return Err(Error::new(Kind::Exhausted, text));
        };
        let mut record = record.clone();
        if let Some(attached) = record.attachments_mut().get_mut(conflict.attachment) {
            attached.former.extend(attached.addresses.iter().filter(|net| net.addr() == conflict.address));
            (attached.asked, attached.carrier_ups) = (Asked::Ahead, wanted.parent.carrier_ups);
        }
        swap(&mut record, conflict, Some(found));
        Ok(record)
    }

    /// Returns true if `address` is asked for or reserved: it is no choice of ours.
    pub(crate) fn is_exact(&self, wanted: &ResolvedAttachment, address: IpAddr) -> bool {
        let identity = self.identity();
        let reserved = identity.and_then(|identity| wanted.network.reservations.of(&identity));
        wanted.request.ips.iter().any(|requested| requested.address == address)
            || reserved.is_some_and(|reserved| reserved.addresses.contains(&address))
    }

    /// Refuses to replace an address that is asked for or reserved.
    ///
    /// # Errors
    /// [`Kind::Taken`] if that of `conflict` is.
    pub(crate) fn refuse_exact(&self, wanted: &ResolvedAttachment, conflict: &Conflict) -> Result<()> {
        let (Conflict { address, mac, .. }, network) = (*conflict, &wanted.network);
        if !self.is_exact(wanted, address) {
            return Ok(());
        }
        let text = format!("address {address} of network {} is in use on the LAN, by {mac}", network.name);
        let hint = format!("{}; find the host by its MAC address", self.ask_for_another("address"));
        Err(Error::new(Kind::Taken, text).hint(hint))
    }

    /// Leases the address of a family that has been in quarantine for the longest time, because it may be free by now: the
    /// probes tell. So a host that answers for all addresses blocks them only as long as it does so. Returns `None` if
    /// there is none, or the network has no conflict detection.
    pub(crate) fn take_quarantined(&mut self, place: Place<'_>, is_v4: bool) -> Result<Option<IpNet>> {
        let ResolvedAttachment { network, parent, .. } = place.wanted;
        if network.detection_on(parent).is_none() || !parent.is_connected() {
            return Ok(None);
        }
        let due = self.hints(place).map(|hints| hints.by_age(self.now.since_epoch)).unwrap_or_default();
        for address in due.into_iter().filter(|address| address.is_ipv4() == is_v4) {
            let subnet = network.subnet_of(address);
            let Some(net) = subnet.and_then(|subnet| subnet.pickable(address)) else { continue };
            if self.take_if_may_be_free(place, address.into())? {
                self.open_segment(place.wanted)?.hints.quarantine.remove(&address);
                return Ok(Some(net));
            }
        }
        Ok(None)
    }

    /// The addresses of a family that are in quarantine in the network of `place`.
    pub(crate) fn quarantined(&self, place: Place<'_>, is_v4: bool) -> Vec<Quarantined> {
        let all = self.hints(place).into_iter().flat_map(|hints| &hints.quarantine);
        let is_its = |address: &IpAddr| {
            let subnet = place.wanted.network.subnet_of(*address);
            address.is_ipv4() == is_v4 && subnet.is_some_and(|subnet| subnet.pickable(*address).is_some())
        };
        all.filter(|(address, entry)| entry.lasts(self.now.since_epoch) && is_its(address))
            .map(|(_, &entry)| entry)
            .collect()
    }

    pub(crate) fn hints(&self, place: Place<'_>) -> Option<&SegmentHints> {
        self.segments.get(&place.segment()).map(|segment| &segment.hints)
    }

    /// The neighbour that has `address`, unless it is the link of `place` itself.
    pub(crate) fn neighbour(&self, place: Place<'_>, address: IpAddr) -> Option<&Neighbour> {
        let known = self.facts.neighbours.get(&(place.wanted.parent.ifindex, address));
        known.filter(|neighbour| Some(neighbour.mac) != place.mac)
    }
}

#[cfg(test)]
mod tests;
