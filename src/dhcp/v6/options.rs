//! The options of a DHCPv6 message as bytes (RFC 8415, section 21): each has a code and a length of two bytes.

use std::net::Ipv6Addr;

use crate::error::{Error, Result};

pub(super) const CLIENT_ID: u16 = 1;
pub(super) const SERVER_ID: u16 = 2;
pub(super) const IA_NA: u16 = 3;
pub(super) const IA_ADDRESS: u16 = 5;
pub(super) const REQUESTED: u16 = 6;
pub(super) const PREFERENCE: u16 = 7;
pub(super) const ELAPSED_TIME: u16 = 8;
pub(super) const STATUS: u16 = 13;
pub(super) const RAPID_COMMIT: u16 = 14;
pub(super) const DNS: u16 = 23;
pub(super) const SEARCH: u16 = 24;
pub(super) const SNTP: u16 = 31;
pub(super) const FQDN: u16 = 39;
pub(super) const NTP: u16 = 56;
pub(super) const SOL_MAX_RT: u16 = 82;

/// The address of a server in [`NTP`] (RFC 5908, 4.1).
pub(super) const NTP_ADDRESS: u16 = 1;

/// Options to read, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Options<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Options<'a> {
    /// Reads all options of `bytes`, without those that options hold.
    pub(super) fn read(mut bytes: &'a [u8]) -> Result<Self> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let Some((&[c0, c1, l0, l1], rest)) = bytes.split_first_chunk() else {
                return Err(Error::input("the last DHCPv6 option is cut short"));
            };
            let code = u16::from_be_bytes([c0, c1]);
            let Some((value, rest)) = rest.split_at_checked(u16::from_be_bytes([l0, l1]).into()) else {
                return Err(Error::input(format!("DHCPv6 option {code} is cut short")));
            };
            all.push((code, value));
            bytes = rest;
        }
        Ok(Self(all))
    }

    /// The first option `code`. The others are as if not there: none of those that are asked for here comes twice.
    pub(super) fn get(&self, code: u16) -> Option<&'a [u8]> {
        self.all(code).next()
    }

    pub(super) fn all(&self, code: u16) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(found, _)| *found == code).map(|(_, value)| *value)
    }
}

/// Appends an option. What is longer than an option can be is left out.
pub(super) fn write(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    if let Ok(length) = u16::try_from(value.len()) {
        bytes.extend([code, length].map(u16::to_be_bytes).concat());
        bytes.extend(value);
    }
}

/// The addresses in a list; none if its length is wrong.
pub(super) fn addresses(bytes: &[u8]) -> Vec<Ipv6Addr> {
    let address = |octets: &[u8]| <[u8; 16]>::try_from(octets).map(Ipv6Addr::from).ok();
    bytes.chunks(16).map(address).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_a_row() {
        let bytes = [0, 1, 0, 2, 7, 8, 0, 3, 0, 0, 0, 1, 0, 1, 9];
        let options = Options::read(&bytes).unwrap();
        assert_eq!(
            (options.get(1), options.get(3), options.get(2)),
            (Some(&[7, 8][..]), Some(&[][..]), None)
        );
        assert_eq!(options.all(1).collect::<Vec<_>>(), [&[7, 8][..], &[9]]);
        for length in [1, 2, 3, 4, 5, 7, 9, 11, 14] {
            assert!(Options::read(&bytes[..length]).is_err(), "{length}");
        }
        let mut written = Vec::new();
        write(&mut written, 1, &[7, 8]);
        write(&mut written, 3, &[]);
        assert_eq!(written, bytes[..10]);
        write(&mut written, 4, &[0; 70_000]);
        assert_eq!(written.len(), 10);
    }

    #[test]
    fn lists_of_addresses() {
        assert_eq!(addresses(&[[1; 16], [2; 16]].concat()).len(), 2);
        assert_eq!(addresses(&[1; 17]), [] as [Ipv6Addr; 0]);
    }
}
