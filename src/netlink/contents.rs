//! The addresses, routes and rules of a network namespace. Each list is read once, whatever the number of links.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::message;
use super::reply::{self, Address};
use super::routes::{self, FoundRoute};
use super::socket::Socket;
use crate::error::Result;
use crate::net::route::{Route, TableId};

/// What some links of a namespace have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    addresses: BTreeMap<u32, Vec<IpNet>>,
    /// Those of them that are for a time.
    limited: BTreeSet<(u32, IpNet)>,
    /// By the link that packets leave by; blackhole routes have none.
    routes: BTreeMap<Option<u32>, Vec<FoundRoute>>,
    rules: Vec<(IpAddr, TableId)>,
}

impl Contents {
    /// Returns the addresses of the link `ifindex`, as [`Socket::addresses_of`] does.
    pub(crate) fn addresses_of(&self, ifindex: u32) -> &[IpNet] {
        self.addresses.get(&ifindex).map_or(&[], Vec::as_slice)
    }

    /// Returns true if the address `net` of the link `ifindex` is for a time.
    pub(crate) fn is_limited(&self, ifindex: u32, net: IpNet) -> bool {
        self.limited.contains(&(ifindex, net))
    }

    /// Returns the routes of `table` by the link `ifindex`, as [`Socket::routes_of`] does.
    pub(crate) fn routes_of(&self, ifindex: u32, table: Option<TableId>) -> impl Iterator<Item = Route> {
        let all = [None, Some(ifindex)].into_iter().filter_map(|by| self.routes.get(&by)).flatten();
        all.filter(move |found| found.is_in(table)).map(|found| found.route)
    }

    /// The rules of ours, each from an address to a table.
    pub(crate) fn rules(&self) -> &[(IpAddr, TableId)] {
        &self.rules
    }
}

impl Socket {
    /// Returns the contents of `links`, which are given by number.
    pub(crate) fn contents(&mut self, links: &BTreeSet<u32>) -> Result<Contents> {
        let mut contents = Contents::default();
        for address in self.lasting_addresses(|ifindex| links.contains(&ifindex))? {
            contents.addresses.entry(address.ifindex).or_default().push(address.net);
            contents.limited.extend((!address.permanent).then_some((address.ifindex, address.net)));
        }
        for found in self.found_routes(|found| found.ifindex.is_none_or(|by| links.contains(&by)))? {
            contents.routes.entry(found.ifindex).or_default().push(found);
        }
        contents.rules = self.dump_both(message::dump_rules, routes::parse_rule)?;
        Ok(contents)
    }

    /// Returns the static addresses of the link `ifindex`, and those that a DHCP server gave for a time: neither
    /// link-local ones of IPv6, nor those that a router gave for a time.
    pub(crate) fn addresses_of(&mut self, ifindex: u32) -> Result<Vec<IpNet>> {
        let addresses = self.lasting_addresses(|by| by == ifindex)?;
        Ok(addresses.into_iter().map(|address| address.net).collect())
    }

    /// Returns the routes of `table`, or of the main one, by the link `ifindex`, and the blackhole routes of ours there. Routes
    /// that the kernel makes for its addresses, that a router has advertised, or that have several next hops are left out.
    /// The metric is `None` if it is the kernel's default: 0, and 1024 for IPv6.
    pub(crate) fn routes_of(&mut self, ifindex: u32, table: Option<TableId>) -> Result<Vec<Route>> {
        let is_it = |found: &FoundRoute| found.is_in(table) && found.ifindex.is_none_or(|by| by == ifindex);
        Ok(self.found_routes(is_it)?.into_iter().map(|found| found.route).collect())
    }

    /// Returns the address of IPv6 that the link `ifindex` has for itself, if it has one.
    pub(crate) fn link_local(&mut self, ifindex: u32) -> Result<Option<Ipv6Addr>> {
        let own = |address: Address| match address.net.addr() {
            IpAddr::V6(own) if own.is_unicast_link_local() && address.ifindex == ifindex => Some(own),
            _ => None,
        };
        let all =
            self.dump(message::dump_addresses, |payload| reply::parse_address(payload).and_then(own))?;
        Ok(all.first().copied())
    }

    fn lasting_addresses(&mut self, is_wanted: impl Fn(u32) -> bool) -> Result<Vec<Address>> {
        let link_local = |net: &IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
        // No router gives an address of IPv4, nor one without its prefix.
        let is_lasting = |address: &Address| {
            let net = address.net;
            address.permanent || net.addr().is_ipv4() || net.prefix_len() == net.max_prefix_len()
        };
        let is_wanted = |address: &Address| {
            is_lasting(address) && !link_local(&address.net) && is_wanted(address.ifindex)
        };
        self.dump(message::dump_addresses, |payload| reply::parse_address(payload).filter(is_wanted))
    }

    // Filtered while they are read: a namespace may have very many.
    fn found_routes(&mut self, is_wanted: impl Fn(&FoundRoute) -> bool) -> Result<Vec<FoundRoute>> {
        self.dump_both(message::dump_routes, |payload| routes::parse_route(payload).filter(&is_wanted))
    }
}
