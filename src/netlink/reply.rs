//! What the kernel answers to rtnetlink messages.
//!
//! Answers are taken apart by their own length fields: neli 0.7 loses its place after a success that carries a
//! warning (`NLMSGERR_ATTR_MSG` on an acknowledgement).

use std::io;

use ipnet::IpNet;
use neli::consts::nl::{NlmF, Nlmsg, NlmsgerrAttr};
use neli::consts::rtnl::{Arphrd, Ifa, Iff, Ifla, IflaInfo};
use nix::libc;

use super::attr::{ip, number, signed_number, text, value};
use super::link_info;
use super::message::{IflaVlan, ether_type};
use crate::error::{Error, Result};
use crate::net::link::{Link, LinkNetns};
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;
use crate::net::vlan::VlanProtocol;

/// One message from the kernel.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    /// The number of the request it answers.
    pub(crate) sequence: u32,
    /// Whether it belongs to a dump that a change has made inconsistent (`NLM_F_DUMP_INTR`).
    pub(crate) disturbed: bool,
    /// What it says.
    pub(crate) content: Content<'a>,
}

/// What a message from the kernel says.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// What was asked for.
    Payload(&'a [u8]),
    /// Yes (`None`) or no (`NLMSG_ERROR`).
    Answer(Option<Refusal>),
    /// The end of a dump (`NLMSG_DONE`).
    Done,
}

/// What the kernel said no with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The positive errno.
    pub(crate) errno: i32,
    /// The kernel's own sentence (`NLMSGERR_ATTR_MSG`), where it has one.
    pub(crate) text: Option<String>,
}

impl std::fmt::Display for Refusal {
    /// The kernel's own sentence, if any, and the errno in words and number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let errno = io::Error::from_raw_os_error(self.errno);
        match &self.text {
            Some(text) => write!(f, "{text}: {errno}"),
            None => write!(f, "{errno}"),
        }
    }
}

/// Takes a datagram apart into its messages.
pub(crate) fn replies(mut datagram: &[u8]) -> impl Iterator<Item = Result<Reply<'_>>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let reply = reply(datagram);
        datagram = match &reply {
            Some((_, length)) => datagram.get(length.next_multiple_of(4)..).unwrap_or_default(),
            None => &[],
        };
        Some(
            reply
                .map(|(reply, _)| reply)
                .ok_or_else(|| Error::input("a netlink message is cut short or garbled")),
        )
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
            Some(error) if error < 0 => {
                Content::Answer(Some(Refusal { errno: error.checked_neg()?, text: None }))
            }
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
    let errno = i32::from_ne_bytes(*payload.first_chunk()?).checked_neg().filter(|&errno| errno >= 0)?;
    if errno == 0 {
        return Some(None);
    }
    let request = payload.get(4..)?;
    let header =
        if flags & NLM_F_CAPPED == 0 { u32::from_ne_bytes(*request.first_chunk()?) as usize } else { 16 };
    let attributes = request.get(header.checked_next_multiple_of(4)?..).unwrap_or_default();
    let text = (flags & NLM_F_ACK_TLVS != 0).then(|| value(attributes, NlmsgerrAttr::Msg)).flatten();
    Some(Some(Refusal { errno, text: text.and_then(self::text) }))
}

