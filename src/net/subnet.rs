//! A subnet of a network: which of its addresses may be allocated, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::net::special_purpose::not_for_hosts;

/// One subnet of a network, with its gateway and the range that addresses are allocated from.
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
    /// A subnet whose parts agree with each other. A gateway that is `onlink` need not be in it.
    ///
    /// # Errors
    /// Host bits in `net`, or a gateway, range or aux address that is not inside it.
    pub(crate) fn new(
        net: IpNet,
        gateway: Option<IpAddr>,
        onlink: bool,
        range: Option<AddressRange>,
        aux_addresses: BTreeMap<String, IpAddr>,
    ) -> Result<Self> {
        if net.prefix_len() == 0 {
            return Err(Error::input(format!("subnet {net} has all addresses of its family"))
                .hint("name the subnet of your LAN: underlay does not choose one"));
        }
        if net.trunc() != net {
            return Err(Error::input(format!("subnet {net} has host bits set"))
                .hint(format!("write {}", net.trunc())));
        }
        if let Some((block, what)) = not_for_hosts(net) {
            let text = format!("subnet {net} has addresses of {block}, {what}: no host has one");
            return Err(Error::input(text).hint("name the subnet of your LAN"));
        }
        if let Some(gateway) = gateway.filter(|gateway| !onlink && !net.contains(gateway)) {
            return Err(Error::input(format!("gateway {gateway} is not in subnet {net}"))
                .hint("name an address of the subnet, or leave the gateway out for no default route"));
        }
        if let Some(range) = range.filter(|r| !(net.contains(&r.first) && net.contains(&r.last))) {
            return Err(Error::input(format!("address range {range} is not in subnet {net}")));
        }
        if let Some((name, address)) = aux_addresses.iter().find(|(_, address)| !net.contains(*address)) {
            return Err(Error::input(format!("aux address {name}={address} is not in subnet {net}")));
        }
        let subnet = Self { net, gateway, onlink, range, aux_addresses, next_hops: BTreeSet::new() };
        if let Some(gateway) = gateway.filter(|&gateway| !onlink && subnet.is_structural(gateway)) {
            return Err(Error::input(format!("gateway {gateway} is not a host address of subnet {net}")));
        }
        Ok(subnet)
    }

    /// Whether the router need not be in the subnet.
    pub(crate) fn has_onlink_gateway(&self) -> bool {
        self.onlink
    }

    /// The subnet with those of these routers that are in it: they are never allocated.
    #[must_use]
    pub(crate) fn with_next_hops(mut self, next_hops: impl IntoIterator<Item = IpAddr>) -> Self {
        let net = self.net;
        self.next_hops.extend(next_hops.into_iter().filter(|next_hop| net.contains(next_hop)));
        self
    }

    /// The subnet's own prefix.
    pub(crate) fn net(&self) -> IpNet {
        self.net
    }

    /// The next hop of the default route.
    pub(crate) fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// The range that addresses are allocated from; `None` for the whole subnet.
    pub(crate) fn range(&self) -> Option<AddressRange> {
        self.range
    }

    /// `address` with the prefix length of the one of `subnets` that it is in.
    ///
    /// # Errors
    /// When no container can have it.
    pub(crate) fn host_in(subnets: &[Self], address: IpAddr) -> Result<IpNet> {
        let subnet = subnets.iter().find(|subnet| subnet.net.contains(&address)).ok_or_else(|| {
            Error::input(format!("address {address} is in none of the subnets"))
                .hint("name an address of a subnet of this network")
        })?;
        subnet.host(address)
    }

    /// `address` with the prefix length of this subnet.
    ///
    /// # Errors
    /// When no container can have it, because it is outside or reserved.
    pub(crate) fn host(&self, address: IpAddr) -> Result<IpNet> {
        let outside = (!self.net.contains(&address)).then_some("is outside of");
        match outside.or_else(|| self.reserved_as(address)) {
            Some(why) => Err(Error::input(format!("address {address} {why} subnet {}", self.net))
                .hint("ask for another address")),
            None => Ok(self.with_prefix(address)),
        }
    }

    /// The name under which the cursor of this subnet's pool is kept: the range, or the subnet.
    pub(crate) fn pool_name(&self) -> String {
        self.range.map_or_else(|| self.net.to_string(), |range| range.to_string())
    }

    /// Every address of the pool that may be allocated, each once: first those after `last`, then from the beginning.
    /// So an address that was just released comes last (next-fit).
    pub(crate) fn candidates(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpNet> + '_ {
        let (first, end) = self.pool();
        let last = last.filter(|last| last.is_ipv4() == self.net.network().is_ipv4()).map(number);
        let start = last.filter(|last| (first..end).contains(last)).map_or(first, |last| last + 1);
        (start..=end)
            .chain(first..start)
            .map(|number| self.address(number))
            .filter(|&address| !self.is_reserved(address))
            .map(|address| self.with_prefix(address))
    }

    /// `address` with the prefix length of this subnet, if it may be allocated from the pool.
    pub(crate) fn pickable(&self, address: IpAddr) -> Option<IpNet> {
        let (first, end) = self.pool();
        self.host(address).ok().filter(|_| (first..=end).contains(&number(address)))
    }

    /// Whether no container can have `address`, even if it is free.
    pub(crate) fn is_reserved(&self, address: IpAddr) -> bool {
        self.reserved_as(address).is_some()
    }

    /// Whether `address` is named as something else than a container: a gateway, a next hop, or an aux address.
    pub(crate) fn names(&self, address: IpAddr) -> bool {
        self.is_reserved(address) && !self.is_structural(address)
    }

    /// What `address` is reserved as, in front of "subnet".
    fn reserved_as(&self, address: IpAddr) -> Option<&'static str> {
        if self.gateway == Some(address) {
            Some("is the gateway of")
        } else if self.is_structural(address) {
            Some("is not a host address of")
        } else if self.aux_addresses.values().any(|&aux| aux == address) {
            Some("is an aux address of")
        } else if self.next_hops.contains(&address) {
            Some("is the next hop of a route in")
        } else {
            None
        }
    }

    /// How many addresses are in use, and how many are free, if containers and the host hold `held`.
    pub(crate) fn usage(&self, held: &BTreeSet<IpAddr>) -> Usage {
        let ends = [self.net.network(), self.net.broadcast()];
        let reserved = ends.into_iter().filter(|&end| self.is_structural(end)).chain(self.gateway);
        let others = self.aux_addresses.values().chain(&self.next_hops).chain(held).copied();
        let used = reserved.chain(others).filter(|address| self.net.contains(address));
        let used: BTreeSet<_> = used.map(number).collect();
        let (first, end) = self.pool();
        let size = u64::try_from(end - first).unwrap_or(u64::MAX).saturating_add(1);
        Usage { in_use: used.len() as u64, free: size.saturating_sub(used.range(first..=end).count() as u64) }
    }

    /// Whether all of `range` is in its pool.
    pub(crate) fn has_pool(&self, range: AddressRange) -> bool {
        let (first, last) = self.pool();
        let of_family = |address: IpAddr| address.is_ipv4() == self.net.addr().is_ipv4();
        of_family(range.first) && number(range.first) >= first && number(range.last) <= last
    }

    /// The first and the last address of the pool, as [`number`] has them.
    pub(crate) fn pool(&self) -> (u128, u128) {
        match self.range {
            Some(range) => (number(range.first), number(range.last)),
            None => (number(self.net.network()), number(self.net.broadcast())),
        }
    }

    /// Whether `address` is the network or broadcast address of an IPv4 subnet (prefixes shorter than /31, RFC 3021), or the
    /// subnet-router anycast address of an IPv6 one (shorter than /127, RFC 4291 2.6.1 and RFC 6164).
    fn is_structural(&self, address: IpAddr) -> bool {
        let net = self.net;
        let is_shared = net.prefix_len() + 1 < net.max_prefix_len();
        is_shared && (address == net.network() || net.addr().is_ipv4() && address == net.broadcast())
    }

    fn with_prefix(&self, address: IpAddr) -> IpNet {
        IpNet::new_assert(address, self.net.prefix_len())
    }

    /// The address of this subnet's family that [`number`] gives `number`.
    pub(crate) fn address(&self, number: u128) -> IpAddr {
        match self.net {
            // The number came from an IPv4 range, so it fits.
            IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }
}

