//! The addresses, routes and rules of a network namespace. Each list is read once, whatever the number of links that matter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use neli::consts::rtnl::RtAddrFamily;

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
    /// By the link they leave by; those that lead nowhere have none.
    routes: BTreeMap<Option<u32>, Vec<FoundRoute>>,
    rules: Vec<(IpAddr, TableId)>,
}

impl Contents {
    /// The addresses of the link `ifindex`, as [`Socket::addresses_of`] has them.
    pub(crate) fn addresses_of(&self, ifindex: u32) -> &[IpNet] {
        self.addresses.get(&ifindex).map_or(&[], Vec::as_slice)
    }

    /// The routes of `table` by the link `ifindex`, as [`Socket::routes_of`] has them.
    pub(crate) fn routes_of(&self, ifindex: u32, table: Option<TableId>) -> impl Iterator<Item = Route> {
        let nowhere = self.routes.get(&None).into_iter();
        let all = nowhere.chain(self.routes.get(&Some(ifindex))).flatten();
        all.filter(move |found| found.is_in(table)).map(|found| found.route)
    }

    /// The rules of ours, from which address to which table.
    pub(crate) fn rules(&self) -> &[(IpAddr, TableId)] {
        &self.rules
    }
}

impl Socket {
    /// What `links`, by number, have.
    ///
    /// # Errors
    /// When the kernel's answer is not understood.
    pub(crate) fn contents(&mut self, links: &BTreeSet<u32>) -> Result<Contents> {
        let mut contents = Contents::default();
        for address in self.kept_addresses(|ifindex| links.contains(&ifindex))? {
            contents.addresses.entry(address.ifindex).or_default().push(address.net);
        }
        for found in self.found_routes(|found| found.ifindex.is_none_or(|by| links.contains(&by)))? {
            contents.routes.entry(found.ifindex).or_default().push(found);
        }
        for family in [RtAddrFamily::Inet, RtAddrFamily::Inet6] {
            contents.rules.extend(self.dump(|| message::dump_rules(family), routes::parse_rule)?);
        }
        Ok(contents)
    }

    /// The addresses the link `ifindex` was given to keep: without the link-local ones of IPv6, and without those that
    /// a router or a DHCP server gave for a time.
    ///
    /// # Errors
    /// When the kernel's answer is not understood.
    pub(crate) fn addresses_of(&mut self, ifindex: u32) -> Result<Vec<IpNet>> {
        let kept = self.kept_addresses(|by| by == ifindex)?;
        Ok(kept.into_iter().map(|address| address.net).collect())
    }

    /// The routes of `table`, or of the main one, by the link `ifindex`, and those of ours there that lead nowhere; but
    /// for those that the kernel makes for its addresses, that a router has sent, or that have several next hops. A
    /// metric is none where it is the kernel's own: 0, and 1024 for IPv6.
    ///
    /// # Errors
    /// When the kernel's answer is not understood.
    pub(crate) fn routes_of(&mut self, ifindex: u32, table: Option<TableId>) -> Result<Vec<Route>> {
        let is_it = |found: &FoundRoute| found.is_in(table) && found.ifindex.is_none_or(|by| by == ifindex);
        Ok(self.found_routes(is_it)?.into_iter().map(|found| found.route).collect())
    }

    fn kept_addresses(&mut self, is_wanted: impl Fn(u32) -> bool) -> Result<Vec<Address>> {
        let link_local = |net: &IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
        let kept =
            |address: &Address| address.permanent && !link_local(&address.net) && is_wanted(address.ifindex);
        self.dump(message::dump_addresses, |payload| Ok(reply::parse_address(payload)?.filter(kept)))
    }

    fn found_routes(&mut self, is_wanted: impl Fn(&FoundRoute) -> bool) -> Result<Vec<FoundRoute>> {
        let mut all = Vec::new();
        for family in [RtAddrFamily::Inet, RtAddrFamily::Inet6] {
            let parse = |payload: &[u8]| Ok(routes::parse_route(payload)?.filter(&is_wanted));
            all.extend(self.dump(|| message::dump_routes(family), parse)?);
        }
        Ok(all)
    }
}
