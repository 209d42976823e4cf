//! rtnetlink messages as bytes: what we ask, built with neli's types. The functions name the `ip` command that
//! does the same.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::{
    FrAct, Frattr, Ifa, IfaF, Ifla, IflaInfo, RtAddrFamily, RtScope, RtTable, Rta, RtaType, Rtm, RtmF, Rtn,
    Rtprot,
};
use neli::neli_enum;
use neli::rtnl::{
    Fibmsg, FibmsgBuilder, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder, Rtattr, Rtmsg, RtmsgBuilder,
};
use neli::types::{Buffer, RtBuffer};

use super::attr::{attribute, nested, octets};
use super::link_info;
pub(crate) use super::nlmsg::{Message, unsound};
use crate::error::{Error, Result};
use crate::net::driver::Driver;
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;
use crate::net::name::IfName;
use crate::net::route::{Route, RouteType, TableId};
use crate::net::vlan::VlanProtocol;
use crate::plan::persistent::PROTOCOL;

/// `IFLA_VLAN_*` of linux/if_link.h, which neli lacks.
#[neli_enum(serialized_type = "u16")]
pub(crate) enum IflaVlan {
    Id = 1,
    Protocol = 5,
}

impl RtaType for IflaVlan {}

/// Of linux/rtnetlink.h, which neli lacks.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
/// Of the same: the next hop is on the link, whatever the routes say.
pub(crate) const RTNH_F_ONLINK: u32 = 4;

/// `ip link show NAME`
pub(crate) fn get_link_by_name(name: &IfName) -> Result<Message> {
    Message::new(
        Rtm::Getlink,
        NlmF::empty(),
        link(0, [attribute(Ifla::Ifname, name.as_str())?, without_statistics()?])?,
    )
}

/// `ip link show` of the link with number `ifindex`
pub(crate) fn get_link_by_index(ifindex: u32) -> Result<Message> {
    Message::new(Rtm::Getlink, NlmF::empty(), link(ifindex, [without_statistics()?])?)
}

/// `ip link show` of the link with number `ifindex` in the namespace that the host knows by `nsid`
pub(crate) fn get_link_in(nsid: i32, ifindex: u32) -> Result<Message> {
    let attributes = [attribute(Ifla::IfNetnsid, nsid)?, without_statistics()?];
    Message::new(Rtm::Getlink, NlmF::empty(), link(ifindex, attributes)?)
}

/// `ip link show`
pub(crate) fn dump_links() -> Result<Message> {
    Message::new(Rtm::Getlink, NlmF::DUMP, link(0, [without_statistics()?])?)
}

/// Half of what the kernel tells of a link.
fn without_statistics() -> Result<Rtattr<Ifla, Buffer>> {
    attribute(Ifla::ExtMask, RTEXT_FILTER_SKIP_STATS)
}

/// `ip addr show`
pub(crate) fn dump_addresses() -> Result<Message> {
    let all = IfaddrmsgBuilder::default()
        .ifa_family(RtAddrFamily::Unspecified)
        .ifa_prefixlen(0)
        .ifa_scope(RtScope::Universe)
        .ifa_index(0);
    Message::new(Rtm::Getaddr, NlmF::DUMP, all.build().map_err(unsound)?)
}

/// `ip route show` of one family
pub(crate) fn dump_routes(family: RtAddrFamily) -> Result<Message> {
    let all = RtmsgBuilder::default()
        .rtm_family(family)
        .rtm_dst_len(0)
        .rtm_src_len(0)
        .rtm_tos(0)
        .rtm_table(RtTable::Unspec)
        .rtm_protocol(Rtprot::Unspec)
        .rtm_scope(RtScope::Universe)
        .rtm_type(Rtn::Unspec);
    Message::new(Rtm::Getroute, NlmF::DUMP, all.build().map_err(unsound)?)
}

/// `ip route get ADDRESS`
pub(crate) fn get_route(address: IpAddr) -> Result<Message> {
    let host = IpNet::from(address);
    let message = RtmsgBuilder::default()
        .rtm_family(family(host))
        .rtm_dst_len(host.prefix_len())
        .rtm_src_len(0)
        .rtm_tos(0)
        .rtm_table(RtTable::Unspec)
        .rtm_protocol(Rtprot::Unspec)
        .rtm_scope(RtScope::Universe)
        .rtm_type(Rtn::Unspec)
        .rtattrs([attribute(Rta::Dst, octets(address))?].into_iter().collect());
    Message::new(Rtm::Getroute, NlmF::empty(), message.build().map_err(unsound)?)
}

