//! rtnetlink messages as bytes: what we ask, built with neli's types, and what the kernel answers.
//!
//! Answers are taken apart by their own length fields: neli 0.7 loses its place after a success that carries a
//! warning (`NLMSGERR_ATTR_MSG` on an acknowledgement). The functions name the `ip` command that does the same.

use std::ffi::CStr;
use std::io::Cursor;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use ipnet::IpNet;
use neli::attr::Attribute;
use neli::consts::nl::{NlmF, Nlmsg, NlmsgerrAttr};
use neli::consts::rtnl::{
    Arphrd, Ifa, IfaF, Iff, Ifla, IflaInfo, RtAddrFamily, RtScope, RtTable, Rta, RtaType, Rtm, Rtn, Rtprot,
};
use neli::err::{DeError, SerError};
use neli::neli_enum;
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::rtnl::{
    Ifaddrmsg, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder, RtAttrHandle, Rtattr, RtattrBuilder,
    RtmsgBuilder,
};
use neli::types::{Buffer, RtBuffer};
use neli::{FromBytesWithInput, Size, ToBytes};

use super::netns::NetnsFile;
use super::socket::{Content, Refusal, Reply};
use crate::driver::{Driver, IpvlanFlag, IpvlanMode, MacvlanMode};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::mac::MacAddr;
use crate::name::IfName;
use crate::record::Route;

/// `IFLA_MACVLAN_*` of linux/if_link.h, which neli lacks.
#[neli_enum(serialized_type = "u16")]
enum IflaMacvlan {
    Mode = 1,
}

impl RtaType for IflaMacvlan {}

/// `IFLA_IPVLAN_*` of linux/if_link.h, which neli lacks.
#[neli_enum(serialized_type = "u16")]
enum IflaIpvlan {
    Mode = 1,
    Flags = 2,
}

impl RtaType for IflaIpvlan {}

/// One message to the kernel, without its number.
#[derive(Debug)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn new<P: Size + ToBytes>(kind: Rtm, flags: NlmF, payload: P) -> Result<Self> {
        let message = NlmsghdrBuilder::default()
            .nl_type(kind)
            .nl_flags(NlmF::REQUEST | flags)
            .nl_payload(NlPayload::Payload(payload))
            .build()
            .map_err(unsound)?;
        let mut bytes = Cursor::new(Vec::with_capacity(256));
        message.to_bytes(&mut bytes).map_err(unsound)?;
        Ok(Self(bytes.into_inner()))
    }

    /// The message with its number (`nlmsg_seq`, the third word of nlmsghdr).
    pub(super) fn numbered(self, sequence: u32) -> Vec<u8> {
        let Self(mut bytes) = self;
        if let Some(place) = bytes.get_mut(8..12) {
            place.copy_from_slice(&sequence.to_ne_bytes());
        }
        bytes
    }
}

/// `ip link show NAME`
pub(super) fn get_link_by_name(name: &IfName) -> Result<Message> {
    Message::new(Rtm::Getlink, NlmF::empty(), link(0, [attribute(Ifla::Ifname, name.as_str())?])?)
}

/// `ip link show` of the link with number `ifindex`
pub(super) fn get_link_by_index(ifindex: u32) -> Result<Message> {
    Message::new(Rtm::Getlink, NlmF::empty(), link(ifindex, [])?)
}

/// `ip link show`
pub(super) fn dump_links() -> Result<Message> {
    Message::new(Rtm::Getlink, NlmF::DUMP, link(0, [])?)
}

/// `ip addr show`
pub(super) fn dump_addresses() -> Result<Message> {
    let all = IfaddrmsgBuilder::default()
        .ifa_family(RtAddrFamily::Unspecified)
        .ifa_prefixlen(0)
        .ifa_scope(RtScope::Universe)
        .ifa_index(0);
    Message::new(Rtm::Getaddr, NlmF::DUMP, all.build().map_err(unsound)?)
}

