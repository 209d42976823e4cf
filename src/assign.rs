//! What each attachment of a container comes to: names and routes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Kind, Result};
use crate::hint::Hint;
use crate::ipv6::Advertised;
use crate::link::Link;
use crate::name::IfName;
use crate::network::Network;
use crate::record::Attached;
use crate::request::Attachment;
use crate::route::{Route, Table};
use crate::subnet::Subnet;

/// An attachment with all that is known before addresses are picked.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the container asked for.
    pub request: Attachment,
    /// The network it names.
    pub network: Network,
    /// That network's parent on this host.
    pub parent: Link,
    /// What its link is going to be called.
    pub ifname: IfName,
    /// What its identity had here before.
    pub hint: Hint,
}

/// The names of the links of a container: as asked for, else `eth0`, `eth1`, … in the order listed, leaving
/// out the names in `present` and those asked for by other attachments.
///
/// # Errors
/// When a name that was asked for exists, or is asked for twice.
pub fn names(requests: &[Attachment], present: &BTreeSet<String>) -> Result<Vec<IfName>> {
    let mut used = present.clone();
    for ifname in requests.iter().filter_map(|request| request.ifname.as_ref()) {
        if present.contains(ifname.as_str()) {
            return Err(Error::new(
                Kind::Taken,
                format!("interface {ifname} exists in the container already"),
            )
            .hint("ask for another ifname, or leave it out"));
        }
        if !used.insert(ifname.to_string()) {
            return Err(Error::new(Kind::Taken, format!("interface name {ifname} is asked for twice"))
                .hint("give each attachment its own ifname"));
        }
    }
    let mut free = (0..).map(IfName::eth).filter(|name| !used.contains(name.as_str()));
    let name = |request: &Attachment| request.ifname.clone().map(IfName::from).or_else(|| free.next());
    // The iterator of free names does not end.
    Ok(requests.iter().filter_map(name).collect())
}

/// Which families have a default route in a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefaultRoutes {
    /// IPv4
    pub v4: bool,
    /// IPv6
    pub v6: bool,
}

/// Gives one attachment per family the default route: of those that can, the one with the highest `gw-priority`,
/// then one with a gateway of its own before one that waits for a router's advertisement, then the first listed. A
/// default route that is there already, as of podman's own bridge, counts as listed first with priority 0. Then each
/// attachment gets the routes of its network, and those it asks for; all once more in its own table, if it has one,
/// with the default route that it would give.
pub fn routes(wanted: &[Wanted], attached: &mut [Attached], present: DefaultRoutes) {
    let families = [(IpNet::V4(Ipv4Net::default()), present.v4), (IpNet::V6(Ipv6Net::default()), present.v6)];
    for (family, present) in families {
        let mut best: Option<((i32, bool), usize, Option<Route>)> = None;
        for (index, (wanted, attached)) in wanted.iter().zip(attached.iter()).enumerate() {
            if present && wanted.request.gw_priority <= 0 {
                continue;
            }
            let route = default_route(wanted, attached, family);
            if route.is_none() && !may_be_advertised(wanted, attached, family) {
                continue;
            }
            let rank = (wanted.request.gw_priority, route.is_some());
            if best.is_none_or(|(best, ..)| rank > best) {
                best = Some((rank, index, route));
            }
        }
        if let Some((_, index, route)) = best
            && let (Some(wanted), Some(attached)) = (wanted.get(index), attached.get_mut(index))
        {
            match route {
                Some(route) => attached.routes.push(route),
                None => {
                    let (default_route, metric) = (true, wanted.network.metric);
                    attached.advertised = Advertised { default_route, metric, ..attached.advertised };
                }
            }
        }
    }
    // What leads nowhere is there once, for it belongs to no link.
    let mut nowhere: Vec<Route> = Vec::new();
    for (wanted, attached) in wanted.iter().zip(attached.iter_mut()) {
        let mut routes = network_routes(&wanted.network, attached);
        routes.extend(&wanted.request.routes);
        attached.table = table(wanted, attached, &routes);
        routes.retain(|route| route.leads_on() || !nowhere.contains(route));
        nowhere.extend(routes.iter().filter(|route| !route.leads_on()));
        attached.routes.extend(routes);
        // As the kernel lists them.
        attached.routes.sort_by_key(|route| route.to.addr().is_ipv6());
    }
}

