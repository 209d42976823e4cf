//! Answers of the kernel to rtnetlink requests.
//!
//! They are taken apart by their own length fields: neli 0.7 loses its place after a success that carries a warning
//! (`NLMSGERR_ATTR_MSG` on an acknowledgement).

use std::fmt;
use std::io;

use ipnet::IpNet;
use neli::consts::nl::{NlmF, Nlmsg, NlmsgerrAttr};
use neli::consts::rtnl::{Arphrd, Ifa, Iff, Ifla, IflaInfo, IflaVlan};
use nix::libc;

use super::attr::{Attributes, ip};
use super::link_info::{self, IflaBond};
use super::message::NETNSA_NSID;
use crate::error::{Error, Result};
use crate::net::link::{Link, LinkNetns};
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;
use crate::net::vlan::VlanProtocol;

/// One message from the kernel.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    /// The sequence number of the request.
    pub(crate) sequence: u32,
    /// Whether it belongs to a dump that a change has made inconsistent (`NLM_F_DUMP_INTR`).
    pub(crate) disturbed: bool,
    pub(crate) content: Content<'a>,
}

#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// What was asked for.
    Payload(&'a [u8]),
    /// Success (`None`) or failure (`NLMSG_ERROR`).
    Answer(Option<Refusal>),
    /// The end of a dump (`NLMSG_DONE`).
    Done,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The positive errno.
    pub(crate) errno: i32,
    /// The kernel's explanation (`NLMSGERR_ATTR_MSG`), if it has one.
    pub(crate) text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            write!(f, "{text}: ")?;
        }
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))
    }
}

/// The messages of a datagram.
pub(super) fn replies(mut datagram: &[u8]) -> impl Iterator<Item = Result<Reply<'_>>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let Some((reply, length)) = reply(datagram) else {
            datagram = &[];
            return Some(Err(Error::input("a netlink message is cut short or garbled")));
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(reply))
    })
}

/// The first message of `bytes` and its length (`struct nlmsghdr`: length, type, flags, sequence, port).
fn reply(bytes: &[u8]) -> Option<(Reply<'_>, usize)> {
    let &[l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, ..] = bytes.first_chunk::<16>()?;
    let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    let payload = bytes.get(16..length)?;
    let flags = NlmF::from_bits_retain(u16::from_ne_bytes([f0, f1]));
    let content = match Nlmsg::from(u16::from_ne_bytes([t0, t1])) {
        Nlmsg::Error => Content::Answer(answer(payload, flags)?),
        // A dump that fails says so in its end.
        Nlmsg::Done => match payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
            Some(error @ ..0) => Content::Answer(Some(Refusal { errno: error.checked_neg()?, text: None })),
            _ => Content::Done,
        },
        _ => Content::Payload(payload),
    };
    let sequence = u32::from_ne_bytes([s0, s1, s2, s3]);
    Some((Reply { sequence, disturbed: flags.contains(NlmF::DUMP_INTR), content }, length))
}

/// `struct nlmsgerr`: the negative errno, the request's header and (if not capped) payload, then attributes.
fn answer(payload: &[u8], flags: NlmF) -> Option<Option<Refusal>> {
    let (error, request) = payload.split_first_chunk()?;
    let errno = i32::from_ne_bytes(*error).checked_neg().filter(|&errno| errno >= 0)?;
    if errno == 0 {
        return Some(None);
    }
    let is_capped = flags.contains(NlmF::CAPPED);
    let length = if is_capped { 16 } else { u32::from_ne_bytes(*request.first_chunk()?) as usize };
    let attributes = request.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    let text = Attributes(attributes).text(NlmsgerrAttr::Msg).filter(|_| flags.contains(NlmF::ACK_TLVS));
    Some(Some(Refusal { errno, text }))
}

