//! What a DHCPv4 server gives a client, as the ledger has it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::dhcp::client_id::ClientId;
use crate::dhcp::domain_name::DomainName;
use crate::dhcp::times::Times;
use crate::dhcp::v4::message::Message;
use crate::net::mac::MacAddr;
use crate::net::route::Route;
use crate::net::special_purpose::not_for_hosts;
use crate::net::value::is_default;

/// Links with a smaller MTU cannot carry IPv4 in the packets that every host must take (RFC 791).
const LEAST_MTU: u16 = 576;
/// The most routes and servers that are taken of a list.
const MOST_ROUTES: usize = 64;
const MOST_SERVERS: usize = 8;

/// A lease, with all that is needed to renew it and to give it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lease {
    /// The server's identifier (option 54), which is its address.
    pub server: Ipv4Addr,
    /// The MAC address and the id under which the server knows the client.
    pub mac: MacAddr,
    pub client_id: ClientId,
    /// The address, with the length of its subnet's prefix.
    pub address: Ipv4Net,
    /// The default route too, if there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// At least 576. It may be more than the parent has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub domain: Option<DomainName>,
    /// The domains in which names are looked up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<DomainName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv4Addr>,
    pub times: Times,
}

/// Why an offer, or what a server acknowledges, is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    NoServer,
    NoTime,
    NoMask,
    /// No host can have this address.
    Address(Ipv4Addr),
}

impl Lease {
    /// The lease that `message`, an offer or an acknowledgement, gives to the client `client_id`, which asked for it at
    /// `asked`.
    pub(crate) fn of(message: &Message, client_id: &ClientId, asked: Duration) -> Result<Self, Flaw> {
        let server = message.server.filter(|&server| is_host(server)).ok_or(Flaw::NoServer)?;
        let seconds = message.lease_time.filter(|&seconds| seconds > 0).ok_or(Flaw::NoTime)?;
        // It is not guessed by the classes that addresses once had.
        let prefix_len = message.prefix_len.filter(|&length| length > 0).ok_or(Flaw::NoMask)?;
        let flawed = Flaw::Address(message.yiaddr);
        let address = Ipv4Net::new(message.yiaddr, prefix_len).map_err(|_| flawed)?;
        if is_of_subnet(address, address.addr()) || !is_host(address.addr()) {
            return Err(flawed);
        }
        let whole = Duration::from_secs(seconds.into());
        let time = |time: Option<u32>, default| (time.unwrap_or_default(), default);
        Ok(Self {
            server,
            mac: message.chaddr,
            client_id: client_id.clone(),
            address,
            routes: routes(message, address),
            mtu: message.mtu.filter(|&mtu| mtu >= LEAST_MTU),
            dns: servers(&message.dns),
            domain: message.domain.clone(),
            search: message.search.clone(),
            ntp: servers(&message.ntp),
            times: Times::new(asked, seconds, time(message.t1, whole / 2), time(message.t2, whole * 7 / 8)),
        })
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer => f.write_str("no server identifier"),
            Self::NoTime => f.write_str("no lease time"),
            Self::NoMask => f.write_str("no subnet mask"),
            Self::Address(address) => write!(f, "the address {address}, which no host can have"),
        }
    }
}

/// The routes of option 121, which is instead of option 3 (RFC 3442, page 4), else one to the first router. What the kernel would
/// refuse is left out: routes by the addresses of the subnet that no host has, and second ones to the same destination.
fn routes(message: &Message, address: Ipv4Net) -> Vec<Route> {
    // The kernel has a route to the subnet by itself.
    let mut there = BTreeSet::from([address.trunc()]);
    let mut route = |to: Ipv4Net, router: Ipv4Addr| {
        let via = Some(router).filter(|router| !router.is_unspecified());
        let is_usable =
            via.is_none_or(|via| is_host(via) && via != address.addr() && !is_of_subnet(address, via));
        let onlink = via.is_some_and(|via| !address.contains(&via));
        (is_usable && there.insert(to))
            .then(|| Route { onlink, ..Route::new(IpNet::V4(to), via.map(IpAddr::V4)) })
    };
    match &message.classless_routes {
        Some(routes) => {
            routes.iter().filter_map(|given| route(given.to, given.router)).take(MOST_ROUTES).collect()
        }
        None => {
            let mut routers = message.routers.iter().filter(|router| !router.is_unspecified());
            routers.find_map(|&router| route(Ipv4Net::default(), router)).into_iter().collect()
        }
    }
}

