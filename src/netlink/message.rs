//! rtnetlink requests: headers as bytes, attributes written by neli. The doc comment of each function is the `ip` command that
//! does the same. Functions with `host` in their names are for the host's own links.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Frattr, Ifa, Iff, Ifla, IflaInfo, IflaVlan, RtAddrFamily, Rta, Rtm};
use nix::libc;

use super::attr::{Attribute, attribute, nested, octets};
use super::link_info;
pub(crate) use super::nlmsg::Message;
use crate::dhcp::times::Lifetime;
use crate::error::{Error, Result};
use crate::ledger::host_link::HostRoute;
use crate::net::name::IfName;
use crate::net::route::{Route, TableId};
use crate::net::vlan::VlanProtocol;
use crate::plan::CreateLink;
use crate::plan::persistent::PROTOCOL;

/// Of linux/rtnetlink.h, which neli lacks.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
/// Of linux/rtnetlink.h, which neli lacks: the next hop is on the link, whatever the routes say.
pub(super) const RTNH_F_ONLINK: u32 = 4;
/// `FR_ACT_TO_TBL` of linux/fib_rules.h as the byte that it is in messages: the rule names a table.
pub(super) const FR_ACT_TO_TBL: u8 = 1;
/// Of linux/net_namespace.h, which neli lacks.
pub(super) const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// The length of `struct rtgenmsg`: one byte, padded.
const RTGENMSG: usize = 4;
/// The length of `struct ifaddrmsg`.
const IFADDRMSG: usize = 8;
/// The length of `struct rtmsg`.
pub(super) const RTMSG: usize = 12;

/// The flags of a request that makes something, and fails if it exists.
const NEW: NlmF = NlmF::CREATE.union(NlmF::EXCL).union(NlmF::ACK);

/// `ip link show NAME`
pub(crate) fn get_link_by_name(name: &IfName) -> Result<Message> {
    get_links(NlmF::empty(), 0, Some(attribute(Ifla::Ifname, name.as_str())))
}

/// `ip link show` of the link with number `ifindex`, in the socket's namespace or in the one that it knows by `nsid`
pub(crate) fn get_link_by_index(ifindex: u32, nsid: Option<i32>) -> Result<Message> {
    get_links(NlmF::empty(), ifindex, nsid.map(|nsid| attribute(Ifla::IfNetnsid, nsid)))
}

/// `ip link show`, in the socket's namespace or in the one that it knows by `nsid`
pub(crate) fn dump_links(nsid: Option<i32>) -> Result<Message> {
    get_links(NlmF::DUMP, 0, nsid.map(|nsid| attribute(Ifla::IfNetnsid, nsid)))
}

/// Without statistics, which would be half of each answer.
fn get_links(flags: NlmF, ifindex: u32, which: Option<Attribute>) -> Result<Message> {
    let filter = attribute(Ifla::ExtMask, RTEXT_FILTER_SKIP_STATS);
    link(Rtm::Getlink, flags, ifindex, which.into_iter().chain([filter]).collect())
}

/// `ip addr show`
pub(crate) fn dump_addresses() -> Result<Message> {
    Message::new(Rtm::Getaddr, NlmF::DUMP, &[0; IFADDRMSG], [])
}

/// `ip route show` of one family
pub(crate) fn dump_routes(family: RtAddrFamily) -> Result<Message> {
    Message::new(Rtm::Getroute, NlmF::DUMP, &rtmsg(family, 0), [])
}

/// `ip route get ADDRESS`
pub(crate) fn get_route(address: IpAddr) -> Result<Message> {
    let host = IpNet::from(address);
    let to = attribute(Rta::Dst, octets(address));
    Message::new(Rtm::Getroute, NlmF::empty(), &rtmsg(family(host), host.prefix_len()), [to])
}

/// `ip rule show` of one family
pub(crate) fn dump_rules(family: RtAddrFamily) -> Result<Message> {
    Message::new(Rtm::Getrule, NlmF::DUMP, &fib_rule_hdr(family, 0, 0), [])
}

