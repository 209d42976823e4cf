//! DHCPv6 messages that are heard on a LAN.

use std::net::Ipv6Addr;

use dhcproto::v6::{DhcpOption, Message, OptionCode};
use dhcproto::{Decodable as _, Decoder};

pub use dhcproto::v6::{MessageType, Status};

/// A message, and how it was sent.
#[derive(Clone, Debug)]
pub struct Dhcp6 {
    pub kind: MessageType,
    /// The MAC address it comes from.
    pub mac: String,
    /// The addresses of the packet.
    pub from: Ipv6Addr,
    pub to: Ipv6Addr,
    pub xid: [u8; 3],
    message: Message,
}

impl Dhcp6 {
    /// Whether a client has sent it.
    pub fn is_of_client(&self) -> bool {
        !matches!(self.kind, MessageType::Advertise | MessageType::Reply)
    }

    /// The DUID of the client.
    pub fn client(&self) -> Vec<u8> {
        match self.option(OptionCode::ClientId) {
            Some(DhcpOption::ClientId(id)) => id.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The DUID of the server that it is for, or from.
    pub fn server(&self) -> Option<Vec<u8>> {
        match self.option(OptionCode::ServerId)? {
            DhcpOption::ServerId(id) => Some(id.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// The link of the client, and the addresses that it is about.
    pub fn link(&self) -> (u32, Vec<Ipv6Addr>) {
        let Some(DhcpOption::IANA(ia)) = self.option(OptionCode::IANA) else { panic!("{self:?}") };
        let address = |option: &DhcpOption| match option {
            DhcpOption::IAAddr(address) => Some(address.addr),
            _ => None,
        };
        (ia.id, ia.opts.iter().filter_map(address).collect())
    }

    /// The first label of the name that the client tells (RFC 4704), behind the flags.
    pub fn name(&self) -> Option<String> {
        match self.option(OptionCode::ClientFqdn)? {
            DhcpOption::Unknown(option) => {
                let [_flags, length, name @ ..] = option.data() else { panic!("{option:?}") };
                Some(String::from_utf8_lossy(&name[..usize::from(*length)]).into_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn has_rapid_commit(&self) -> bool {
        self.option(OptionCode::RapidCommit).is_some()
    }

    /// What a server says has become of the request, or of the link's part in it (RFC 8415, 21.13).
    pub fn status(&self) -> Option<Status> {
        let of = |option: Option<&DhcpOption>| match option? {
            DhcpOption::StatusCode(code) => Some(code.status),
            other => panic!("{other:?}"),
        };
        let ia = match self.option(OptionCode::IANA) {
            Some(DhcpOption::IANA(ia)) => of(ia.opts.get(OptionCode::StatusCode)),
            _ => None,
        };
        ia.or_else(|| of(self.option(OptionCode::StatusCode)))
    }

    fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }
}

/// Reads the message of a frame that has one.
pub(super) fn read(frame: &[u8]) -> Option<Dhcp6> {
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    let is_udp = frame.get(12..14)? == [0x86, 0xdd] && *frame.get(20)? == 17;
    let (from, to) = (address(22)?, address(38)?);
    if !is_udp || !matches!(frame.get(54..58)?, [2, 0x22 | 0x23, 2, 0x22 | 0x23]) {
        return None;
    }
    let message = Message::decode(&mut Decoder::new(frame.get(62..)?)).ok()?;
    Some(Dhcp6 {
        kind: message.msg_type(),
        mac: frame[6..12].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
        from,
        to,
        xid: message.xid(),
        message,
    })
}