/// Of linux/net_namespace.h, which neli lacks.
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// `ip netns list-id`, of one namespace
pub(crate) fn get_nsid(netns: BorrowedFd<'_>) -> Result<Message> {
    Message::new(Rtm::Getnsid, NlmF::empty(), of_netns([(NETNSA_FD, netns.as_raw_fd())]))
}

/// `ip netns set NETNS NSID`
pub(crate) fn set_nsid(netns: BorrowedFd<'_>, nsid: i32) -> Result<Message> {
    let attributes = [(NETNSA_FD, netns.as_raw_fd()), (NETNSA_NSID, nsid)];
    Message::new(Rtm::Newnsid, NlmF::ACK, of_netns(attributes))
}

/// `struct rtgenmsg`, one byte padded to four, and attributes of eight bytes each.
fn of_netns<const N: usize>(attributes: [(u16, i32); N]) -> Buffer {
    let mut bytes = vec![0; 4];
    for (kind, value) in attributes {
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
    }
    Buffer::from(bytes)
}

/// `ip link add NAME type …`, on the host
pub(crate) fn create_parent(name: &IfName, kind: ParentKind) -> Result<Message> {
    let mut attributes = vec![attribute(Ifla::Ifname, name.as_str())?];
    match kind {
        ParentKind::Vlan { base_index, id, protocol } => {
            let protocol = Buffer::from(&ether_type(protocol).to_be_bytes()[..]);
            let data = [attribute(IflaVlan::Id, id)?, attribute(IflaVlan::Protocol, protocol)?];
            let data = nested(IflaInfo::Data, data)?;
            attributes.push(attribute(Ifla::Link, base_index)?);
            attributes.push(nested(Ifla::Linkinfo, [attribute(IflaInfo::Kind, "vlan")?, data])?);
        }
        ParentKind::Dummy => {
            attributes.push(nested(Ifla::Linkinfo, [attribute(IflaInfo::Kind, "dummy")?])?);
        }
    }
    Message::new(Rtm::Newlink, NlmF::CREATE | NlmF::EXCL | NlmF::ACK, link(0, attributes)?)
}

/// `ip link add type KIND`, on no other link
pub(crate) fn create_on_nothing(kind: &str) -> Result<Message> {
    let kind = nested(Ifla::Linkinfo, [attribute(IflaInfo::Kind, kind)?])?;
    Message::new(Rtm::Newlink, NlmF::CREATE | NlmF::EXCL | NlmF::ACK, link(0, [kind])?)
}

/// A parent to make, in the kernel's terms.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ParentKind {
    /// A VLAN of the link with this number.
    Vlan { base_index: u32, id: u16, protocol: VlanProtocol },
    /// A dummy link.
    Dummy,
}

/// `ETH_P_8021Q` and `ETH_P_8021AD` of linux/if_ether.h.
pub(crate) fn ether_type(protocol: VlanProtocol) -> u16 {
    match protocol {
        VlanProtocol::Dot1q => 0x8100,
        VlanProtocol::Dot1ad => 0x88a8,
    }
}

/// `ip link set LINK name NAME alias ALIAS`
pub(crate) fn name_and_mark(ifindex: u32, name: &IfName, alias: &str) -> Result<Message> {
    let attributes =
        [attribute(Ifla::Ifname, name.as_str())?, attribute(Ifla::Ifalias, Buffer::from(alias.as_bytes()))?];
    Message::new(Rtm::Setlink, NlmF::ACK, link(ifindex, attributes)?)
}

/// `ip link set LINK alias ALIAS`
pub(crate) fn mark(ifindex: u32, alias: &str) -> Result<Message> {
    let alias = attribute(Ifla::Ifalias, Buffer::from(alias.as_bytes()))?;
    Message::new(Rtm::Setlink, NlmF::ACK, link(ifindex, [alias])?)
}

/// A link to make for a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewLink<'a> {
    /// What it is given besides.
    pub(crate) tuning: &'a LinkOptions,
    /// Its name.
    pub(crate) name: &'a IfName,
    /// The parent's ifindex on the host.
    pub(crate) parent_index: u32,
    /// Its type and mode.
    pub(crate) driver: Driver,
    /// Its MAC address, if asked for.
    pub(crate) mac: Option<MacAddr>,
    /// Its MTU, if not the parent's.
    pub(crate) mtu: Option<u32>,
    /// Its limit for unqueued broadcasts.
    pub(crate) bclim: Option<i32>,
    /// Its device group.
    pub(crate) group: u32,
}