/// `ip netns list-id`, of one namespace
pub(crate) fn get_nsid(netns: BorrowedFd<'_>) -> Result<Message> {
    Message::new(Rtm::Getnsid, NlmF::empty(), &[0; RTGENMSG], [attribute(NETNSA_FD, netns.as_raw_fd())])
}

/// `ip netns set NETNS NSID`
pub(crate) fn set_nsid(netns: BorrowedFd<'_>, nsid: i32) -> Result<Message> {
    let attributes = [attribute(NETNSA_FD, netns.as_raw_fd()), attribute(NETNSA_NSID, nsid)];
    Message::new(Rtm::Newnsid, NlmF::ACK, &[0; RTGENMSG], attributes)
}

/// `ip link add link BASE name NAME type vlan id ID protocol PROTOCOL`
pub(crate) fn create_vlan(name: &IfName, base: u32, id: u16, protocol: VlanProtocol) -> Result<Message> {
    let protocol = attribute(IflaVlan::Protocol, (protocol as u16).to_be_bytes());
    let data = nested(IflaInfo::Data, [attribute(IflaVlan::Id, id), protocol]);
    let info = nested(Ifla::Linkinfo, [attribute(IflaInfo::Kind, "vlan"), data]);
    let attributes = vec![attribute(Ifla::Ifname, name.as_str()), attribute(Ifla::Link, base), info];
    link(Rtm::Newlink, NEW, 0, attributes)
}

/// `ip link add NAME type dummy`
pub(crate) fn create_dummy(name: &IfName) -> Result<Message> {
    link(Rtm::Newlink, NEW, 0, vec![attribute(Ifla::Ifname, name.as_str()), link_type("dummy")])
}

/// `ip link add type KIND`, on no other link
pub(crate) fn create_on_nothing(kind: &str) -> Result<Message> {
    link(Rtm::Newlink, NEW, 0, vec![link_type(kind)])
}

fn link_type(kind: &str) -> Attribute {
    nested(Ifla::Linkinfo, [attribute(IflaInfo::Kind, kind)])
}

/// `ip link add link PARENT name NAME netns NETNS group GROUP [address MAC] [mtu MTU] type …`
///
/// The message is sent on a socket of the host. The kernel makes the link in the container's namespace, with its own name,
/// so that it never shows on the host.
pub(crate) fn create_link(create: &CreateLink, netns: BorrowedFd<'_>) -> Result<Message> {
    let attributes = [
        Some(attribute(Ifla::Ifname, create.name.as_str())),
        Some(attribute(Ifla::Link, create.parent_index)),
        Some(attribute(Ifla::NetNsFd, netns.as_raw_fd())),
        Some(attribute(Ifla::Group, create.group)),
        Some(link_info::encode(create.driver, create.bclim, &create.options)),
        create.mac.map(|mac| attribute(Ifla::Address, mac.0)),
        create.mtu.map(|mtu| attribute(Ifla::Mtu, mtu)),
        create.options.txqueuelen.map(|length| attribute(Ifla::Txqlen, length)),
    ];
    link(Rtm::Newlink, NEW, 0, attributes.into_iter().flatten().collect())
}

/// `ip link set LINK name NAME`
pub(crate) fn rename_link(ifindex: u32, name: &IfName) -> Result<Message> {
    link(Rtm::Setlink, NlmF::ACK, ifindex, vec![attribute(Ifla::Ifname, name.as_str())])
}

/// `ip link set LINK mtu MTU`
pub(crate) fn set_mtu(ifindex: u32, mtu: u32) -> Result<Message> {
    link(Rtm::Setlink, NlmF::ACK, ifindex, vec![attribute(Ifla::Mtu, mtu)])
}

/// `ip link set LINK name NAME alias ALIAS`
pub(crate) fn name_and_mark(ifindex: u32, name: &IfName, alias: &str) -> Result<Message> {
    let attributes = vec![attribute(Ifla::Ifname, name.as_str()), ifalias(alias)];
    link(Rtm::Setlink, NlmF::ACK, ifindex, attributes)
}

