//! A DHCPv4 message (RFC 2131, section 2) as values, and as bytes.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use crate::dhcp::client_id::ClientId;
use crate::dhcp::domain_name::{self, DomainName, Fqdn};
use crate::dhcp::v4::classless_route::{self, ClasslessRoute};
use crate::dhcp::v4::options::{self, Options};
use crate::error::{Error, Result};
use crate::net::mac::MacAddr;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// `htype` and `hlen` of Ethernet.
const ETHERNET: [u8; 2] = [1, 6];
const BROADCAST_FLAG: u8 = 0x80;
/// The flag E of option 81.
const WIRE_FORM: u8 = 4;
/// `sname` and `file`.
const NAMES: (usize, usize) = (64, 128);
/// Relays of BOOTP drop what is shorter (RFC 1542, 2.1).
const SHORTEST: usize = 300;

/// What a message is (option 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Discover = 1,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

/// A message. What has no meaning for a client is not among its fields: `siaddr`, `giaddr`, `sname`, `file` and other options.
/// Options that say how the network is are as if they were not there if they make no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub kind: Kind,
    /// The exchange that it is part of.
    pub xid: u32,
    /// For how long the client has been at it.
    pub secs: u16,
    /// True if the client hears broadcasts alone.
    pub broadcast: bool,
    /// The address that the client has.
    pub ciaddr: Ipv4Addr,
    /// The address that the client gets.
    pub yiaddr: Ipv4Addr,
    pub chaddr: MacAddr,
    pub client_id: Option<ClientId>,
    pub server: Option<Ipv4Addr>,
    pub requested: Option<Ipv4Addr>,
    /// In seconds, like the two below.
    pub lease_time: Option<u32>,
    pub t1: Option<u32>,
    pub t2: Option<u32>,
    pub rapid_commit: bool,
    pub parameters: Vec<u8>,
    pub max_size: Option<u16>,
    pub vendor_class: Option<String>,
    pub host_name: Option<DomainName>,
    pub fqdn: Option<Fqdn>,
    /// Why a server refuses.
    pub error_text: Option<String>,
    pub prefix_len: Option<u8>,
    pub routers: Vec<Ipv4Addr>,
    /// Instead of `routers`, also if it is empty.
    pub classless_routes: Option<Vec<ClasslessRoute>>,
    pub mtu: Option<u16>,
    pub dns: Vec<Ipv4Addr>,
    pub domain: Option<DomainName>,
    pub search: Vec<DomainName>,
    pub ntp: Vec<Ipv4Addr>,
}

