//! A DHCPv6 message between client and server (RFC 8415, section 8) as values, and as bytes.

#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;

use crate::dhcp::client_id::{Duid, Iaid};
use crate::dhcp::domain_name::{self, DomainName, Fqdn};
use crate::dhcp::v6::options::{self, Options};
use crate::dhcp::v6::status::Status;
use crate::error::{Error, Result};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Solicit = 1,
    Advertise,
    Request,
    Confirm,
    Renew,
    Rebind,
    Reply,
    Release,
    Decline,
}

/// A message. Options that say how the network is are as if they were not there if they make no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub kind: Kind,
    /// The exchange that it is part of: 24 bits.
    pub xid: u32,
    pub client: Option<Duid>,
    pub server: Option<Duid>,
    pub ia: Vec<Ia>,
    /// How much the server wants to be chosen.
    pub preference: u8,
    /// For how long the client has been at it, in hundredths of a second.
    pub elapsed: Option<u16>,
    /// The options that are asked for.
    pub requested: Vec<u16>,
    pub rapid_commit: bool,
    pub status: Option<Status>,
    pub fqdn: Option<Fqdn>,
    pub dns: Vec<Ipv6Addr>,
    pub search: Vec<DomainName>,
    pub ntp: Vec<Ipv6Addr>,
    /// The longest wait for an answer to a [`Kind::Solicit`], in seconds.
    pub sol_max_rt: Option<u32>,
}

/// The addresses of one link (`IA_NA`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ia {
    pub iaid: Iaid,
    /// In seconds, like all times here.
    pub t1: u32,
    pub t2: u32,
    pub addresses: Vec<IaAddress>,
    pub status: Option<Status>,
}

/// An address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IaAddress {
    pub address: Ipv6Addr,
    /// For how long new connections should be made with it.
    pub preferred: u32,
    pub valid: u32,
}

impl Message {
    /// A message of `kind` in the exchange `xid`, with nothing else in it.
    pub(crate) fn new(kind: Kind, xid: u32) -> Self {
        Self {
            kind,
            xid: xid & 0xff_ffff,
            client: None,
            server: None,
            ia: Vec::new(),
            preference: 0,
            elapsed: None,
            requested: Vec::new(),
            rapid_commit: false,
            status: None,
            fqdn: None,
            dns: Vec::new(),
            search: Vec::new(),
            ntp: Vec::new(),
            sol_max_rt: None,
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is no message between client and server, or when an option that leases depend on makes no sense.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let no_message = || Error::input("is no DHCPv6 message between client and server");
        let (&[kind, x0, x1, x2], rest) = bytes.split_first_chunk().ok_or_else(no_message)?;
        let kind = Kind::of(kind).ok_or_else(no_message)?;
        let options = Options::read(rest)?;
        let duid = |code| options.get(code).map(|id| Duid::try_from(id.to_vec())).transpose();
        let addresses = |code| options::addresses(options.get(code).unwrap_or_default());
        let numbers = options.get(options::REQUESTED).unwrap_or_default().chunks_exact(2);
        let sntp = addresses(options::SNTP);
        Ok(Self {
            client: duid(options::CLIENT_ID)?,
            server: duid(options::SERVER_ID)?,
            ia: options.all(options::IA_NA).map(Ia::read).collect::<Result<_>>()?,
            preference: match options.get(options::PREFERENCE) {
                Some(&[preference]) => preference,
                _ => 0,
            },
            elapsed: array(&options, options::ELAPSED_TIME).map(u16::from_be_bytes),
            requested: numbers.filter_map(|code| Some(u16::from_be_bytes(*code.first_chunk()?))).collect(),
            rapid_commit: options.get(options::RAPID_COMMIT).is_some(),
            status: options.get(options::STATUS).map(Status::read).transpose()?,
            fqdn: options.get(options::FQDN).and_then(read_fqdn),
            dns: addresses(options::DNS),
            search: options.get(options::SEARCH).and_then(domain_name::read_list).unwrap_or_default(),
            ntp: options.get(options::NTP).map(read_ntp).filter(|ntp| !ntp.is_empty()).unwrap_or(sntp),
            sol_max_rt: array(&options, options::SOL_MAX_RT).map(u32::from_be_bytes),
            ..Self::new(kind, u32::from_be_bytes([0, x0, x1, x2]))
        })
    }

    /// The message as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = (self.xid | (self.kind as u32) << 24).to_be_bytes().to_vec();
        let mut write = |code, value: Option<Vec<u8>>| {
            if let Some(value) = value {
                options::write(&mut bytes, code, &value);
            }
        };
        let list = |addresses: &[Ipv6Addr]| addresses.iter().flat_map(Ipv6Addr::octets).collect::<Vec<_>>();
        let is_some = |bytes: &Vec<u8>| !bytes.is_empty();
        write(options::CLIENT_ID, self.client.as_ref().map(|id| id.bytes().to_vec()));
        write(options::SERVER_ID, self.server.as_ref().map(|id| id.bytes().to_vec()));
        self.ia.iter().for_each(|ia| write(options::IA_NA, Some(ia.write())));
        let requested: Vec<_> = self.requested.iter().flat_map(|code| code.to_be_bytes()).collect();
        let search: Vec<_> = self.search.iter().flat_map(DomainName::to_wire).collect();
        for (code, value) in [
            (options::REQUESTED, Some(requested).filter(is_some)),
            (options::PREFERENCE, Some(vec![self.preference]).filter(|_| self.preference > 0)),
            (options::ELAPSED_TIME, self.elapsed.map(|elapsed| elapsed.to_be_bytes().to_vec())),
            (options::STATUS, self.status.as_ref().map(Status::write)),
            (options::RAPID_COMMIT, self.rapid_commit.then(Vec::new)),
            (options::DNS, Some(list(&self.dns)).filter(is_some)),
            (options::SEARCH, Some(search).filter(is_some)),
            (options::FQDN, self.fqdn.as_ref().map(write_fqdn)),
            (options::NTP, Some(write_ntp(&self.ntp)).filter(is_some)),
            (options::SOL_MAX_RT, self.sol_max_rt.map(|seconds| seconds.to_be_bytes().to_vec())),
        ] {
            write(code, value);
        }
        bytes
    }
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Solicit,
        Self::Advertise,
        Self::Request,
        Self::Confirm,
        Self::Renew,
        Self::Rebind,
        Self::Reply,
        Self::Release,
        Self::Decline,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == number)
    }
}