/// `ip link set LINK alias ALIAS`
pub(crate) fn mark(ifindex: u32, alias: &str) -> Result<Message> {
    link(Rtm::Setlink, NlmF::ACK, ifindex, vec![ifalias(alias)])
}

/// `ip link set LINK alias ALIAS group default`
pub(crate) fn mark_alone(ifindex: u32, alias: &str) -> Result<Message> {
    link(Rtm::Setlink, NlmF::ACK, ifindex, vec![ifalias(alias), attribute(Ifla::Group, 0_u32)])
}

/// `ip link set LINK alias ALIAS group default up`
pub(crate) fn set_up(ifindex: u32, alias: &str) -> Result<Message> {
    let attributes = vec![ifalias(alias), attribute(Ifla::Group, 0_u32)];
    Message::new(Rtm::Setlink, NlmF::ACK, &ifinfomsg(ifindex, Iff::UP)?, attributes)
}

fn ifalias(alias: &str) -> Attribute {
    // Bytes, not a string: the kernel would keep the NUL that neli puts behind strings.
    attribute(Ifla::Ifalias, alias.as_bytes())
}

/// `ip link del LINK`, in the socket's namespace or in the one that it knows by `nsid`
pub(crate) fn delete_link(ifindex: u32, nsid: Option<i32>) -> Result<Message> {
    let namespace = nsid.map(|nsid| attribute(Ifla::IfNetnsid, nsid));
    link(Rtm::Dellink, NlmF::ACK, ifindex, namespace.into_iter().collect())
}

/// `ip addr add ADDRESS brd + dev LINK`, for IPv6 `ip addr add ADDRESS dev LINK nodad`. An address that is alone in its
/// subnet gets no route to others (`noprefixroute`). The kernel deletes it when its `lifetime` is over, if that is given.
pub(crate) fn add_address(ifindex: u32, address: IpNet, lifetime: Option<Lifetime>) -> Result<Message> {
    new_address(NEW, ifindex, address, lifetime)
}

/// `ip addr replace ADDRESS …`, otherwise as [`add_address`]. Only the lifetime of an address that is there changes.
pub(crate) fn renew_address(ifindex: u32, address: IpNet, lifetime: Option<Lifetime>) -> Result<Message> {
    let flags = NlmF::CREATE.union(NlmF::REPLACE).union(NlmF::ACK);
    new_address(flags, ifindex, address, lifetime)
}

fn new_address(flags: NlmF, ifindex: u32, address: IpNet, lifetime: Option<Lifetime>) -> Result<Message> {
    let broadcast = match address {
        // A /31 or /32 has no broadcast address (RFC 3021).
        IpNet::V4(net) if net.prefix_len() < 31 => {
            Some(attribute(Ifa::Broadcast, octets(net.broadcast().into())))
        }
        _ => None,
    };
    let nodad = if address.addr().is_ipv6() { libc::IFA_F_NODAD } else { 0 };
    let is_alone = address.prefix_len() == address.max_prefix_len();
    let alone = if is_alone { libc::IFA_F_NOPREFIXROUTE } else { 0 };
    let bytes = octets(address.addr());
    let attributes = [
        attribute(Ifa::Local, bytes.clone()),
        attribute(Ifa::Address, bytes),
        // The header has the lowest eight flags only.
        attribute(Ifa::Flags, nodad | alone),
    ];
    let lifetime = lifetime.map(|lifetime| attribute(Ifa::Cacheinfo, ifa_cacheinfo(lifetime)));
    let [a, b, c, d] = ifindex.to_ne_bytes();
    let header: [u8; IFADDRMSG] =
        [family(address).into(), address.prefix_len(), 0, libc::RT_SCOPE_UNIVERSE, a, b, c, d];
    Message::new(Rtm::Newaddr, flags, &header, attributes.into_iter().chain(broadcast).chain(lifetime))
}

/// `ip addr del ADDRESS dev LINK`
pub(crate) fn delete_address(ifindex: u32, address: IpNet) -> Result<Message> {
    let [a, b, c, d] = ifindex.to_ne_bytes();
    let header: [u8; IFADDRMSG] = [family(address).into(), address.prefix_len(), 0, 0, a, b, c, d];
    Message::new(Rtm::Deladdr, NlmF::ACK, &header, [attribute(Ifa::Local, octets(address.addr()))])
}