/// Parses the payload of `RTM_NEWLINK` (`struct ifinfomsg`: family, padding, type, ifindex, flags, change).
pub(crate) fn parse_link(payload: &[u8]) -> Option<Link> {
    let (&[_family, _padding, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3, ..], attributes) =
        Attributes::after::<16>(payload)?;
    let flags = Iff::from_bits_retain(u32::from_ne_bytes([f0, f1, f2, f3]));
    let info = attributes.nested(Ifla::Linkinfo);
    let (kind, data) = (info.text(IflaInfo::Kind), info.nested(IflaInfo::Data));
    let ours = kind.as_deref().and_then(|kind| link_info::decode(kind, data)).unwrap_or_default();
    // Other kinds have other attributes by these numbers.
    let vlan = if kind.as_deref() == Some("vlan") { data } else { Attributes::default() };
    let bond = if kind.as_deref() == Some("bond") { data } else { Attributes::default() };
    let protocol = vlan.array(IflaVlan::Protocol).map(u16::from_be_bytes);
    // An id that is not a number means another namespace too.
    let nsid = attributes.value(Ifla::LinkNetnsid);
    let nsid = nsid.map(|bytes| bytes.try_into().map_or(-1, i32::from_ne_bytes));
    let below = attributes.number(Ifla::Link);
    Some(Link {
        ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: attributes.text(Ifla::Ifname).unwrap_or_default(),
        vlan_id: vlan.array(IflaVlan::Id).map(u16::from_ne_bytes),
        vlan_protocol: protocol.and_then(|number| VlanProtocol::of_number(number.into())),
        tuning: LinkOptions { txqueuelen: attributes.number(Ifla::Txqlen), ..ours.tuning },
        slave_kind: info.text(IflaInfo::SlaveKind),
        lower: below.filter(|_| nsid.is_none()),
        elsewhere: below.zip(nsid).map(|(ifindex, nsid)| LinkNetns { ifindex, nsid }),
        mac: attributes.array(Ifla::Address).map(MacAddr),
        mtu: attributes.number(Ifla::Mtu).unwrap_or_default(),
        up: flags.contains(Iff::UP),
        carrier: attributes.value(Ifla::Carrier) == Some(&[1]),
        carrier_ups: attributes.number(Ifla::CarrierUpCount).unwrap_or_default(),
        active_port: bond.number(IflaBond::ActiveSlave),
        alias: attributes.text(Ifla::Ifalias),
        group: attributes.number(Ifla::Group).unwrap_or_default(),
        loopback: flags.contains(Iff::LOOPBACK),
        ethernet: u16::from_ne_bytes([t0, t1]) == u16::from(Arphrd::Ether),
        kind,
        ..ours
    })
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ifindex: u32,
    pub(crate) net: IpNet,
    /// Whether it stays until it is deleted; one from a router or a DHCP server expires.
    pub(crate) permanent: bool,
}

/// Parses the payload of `RTM_NEWADDR` (`struct ifaddrmsg`). The address of a point-to-point link is the local one.
pub(crate) fn parse_address(payload: &[u8]) -> Option<Address> {
    let (&[_family, prefix_len, flags, _scope, index @ ..], attributes) = Attributes::after::<8>(payload)?;
    let address = attributes.value(Ifa::Local).or_else(|| attributes.value(Ifa::Address)).and_then(ip)?;
    let permanent = u32::from(flags) & libc::IFA_F_PERMANENT != 0;
    let net = IpNet::new(address, prefix_len).ok()?;
    Some(Address { ifindex: u32::from_ne_bytes(index), net, permanent })
}

/// Parses the payload of `RTM_NEWNSID` (`struct rtgenmsg`) into the number of a namespace, if it has one.
pub(super) fn parse_nsid(payload: &[u8]) -> Option<i32> {
    let nsid = Attributes(payload.get(4..)?).array(NETNSA_NSID).map(i32::from_ne_bytes);
    nsid.filter(|&nsid| nsid >= 0)
}

#[cfg(test)]
mod tests;
