//! A subnet of a network: which of its addresses may be handed out, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;

use crate::error::{Error, Result};
pub(crate) use crate::net::address_range::AddressRange;
use crate::net::special_purpose::not_for_hosts;

/// One subnet of a network, with its gateway and the range that addresses are picked from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    net: IpNet,
    gateway: Option<IpAddr>,
    onlink: bool,
    range: Option<AddressRange>,
    aux_addresses: BTreeMap<String, IpAddr>,
    next_hops: BTreeSet<IpAddr>,
}

impl Subnet {
    /// A subnet whose parts agree with each other.
    ///
    /// # Errors
    /// Host bits in `net`, or a gateway, range or aux address that is not inside it.
    pub(crate) fn new(
        net: IpNet,
        gateway: Option<IpAddr>,
        range: Option<AddressRange>,
        aux_addresses: BTreeMap<String, IpAddr>,
    ) -> Result<Self> {
        if net.trunc() != net {
            return Err(Error::input(format!("subnet {net} has host bits set"))
                .hint(format!("write {}", net.trunc())));
        }
        if net.prefix_len() == 0 {
            return Err(Error::input(format!("subnet {net} holds every address there is"))
                .hint("name the subnet of your LAN: underlay does not choose one"));
        }
        if let Some((block, what)) = not_for_hosts(net) {
            return Err(Error::input(format!(
                "subnet {net} has addresses of {block}, {what}: no host has one"
            ))
            .hint("name the subnet of your LAN"));
        }
        if let Some(gateway) = gateway.filter(|gateway| !net.contains(gateway)) {
            return Err(Error::input(format!("gateway {gateway} is not in subnet {net}"))
                .hint("name an address of the subnet, or leave the gateway out for no default route"));
        }
        if let Some(range) = range.filter(|r| !(net.contains(&r.first) && net.contains(&r.last))) {
            return Err(Error::input(format!("address range {range} is not in subnet {net}")));
        }
        if let Some((name, address)) = aux_addresses.iter().find(|(_, address)| !net.contains(*address)) {
            return Err(Error::input(format!("aux address {name}={address} is not in subnet {net}")));
        }
        let subnet = Self { net, gateway, onlink: false, range, aux_addresses, next_hops: BTreeSet::new() };
        if let Some(gateway) = gateway.filter(|&gateway| subnet.is_structural(gateway)) {
            return Err(Error::input(format!("gateway {gateway} is not a host address of subnet {net}")));
        }
        Ok(subnet)
    }

    /// The subnet with a router that is on the link, whatever its address.
    #[must_use]
    pub(crate) fn with_onlink_gateway(self, gateway: IpAddr) -> Self {
        Self { gateway: Some(gateway), onlink: true, ..self }
    }

    /// Whether the router need not be in the subnet.
    pub(crate) fn has_onlink_gateway(&self) -> bool {
        self.onlink
    }

    /// The subnet with these routers besides its gateway, as far as they are in it: they are never handed out.
    #[must_use]
    pub(crate) fn with_next_hops(mut self, next_hops: impl IntoIterator<Item = IpAddr>) -> Self {
        let net = self.net;
        self.next_hops.extend(next_hops.into_iter().filter(|next_hop| net.contains(next_hop)));
        self
    }

    /// The subnet itself.
    pub(crate) fn net(&self) -> IpNet {
        self.net
    }

    /// The router of the subnet, if a default route is to lead there.
    pub(crate) fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// The range addresses are picked from, if not the whole subnet.
    pub(crate) fn range(&self) -> Option<AddressRange> {
        self.range
    }

    /// The addresses that are never handed out, by name: routers, printers and the like.
    pub(crate) fn aux_addresses(&self) -> &BTreeMap<String, IpAddr> {
        &self.aux_addresses
    }

    /// `address` with the prefix length of this subnet.
    ///
    /// # Errors
    /// When no container can have it: it is outside, the gateway, or not a host address.
    pub(crate) fn host(&self, address: IpAddr) -> Result<IpNet> {
        let refuse = |why: &str| {
            Err(Error::input(format!("address {address} {why} {}", self.net)).hint("ask for another address"))
        };
        if !self.net.contains(&address) {
            return refuse("is outside of subnet");
        }
        if self.gateway == Some(address) {
            return refuse("is the gateway of subnet");
        }
        if self.is_structural(address) {
            return refuse("is not a host address of subnet");
        }
        if self.is_aux(address) {
            return refuse("is set aside (aux address) in subnet");
        }
        if self.next_hops.contains(&address) {
            return refuse("is the next hop of a route, in subnet");
        }
        Ok(self.with_prefix(address))
    }