/// `ip route add TO [via VIA] dev LINK`, or `ip route add blackhole TO`, in a table
pub(crate) fn add_route(ifindex: u32, route: Route, table: Option<TableId>) -> Result<Message> {
    self::route(Rtm::Newroute, NEW, Some(ifindex), route, table, None)
}

/// `ip route del TO via VIA dev LINK`, or `ip route del blackhole TO`
pub(crate) fn delete_route(ifindex: Option<u32>, route: Route, table: Option<TableId>) -> Result<Message> {
    self::route(Rtm::Delroute, NlmF::ACK, ifindex, route, table, None)
}

/// `ip route add TO dev LINK src SOURCE`
pub(crate) fn add_host_route(ifindex: u32, HostRoute { to, source }: HostRoute) -> Result<Message> {
    self::route(Rtm::Newroute, NEW, Some(ifindex), Route::new(to.into(), None), None, Some(source))
}

/// `ip route del TO dev LINK`
pub(crate) fn delete_host_route(ifindex: u32, to: IpAddr) -> Result<Message> {
    self::route(Rtm::Delroute, NlmF::ACK, Some(ifindex), Route::new(to.into(), None), None, None)
}

fn route(
    kind: Rtm,
    flags: NlmF,
    ifindex: Option<u32>,
    route: Route,
    table: Option<TableId>,
    source: Option<IpAddr>,
) -> Result<Message> {
    // A blackhole route belongs to no link.
    let ifindex = ifindex.filter(|_| route.is_unicast());
    let to = Some(route.to.addr()).filter(|_| !route.is_default());
    let attributes = [
        ifindex.map(|ifindex| attribute(Rta::Oif, ifindex)),
        table.map(|table| attribute(Rta::Table, u32::from(table))),
        to.map(|to| attribute(Rta::Dst, octets(to))),
        route.via.map(|via| attribute(Rta::Gateway, octets(via))),
        route.metric.map(|metric| attribute(Rta::Priority, metric)),
        source.map(|source| attribute(Rta::Prefsrc, octets(source))),
    ];
    // As `ip` does; IPv6 has no scopes.
    let is_on_link = route.is_unicast() && route.via.is_none() && route.to.addr().is_ipv4();
    let header = [
        family(route.to).into(),
        route.to.prefix_len(),
        0,
        0,
        if table.is_some() { libc::RT_TABLE_UNSPEC } else { libc::RT_TABLE_MAIN },
        if route.is_unicast() { libc::RTPROT_BOOT } else { PROTOCOL },
        if is_on_link { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE },
        route.kind as u8,
    ];
    let onlink = if route.onlink { RTNH_F_ONLINK } else { 0 };
    Message::new(
        kind,
        flags,
        &[&header[..], &onlink.to_ne_bytes()].concat(),
        attributes.into_iter().flatten(),
    )
}

/// `ip rule add from ADDRESS lookup TABLE`
pub(crate) fn add_rule(from: IpAddr, table: TableId) -> Result<Message> {
    rule(Rtm::Newrule, NEW, from, table)
}

/// `ip rule del from ADDRESS lookup TABLE`
pub(crate) fn delete_rule(from: IpAddr, table: TableId) -> Result<Message> {
    rule(Rtm::Delrule, NlmF::ACK, from, table)
}

fn rule(kind: Rtm, flags: NlmF, from: IpAddr, table: TableId) -> Result<Message> {
    let attributes = [
        attribute(Frattr::Src, octets(from)),
        attribute(Frattr::Table, u32::from(table)),
        attribute(Frattr::Protocol, PROTOCOL),
    ];
    let host = IpNet::from(from);
    Message::new(kind, flags, &fib_rule_hdr(family(host), host.prefix_len(), FR_ACT_TO_TBL), attributes)
}

fn link(kind: Rtm, flags: NlmF, ifindex: u32, attributes: Vec<Attribute>) -> Result<Message> {
    Message::new(kind, flags, &ifinfomsg(ifindex, Iff::empty())?, attributes)
}

