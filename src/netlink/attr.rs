//! Attributes of netlink messages (`struct nlattr`), written and read.

use std::ffi::CStr;
use std::fmt::Display;
use std::io::Cursor;
use std::net::IpAddr;

use neli::rtnl::RtattrBuilder;
use neli::{Size, ToBytes};

use crate::error::{Error, Result};

/// The number of an attribute, without the flags that say how it is encoded (linux/netlink.h).
const NLA_TYPE_MASK: u16 = 0x3fff;

/// The bytes of an attribute to write, padded.
pub(super) type Attribute = Result<Vec<u8>>;

/// Returns the attribute `kind` with `payload`.
pub(super) fn attribute(kind: impl Into<u16>, payload: impl Size + ToBytes) -> Attribute {
    let attribute = RtattrBuilder::default().rta_type(kind.into()).rta_payload(payload).build();
    let mut bytes = Cursor::new(Vec::new());
    attribute.map_err(unsound)?.to_bytes(&mut bytes).map_err(unsound)?;
    Ok(bytes.into_inner())
}

fn unsound(error: impl Display) -> Error {
    Error::bug(format!("cannot write a netlink message: {error}"))
}

/// Returns the attribute `kind` that holds `attributes`.
pub(super) fn nested(kind: impl Into<u16>, attributes: impl IntoIterator<Item = Attribute>) -> Attribute {
    attribute(kind, attributes.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// The bytes of `address`, as an attribute holds it.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Attributes to read. They end where a length makes no sense.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// Splits `payload` into the header of a message and its attributes.
    pub(crate) fn after<const N: usize>(payload: &'a [u8]) -> Option<(&'a [u8; N], Self)> {
        payload.split_first_chunk().map(|(header, attributes)| (header, Self(attributes)))
    }

    /// Each attribute, with its number.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let Self(mut bytes) = self;
        std::iter::from_fn(move || {
            let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
            let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
            let value = bytes.get(4..length)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind & NLA_TYPE_MASK, value))
        })
    }

    /// The value of the first attribute `kind`.
    pub(crate) fn value(self, kind: impl Into<u16>) -> Option<&'a [u8]> {
        let kind = kind.into();
        self.iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The value of `kind`, if it has `N` bytes.
    pub(crate) fn array<const N: usize>(self, kind: impl Into<u16>) -> Option<[u8; N]> {
        self.value(kind)?.try_into().ok()
    }

    pub(crate) fn number(self, kind: impl Into<u16>) -> Option<u32> {
        self.array(kind).map(u32::from_ne_bytes)
    }

    pub(crate) fn ip(self, kind: impl Into<u16>) -> Option<IpAddr> {
        self.value(kind).and_then(ip)
    }

    /// The text of `kind`, with or without its NUL.
    pub(crate) fn text(self, kind: impl Into<u16>) -> Option<String> {
        let bytes = self.value(kind)?;
        let bytes = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The attributes that `kind` holds.
    pub(crate) fn nested(self, kind: impl Into<u16>) -> Self {
        Self(self.value(kind).unwrap_or_default())
    }
}

/// The address in `bytes`.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