impl Message {
    /// A message of `kind` in the exchange `xid` of the client at `chaddr`, with nothing else in it.
    pub(crate) fn new(kind: Kind, xid: u32, chaddr: MacAddr) -> Self {
        Self {
            kind,
            xid,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            client_id: None,
            server: None,
            requested: None,
            lease_time: None,
            t1: None,
            t2: None,
            rapid_commit: false,
            parameters: Vec::new(),
            max_size: None,
            vendor_class: None,
            host_name: None,
            fqdn: None,
            error_text: None,
            prefix_len: None,
            routers: Vec::new(),
            classless_routes: None,
            mtu: None,
            dns: Vec::new(),
            domain: None,
            search: Vec::new(),
            ntp: Vec::new(),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is not one of DHCP on Ethernet, or when an option that leases depend on makes no sense.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let Some((head, options)) = Head::split(bytes) else {
            return Err(Error::input("is no DHCP message of an Ethernet"));
        };
        let options = Options::read(options, head.sname, head.file)?;
        let kind = options.array(options::MESSAGE_TYPE)?.and_then(|[kind]| Kind::of(kind));
        let Some(kind) = kind.filter(|kind| kind.op() == head.op) else {
            return Err(Error::input("has no type that a DHCP message can have"));
        };
        let address =
            |code| options.array(code).map(|value| value.map(|octets: [u8; 4]| Ipv4Addr::from(octets)));
        let seconds = |code| options.array(code).map(|value| value.map(u32::from_be_bytes));
        let prefix_len = match address(options::SUBNET_MASK)? {
            Some(mask) => {
                Some(prefix_len(mask).ok_or_else(|| Error::input(format!("{mask} is no subnet mask")))?)
            }
            None => None,
        };
        let client_id =
            options.get(options::CLIENT_ID).map(|id| ClientId::try_from(id.to_vec())).transpose()?;
        let short = |code| options.array(code).ok().flatten().map(u16::from_be_bytes);
        let text = |code| {
            let text = String::from_utf8_lossy(options.get(code)?).trim_end_matches('\0').to_owned();
            Some(text).filter(|text| !text.is_empty())
        };
        let name = |code| options.get(code).and_then(DomainName::of_text);
        let addresses = |code| addresses(options.get(code).unwrap_or_default());
        Ok(Self {
            secs: head.secs,
            broadcast: head.broadcast,
            ciaddr: head.ciaddr,
            yiaddr: head.yiaddr,
            client_id,
            server: address(options::SERVER_ID)?,
            requested: address(options::REQUESTED_ADDRESS)?,
            lease_time: seconds(options::LEASE_TIME)?,
            t1: seconds(options::RENEWAL_TIME)?,
            t2: seconds(options::REBINDING_TIME)?,
            rapid_commit: options.get(options::RAPID_COMMIT).is_some(),
            parameters: options.get(options::PARAMETERS).unwrap_or_default().to_vec(),
            max_size: short(options::MAX_SIZE),
            vendor_class: text(options::VENDOR_CLASS),
            host_name: name(options::HOST_NAME),
            fqdn: options.get(options::FQDN).and_then(read_fqdn),
            error_text: text(options::ERROR_TEXT),
            prefix_len,
            routers: addresses(options::ROUTERS),
            classless_routes: options.get(options::CLASSLESS_ROUTES).and_then(classless_route::read),
            mtu: short(options::MTU),
            dns: addresses(options::DNS),
            domain: name(options::DOMAIN),
            search: options.get(options::SEARCH).and_then(domain_name::read_list).unwrap_or_default(),
            ntp: addresses(options::NTP),
            ..Self::new(kind, head.xid, head.chaddr)
        })
    }

    /// The message as bytes, padded to what every relay takes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind.op()];
        bytes.extend(ETHERNET);
        // `hops`
        bytes.push(0);
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend([if self.broadcast { BROADCAST_FLAG } else { 0 }, 0]);
        bytes.extend([self.ciaddr.octets(), self.yiaddr.octets(), [0; 4], [0; 4]].concat());
        bytes.extend(self.chaddr.0);
        bytes.extend([0; 10]);
        bytes.extend([0; NAMES.0 + NAMES.1]);
        bytes.extend(COOKIE);
        self.encode_options(&mut bytes);
        bytes.push(options::END);
        bytes.resize(bytes.len().max(SHORTEST), options::PAD);
        bytes
    }

    fn encode_options(&self, bytes: &mut Vec<u8>) {
        let mut write = |code, value: Option<&[u8]>| {
            if let Some(value) = value {
                options::write(bytes, code, value);
            }
        };
        let octets = |address: Option<Ipv4Addr>| address.map(|address| address.octets());
        let seconds = |seconds: Option<u32>| seconds.map(u32::to_be_bytes);
        let list = |addresses: &[Ipv4Addr]| addresses.iter().flat_map(Ipv4Addr::octets).collect::<Vec<_>>();
        let text = |text: &Option<String>| text.clone().map(String::into_bytes);
        let name = |name: &Option<DomainName>| name.as_ref().map(|name| name.as_str().as_bytes().to_vec());
        let is_some = |bytes: &Vec<u8>| !bytes.is_empty();

        // The type first: some servers look for it there.
        write(options::MESSAGE_TYPE, Some(&[self.kind as u8]));
        write(options::CLIENT_ID, self.client_id.as_ref().map(ClientId::bytes));
        for (code, value) in [
            (options::SERVER_ID, octets(self.server)),
            (options::REQUESTED_ADDRESS, octets(self.requested)),
            (options::LEASE_TIME, seconds(self.lease_time)),
            (options::RENEWAL_TIME, seconds(self.t1)),
            (options::REBINDING_TIME, seconds(self.t2)),
            (options::SUBNET_MASK, self.prefix_len.map(|length| mask_of(length).octets())),
        ] {
            write(code, value.as_ref().map(<[u8; 4]>::as_slice));
        }
        write(options::RAPID_COMMIT, self.rapid_commit.then_some(&[]));
        for (code, value) in [
            (options::PARAMETERS, Some(self.parameters.clone()).filter(is_some)),
            (options::MAX_SIZE, self.max_size.map(|size| size.to_be_bytes().to_vec())),
            (options::VENDOR_CLASS, text(&self.vendor_class)),
            (options::HOST_NAME, name(&self.host_name)),
            (options::FQDN, self.fqdn.as_ref().map(write_fqdn)),
            (options::ERROR_TEXT, text(&self.error_text)),
            (options::CLASSLESS_ROUTES, self.classless_routes.as_deref().map(classless_route::write)),
            (options::ROUTERS, Some(list(&self.routers)).filter(is_some)),
            (options::MTU, self.mtu.map(|mtu| mtu.to_be_bytes().to_vec())),
            (options::DNS, Some(list(&self.dns)).filter(is_some)),
            (options::DOMAIN, name(&self.domain)),
            (
                options::SEARCH,
                Some(self.search.iter().flat_map(DomainName::to_wire).collect()).filter(is_some),
            ),
            (options::NTP, Some(list(&self.ntp)).filter(is_some)),
        ] {
            write(code, value.as_deref());
        }
    }
}