/// `struct ifinfomsg`: family, padding, type, ifindex, flags, change. All zero except for the ifindex and the flags to set.
fn ifinfomsg(ifindex: u32, flags: Iff) -> Result<Vec<u8>> {
    let no_index = |_| Error::input(format!("ifindex {ifindex} is no link's number"));
    let index = i32::try_from(ifindex).map_err(no_index)?;
    let flags = flags.bits().to_ne_bytes();
    Ok([[0; 4], index.to_ne_bytes(), flags, flags].concat())
}

/// `struct ifa_cacheinfo`: preferred and valid lifetime in seconds, and two times that the kernel sets.
fn ifa_cacheinfo(Lifetime { preferred, valid }: Lifetime) -> Vec<u8> {
    // The kernel refuses 0, and is late by up to a second itself.
    let valid = valid.max(1).to_ne_bytes();
    [preferred.to_ne_bytes(), valid, [0; 4], [0; 4]].concat()
}

/// `struct rtmsg`: all zero except for family and length of the destination's prefix.
fn rtmsg(family: RtAddrFamily, prefix_len: u8) -> [u8; RTMSG] {
    [family.into(), prefix_len, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// `struct fib_rule_hdr`: all zero except for family, length of the source's prefix, and action.
fn fib_rule_hdr(family: RtAddrFamily, prefix_len: u8, action: u8) -> [u8; 12] {
    [family.into(), 0, prefix_len, 0, 0, 0, 0, action, 0, 0, 0, 0]
}

fn family(net: IpNet) -> RtAddrFamily {
    match net {
        IpNet::V4(_) => RtAddrFamily::Inet,
        IpNet::V6(_) => RtAddrFamily::Inet6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns type, flags and payload of `message`.
    fn parts(message: Message) -> (Rtm, NlmF, Vec<u8>) {
        let bytes = message.numbered(1);
        let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        (number(4).into(), NlmF::from_bits_retain(number(6)), bytes[16..].to_vec())
    }

    #[test]
    fn an_address_with_a_lifetime() {
        let net = "10.0.0.9/24".parse().unwrap();
        let (kind, flags, for_ever) = parts(add_address(7, net, None).unwrap());
        let new = NlmF::REQUEST | NlmF::CREATE | NlmF::ACK;
        assert_eq!((kind, flags), (Rtm::Newaddr, new | NlmF::EXCL));
        let header = [2, 24, 0, 0, 7, 0, 0, 0];
        let attribute = |kind: u8, last: u8| [8, 0, kind, 0, 10, 0, 0, last];
        let flags = [8, 0, 8, 0, 0, 0, 0, 0];
        assert_eq!(for_ever, [header, attribute(2, 9), attribute(1, 9), flags, attribute(4, 255)].concat());
        let lifetime = |preferred: u8, valid: u8| {
            [20, 0, 6, 0, preferred, 0, 0, 0, valid, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        };
        let lifetime_of = |(preferred, valid)| Some(Lifetime { preferred, valid });
        for (given, sent) in [((0, 0), (0, 1)), ((1, 1), (1, 1)), ((100, 200), (100, 200))] {
            let (kind, flags, bytes) = parts(renew_address(7, net, lifetime_of(given)).unwrap());
            assert_eq!((kind, flags), (Rtm::Newaddr, new | NlmF::REPLACE));
            assert_eq!(bytes, [&for_ever[..], &lifetime(sent.0, sent.1)].concat());
            assert_eq!(parts(add_address(7, net, lifetime_of(given)).unwrap()).2, bytes);
        }
    }

    #[test]
    fn an_mtu() {
        let (kind, flags, bytes) = parts(set_mtu(7, 1400).unwrap());
        assert_eq!((kind, flags), (Rtm::Setlink, NlmF::REQUEST | NlmF::ACK));
        assert_eq!(bytes, [&[0, 0, 0, 0, 7][..], &[0; 11], &[8, 0, 4, 0, 0x78, 5, 0, 0]].concat());
    }
}
