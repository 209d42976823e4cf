//! Choice of the addresses and the MAC address of an attachment: what it asks for, else what is reserved for its identity,
//! else the previous one, else the next that is free.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::reserve::{Applicant, Draft, Place};
use crate::config::network::Network;
use crate::config::reservation::Reservation;
use crate::error::{Error, Kind, Result};
use crate::hash::siphash;
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::lease_table::Owner;
use crate::ledger::bitmap::Bitmap;
use crate::ledger::dhcp_link::{Dhcp6Link, DhcpLink};
use crate::ledger::quarantine::{by_host, in_words};
use crate::net::ipv6::{Advertised, Ipv6};
use crate::net::lease_key::LeaseKey;
use crate::net::mac::MacAddr;
use crate::net::name::Identity;
use crate::net::subnet::Subnet;

/// The number of held addresses in a row after which the map of the pool is read.
const TRIES: usize = 16;

impl Draft<'_> {
    /// The identity of the container.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.applicant.map(Applicant::identity)
    }

    /// What to do if `what` cannot be had.
    pub(crate) fn ask_for_another(&self, what: &str) -> String {
        match self.applicant {
            Some(_) => format!("ask for another {what}, or leave it out to get a free one"),
            None => format!("name another {what} in host_access, or none to have a free one picked"),
        }
    }

    /// The place of an attachment that has no lease yet.
    pub(crate) fn place<'a>(&self, wanted: &'a ResolvedAttachment) -> Place<'a> {
        let mac = wanted.request.mac.or_else(|| self.reserved(wanted).mac).or(wanted.previous.mac);
        Place { wanted, mac }
    }

    /// Leases the addresses of one attachment: those that it asks for. In a family in which it asks for none: those that
    /// are reserved for it, or else one that is picked.
    pub(crate) fn addresses(&mut self, place: Place<'_>) -> Result<Vec<IpNet>> {
        let wanted = place.wanted;
        let reserved = self.reserved(wanted);
        let mut addresses = Vec::new();
        for requested in &wanted.request.ips {
            let address = asked(wanted, requested.address, requested.prefix_len)?;
            self.take(place, address.addr().into())?;
            addresses.push(address);
        }
        for is_v4 in [true, false] {
            if addresses.iter().any(|address| address.addr().is_ipv4() == is_v4) {
                continue;
            }
            let of_family = |address: &IpAddr| address.is_ipv4() == is_v4;
            let mut reserved = reserved.addresses.iter().copied().filter(of_family).peekable();
            let is_by_dhcp = wanted.network.file.dhcp.as_ref().is_some_and(|dhcp| dhcp.serves(is_v4));
            if reserved.peek().is_none() && !is_by_dhcp {
                addresses.extend(self.pick(place, is_v4)?);
            }
            for address in reserved {
                self.take(place, address.into())?;
                addresses.push(asked(wanted, address, None)?);
            }
        }
        Ok(addresses)
    }

    /// What is reserved for this container, except what another of its attachments has already.
    fn reserved(&self, wanted: &ResolvedAttachment) -> Reservation {
        let identity = self.identity();
        let reserved = identity.and_then(|identity| wanted.network.reservations.of(&identity));
        let mut reserved = reserved.cloned().unwrap_or_default();
        let is_left = |key| !self.leases.contains(wanted.parent.segment(), key);
        reserved.addresses.retain(|&address| is_left(address.into()));
        reserved.mac = reserved.mac.filter(|&mac| is_left(mac.into()));
        reserved
    }

    /// Returns true if `key` is reserved for another identity, in this network or in another one on its parent.
    fn is_others(&self, wanted: &ResolvedAttachment, key: LeaseKey) -> bool {
        let networks = std::iter::once(&wanted.network).chain(self.beside(wanted));
        let mut holders = networks.filter_map(|network| network.reservations.holder(key));
        let identity = self.identity();
        holders.any(|holder| Some(holder) != identity.as_ref())
    }

    /// Returns true if `key` is for something else than containers in another network on the parent. A container can ask for it:
    /// it may be just that.
    fn is_set_aside(&self, wanted: &ResolvedAttachment, key: LeaseKey) -> bool {
        let names =
            |address| move |network: &Network| network.subnets.iter().any(|subnet| subnet.names(address));
        key.address().is_some_and(|address| self.beside(wanted).any(names(address)))
    }

    /// The other networks on the parent of `wanted`.
    fn beside<'w>(&'w self, wanted: &'w ResolvedAttachment) -> impl Iterator<Item = &'w Network> {
        let network = &wanted.network;
        self.facts
            .beside
            .iter()
            .filter(move |other| other.parent == network.parent && other.name != network.name)
    }

    /// Leases the MAC address of one attachment of the container, if its link has one of its own.
    pub(crate) fn mac(&mut self, wanted: &ResolvedAttachment) -> Result<Option<MacAddr>> {
        let Some(applicant) = self.applicant.filter(|_| wanted.network.driver.has_own_mac()) else {
            return Ok(None);
        };
        let Applicant { container, holder, avoid_previous, .. } = applicant;
        let place = self.place(wanted);
        if let Some(mac) = wanted.request.mac.or_else(|| self.reserved(wanted).mac) {
            self.take(place, mac.into())?;
            return Ok(Some(mac));
        }
        let had = wanted.previous.mac.filter(|mac| mac.is_unicast() && !avoid_previous);
        let key = self.leases.table.machine_key(&wanted.parent);
        let identity = applicant.identity();
        let network = &wanted.network.name;
        // If several containers of one identity are alive, all except the first differ by id, or else by process.
        let (pid, start_time) = holder.stamp();
        let by_process = |count: u64| format!("{identity} {network} {pid} {start_time} {count}");
        let usual = [format!("{identity} {network}"), format!("{identity} {network} {container}")];
        let texts = usual.into_iter().filter(|_| !avoid_previous).chain((0..).map(by_process));
        for mac in had.into_iter().chain(texts.map(|text| MacAddr::derived(key, &text))) {
            if self.take_if_free(place, mac.into())? {
                return Ok(Some(mac));
            }
        }
        Ok(None)
    }

    /// What the DHCP client of attachment number `index` asks for, if the network has one. Its link has the MAC address `mac`, or
    /// that of its parent.
    pub(crate) fn dhcp(
        &self,
        wanted: &ResolvedAttachment,
        index: usize,
        mac: Option<MacAddr>,
    ) -> Result<Option<DhcpLink>> {
        let Some(applicant) = self.applicant else { return Ok(None) };
        let previous = wanted.previous.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let key = self.leases.table.machine_key(&wanted.parent);
        let link =
            DhcpLink::new(&wanted.network, &applicant.identity(), index, key, mac.or(wanted.parent.mac))?;
        Ok(link.map(|link| DhcpLink {
            host_name: link.host_name.or_else(|| applicant.host_name.cloned()),
            previous: previous.filter(|_| !applicant.avoid_previous),
            ..link
        }))
    }

    /// The same for its DHCPv6 client.
    pub(crate) fn dhcp6(&self, wanted: &ResolvedAttachment, index: usize) -> Option<Dhcp6Link> {
        let applicant = self.applicant?;
        let previous = wanted.previous.addresses.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        let key = self.leases.table.machine_key(&wanted.parent);
        let link = Dhcp6Link::new(&wanted.network, &applicant.identity(), index, key)?;
        Some(Dhcp6Link {
            host_name: link.host_name.or_else(|| applicant.host_name.cloned()),
            previous: previous.filter(|_| !applicant.avoid_previous),
            ..link
        })
    }

    /// What its link takes from routers, except the default route, which depends on the other attachments.
    pub(crate) fn advertised(&self, wanted: &ResolvedAttachment) -> Advertised {
        let slaac = wanted.network.file.ipv6.and_then(Ipv6::slaac);
        let secret = slaac.filter(|slaac| slaac.is_secret()).zip(self.identity()).map(|(_, identity)| {
            let key = self.leases.table.machine_key(&wanted.parent);
            let network = &wanted.network.name;
            let half = |n: u8| u128::from(siphash(key, &format!("{identity} {network} ipv6 {n}")));
            Ipv6Addr::from_bits((half(0) << 64) | half(1))
        });
        Advertised { slaac, secret, ..Advertised::default() }
    }

    /// Leases exactly `key`, which the attachment asks for, or which is reserved for it.
    ///
    /// # Errors
    /// [`Kind::Taken`] when it is held, or may not be leased to this container.
    fn take(&mut self, place: Place<'_>, key: LeaseKey) -> Result<()> {
        let wanted = place.wanted;
        let (what, is_asked) = match key {
            LeaseKey::Address(address) => {
                ("address", wanted.request.ips.iter().any(|asked| asked.address == address))
            }
            LeaseKey::Mac(mac) => ("MAC address", wanted.request.mac == Some(mac)),
        };
        let network = &wanted.network.name;
        let hint = match self.identity().filter(|_| !is_asked) {
            Some(identity) => {
                format!(
                    "it is reserved for identity {identity}, of which only one container can run at a time"
                )
            }
            None => self.ask_for_another(what),
        };
        let refused = |why: String| {
            Error::new(Kind::Taken, format!("{what} {key} of network {network} is {why}")).hint(&hint)
        };
        // The identity is not named: a container that is refused would only have to claim it.
        if self.is_others(wanted, key) {
            return Err(refused("reserved for another identity".to_owned()));
        }
        // Any other neighbour may be gone: the probes tell.
        let neighbour = key.address().and_then(|address| self.neighbour(place, address));
        if let Some(neighbour) = neighbour.filter(|neighbour| neighbour.permanent) {
            return Err(refused(format!("held by {}, as the host's neighbour table says", neighbour.mac)));
        }
        if let Some(what) = self.of_host(wanted, key) {
            return Err(refused(what));
        }
        if self.lease(place, key)? {
            return Ok(());
        }
        let segment = place.segment();
        let who = match self.leases.contains(segment, key) {
            true => "this very container".to_owned(),
            false => self.leases.table.held_by(segment, key)?,
        };
        Err(refused(format!("held by {who}")))
    }

    /// Leases `key` if no other holder, identity or host has it.
    pub(crate) fn take_if_free(&mut self, place: Place<'_>, key: LeaseKey) -> Result<bool> {
        let in_quarantine =
            |address| self.hints(place).is_some_and(|hints| !hints.allow(address, self.now.since_epoch));
        Ok(!key.address().is_some_and(in_quarantine) && self.take_if_may_be_free(place, key)?)
    }

    /// As [`take_if_free`](Self::take_if_free), also an address in quarantine.
    pub(crate) fn take_if_may_be_free(&mut self, place: Place<'_>, key: LeaseKey) -> Result<bool> {
        let is_free = !self.is_others(place.wanted, key)
            && !self.is_set_aside(place.wanted, key)
            && self.of_host(place.wanted, key).is_none()
            && key.address().is_none_or(|address| self.neighbour(place, address).is_none());
        Ok(is_free && self.lease(place, key)?)
    }

    /// Why the host prevents that a container has `key`, if it does. The kernel sets up no link with the MAC address of its
    /// parent. If the host gets a route to the container, that route must not change where its other packets go.
    fn of_host(&self, wanted: &ResolvedAttachment, key: LeaseKey) -> Option<String> {
        let (network, parent) = (&wanted.network, &wanted.parent);
        match key {
            // The host's link may have them already.
            LeaseKey::Address(address) if self.applicant.is_none() && wanted.names(address) => None,
            LeaseKey::Address(address) if self.facts.on_host.contains(&address) => {
                Some("held by this host itself".to_owned())
            }
            LeaseKey::Address(address) => {
                let subnet = network.file.host_access.as_ref().and_then(|_| network.subnet_of(address))?;
                let on = [parent.ifindex, parent.segment()];
                Some(self.facts.routing.obstacle(address, subnet.net(), on)?.to_string())
            }
            LeaseKey::Mac(mac) => {
                (parent.mac == Some(mac)).then(|| format!("held by parent {}", parent.name))
            }
        }
    }

    /// Leases an address of a family: the previous one, or the next free one. Returns `None` if the network has no subnet
    /// of that family.
    pub(crate) fn pick(&mut self, place: Place<'_>, is_v4: bool) -> Result<Option<IpNet>> {
        let wanted = place.wanted;
        let of_family = |net: IpNet| net.addr().is_ipv4() == is_v4;
        let mut subnets = wanted.network.subnets.iter().filter(|subnet| of_family(subnet.net())).peekable();
        if subnets.peek().is_none() {
            return Ok(None);
        }
        let avoids_previous = self.applicant.is_some_and(|applicant| applicant.avoid_previous);
        let is_had = |address: &&IpAddr| address.is_ipv4() == is_v4 && !avoids_previous;
        let had: Vec<_> = wanted.previous.addresses.iter().filter(is_had).collect();
        for address in had.into_iter().filter_map(|&had| wanted.network.subnet_of(had)?.pickable(had)) {
            if self.take_if_free(place, address.addr().into())? {
                return Ok(Some(address));
            }
        }
        for subnet in subnets {
            if let Some(found) = self.next(place, subnet)? {
                return Ok(Some(found));
            }
        }
        let found = self.take_quarantined(place, is_v4)?;
        found.map(Some).ok_or_else(|| self.exhausted(place, is_v4))
    }

    /// The error if no address of a family is left.
    fn exhausted(&self, place: Place<'_>, is_v4: bool) -> Error {
        let family = if is_v4 { "IPv4" } else { "IPv6" };
        let name = &place.wanted.network.name;
        let of_host = if self.applicant.is_none() { " for the host" } else { "" };
        let mut text = format!("network {name} has no free {family} address left{of_host}");
        let mut hint = "`underlay ps` shows who holds them; stop a container or widen the range".to_owned();
        let quarantined = self.quarantined(place, is_v4);
        if !quarantined.is_empty() {
            let hosts = in_words(&by_host(&quarantined));
            let are = if quarantined.len() == 1 { "is" } else { "are" };
            text += &format!(", and {} {are} set aside, for others answered: {hosts}", quarantined.len());
            hint += "; find who answers by the MAC address, then `underlay gc --quarantine` sets them free";
        }
        Error::new(Kind::Exhausted, text).hint(hint)
    }

    /// Leases the next free address of a pool. If many in a row are held, a map tells which others are.
    fn next(&mut self, place: Place<'_>, subnet: &Subnet) -> Result<Option<IpNet>> {
        let pool = subnet.pool_name();
        let segment = self.segments.get(&place.segment());
        let last = segment.and_then(|segment| segment.cursors.get(&pool)).copied();
        for fresh in [false, true] {
            let mut map: Option<Bitmap> = None;
            for (tried, address) in subnet.candidates(last).enumerate() {
                if tried == TRIES {
                    map = self.leases.table.map(place.segment(), subnet, fresh)?;
                }
                if map.as_ref().is_some_and(|map| map.is_held(address.addr())) {
                    continue;
                }
                let found = self.take_if_free(place, address.addr().into())?;
                if let Some(map) = &mut map {
                    map.set(address.addr(), true);
                }
                if found {
                    map.iter().for_each(|map| self.leases.table.write_map(place.segment(), map));
                    if let Some(segment) = self.segments.get_mut(&place.segment()) {
                        segment.cursors.insert(pool, address.addr());
                    }
                    return Ok(Some(address));
                }
            }
            // Only a map that is not fresh may be wrong.
            if map.is_none_or(|map| map.fresh) {
                break;
            }
        }
        Ok(None)
    }

    /// Leases `key` to the container or the host. Returns false if it is held by another.
    fn lease(&mut self, place: Place<'_>, key: LeaseKey) -> Result<bool> {
        let (segment, network) = (place.segment(), &place.wanted.network.name);
        match self.applicant {
            Some(Applicant { container, .. }) => self.leases.lease(segment, key, Owner::Container(container)),
            None => Ok(self.leases.lease(segment, key, Owner::HostLink(network))?
                || self.leases.table.leased_to_host(segment, key)?.as_ref() == Some(network)),
        }
    }
}

/// The address asked for, with the prefix length of the subnet it lies in.
fn asked(wanted: &ResolvedAttachment, address: IpAddr, prefix_len: Option<u8>) -> Result<IpNet> {
    let network = &wanted.network;
    let subnet = network.subnet_of(address).ok_or_else(|| {
        let subnets: Vec<_> = network.subnets.iter().map(|subnet| subnet.net().to_string()).collect();
        Error::input(format!("address {address} is in no subnet of network {}", network.name)).hint(
            if subnets.is_empty() {
                "it has none: `--subnet` of `underlay network create` gives it one".to_owned()
            } else {
                format!("its subnets: {}", subnets.join(", "))
            },
        )
    })?;
    let host = subnet.host(address)?;
    match prefix_len {
        Some(prefix_len) if prefix_len != host.prefix_len() => {
            Err(Error::input(format!("address {address}/{prefix_len} does not fit subnet {}", subnet.net()))
                .hint(format!("write {address}, or {host}")))
        }
        _ => Ok(host),
    }
}

#[cfg(test)]
mod tests;