impl Ia {
    fn read(bytes: &[u8]) -> Result<Self> {
        let cut = || Error::input("a DHCPv6 IA_NA is cut short");
        let (&iaid, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let (&t1, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (&t2, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let options = Options::read(rest)?;
        let addresses: Option<_> = options.all(options::IA_ADDRESS).map(IaAddress::read).collect();
        Ok(Self {
            iaid: Iaid(u32::from_be_bytes(iaid)),
            t1: u32::from_be_bytes(t1),
            t2: u32::from_be_bytes(t2),
            addresses: addresses.ok_or_else(cut)?,
            status: options.get(options::STATUS).map(Status::read).transpose()?,
        })
    }

    fn write(&self) -> Vec<u8> {
        let mut bytes = [self.iaid.0, self.t1, self.t2].map(u32::to_be_bytes).concat();
        let mut write = |code, value: Vec<u8>| options::write(&mut bytes, code, &value);
        self.addresses.iter().for_each(|address| write(options::IA_ADDRESS, address.write()));
        self.status.iter().for_each(|status| write(options::STATUS, status.write()));
        bytes
    }
}

impl IaAddress {
    /// The status of a single address, which may follow, says nothing that its times do not.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&address, rest) = bytes.split_first_chunk::<16>()?;
        let (&preferred, rest) = rest.split_first_chunk()?;
        let valid = *rest.first_chunk()?;
        let [preferred, valid] = [preferred, valid].map(u32::from_be_bytes);
        Some(Self { address: address.into(), preferred, valid })
    }

    fn write(&self) -> Vec<u8> {
        [&self.address.octets()[..], &self.preferred.to_be_bytes(), &self.valid.to_be_bytes()].concat()
    }
}

fn array<const N: usize>(options: &Options<'_>, code: u16) -> Option<[u8; N]> {
    options.get(code)?.try_into().ok()
}

/// The client's full name (RFC 4704).
fn read_fqdn(bytes: &[u8]) -> Option<Fqdn> {
    let (flags, name) = bytes.split_first()?;
    let name = domain_name::read_list(name)?.into_iter().next()?;
    Some(Fqdn { name, server_updates: flags & Fqdn::SERVER_UPDATES != 0 })
}

fn write_fqdn(fqdn: &Fqdn) -> Vec<u8> {
    [&[fqdn.flags()][..], &fqdn.name.to_wire()].concat()
}

/// The servers that are given by address (RFC 5908).
fn read_ntp(bytes: &[u8]) -> Vec<Ipv6Addr> {
    let Ok(options) = Options::read(bytes) else { return Vec::new() };
    options.all(options::NTP_ADDRESS).flat_map(options::addresses).collect()
}

fn write_ntp(servers: &[Ipv6Addr]) -> Vec<u8> {
    let mut bytes = Vec::new();
    servers.iter().for_each(|server| options::write(&mut bytes, options::NTP_ADDRESS, &server.octets()));
    bytes
}