/// `ip link add link PARENT name NAME netns NETNS [address MAC] [mtu MTU] type …`
///
/// One message, sent on a socket of the host: the link is born in the container's namespace with its own name,
/// and nothing ever shows on the host.
pub(super) fn create_link(
    name: &IfName,
    parent_index: u32,
    driver: Driver,
    mac: Option<MacAddr>,
    mtu: Option<u32>,
    netns: &NetnsFile,
) -> Result<Message> {
    let (kind, data) = match driver {
        Driver::Macvlan { mode } => {
            let mode: u32 = match mode {
                MacvlanMode::Private => 1,
                MacvlanMode::Vepa => 2,
                MacvlanMode::Bridge => 4,
                MacvlanMode::Passthru => 8,
                MacvlanMode::Source => 16,
            };
            ("macvlan", nested(IflaInfo::Data, [attribute(IflaMacvlan::Mode, mode)?])?)
        }
        Driver::Ipvlan { mode, flag } => {
            let mode: u16 = match mode {
                IpvlanMode::L2 => 0,
                IpvlanMode::L3 => 1,
                IpvlanMode::L3s => 2,
            };
            let flags: u16 = match flag {
                IpvlanFlag::Bridge => 0,
                IpvlanFlag::Private => 1,
                IpvlanFlag::Vepa => 2,
            };
            let data = [attribute(IflaIpvlan::Mode, mode)?, attribute(IflaIpvlan::Flags, flags)?];
            ("ipvlan", nested(IflaInfo::Data, data)?)
        }
    };
    let mut attributes = vec![
        attribute(Ifla::Ifname, name.as_str())?,
        attribute(Ifla::Link, parent_index)?,
        attribute(Ifla::NetNsFd, netns.file().as_raw_fd())?,
        nested(Ifla::Linkinfo, [attribute(IflaInfo::Kind, kind)?, data])?,
    ];
    if let Some(mac) = mac {
        attributes.push(attribute(Ifla::Address, Buffer::from(&mac.bytes()[..]))?);
    }
    if let Some(mtu) = mtu {
        attributes.push(attribute(Ifla::Mtu, mtu)?);
    }
    Message::new(Rtm::Newlink, NlmF::CREATE | NlmF::EXCL | NlmF::ACK, link(0, attributes)?)
}

/// `ip link set LINK name NAME`
pub(super) fn rename_link(ifindex: u32, name: &IfName) -> Result<Message> {
    Message::new(Rtm::Setlink, NlmF::ACK, link(ifindex, [attribute(Ifla::Ifname, name.as_str())?])?)
}

/// `ip link set LINK alias ALIAS up`
pub(super) fn set_up(ifindex: u32, alias: &str) -> Result<Message> {
    // Bytes, not a string: the kernel would keep the NUL that neli puts behind strings.
    let alias = attribute(Ifla::Ifalias, Buffer::from(alias.as_bytes()))?;
    let message = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index(ifindex)?)
        .up()
        .rtattrs([alias].into_iter().collect());
    Message::new(Rtm::Setlink, NlmF::ACK, message.build().map_err(unsound)?)
}

/// `ip link del LINK`
pub(super) fn delete_link(ifindex: u32) -> Result<Message> {
    Message::new(Rtm::Dellink, NlmF::ACK, link(ifindex, [])?)
}

