//! DHCPv4 messages that are heard on a LAN.

use std::net::Ipv4Addr;
use std::time::Instant;

use dhcproto::v4::{DhcpOption, Message, OptionCode};
use dhcproto::{Decodable as _, Decoder};

pub use dhcproto::v4::MessageType;

/// A message, and how it was sent.
#[derive(Clone, Debug)]
pub struct Dhcp {
    pub at: Instant,
    pub kind: MessageType,
    /// Whether the frame went to all hosts.
    pub broadcast: bool,
    /// The addresses of the packet.
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    /// The MAC address of the client.
    pub chaddr: String,
    pub xid: u32,
    pub secs: u16,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    /// Whether the client wants broadcasts.
    pub flag: bool,
    message: Message,
}

impl Dhcp {
    /// Option 12.
    pub fn host_name(&self) -> Option<String> {
        match self.option(OptionCode::Hostname)? {
            DhcpOption::Hostname(name) => Some(name.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Option 50.
    pub fn requested(&self) -> Option<Ipv4Addr> {
        match self.option(OptionCode::RequestedIpAddress)? {
            DhcpOption::RequestedIpAddress(address) => Some(*address),
            other => panic!("{other:?}"),
        }
    }

    /// Option 54.
    pub fn server(&self) -> Option<Ipv4Addr> {
        match self.option(OptionCode::ServerIdentifier)? {
            DhcpOption::ServerIdentifier(address) => Some(*address),
            other => panic!("{other:?}"),
        }
    }

    /// Option 61.
    pub fn client_id(&self) -> Option<Vec<u8>> {
        match self.option(OptionCode::ClientIdentifier)? {
            DhcpOption::ClientIdentifier(id) => Some(id.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Options 58 and 59.
    pub fn t1_t2(&self) -> Option<(u32, u32)> {
        let renewal = self.option(OptionCode::Renewal)?;
        match (renewal, self.option(OptionCode::Rebinding)?) {
            (DhcpOption::Renewal(t1), DhcpOption::Rebinding(t2)) => Some((*t1, *t2)),
            other => panic!("{other:?}"),
        }
    }

    /// Whether it has an option.
    pub fn has(&self, code: u8) -> bool {
        self.option(OptionCode::from(code)).is_some()
    }

    fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }
}

/// The IPv4 packet of a frame: its header, and what follows it.
fn packet(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    match frame.get(12..14)? {
        [8, 0] => {
            let length = usize::from(frame.get(14)? & 15) * 4;
            frame.get(14..)?.split_at_checked(length)
        }
        _ => None,
    }
}

fn address(at: &[u8]) -> Option<Ipv4Addr> {
    Some(<[u8; 4]>::try_from(at).ok()?.into())
}

/// Reads the message of a frame that has one.
pub fn read(frame: &[u8]) -> Option<Dhcp> {
    let (header, datagram) = packet(frame)?;
    let is_dhcp = *header.get(9)? == 17 && matches!(datagram.get(..4)?, [0, 67 | 68, 0, 67 | 68]);
    let message = Message::decode(&mut Decoder::new(datagram.get(8..)?)).ok().filter(|_| is_dhcp)?;
    Some(Dhcp {
        at: Instant::now(),
        kind: message.opts().msg_type()?,
        broadcast: frame[..6] == [0xff; 6],
        from: address(&header[12..16])?,
        to: address(&header[16..20])?,
        chaddr: message.chaddr().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
        xid: message.xid(),
        secs: message.secs(),
        ciaddr: message.ciaddr(),
        yiaddr: message.yiaddr(),
        flag: message.flags().broadcast(),
        message,
    })
}

/// Who says by ICMP that it has no socket of port 68 (RFC 792: type 3, code 3, and the packet that it is about).
pub(super) fn unreachable(frame: &[u8]) -> Option<Ipv4Addr> {
    let (header, message) = packet(frame)?;
    if *header.get(9)? != 1 || message.get(..2)? != [3, 3] {
        return None;
    }
    let about = message.get(8..)?;
    let length = usize::from(about.first()? & 15) * 4;
    (about.get(length + 2..length + 4)? == [0, 68]).then(|| address(&header[12..16]))?
}