/// `ip link add link PARENT name NAME netns NETNS group GROUP [address MAC] [mtu MTU] type …`
///
/// One message, sent on a socket of the host: the link is born in the container's namespace with its own name,
/// and nothing ever shows on the host.
pub(crate) fn create_link(new: NewLink<'_>, netns: BorrowedFd<'_>) -> Result<Message> {
    let NewLink { name, parent_index, driver, mac, mtu, bclim, tuning, group } = new;
    let mut attributes = vec![
        attribute(Ifla::Ifname, name.as_str())?,
        attribute(Ifla::Link, parent_index)?,
        attribute(Ifla::NetNsFd, netns.as_raw_fd())?,
        attribute(Ifla::Group, group)?,
        link_info::write(driver, bclim, tuning)?,
    ];
    if let Some(mac) = mac {
        attributes.push(attribute(Ifla::Address, Buffer::from(&mac.bytes()[..]))?);
    }
    if let Some(mtu) = mtu {
        attributes.push(attribute(Ifla::Mtu, mtu)?);
    }
    if let Some(length) = tuning.txqueuelen {
        attributes.push(attribute(Ifla::Txqlen, length)?);
    }
    Message::new(Rtm::Newlink, NlmF::CREATE | NlmF::EXCL | NlmF::ACK, link(0, attributes)?)
}

/// `ip link set LINK name NAME`
pub(crate) fn rename_link(ifindex: u32, name: &IfName) -> Result<Message> {
    Message::new(Rtm::Setlink, NlmF::ACK, link(ifindex, [attribute(Ifla::Ifname, name.as_str())?])?)
}

/// `ip link set LINK alias ALIAS group default up`
pub(crate) fn set_up(ifindex: u32, alias: &str) -> Result<Message> {
    // Bytes, not a string: the kernel would keep the NUL that neli puts behind strings.
    let alias = attribute(Ifla::Ifalias, Buffer::from(alias.as_bytes()))?;
    let message = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index(ifindex)?)
        .up()
        .rtattrs([alias, attribute(Ifla::Group, 0u32)?].into_iter().collect());
    Message::new(Rtm::Setlink, NlmF::ACK, message.build().map_err(unsound)?)
}

/// `ip link del LINK`
pub(crate) fn delete_link(ifindex: u32) -> Result<Message> {
    Message::new(Rtm::Dellink, NlmF::ACK, link(ifindex, [])?)
}

/// `ip link del LINK`, in the namespace that the host knows by `nsid`
pub(crate) fn delete_link_in(nsid: i32, ifindex: u32) -> Result<Message> {
    Message::new(Rtm::Dellink, NlmF::ACK, link(ifindex, [attribute(Ifla::IfNetnsid, nsid)?])?)
}

/// `ip addr add ADDRESS brd + dev LINK`, for IPv6 `ip addr add ADDRESS dev LINK nodad`
pub(crate) fn add_address(ifindex: u32, address: IpNet) -> Result<Message> {
    let bytes = octets(address.addr());
    let mut attributes = vec![attribute(Ifa::Local, bytes.clone())?, attribute(Ifa::Address, bytes)?];
    let mut flags = IfaF::empty();
    match address {
        // A /31 or /32 has no broadcast address (RFC 3021).
        IpNet::V4(net) if net.prefix_len() < 31 => {
            attributes.push(attribute(Ifa::Broadcast, octets(net.broadcast().into()))?);
        }
        IpNet::V4(_) => {}
        IpNet::V6(_) => flags = IfaF::NODAD,
    }
    let message = IfaddrmsgBuilder::default()
        .ifa_family(family(address))
        .ifa_prefixlen(address.prefix_len())
        .ifa_flags(flags)
        .ifa_scope(RtScope::Universe)
        .ifa_index(ifindex)
        .rtattrs(attributes.into_iter().collect());
    let flags = NlmF::CREATE | NlmF::EXCL | NlmF::ACK;
    Message::new(Rtm::Newaddr, flags, message.build().map_err(unsound)?)
}

/// `ip route add TO [via VIA] dev LINK`, or `ip route add blackhole TO`, in a table
pub(crate) fn add_route(ifindex: u32, route: Route, table: Option<TableId>) -> Result<Message> {
    let flags = NlmF::CREATE | NlmF::EXCL | NlmF::ACK;
    Message::new(Rtm::Newroute, flags, self::route(Some(ifindex), route, table)?)
}

/// `ip route del blackhole TO`
pub(crate) fn delete_route(route: Route, table: Option<TableId>) -> Result<Message> {
    Message::new(Rtm::Delroute, NlmF::ACK, self::route(None, route, table)?)
}