/// `ip addr add ADDRESS brd + dev LINK`, for IPv6 `ip addr add ADDRESS dev LINK nodad`
pub(super) fn add_address(ifindex: u32, address: IpNet) -> Result<Message> {
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

/// `ip route add TO [via VIA] dev LINK`
pub(super) fn add_route(ifindex: u32, route: Route) -> Result<Message> {
    let mut attributes = vec![attribute(Rta::Oif, ifindex)?];
    if route.to.prefix_len() > 0 {
        attributes.push(attribute(Rta::Dst, octets(route.to.addr()))?);
    }
    if let Some(via) = route.via {
        attributes.push(attribute(Rta::Gateway, octets(via))?);
    }
    // As `ip` does; IPv6 has no scopes.
    let by_link = route.via.is_none() && matches!(route.to, IpNet::V4(_));
    let message = RtmsgBuilder::default()
        .rtm_family(family(route.to))
        .rtm_dst_len(route.to.prefix_len())
        .rtm_src_len(0)
        .rtm_tos(0)
        .rtm_table(RtTable::Main)
        .rtm_protocol(Rtprot::Boot)
        .rtm_scope(if by_link { RtScope::Link } else { RtScope::Universe })
        .rtm_type(Rtn::Unicast)
        .rtattrs(attributes.into_iter().collect());
    let flags = NlmF::CREATE | NlmF::EXCL | NlmF::ACK;
    Message::new(Rtm::Newroute, flags, message.build().map_err(unsound)?)
}

/// Takes a datagram apart into its messages.
pub(super) fn replies(mut datagram: &[u8]) -> impl Iterator<Item = Result<Reply<'_>>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let reply = reply(datagram);
        datagram = match &reply {
            Some((_, length)) => datagram.get(length.next_multiple_of(4)..).unwrap_or_default(),
            None => &[],
        };
        Some(reply.map(|(reply, _)| reply).ok_or_else(|| Error::input("a netlink message is cut short")))
    })
}

/// The first message of `bytes` and its length (`struct nlmsghdr`: length, type, flags, sequence, port).
fn reply(bytes: &[u8]) -> Option<(Reply<'_>, usize)> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
    let payload = bytes.get(16..length)?;
    let content = if kind == u16::from(Nlmsg::Error) {
        Content::Answer(answer(payload, flags)?)
    } else if kind == u16::from(Nlmsg::Done) {
        // A dump that fails says so in its end.
        match payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
            Some(error) if error < 0 => Content::Answer(Some(Refusal { errno: -error, text: None })),
            _ => Content::Done,
        }
    } else {
        Content::Payload(payload)
    };
    let disturbed = flags & NlmF::DUMP_INTR.bits() != 0;
    Some((Reply { sequence, disturbed, content }, length))
}

/// `struct nlmsgerr`: the negative errno, the request's header and (if not capped) payload, then attributes.
fn answer(payload: &[u8], flags: u16) -> Option<Option<Refusal>> {
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    let errno = i32::from_ne_bytes(*payload.first_chunk()?).checked_neg()?;
    if errno == 0 {
        return Some(None);
    }
    let request = payload.get(4..)?;
    let header =
        if flags & NLM_F_CAPPED == 0 { u32::from_ne_bytes(*request.first_chunk()?) as usize } else { 16 };
    let attributes = request.get(header.next_multiple_of(4)..).unwrap_or_default();
    let text = (flags & NLM_F_ACK_TLVS != 0).then(|| error_text(attributes)).flatten();
    Some(Some(Refusal { errno, text }))
}

