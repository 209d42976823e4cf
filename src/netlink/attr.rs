//! Attributes of netlink messages (`struct nlattr`): how they are written, and how they are read.

use std::ffi::CStr;
use std::net::IpAddr;

use neli::consts::rtnl::RtaType;
use neli::err::SerError;
use neli::rtnl::{Rtattr, RtattrBuilder};
use neli::types::Buffer;
use neli::{Size, ToBytes};

use super::nlmsg::unsound;
use crate::error::Result;

/// The number of an attribute, without the flags that say how it is encoded (linux/netlink.h).
const NLA_TYPE_MASK: u16 = 0x3fff;

/// The attribute `kind` with `payload`, to write.
pub(crate) fn attribute<T: Size + RtaType, P: Size + ToBytes>(
    kind: T,
    payload: P,
) -> Result<Rtattr<T, Buffer>> {
    RtattrBuilder::default().rta_type(kind).rta_payload(payload).build().map_err(unsound)
}

/// The attribute `kind` that holds `attributes`, to write.
pub(crate) fn nested<T, S>(
    kind: T,
    attributes: impl IntoIterator<Item = Rtattr<S, Buffer>>,
) -> Result<Rtattr<T, Buffer>>
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

/// The bytes of `address`, as an attribute holds it.
pub(crate) fn octets(address: IpAddr) -> Buffer {
    match address {
        IpAddr::V4(address) => Buffer::from(&address.octets()[..]),
        IpAddr::V6(address) => Buffer::from(&address.octets()[..]),
    }
}

/// The attributes in `bytes`, by number; they end where a length makes no sense.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & NLA_TYPE_MASK, value))
    })
}

/// The value of the first attribute `kind` in `bytes`.
pub(crate) fn value(bytes: &[u8], kind: impl Into<u16>) -> Option<&[u8]> {
    let kind = kind.into();
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// The address an attribute holds.
pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(v6)
}

/// The number an attribute holds.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// The number an attribute holds that may be below nothing.
pub(crate) fn signed_number(bytes: &[u8]) -> Option<i32> {
    bytes.try_into().ok().map(i32::from_ne_bytes)
}

/// The text of a string attribute, with or without its NUL.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    let bytes = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    Some(String::from_utf8_lossy(bytes).into_owned())
}