/// The routes of an attachment with a table of its own, as if it were the only one: to its subnets, the default
/// routes, and `others`.
fn table(wanted: &Wanted, attached: &Attached, others: &[Route]) -> Option<Table> {
    let id = wanted.request.table.or(wanted.network.table)?;
    let subnets = attached.addresses.iter().filter(|net| net.prefix_len() < net.max_prefix_len());
    let subnets = subnets.map(|net| Route::new(net.trunc(), None));
    let families = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let defaults = families.into_iter().filter_map(|to| gateway_route(&wanted.network, attached, to));
    let mut routes: Vec<Route> = Vec::new();
    for route in subnets.chain(defaults).chain(others.iter().copied()) {
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    Some(Table { id, routes })
}

/// The routes of `network` that `attached` can have: their next hop must be reached by its addresses, or else it must
/// have one of their family. Where packets are routed (ipvlan l3)
/// and no default route does it, also those to its other subnets: nobody else brings them together.
fn network_routes(network: &Network, attached: &Attached) -> Vec<Route> {
    let reaches = |via: IpAddr| attached.addresses.iter().any(|net| net.trunc().contains(&via));
    let serves = |to: IpNet| attached.addresses.iter().any(|net| net.addr().is_ipv4() == to.addr().is_ipv4());
    let suits = |route: &&Route| match route.via {
        Some(via) if !route.onlink => reaches(via),
        _ => serves(route.to),
    };
    let mut routes: Vec<_> = network.routes.iter().filter(suits).copied().collect();
    if network.driver.is_routed() {
        for to in network.subnets.iter().map(Subnet::net) {
            let same_family = |net: IpNet| net.addr().is_ipv4() == to.addr().is_ipv4();
            let by_default = attached.routes.iter().any(|route| same_family(route.to));
            if serves(to) && !by_default && !reaches(to.addr()) {
                routes.push(Route::new(to, None));
            }
        }
    }
    routes
}

/// The default route of the family of `to` that an attachment could give.
fn default_route(wanted: &Wanted, attached: &Attached, to: IpNet) -> Option<Route> {
    if wanted.network.no_default_route || !wanted.request.default_route {
        return None;
    }
    gateway_route(&wanted.network, attached, to)
}

/// Whether an attachment without a gateway could take the default route of the family of `to` from a router.
fn may_be_advertised(wanted: &Wanted, attached: &Attached, to: IpNet) -> bool {
    let network = &wanted.network;
    let leads_out = !network.no_default_route && wanted.request.default_route && !network.internal;
    let hears = !network.on_dummy && !network.driver.is_routed() && attached.has_ipv6();
    to.addr().is_ipv6() && leads_out && hears
}

/// The way out of the network for the family of `to`.
fn gateway_route(network: &Network, attached: &Attached, to: IpNet) -> Option<Route> {
    // A dummy link leads nowhere.
    if network.internal || network.on_dummy {
        return None;
    }
    let metric = network.metric;
    let of_family = |address: &&IpNet| address.addr().is_ipv4() == to.addr().is_ipv4();
    let mut addresses = attached.addresses.iter().filter(of_family);
    if network.driver.is_routed() {
        return addresses.next().map(|_| Route { metric, ..Route::new(to, None) });
    }
    addresses.find_map(|address| {
        let subnet = network.subnet_of(address.addr())?;
        let onlink = subnet.has_onlink_gateway();
        Some(Route { metric, onlink, ..Route::new(to, Some(subnet.gateway()?)) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipv6::Ipv6;
    use crate::request;

    fn requests(text: &str) -> Vec<Attachment> {
        let annotations = request::Annotations::from([(request::NETWORKS.to_owned(), text.to_owned())]);
        crate::asked::Asked::of(&annotations).unwrap().read().unwrap().attachments
    }

    #[track_caller]
    fn check_names(text: &str, present: &[&str], expected: &[&str]) {
        let present = present.iter().map(|&name| name.to_owned()).collect();
        let got: Vec<_> = names(&requests(text), &present).unwrap().iter().map(IfName::to_string).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn link_names() {
        check_names("a", &["lo"], &["eth0"]);
        check_names("a;b", &["lo"], &["eth0", "eth1"]);
        check_names("a;b", &["lo", "eth0"], &["eth1", "eth2"]);
        check_names("a;b;c", &["lo", "eth1"], &["eth0", "eth2", "eth3"]);
        check_names("a;b:ifname=eth0;c", &["lo"], &["eth1", "eth0", "eth2"]);
        check_names("a:ifname=up;b", &["lo"], &["up", "eth0"]);
        let present = BTreeSet::from(["lan".to_owned()]);
        assert!(names(&requests("a:ifname=lan"), &present).is_err());
        assert!(names(&requests("a:ifname=x;b:ifname=x"), &present).is_err());
    }

    /// `(network extras, gw-priority, addresses)` of each attachment → its default routes.
    #[track_caller]
    fn check_routes(cases: &[(&str, i32, &[&str])], present: DefaultRoutes, expected: &[&[&str]]) {
        let mut all_wanted = Vec::new();
        let mut all_attached = Vec::new();
        for (extra, gw_priority, addresses) in cases {
            let text = format!(
                r#"{{"version": 1, "parent": "eth0", {extra} "subnets": [
                    {{"subnet": "10.0.0.0/24"}}, {{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}},
                    {{"subnet": "10.2.0.0/24", "gateway": "10.2.0.1"}},
                    {{"subnet": "2001:db8::/64", "gateway": "2001:db8::1"}},
                    {{"subnet": "2001:db8:1::/64"}}]}}"#
            );
            let network = Network::from_json(&"n".parse().unwrap(), text.as_bytes()).unwrap();
            let mut request = requests("n").remove(0);
            request.gw_priority = *gw_priority;
            let ifname = IfName::eth(all_wanted.len());
            all_attached.push(Attached {
                host_link: None,
                network: network.name.clone(),
                driver: network.driver,
                parent: network.parent.clone(),
                parent_index: 2,
                segment: 2,
                ifname: ifname.clone(),
                ifindex: None,
                mac: None,
                mtu: None,
                bclim: None,
                tuning: crate::tuning::Tuning::default(),
                detection: None,
                announcements: 0,
                advertised: Advertised { slaac: network.ipv6.and_then(Ipv6::slaac), ..Advertised::default() },
                addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
                routes: Vec::new(),
                table: None,
            });
            let parent = crate::link::eth0();
            all_wanted.push(Wanted { request, network, parent, ifname, hint: Hint::default() });
        }
        routes(&all_wanted, &mut all_attached, present);
        let text =
            |route: &Route| route.via.map_or_else(|| format!("dev {}", route.to), |via| via.to_string());
        let advertised = |attached: &Attached| attached.advertised.default_route.then(|| "ra".to_owned());
        let got: Vec<Vec<String>> =
            all_attached.iter().map(|a| a.routes.iter().map(text).chain(advertised(a)).collect()).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn one_default_route_per_family() {
        let none = DefaultRoutes::default();
        let (mac, l3) = (r#""driver": "macvlan","#, r#""driver": "ipvlan", "ipvlan_mode": "l3","#);
        let internal = r#""driver": "macvlan", "internal": true,"#;
        check_routes(&[(mac, 0, &["10.1.0.9/24"])], none, &[&["10.1.0.1"]]);
        check_routes(&[(mac, 0, &["10.0.0.9/24"])], none, &[&[]]);
        check_routes(&[(mac, 0, &["10.0.0.9/24", "10.2.0.9/24"])], none, &[&["10.2.0.1"]]);
        check_routes(&[(internal, 0, &["10.1.0.9/24"])], none, &[&[]]);
        check_routes(&[(l3, 0, &["10.1.0.9/24", "2001:db8::9/64"])], none, &[&["dev 0.0.0.0/0", "dev ::/0"]]);
        check_routes(&[(mac, 0, &["10.1.0.9/24"]), (mac, 0, &["10.2.0.9/24"])], none, &[&["10.1.0.1"], &[]]);
        check_routes(&[(mac, 0, &["10.1.0.9/24"]), (mac, 1, &["10.2.0.9/24"])], none, &[&[], &["10.2.0.1"]]);
        check_routes(
            &[(mac, -1, &["10.1.0.9/24", "2001:db8::9/64"]), (mac, 0, &["10.2.0.9/24"])],
            none,
            &[&["2001:db8::1"], &["10.2.0.1"]],
        );
        let inside = r#""driver": "ipvlan", "ipvlan_mode": "l3", "internal": true,"#;
        check_routes(&[(inside, 0, &["10.1.0.9/24"])], none, &[&["dev 10.0.0.0/24", "dev 10.2.0.0/24"]]);
        let v4 = DefaultRoutes { v4: true, v6: false };
        check_routes(&[(mac, 0, &["10.1.0.9/24", "2001:db8::9/64"])], v4, &[&["2001:db8::1"]]);
        check_routes(&[(mac, 1, &["10.1.0.9/24"])], v4, &[&["10.1.0.1"]]);
        let aside = r#""driver": "macvlan", "no_default_route": true,"#;
        check_routes(
            &[(aside, 5, &["10.1.0.9/24"]), (mac, 0, &["10.2.0.9/24"])],
            none,
            &[&[], &["10.2.0.1"]],
        );
        let routes = r#""driver": "macvlan", "routes": [{"to": "10.9.0.0/16", "via": "10.1.0.2"}],"#;
        check_routes(&[(routes, 0, &["10.1.0.9/24"])], none, &[&["10.1.0.1", "10.1.0.2"]]);
        check_routes(&[(routes, 0, &["10.2.0.9/24"])], none, &[&["10.2.0.1"]]);
        check_routes(&[(mac, 9, &["10.0.0.9/24"]), (mac, 0, &["10.2.0.9/24"])], none, &[&[], &["10.2.0.1"]]);
    }

    #[test]
    fn a_default_route_that_a_router_advertises() {
        let none = DefaultRoutes::default();
        let (mac, slaac) = (r#""driver": "macvlan","#, r#""driver": "macvlan", "ipv6": "slaac","#);
        let (without, with) = ("2001:db8:1::9/64", "2001:db8::9/64");
        check_routes(&[(mac, 0, &[without])], none, &[&["ra"]]);
        check_routes(&[(slaac, 0, &["10.1.0.9/24"])], none, &[&["10.1.0.1", "ra"]]);
        check_routes(&[(slaac, 0, &[with])], none, &[&["2001:db8::1"]]);
        check_routes(&[(mac, 0, &[without]), (mac, 0, &[with])], none, &[&[], &["2001:db8::1"]]);
        check_routes(&[(mac, 1, &[without]), (mac, 0, &[with])], none, &[&["ra"], &[]]);
        check_routes(&[(slaac, 0, &[]), (slaac, 0, &[])], none, &[&["ra"], &[]]);
        check_routes(&[(slaac, 0, &[])], DefaultRoutes { v4: false, v6: true }, &[&[]]);
        check_routes(&[(r#""driver": "macvlan", "ipv6": "slaac", "internal": true,"#, 0, &[])], none, &[&[]]);
    }
}