/// The text of `NLMSGERR_ATTR_MSG` among `attributes`.
fn error_text(mut attributes: &[u8]) -> Option<String> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(4..length)?;
        if kind == u16::from(NlmsgerrAttr::Msg) {
            return text(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// A link out of the payload of `RTM_NEWLINK`.
pub(super) fn parse_link(payload: &[u8]) -> Result<Option<Link>> {
    let message =
        Ifinfomsg::from_bytes_with_input(&mut Cursor::new(payload), payload.len()).map_err(garbled)?;
    let attributes = message.rtattrs().get_attr_handle();
    let number = |attribute| attributes.get_attr_payload_as::<u32>(attribute).ok();
    let string =
        |attribute| attributes.get_attribute(attribute).and_then(|found| text(found.payload().as_ref()));
    let info = attributes.get_nested_attributes::<IflaInfo>(Ifla::Linkinfo).ok();
    let info = |attribute| info.as_ref().and_then(|info| info_text(info, attribute));
    let mac =
        attributes.get_attribute(Ifla::Address).and_then(|found| found.payload().as_ref().try_into().ok());
    let elsewhere = attributes.get_attribute(Ifla::LinkNetnsid).is_some();
    Ok(Some(Link {
        ifindex: u32::try_from(*message.ifi_index()).unwrap_or_default(),
        name: string(Ifla::Ifname).unwrap_or_default(),
        kind: info(IflaInfo::Kind),
        slave_kind: info(IflaInfo::SlaveKind),
        lower: number(Ifla::Link).filter(|_| !elsewhere),
        mac: mac.map(MacAddr::from_bytes),
        mtu: number(Ifla::Mtu).unwrap_or_default(),
        alias: string(Ifla::Ifalias),
        loopback: message.ifi_flags().contains(Iff::LOOPBACK),
        ethernet: *message.ifi_type() == Arphrd::Ether,
    }))
}

fn info_text(info: &RtAttrHandle<'_, IflaInfo>, attribute: IflaInfo) -> Option<String> {
    info.get_attribute(attribute).and_then(|found| text(found.payload().as_ref()))
}

/// An address out of the payload of `RTM_NEWADDR`: the local one, where the link is point-to-point.
pub(super) fn parse_address(payload: &[u8]) -> Result<Option<IpAddr>> {
    let message =
        Ifaddrmsg::from_bytes_with_input(&mut Cursor::new(payload), payload.len()).map_err(garbled)?;
    let attributes = message.rtattrs().get_attr_handle();
    let found = attributes.get_attribute(Ifa::Local).or_else(|| attributes.get_attribute(Ifa::Address));
    Ok(found.and_then(|found| {
        let bytes = found.payload().as_ref();
        let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
        let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
        v4().or_else(v6)
    }))
}

/// The text of a string attribute, with or without its NUL.
fn text(bytes: &[u8]) -> Option<String> {
    let bytes = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn link(ifindex: u32, attributes: impl IntoIterator<Item = Rtattr<Ifla, Buffer>>) -> Result<Ifinfomsg> {
    IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index(ifindex)?)
        .rtattrs(attributes.into_iter().collect::<RtBuffer<_, _>>())
        .build()
        .map_err(unsound)
}

fn attribute<T: Size + RtaType, P: Size + ToBytes>(kind: T, payload: P) -> Result<Rtattr<T, Buffer>> {
    RtattrBuilder::default().rta_type(kind).rta_payload(payload).build().map_err(unsound)
}

fn nested<T, S>(kind: T, attributes: impl IntoIterator<Item = Rtattr<S, Buffer>>) -> Result<Rtattr<T, Buffer>>
where
    T: Size + RtaType,
    S: RtaType,
{
    let empty = attribute(kind, Buffer::new())?;
    attributes
        .into_iter()
        .try_fold(empty, |outer, inner| outer.nest(&inner))
        .map_err(|error: SerError| unsound(error))
}

fn index(ifindex: u32) -> Result<i32> {
    i32::try_from(ifindex).map_err(|_| Error::input(format!("ifindex {ifindex} is no link's number")))
}

fn family(net: IpNet) -> RtAddrFamily {
    match net {
        IpNet::V4(_) => RtAddrFamily::Inet,
        IpNet::V6(_) => RtAddrFamily::Inet6,
    }
}

fn octets(address: IpAddr) -> Buffer {
    match address {
        IpAddr::V4(address) => Buffer::from(&address.octets()[..]),
        IpAddr::V6(address) => Buffer::from(&address.octets()[..]),
    }
}

fn unsound(error: impl std::fmt::Display) -> Error {
    Error::input(format!("cannot write a netlink message: {error}"))
}

fn garbled(error: DeError) -> Error {
    Error::input(format!("cannot read a netlink message: {error}"))
}