/// What lies before the options.
struct Head<'a> {
    op: u8,
    xid: u32,
    secs: u16,
    broadcast: bool,
    ciaddr: Ipv4Addr,
    yiaddr: Ipv4Addr,
    chaddr: MacAddr,
    sname: &'a [u8],
    file: &'a [u8],
}

impl<'a> Head<'a> {
    /// Splits a message into its head and its options.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[op, htype, hlen, _hops], rest) = bytes.split_first_chunk()?;
        let (&xid, rest) = rest.split_first_chunk()?;
        let (&secs, rest) = rest.split_first_chunk()?;
        let (&[flags, _], rest) = rest.split_first_chunk()?;
        let (&ciaddr, rest) = rest.split_first_chunk::<4>()?;
        let (&yiaddr, rest) = rest.split_first_chunk::<4>()?;
        // `siaddr` and `giaddr`, and what `chaddr` has for longer addresses.
        let (_, rest) = rest.split_at_checked(8)?;
        let (&chaddr, rest) = rest.split_first_chunk()?;
        let (_, rest) = rest.split_at_checked(10)?;
        let (sname, rest) = rest.split_at_checked(NAMES.0)?;
        let (file, rest) = rest.split_at_checked(NAMES.1)?;
        let options = rest.strip_prefix(&COOKIE)?;
        let head = Self {
            op,
            xid: u32::from_be_bytes(xid),
            secs: u16::from_be_bytes(secs),
            broadcast: flags & BROADCAST_FLAG != 0,
            ciaddr: ciaddr.into(),
            yiaddr: yiaddr.into(),
            chaddr: MacAddr(chaddr),
            sname,
            file,
        };
        ([htype, hlen] == ETHERNET).then_some((head, options))
    }
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Discover,
        Self::Offer,
        Self::Request,
        Self::Decline,
        Self::Ack,
        Self::Nak,
        Self::Release,
        Self::Inform,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == number)
    }

    /// `op` of a message: 2 of those that servers send.
    fn op(self) -> u8 {
        if matches!(self, Self::Offer | Self::Ack | Self::Nak) { 2 } else { 1 }
    }
}

/// The client's full name in wire form (the flag E), or in the form before (RFC 4702, 2.1).
fn read_fqdn(bytes: &[u8]) -> Option<Fqdn> {
    // Two that once were results of the DNS.
    let ([flags, _, _], name) = bytes.split_first_chunk()?;
    let name = if flags & WIRE_FORM == 0 {
        DomainName::of_text(name)?
    } else {
        domain_name::read_list(name)?.into_iter().next()?
    };
    Some(Fqdn { name, server_updates: flags & Fqdn::SERVER_UPDATES != 0 })
}

fn write_fqdn(fqdn: &Fqdn) -> Vec<u8> {
    [&[fqdn.flags() | WIRE_FORM, 0, 0][..], &fqdn.name.to_wire()].concat()
}

/// The addresses of hosts in a list; none if its length is wrong.
fn addresses(bytes: &[u8]) -> Vec<Ipv4Addr> {
    let address = |octets: &[u8]| <[u8; 4]>::try_from(octets).map(Ipv4Addr::from).ok();
    let addresses: Option<Vec<_>> = bytes.chunks(4).map(address).collect();
    addresses.unwrap_or_default()
}

fn mask_of(prefix_len: u8) -> Ipv4Addr {
    u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or_default().into()
}

/// The length of the prefix that `mask` has, if it is one.
fn prefix_len(mask: Ipv4Addr) -> Option<u8> {
    let length = mask.to_bits().leading_ones() as u8;
    (mask_of(length) == mask).then_some(length)
}