    /// What the pool of this subnet is called where its cursor is kept: the range, or the subnet.
    pub(crate) fn pool_name(&self) -> String {
        self.range.map_or_else(|| self.net.to_string(), |range| range.to_string())
    }

    /// Every address of the pool that may be picked, each once: first those after `last`, then from the
    /// beginning. An address just given up so comes round last (next-fit).
    pub(crate) fn candidates(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpNet> + '_ {
        let (first, end) = self.pool();
        let last = last
            .filter(|last| last.is_ipv4() == self.net.network().is_ipv4())
            .map(number)
            .filter(|last| (first..end).contains(last));
        let (after, before) = match last {
            Some(last) => (last + 1..=end, Some(first..=last)),
            None => (first..=end, None),
        };
        after
            .chain(before.into_iter().flatten())
            .map(|number| self.address(number))
            .filter(|&address| !self.is_reserved(address))
            .map(|address| self.with_prefix(address))
    }

    /// `address` with the prefix length of this subnet, if it is one that may be picked.
    pub(crate) fn pickable(&self, address: IpAddr) -> Option<IpNet> {
        let (first, end) = self.pool();
        self.host(address).ok().filter(|_| (first..=end).contains(&number(address)))
    }

    /// Whether no container may have `address`, whoever holds it.
    pub(crate) fn is_reserved(&self, address: IpAddr) -> bool {
        self.gateway == Some(address)
            || self.is_structural(address)
            || self.is_aux(address)
            || self.next_hops.contains(&address)
    }

    fn is_aux(&self, address: IpAddr) -> bool {
        self.aux_addresses.values().any(|&aux| aux == address)
    }

    /// How many addresses are taken, and how many can still be picked, when those of `held` are.
    pub(crate) fn usage(&self, held: &BTreeSet<IpAddr>) -> Usage {
        let structural =
            [self.net.network(), self.net.broadcast()].into_iter().filter(|&a| self.is_structural(a));
        let reserved = structural.chain(self.gateway).chain(self.aux_addresses.values().copied());
        let reserved = reserved.chain(self.next_hops.iter().copied());
        let used: BTreeSet<_> = reserved
            .chain(held.iter().copied())
            .filter(|address| self.net.contains(address))
            .map(number)
            .collect();
        let (first, end) = self.pool();
        let size = u64::try_from(end - first).unwrap_or(u64::MAX).saturating_add(1);
        Usage { in_use: used.len() as u64, free: size.saturating_sub(used.range(first..=end).count() as u64) }
    }

    /// The first and the last address of the pool.
    pub(crate) fn pool(&self) -> (u128, u128) {
        match self.range {
            Some(range) => (number(range.first), number(range.last)),
            None => (number(self.net.network()), number(self.net.broadcast())),
        }
    }

    /// Addresses a subnet's own make-up takes away: v4 network and broadcast address (prefixes shorter than
    /// /31, RFC 3021), v6 subnet-router anycast address (shorter than /127, RFC 4291 2.6.1 and RFC 6164).
    fn is_structural(&self, address: IpAddr) -> bool {
        match self.net {
            IpNet::V4(net) if net.prefix_len() < 31 => {
                address == IpAddr::V4(net.network()) || address == IpAddr::V4(net.broadcast())
            }
            IpNet::V6(net) if net.prefix_len() < 127 => address == IpAddr::V6(net.network()),
            _ => false,
        }
    }

    fn with_prefix(&self, address: IpAddr) -> IpNet {
        IpNet::new_assert(address, self.net.prefix_len())
    }

    pub(crate) fn address(&self, number: u128) -> IpAddr {
        match self.net {
            // The number came from an IPv4 range, so it fits.
            IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }
}

/// How full a subnet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    /// Addresses of the subnet that nobody else can have: held, or reserved.
    pub in_use: u64,
    /// Addresses of the pool that can still be picked.
    pub free: u64,
}

/// The place of an address in its family, for ranges over both families alike.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests;
