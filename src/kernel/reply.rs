//! What the kernel answers to rtnetlink messages.
//!
//! Answers are taken apart by their own length fields: neli 0.7 loses its place after a success that carries a
//! warning (`NLMSGERR_ATTR_MSG` on an acknowledgement).

use std::ffi::CStr;
use std::io::{self, Cursor};
use std::net::IpAddr;

use neli::FromBytesWithInput;
use neli::attr::Attribute;
use neli::consts::nl::{NlmF, Nlmsg, NlmsgerrAttr};
use neli::consts::rtnl::{Arphrd, Ifa, Iff, Ifla, IflaInfo};
use neli::err::DeError;
use neli::rtnl::{Ifaddrmsg, Ifinfomsg, RtAttrHandle};

use super::message::IflaVlan;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::mac::MacAddr;

/// One message from the kernel.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    /// The number of the request it answers.
    pub(super) sequence: u32,
    /// Whether it belongs to a dump that a change has made inconsistent (`NLM_F_DUMP_INTR`).
    pub(super) disturbed: bool,
    /// What it says.
    pub(super) content: Content<'a>,
}

/// What a message from the kernel says.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// What was asked for.
    Payload(&'a [u8]),
    /// Yes (`None`) or no (`NLMSG_ERROR`).
    Answer(Option<Refusal>),
    /// The end of a dump (`NLMSG_DONE`).
    Done,
}

/// What the kernel said no with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The positive errno.
    pub(super) errno: i32,
    /// The kernel's own sentence (`NLMSGERR_ATTR_MSG`), where it has one.
    pub(super) text: Option<String>,
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
    let vlan_id = info.as_ref().and_then(|info| {
        let data = info.get_nested_attributes::<IflaVlan>(IflaInfo::Data).ok()?;
        data.get_attr_payload_as::<u16>(IflaVlan::Id).ok()
    });
    let info = |attribute| info.as_ref().and_then(|info| info_text(info, attribute));
    let kind = info(IflaInfo::Kind);
    let mac =
        attributes.get_attribute(Ifla::Address).and_then(|found| found.payload().as_ref().try_into().ok());
    let elsewhere = attributes.get_attribute(Ifla::LinkNetnsid).is_some();
    Ok(Some(Link {
        ifindex: u32::try_from(*message.ifi_index()).unwrap_or_default(),
        name: string(Ifla::Ifname).unwrap_or_default(),
        // Other kinds number their data otherwise.
        vlan_id: vlan_id.filter(|_| kind.as_deref() == Some("vlan")),
        kind,
        slave_kind: info(IflaInfo::SlaveKind),
        lower: number(Ifla::Link).filter(|_| !elsewhere),
        mac: mac.map(MacAddr::from_bytes),
        mtu: number(Ifla::Mtu).unwrap_or_default(),
        up: message.ifi_flags().contains(Iff::UP),
        alias: string(Ifla::Ifalias),
        group: number(Ifla::Group).unwrap_or_default(),
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

/// Whether the payload of an `RTM_NEWROUTE` (`struct rtmsg`) is a default route of the main table.
pub(super) fn parse_default_route(payload: &[u8]) -> Result<Option<()>> {
    const MAIN: u8 = 254;
    const UNICAST: u8 = 1;
    let is = matches!(payload, [_family, 0, _, _, MAIN, _, _, UNICAST, ..]);
    Ok(is.then_some(()))
}

/// Whether the payload of an `RTM_NEWROUTE` (`struct rtmsg`) is a route to an address of this very namespace.
pub(super) fn parse_local_route(payload: &[u8]) -> Result<Option<bool>> {
    const LOCAL: u8 = 2;
    Ok(Some(payload.get(7) == Some(&LOCAL)))
}

/// The text of a string attribute, with or without its NUL.
fn text(bytes: &[u8]) -> Option<String> {
    let bytes = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn garbled(error: DeError) -> Error {
    Error::input(format!("cannot read a netlink message: {error}"))
}
