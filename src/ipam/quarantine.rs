//! Addresses that others on the LAN have: not picked, and replaced where a container was given one.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{Error, Kind, Result};
use crate::fs::file::remove;
use crate::ipam::assign::{self, Wanted};
use crate::ipam::lease_table::LeaseTable;
use crate::ipam::reserve::Present;
use crate::ipam::reserve::{Draft, Place, Subject};
use crate::ledger::Locked;
use crate::ledger::quarantine::{Conflict, Hints, Quarantined};
use crate::ledger::record::Record;
use crate::ledger::segment_hints::now;
use crate::net::neighbour::Neighbour;

impl Locked<'_> {
    /// Sets the address of `conflict` aside and gives the container of `record` another in its place. The new address
    /// is leased before the record lists it, and the old one given back after.
    ///
    /// # Errors
    /// [`Kind::Taken`] when the container has asked for this very address, [`Kind::Exhausted`] when there is no other.
    /// The record stays.
    pub(crate) fn replace(
        &self,
        record: &Record,
        wanted: &[Wanted],
        conflict: &Conflict,
        present: &Present,
    ) -> Result<Record> {
        let Conflict { attachment, address, mac } = *conflict;
        let (Some(attached), Some(asked)) = (record.attachments().get(attachment), wanted.get(attachment))
        else {
            return Err(Error::input(format!("there is no attachment number {attachment}")));
        };
        let (segment, network) = (attached.segment, &attached.network);
        let place = Place { segment, wanted: asked, mac: attached.mac };
        let (container, identity, holder) = (&record.container, record.identity.as_ref(), &record.holder);
        let subject = Subject { container, identity, holder, nsid: None, avoid_previous: false };
        let mut draft = Draft::new(LeaseTable::real(self), subject, present);
        draft.open_segment(segment, asked)?;
        if let Some(known) = draft.segments.get_mut(&segment) {
            known.hints.set_aside(conflict, now());
        }
        draft.write_segments(self)?;
        let reserved = asked.network.reservations.of(&record.identity());
        let is_exact = asked.request.ips.iter().any(|requested| requested.address == address)
            || reserved.is_some_and(|reserved| reserved.addresses.contains(&address));
        if is_exact {
            return Err(Error::new(
                Kind::Taken,
                format!("address {address} of network {network} is in use on the LAN, by {mac}"),
            )
            .hint("ask for another address, or leave it out to get a free one; find the host by its MAC address"));
        }
        let replaced = draft.pick(place, address.is_ipv4()).and_then(|found| {
            let mut record = record.clone();
            let places = record.attachments_mut().get_mut(attachment).into_iter();
            for place in places.flat_map(|attached| &mut attached.addresses) {
                if let Some(found) = found.filter(|_| place.addr() == address) {
                    *place = found;
                }
            }
            record.attachments_mut().iter_mut().for_each(|attached| attached.clear_routes());
            assign::routes(wanted, record.attachments_mut(), present.default_routes);
            draft.write_segments(self)?;
            self.write(&record)?;
            Ok(record)
        });
        if replaced.is_err() {
            draft.leasing.give_back();
        } else if let Err(error) = remove(&self.store().lease_path(segment, address.into())) {
            // The record says otherwise already: then it is nobody's, and swept when it is needed.
            log::warn!("{error}");
        }
        replaced
    }
}

impl Draft<'_> {
    /// Whether `address` may be picked, as far as others on the LAN are concerned.
    pub(crate) fn is_free(&self, place: Place<'_>, address: IpAddr) -> bool {
        let hints = self.segments.get(&place.segment).map(|segment| &segment.hints);
        hints.is_none_or(|hints: &Hints| hints.allow(address, now()))
            && self.neighbour(place, address).is_none()
    }

    /// Leases the address of a family that was set aside longest ago and may be free by now, which the LAN is asked: who
    /// answers for all addresses, and goes, keeps nobody from them for longer than that. `None` if there is none, or the
    /// LAN is not asked.
    pub(crate) fn take_set_aside(&mut self, place: Place<'_>, is_v4: bool) -> Result<Option<IpNet>> {
        let Wanted { network, parent, .. } = place.wanted;
        if network.detection_on(parent).is_none() {
            return Ok(None);
        }
        let due = self.hints(place).map(|hints| hints.by_age(now())).unwrap_or_default();
        for address in due.into_iter().filter(|address| address.is_ipv4() == is_v4) {
            let subnet = network.subnet_of(address);
            let Some(net) = subnet.and_then(|subnet| subnet.pickable(address)) else { continue };
            let entry = self.hints(place).and_then(|hints| hints.quarantine.remove(&address));
            if self.take_if_free(place, address.into())? {
                return Ok(Some(net));
            }
            if let (Some(hints), Some(entry)) = (self.hints(place), entry) {
                hints.quarantine.insert(address, entry);
            }
        }
        Ok(None)
    }

    /// Who was seen to have addresses of the network of `place`, of a family.
    pub(crate) fn set_aside(&self, place: Place<'_>, is_v4: bool) -> Vec<Quarantined> {
        let hints = self.segments.get(&place.segment).map(|segment| &segment.hints);
        let all = hints.into_iter().flat_map(|hints| &hints.quarantine);
        let is_its = |address: &IpAddr| {
            let subnet = place.wanted.network.subnet_of(*address);
            address.is_ipv4() == is_v4 && subnet.is_some_and(|subnet| subnet.pickable(*address).is_some())
        };
        all.filter(|(address, entry)| entry.lasts(now()) && is_its(address))
            .map(|(_, &entry)| entry)
            .collect()
    }

    fn hints(&mut self, place: Place<'_>) -> Option<&mut Hints> {
        self.segments.get_mut(&place.segment).map(|segment| &mut segment.hints)
    }

    /// The neighbour whose address the operator has fixed. Any other is asked by the probes: it may be gone.
    pub(crate) fn static_neighbour(&self, place: Place<'_>, address: IpAddr) -> Option<&Neighbour> {
        self.neighbour(place, address).filter(|neighbour| neighbour.permanent)
    }

    /// Who has `address`, unless that is the very link that is wanted.
    fn neighbour(&self, place: Place<'_>, address: IpAddr) -> Option<&Neighbour> {
        let known = self.present.neighbours.get(&(place.wanted.parent.ifindex, address));
        known.filter(|neighbour| Some(neighbour.mac) != place.mac)
    }
}
