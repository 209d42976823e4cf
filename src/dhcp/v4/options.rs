//! The options of a DHCPv4 message as bytes (RFC 2132): long ones in parts (RFC 3396), and those that spill over into the
//! fields `file` and `sname` (option 52).

use std::collections::BTreeMap;

use crate::error::{Error, Result};

pub(super) const PAD: u8 = 0;
pub(super) const SUBNET_MASK: u8 = 1;
pub(super) const ROUTERS: u8 = 3;
pub(super) const DNS: u8 = 6;
pub(super) const HOST_NAME: u8 = 12;
pub(super) const DOMAIN: u8 = 15;
pub(super) const MTU: u8 = 26;
pub(super) const BROADCAST_ADDRESS: u8 = 28;
pub(super) const NTP: u8 = 42;
pub(super) const REQUESTED_ADDRESS: u8 = 50;
pub(super) const LEASE_TIME: u8 = 51;
pub(super) const OVERLOAD: u8 = 52;
pub(super) const MESSAGE_TYPE: u8 = 53;
pub(super) const SERVER_ID: u8 = 54;
pub(super) const PARAMETERS: u8 = 55;
pub(super) const ERROR_TEXT: u8 = 56;
pub(super) const MAX_SIZE: u8 = 57;
pub(super) const RENEWAL_TIME: u8 = 58;
pub(super) const REBINDING_TIME: u8 = 59;
pub(super) const VENDOR_CLASS: u8 = 60;
pub(super) const CLIENT_ID: u8 = 61;
pub(super) const RAPID_COMMIT: u8 = 80;
pub(super) const FQDN: u8 = 81;
pub(super) const SEARCH: u8 = 119;
pub(super) const CLASSLESS_ROUTES: u8 = 121;
pub(super) const END: u8 = 255;

/// Each option by its code; parts of one are put together in their order.
#[derive(Debug, Default)]
pub(super) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Reads the options of a message, whose fields are given.
    pub(super) fn read(options: &[u8], sname: &[u8], file: &[u8]) -> Result<Self> {
        let mut all = Self::default();
        all.add(options)?;
        let overload = all.array::<1>(OVERLOAD)?.map_or(0, |[overload]| overload);
        // In this order (RFC 3396, section 5).
        for (bit, field) in [(1, file), (2, sname)] {
            if overload & bit != 0 {
                all.add(field)?;
            }
        }
        Ok(all)
    }

    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            match *bytes {
                [] | [END, ..] => return Ok(()),
                [PAD, ref rest @ ..] => bytes = rest,
                [code, length, ref rest @ ..] if rest.len() >= usize::from(length) => {
                    let (value, rest) = rest.split_at(usize::from(length));
                    self.0.entry(code).or_default().extend_from_slice(value);
                    bytes = rest;
                }
                [code, ..] => return Err(Error::input(format!("DHCP option {code} is cut short"))),
            }
        }
    }

    pub(super) fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// The option `code`, which has `N` bytes if it is there.
    pub(super) fn array<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>> {
        let wrong = |_| Error::input(format!("DHCP option {code} does not have {N} bytes"));
        self.get(code).map(|value| value.try_into().map_err(wrong)).transpose()
    }
}

/// Appends an option, in as many parts as it takes.
pub(super) fn write(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    // An option without bytes is one part too.
    let first = value.len().min(255);
    let (first, rest) = value.split_at(first);
    for part in std::iter::once(first).chain(rest.chunks(255)) {
        bytes.extend([code, part.len() as u8]);
        bytes.extend(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[u8]) -> Option<Options> {
        Options::read(options, &[], &[]).ok()
    }

    #[test]
    fn options_in_a_row() {
        let options = read(&[0, 0, 1, 2, 7, 8, 0, 99, 0, 3, 1, 9, 255, 4, 1]).unwrap();
        assert_eq!((options.get(1), options.get(3)), (Some(&[7, 8][..]), Some(&[9][..])));
        assert_eq!(options.get(99), Some(&[][..]), "unknown, and without a byte");
        assert_eq!((options.get(4), options.get(0), options.get(255)), (None, None, None));
        assert!(read(&[]).is_some() && read(&[1, 0]).is_some(), "an end that is not marked");
    }

    #[test]
    fn a_last_option_that_is_cut_short() {
        for bytes in [&[1][..], &[1, 1], &[3, 1, 9, 6, 4, 1, 2, 3], &[1, 255]] {
            assert!(read(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_option_comes_in_parts() {
        let value: Vec<u8> = (0..700).map(|number| number as u8).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, 121, &value);
        write(&mut bytes, 80, &[]);
        assert_eq!(bytes.len(), 700 + 3 * 2 + 2);
        assert_eq!(read(&bytes).unwrap().get(121), Some(&value[..]));
        assert_eq!(read(&bytes).unwrap().get(80), Some(&[][..]));
        // With another option in between.
        let parts = read(&[119, 1, 5, 3, 1, 9, 119, 2, 6, 7]).unwrap();
        assert_eq!(parts.get(119), Some(&[5, 6, 7][..]));
    }

    #[test]
    fn options_in_file_and_sname() {
        let (sname, file) = ([12, 1, 3, 255, 9], [12, 1, 2, 52, 1, 2, 0, 0]);
        let read = |overload| Options::read(&[12, 1, 1, 52, 1, overload], &sname, &file).unwrap();
        assert_eq!(read(0).get(12), Some(&[1][..]));
        assert_eq!(read(1).get(12), Some(&[1, 2][..]));
        assert_eq!(read(2).get(12), Some(&[1, 3][..]));
        assert_eq!(read(3).get(12), Some(&[1, 2, 3][..]), "file first");
        assert!(Options::read(&[52, 1, 1], &[], &[12, 9]).is_err(), "cut short there");
        assert!(Options::read(&[52, 2, 1, 1], &[], &[]).is_err());
    }
}