fn servers(addresses: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    addresses.iter().copied().filter(|&address| is_host(address)).take(MOST_SERVERS).collect()
}

/// Whether `address` is that of the subnet itself, or of all its hosts.
fn is_of_subnet(subnet: Ipv4Net, address: Ipv4Addr) -> bool {
    subnet.prefix_len() < 31 && [subnet.network(), subnet.broadcast()].contains(&address)
}

/// Whether a host can have `address`.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    not_for_hosts(IpNet::from(IpAddr::V4(address))).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::v4::message::Kind;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn ack() -> Message {
        Message {
            yiaddr: ip("10.0.0.5"),
            server: Some(ip("10.0.0.1")),
            lease_time: Some(3600),
            prefix_len: Some(24),
            ..Message::new(Kind::Ack, 7, MacAddr([2, 0, 0, 0, 0, 9]))
        }
    }

    fn lease(message: &Message) -> Result<Lease, Flaw> {
        Lease::of(message, &ClientId::mac(message.chaddr), Duration::from_secs(100))
    }

    fn routes_of(message: &Message) -> Vec<String> {
        lease(message).unwrap().routes.iter().map(Route::to_string).collect()
    }

    fn classless(routes: &[(&str, &str)]) -> Option<Vec<crate::dhcp::v4::classless_route::ClasslessRoute>> {
        let route = |(to, router): &(&str, &str)| crate::dhcp::v4::classless_route::ClasslessRoute {
            to: to.parse().unwrap(),
            router: ip(router),
        };
        Some(routes.iter().map(route).collect())
    }

    #[test]
    fn what_lacks_a_server_a_time_or_an_address_is_no_lease() {
        assert!(lease(&ack()).is_ok());
        for (message, flaw) in [
            (Message { server: None, ..ack() }, Flaw::NoServer),
            (Message { server: Some(ip("0.0.0.0")), ..ack() }, Flaw::NoServer),
            (Message { lease_time: None, ..ack() }, Flaw::NoTime),
            (Message { lease_time: Some(0), ..ack() }, Flaw::NoTime),
            (Message { prefix_len: None, ..ack() }, Flaw::NoMask),
            (Message { prefix_len: Some(0), ..ack() }, Flaw::NoMask),
        ] {
            assert_eq!(lease(&message), Err(flaw));
        }
        for address in ["0.0.0.0", "10.0.0.0", "10.0.0.255", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            let message = Message { yiaddr: ip(address), ..ack() };
            assert_eq!(lease(&message), Err(Flaw::Address(ip(address))));
        }
        assert_eq!(
            Flaw::Address(ip("10.0.0.255")).to_string(),
            "the address 10.0.0.255, which no host can have"
        );
        // A cloud's subnet of one address, and a link between two.
        for length in [31, 32] {
            assert!(lease(&Message { yiaddr: ip("10.0.0.4"), prefix_len: Some(length), ..ack() }).is_ok());
        }
    }

    #[test]
    fn option_121_is_instead_of_routers() {
        let message = Message { routers: vec![ip("10.0.0.1"), ip("10.0.0.2")], ..ack() };
        assert_eq!(routes_of(&message), ["default via 10.0.0.1"]);
        let given =
            classless(&[("10.9.0.0/16", "10.0.0.3"), ("10.8.0.0/16", "0.0.0.0"), ("0.0.0.0/0", "10.0.0.4")]);
        let message = Message { classless_routes: given, ..message };
        assert_eq!(routes_of(&message), ["10.9.0.0/16 via 10.0.0.3", "10.8.0.0/16", "default via 10.0.0.4"]);
        let message = Message { classless_routes: classless(&[]), ..message };
        assert_eq!(routes_of(&message), [""; 0]);
    }

    #[test]
    fn a_router_outside_the_subnet_is_on_the_link() {
        let message = Message { routers: vec![ip("198.51.100.1")], ..ack() };
        assert_eq!(routes_of(&message), ["default via 198.51.100.1 onlink"]);
        let message = Message { prefix_len: Some(32), routers: vec![ip("10.0.0.1")], ..ack() };
        assert_eq!(routes_of(&message), ["default via 10.0.0.1 onlink"]);
        // What can be no router: nothing, a group, the client itself.
        let routers = ["0.0.0.0", "224.0.0.1", "10.0.0.5", "10.0.0.2"].map(ip).to_vec();
        assert_eq!(routes_of(&Message { routers, ..ack() }), ["default via 10.0.0.2"]);
        let given = classless(&[("10.9.0.0/16", "224.0.0.1"), ("10.8.0.0/16", "10.0.0.5")]);
        assert_eq!(routes_of(&Message { classless_routes: given, ..ack() }), [""; 0]);
    }

    #[test]
    fn routes_that_the_kernel_would_refuse() {
        let given = classless(&[
            ("10.0.0.0/24", "0.0.0.0"),
            ("10.9.0.0/16", "10.0.0.255"),
            ("10.9.0.0/16", "10.0.0.3"),
            ("10.9.0.0/16", "10.0.0.4"),
            ("10.9.0.0/17", "10.0.0.4"),
            ("0.0.0.0/0", "10.0.0.0"),
        ]);
        let routes = routes_of(&Message { classless_routes: given, ..ack() });
        assert_eq!(routes, ["10.9.0.0/16 via 10.0.0.3", "10.9.0.0/17 via 10.0.0.4"]);
    }

    #[test]
    fn an_mtu_below_576_is_ignored() {
        for (mtu, taken) in
            [(200, None), (575, None), (576, Some(576)), (1400, Some(1400)), (9000, Some(9000))]
        {
            assert_eq!(lease(&Message { mtu: Some(mtu), ..ack() }).unwrap().mtu, taken);
        }
    }

    #[test]
    fn times_count_from_when_it_was_asked_for() {
        let times = lease(&ack()).unwrap().times;
        let limits = times.limits.unwrap();
        let seconds = [times.obtained, limits.t1, limits.t2, limits.expiry].map(|time| time.as_secs());
        assert_eq!(seconds, [100, 1900, 3250, 3700]);
        let given = lease(&Message { t1: Some(60), t2: Some(90), ..ack() }).unwrap().times.limits.unwrap();
        assert_eq!([given.t1, given.t2].map(|time| time.as_secs()), [160, 190]);
        assert_eq!(lease(&Message { lease_time: Some(u32::MAX), ..ack() }).unwrap().times.limits, None);
    }

    #[test]
    fn lists_are_not_longer_than_sensible() {
        let to: Vec<_> = (0..1000).map(|n| format!("10.{}.{}.0/24", 1 + n / 256, n % 256)).collect();
        let routes: Vec<_> = to.iter().map(|to| (to.as_str(), "10.0.0.3")).collect();
        let many = Message {
            dns: vec![ip("10.0.0.1"); 100],
            ntp: [vec![ip("0.0.0.0")], vec![ip("10.0.0.1"); 100]].concat(),
            classless_routes: classless(&routes),
            ..ack()
        };
        let lease = lease(&many).unwrap();
        assert_eq!((lease.dns.len(), lease.ntp.len(), lease.routes.len()), (8, 8, 64));
    }

    #[test]
    fn read_as_written() {
        let full = Message {
            routers: vec![ip("198.51.100.1")],
            mtu: Some(1400),
            dns: vec![ip("10.0.0.1")],
            ntp: vec![ip("10.0.0.2")],
            domain: Some("example.com".parse().unwrap()),
            search: vec!["example.com".parse().unwrap()],
            ..ack()
        };
        for message in [ack(), full] {
            let lease = lease(&message).unwrap();
            let text = serde_json::to_string(&lease).unwrap();
            assert_eq!(serde_json::from_str::<Lease>(&text).unwrap(), lease, "{text}");
        }
    }
}