/// An inclusive range of addresses of one family, written `FIRST-LAST` or as a CIDR block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressRange {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
}

impl FromStr for AddressRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::input(format!("address range {text:?} is not usable"))
                .hint("write a CIDR block (192.168.32.128/25) or FIRST-LAST (192.168.32.10-192.168.32.99)")
        };
        if let Some((first, last)) = text.split_once('-') {
            let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| wrong());
            let (first, last) = (address(first)?, address(last)?);
            if first.is_ipv4() != last.is_ipv4() || first > last {
                return Err(Error::input(format!(
                    "address range {first}-{last} is not ascending in one family"
                )));
            }
            return Ok(Self { first, last });
        }
        let block: IpNet = text.parse().map_err(|_| wrong())?;
        if block.trunc() != block {
            return Err(Error::input(format!("address range {block} has host bits set"))
                .hint(format!("write {}", block.trunc())));
        }
        Ok(Self::of_net(block))
    }
}

impl AddressRange {
    /// All addresses of `net`.
    pub(crate) fn of_net(net: IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }

    /// The part number `number` of `parts` that are as equal as they can be, have no address in common, and are all of it together.
    ///
    /// # Errors
    /// When there is no such part, or no address for it.
    pub(crate) fn part(self, number: u32, parts: u32) -> Result<Self> {
        if number == 0 || number > parts {
            return Err(Error::input(format!("there is no host number {number} of {parts}"))
                .hint("hosts are counted from 1"));
        }
        let (first, last) = (self::number(self.first), self::number(self.last));
        let (index, parts) = (u128::from(number - 1), u128::from(parts));
        // All of IPv6 is one more than can be counted, and is no subnet.
        let size = (last - first).saturating_add(1);
        let (each, rest) = (size / parts, size % parts);
        if each == 0 {
            return Err(Error::input(format!(
                "{self} has {size} addresses, which are too few for {parts} hosts"
            )));
        }
        let begin = first + index * each + index.min(rest);
        let end = begin + each + u128::from(index < rest) - 1;
        Ok(Self { first: self.at(begin), last: self.at(end) })
    }

    /// The address of its family with this number.
    fn at(self, number: u128) -> IpAddr {
        match self.first {
            // It is between two of IPv4.
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Reads a subnet. Numbers with leading zeros are refused, as in addresses: they are octal for some programs.
///
/// # Errors
/// When `text` is no address with a prefix length.
pub(crate) fn parse_net(text: &str) -> Result<IpNet> {
    let wrong =
        || Error::input(format!("subnet {text:?} is not usable")).hint("write 192.0.2.0/24 or 2001:db8::/64");
    let (address, _) = text.split_once('/').ok_or_else(wrong)?;
    address.parse::<IpAddr>().map_err(|_| wrong())?;
    text.parse().map_err(|_| wrong())
}

/// How full a subnet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    /// Addresses of the subnet that are held or reserved.
    pub in_use: u64,
    /// Addresses of the pool that can still be allocated.
    pub free: u64,
}

/// An address as a number within its family.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests;
