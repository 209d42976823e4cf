//! The ledger's hints on a segment: addresses set aside because somebody else has them, and links that may still answer
//! although their containers are gone. They may be lost without harm.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::IpNet;

use super::leasing::Leasing;
use super::ledger::{Draft, Place, Subject};
use super::{Locked, Present, Store, remove, to_json};
use crate::assign::{self, Wanted};
use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::net::driver::Kind as Driver;
use crate::netlink::Neighbour;
use crate::quarantine::{Conflict, Hints, Quarantined};
use crate::record::{Record, Segment};

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl Store {
    pub(super) fn segment_path(&self, segment: u32) -> PathBuf {
        self.segment_dir(segment).join("segment.json")
    }

    pub(super) fn segment(&self, segment: u32) -> Result<Option<Segment>> {
        self.read_state(&self.segment_path(segment))
    }

    /// The addresses of `segment` that are set aside now.
    pub fn quarantined(&self, segment: u32) -> Vec<(IpAddr, Quarantined)> {
        let now = now();
        // What is damaged is told of elsewhere.
        let known = self.segment(segment).ok().flatten();
        let all = known.map(|known| known.hints.quarantine).unwrap_or_default();
        all.into_iter().filter(|(_, quarantined)| quarantined.lasts(now)).collect()
    }
}

impl Locked<'_> {
    pub(super) fn write_segment(&self, number: u32, segment: &Segment) -> Result<()> {
        file::replace(&self.store.segment_path(number), &to_json(segment)?)
    }

    /// Whether the link of a container of ours that is gone may have caused `conflict` on `segment`: the kernel may
    /// still be taking it apart.
    pub fn is_ghost(&self, segment: u32, conflict: &Conflict) -> bool {
        let known = self.store.segment(segment).ok().flatten();
        known.is_some_and(|known| known.hints.is_ghost(conflict.mac, now()))
    }

    /// Sets the address of `conflict` aside and gives the container of `record` another in its place. The new address
    /// is leased before the record lists it, and the old one given back after.
    ///
    /// # Errors
    /// [`Kind::Taken`] when the container has asked for this very address, [`Kind::Exhausted`] when there is no other.
    /// The record stays.
    pub fn replace(
        &self,
        record: &Record,
        wanted: &[Wanted],
        conflict: &Conflict,
        present: &Present,
    ) -> Result<Record> {
        let Conflict { attachment, address, mac } = *conflict;
        let (Some(attached), Some(asked)) = (record.attachments.get(attachment), wanted.get(attachment))
        else {
            return Err(Error::input(format!("there is no attachment number {attachment}")));
        };
        let (segment, network) = (attached.segment, &attached.network);
        let place = Place { segment, wanted: asked, mac: attached.mac };
        let (container, identity, holder) = (&record.container, record.identity.as_ref(), &record.holder);
        let subject = Subject { container, identity, holder, afresh: false };
        let mut draft = Draft::new(Leasing::real(self), subject, present);
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
            let places = record.attachments.get_mut(attachment).into_iter();
            for place in places.flat_map(|attached| &mut attached.addresses) {
                if let Some(found) = found.filter(|_| place.addr() == address) {
                    *place = found;
                }
            }
            record.attachments.iter_mut().for_each(|attached| attached.clear_routes());
            assign::routes(wanted, &mut record.attachments, present.default_routes);
            draft.write_segments(self)?;
            self.write(&record)?;
            Ok(record)
        });
        if replaced.is_err() {
            draft.leasing.give_back();
        } else if let Err(error) = remove(&self.store.lease_path(segment, address.into())) {
            // The record says otherwise already: then it is nobody's, and swept when it is needed.
            log::warn!("{error}");
        }
        replaced
    }

    /// Notes that the links of `record` are on their way out, where somebody may ask for their addresses. Only a hint:
    /// it may fail.
    pub(super) fn depart(&self, record: &Record) {
        for attached in record.attachments.iter().filter(|attached| attached.detection.is_some()) {
            let Some(mac) = attached.mac.filter(|_| attached.driver.kind() == Driver::Macvlan) else {
                continue;
            };
            let noted = self.store.segment(attached.segment).and_then(|known| {
                let Some(mut known) = known else { return Ok(()) };
                known.hints.depart(mac, now());
                self.write_segment(attached.segment, &known)
            });
            if let Err(error) = noted {
                log::debug!("{error}");
            }
        }
    }

    /// Forgets the addresses whose quarantine is over, or, if it is to be `lifted`, all that are set aside; with `dry_run`
    /// it only tells. Returns them with their segments.
    ///
    /// # Errors
    /// When the hints cannot be written.
    pub fn expire(&self, lifted: bool, dry_run: bool) -> Result<Vec<(u32, IpAddr)>> {
        let mut over = Vec::new();
        for number in self.store.segments()? {
            let Ok(Some(mut segment)) = self.store.segment(number) else { continue };
            let mut expired = segment.hints.expire(now());
            if lifted {
                expired.extend(segment.hints.lift());
            }
            if !expired.is_empty() && !dry_run {
                self.write_segment(number, &segment)?;
            }
            over.extend(expired.into_iter().map(|address| (number, address)));
        }
        Ok(over)
    }
}

impl Draft<'_> {
    /// Whether `address` may be picked, as far as others on the LAN are concerned.
    pub(super) fn is_free(&self, place: Place<'_>, address: IpAddr) -> bool {
        let hints = self.segments.get(&place.segment).map(|segment| &segment.hints);
        hints.is_none_or(|hints: &Hints| hints.allow(address, now()))
            && self.neighbour(place, address).is_none()
    }

    /// Leases the address of a family that was set aside longest ago and may be free by now, which the LAN is asked: who
    /// answers for all addresses, and goes, keeps nobody from them for longer than that. `None` if there is none, or the
    /// LAN is not asked.
    pub(super) fn take_set_aside(&mut self, place: Place<'_>, is_v4: bool) -> Result<Option<IpNet>> {
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
    pub(super) fn set_aside(&self, place: Place<'_>, is_v4: bool) -> Vec<Quarantined> {
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
    pub(super) fn static_neighbour(&self, place: Place<'_>, address: IpAddr) -> Option<&Neighbour> {
        self.neighbour(place, address).filter(|neighbour| neighbour.permanent)
    }

    /// Who has `address`, unless that is the very link that is wanted.
    fn neighbour(&self, place: Place<'_>, address: IpAddr) -> Option<&Neighbour> {
        let known = self.present.neighbours.get(&(place.wanted.parent.ifindex, address));
        known.filter(|neighbour| Some(neighbour.mac) != place.mac)
    }
}