fn route(ifindex: Option<u32>, route: Route, table: Option<TableId>) -> Result<Rtmsg> {
    let mut attributes = Vec::new();
    // What leads nowhere belongs to no link.
    if let Some(ifindex) = ifindex.filter(|_| route.is_unicast()) {
        attributes.push(attribute(Rta::Oif, ifindex)?);
    }
    if let Some(table) = table {
        attributes.push(attribute(Rta::Table, u32::from(table))?);
    }
    if route.to.prefix_len() > 0 {
        attributes.push(attribute(Rta::Dst, octets(route.to.addr()))?);
    }
    if let Some(via) = route.via {
        attributes.push(attribute(Rta::Gateway, octets(via))?);
    }
    if let Some(metric) = route.metric {
        attributes.push(attribute(Rta::Priority, metric)?);
    }
    // As `ip` does; IPv6 has no scopes.
    let by_link = route.is_unicast() && route.via.is_none() && matches!(route.to, IpNet::V4(_));
    RtmsgBuilder::default()
        .rtm_family(family(route.to))
        .rtm_dst_len(route.to.prefix_len())
        .rtm_src_len(0)
        .rtm_tos(0)
        .rtm_table(if table.is_some() { RtTable::Unspec } else { RtTable::Main })
        .rtm_protocol(if route.is_unicast() { Rtprot::Boot } else { Rtprot::from(PROTOCOL) })
        .rtm_scope(if by_link { RtScope::Link } else { RtScope::Universe })
        .rtm_type(match route.kind {
            RouteType::Unicast => Rtn::Unicast,
            RouteType::Blackhole => Rtn::Blackhole,
            RouteType::Unreachable => Rtn::Unreachable,
            RouteType::Prohibit => Rtn::Prohibit,
        })
        .rtm_flags(if route.onlink { RtmF::from_bits_retain(RTNH_F_ONLINK) } else { RtmF::empty() })
        .rtattrs(attributes.into_iter().collect())
        .build()
        .map_err(unsound)
}

/// `ip rule add from ADDRESS lookup TABLE`
pub(crate) fn add_rule(from: IpAddr, table: TableId) -> Result<Message> {
    Message::new(Rtm::Newrule, NlmF::CREATE | NlmF::EXCL | NlmF::ACK, rule(from, table)?)
}

/// `ip rule del from ADDRESS lookup TABLE`
pub(crate) fn delete_rule(from: IpAddr, table: TableId) -> Result<Message> {
    Message::new(Rtm::Delrule, NlmF::ACK, rule(from, table)?)
}

fn rule(from: IpAddr, table: TableId) -> Result<Fibmsg> {
    let attributes = [
        attribute(Frattr::Src, octets(from))?,
        attribute(Frattr::Table, u32::from(table))?,
        attribute(Frattr::Protocol, PROTOCOL)?,
    ];
    let host = IpNet::from(from);
    let message = FibmsgBuilder::default()
        .fib_family(family(host))
        .fib_dst_len(0)
        .fib_src_len(host.prefix_len())
        .fib_tos(0)
        .fib_table(RtTable::Unspec)
        .fib_action(FrAct::FrActToTbl)
        .rtattrs(attributes.into_iter().collect());
    message.build().map_err(unsound)
}

/// `ip rule show` of one family
pub(crate) fn dump_rules(family: RtAddrFamily) -> Result<Message> {
    let all = FibmsgBuilder::default()
        .fib_family(family)
        .fib_dst_len(0)
        .fib_src_len(0)
        .fib_tos(0)
        .fib_table(RtTable::Unspec)
        .fib_action(FrAct::Unspec);
    Message::new(Rtm::Getrule, NlmF::DUMP, all.build().map_err(unsound)?)
}

fn link(ifindex: u32, attributes: impl IntoIterator<Item = Rtattr<Ifla, Buffer>>) -> Result<Ifinfomsg> {
    IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index(ifindex)?)
        .rtattrs(attributes.into_iter().collect::<RtBuffer<_, _>>())
        .build()
        .map_err(unsound)
}

fn index(ifindex: u32) -> Result<i32> {
    i32::try_from(ifindex).map_err(|_| Error::input(format!("ifindex {ifindex} is no link's number")))
}

pub(crate) fn family(net: IpNet) -> RtAddrFamily {
    match net {
        IpNet::V4(_) => RtAddrFamily::Inet,
        IpNet::V6(_) => RtAddrFamily::Inet6,
    }
}