/// A link out of the payload of `RTM_NEWLINK` (`struct ifinfomsg`: family, padding, type, ifindex, flags, change).
pub(crate) fn parse_link(payload: &[u8]) -> Result<Option<Link>> {
    let Some((&[_family, _padding, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3, ..], attributes)) =
        payload.split_first_chunk::<16>()
    else {
        return Ok(None);
    };
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let is = |flag: Iff| flags & flag.bits() != 0;
    let value = |attribute: Ifla| value(attributes, attribute);
    let number = |attribute| value(attribute).and_then(number);
    let string = |attribute| value(attribute).and_then(text);
    let info = value(Ifla::Linkinfo).unwrap_or_default();
    let info_text = |attribute: IflaInfo| self::value(info, attribute).and_then(text);
    let data = self::value(info, IflaInfo::Data).unwrap_or_default();
    let kind = info_text(IflaInfo::Kind);
    let told = kind.as_deref().and_then(|kind| link_info::read(kind, data));
    // Other kinds number their data otherwise.
    let vlan = |attribute: IflaVlan| {
        let value = self::value(data, attribute).filter(|_| kind.as_deref() == Some("vlan"))?;
        <[u8; 2]>::try_from(value).ok()
    };
    // What is there and no number is another namespace all the same.
    let nsid = value(Ifla::LinkNetnsid).map(|bytes| signed_number(bytes).unwrap_or(-1));
    Ok(Some(Link {
        ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: string(Ifla::Ifname).unwrap_or_default(),
        vlan_id: vlan(IflaVlan::Id).map(u16::from_ne_bytes),
        vlan_protocol: vlan(IflaVlan::Protocol).map(u16::from_be_bytes).and_then(vlan_protocol),
        driver: told.as_ref().map(|told| told.driver),
        bclim: told.as_ref().and_then(|told| told.bclim),
        tuning: LinkOptions {
            txqueuelen: number(Ifla::Txqlen),
            bcqueuelen: told.as_ref().and_then(|told| told.bcqueuelen),
            source_macs: told.map(|told| told.source_macs).unwrap_or_default(),
            ..LinkOptions::default()
        },
        slave_kind: info_text(IflaInfo::SlaveKind),
        lower: number(Ifla::Link).filter(|_| nsid.is_none()),
        elsewhere: number(Ifla::Link).zip(nsid).map(|(ifindex, nsid)| LinkNetns { ifindex, nsid }),
        mac: value(Ifla::Address).and_then(|bytes| bytes.try_into().ok()).map(MacAddr::from_bytes),
        mtu: number(Ifla::Mtu).unwrap_or_default(),
        up: is(Iff::UP),
        alias: string(Ifla::Ifalias),
        group: number(Ifla::Group).unwrap_or_default(),
        loopback: is(Iff::LOOPBACK),
        ethernet: u16::from_ne_bytes([t0, t1]) == u16::from(Arphrd::Ether),
        kind,
    }))
}

fn vlan_protocol(number: u16) -> Option<VlanProtocol> {
    [VlanProtocol::Dot1q, VlanProtocol::Dot1ad].into_iter().find(|&protocol| ether_type(protocol) == number)
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The number of the link.
    pub(crate) ifindex: u32,
    /// The address with its prefix length.
    pub(crate) net: IpNet,
    /// Whether it stays until it is deleted; one that a router or a DHCP server gave has its time.
    pub(crate) permanent: bool,
}

/// An address out of the payload of `RTM_NEWADDR` (`struct ifaddrmsg`): the local one, where the link is
/// point-to-point.
pub(crate) fn parse_address(payload: &[u8]) -> Result<Option<Address>> {
    let Some((&[_family, prefix_len, flags, _scope, index @ ..], attributes)) =
        payload.split_first_chunk::<8>()
    else {
        return Ok(None);
    };
    let ip = value(attributes, Ifa::Local).or_else(|| value(attributes, Ifa::Address)).and_then(ip);
    let net = ip.and_then(|ip| IpNet::new(ip, prefix_len).ok());
    let permanent = u32::from(flags) & libc::IFA_F_PERMANENT != 0;
    Ok(net.map(|net| Address { ifindex: u32::from_ne_bytes(index), net, permanent }))
}

/// The number of a namespace out of the payload of `RTM_NEWNSID` (`struct rtgenmsg`), if it has one.
pub(crate) fn parse_nsid(payload: &[u8]) -> Result<Option<i32>> {
    // Of linux/net_namespace.h, which neli lacks.
    const NETNSA_NSID: u16 = 1;
    let nsid = payload.get(4..).and_then(|attributes| value(attributes, NETNSA_NSID)).and_then(signed_number);
    Ok(nsid.filter(|&nsid| nsid >= 0))
}

#[cfg(test)]
mod tests;
