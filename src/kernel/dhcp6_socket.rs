//! The socket of a DHCPv6 client: of UDP, by the address that its link has for itself.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use crate::dhcp::v6::message::Message;
use crate::error::{Error, Result};
use crate::netlink::Socket;

const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// All servers and relays of a link.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// The longest message that is read.
const LENGTH: usize = 2048;

/// The socket of a DHCPv6 client on one link, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Dhcp6Socket {
    ifindex: u32,
    pub(super) udp: UdpSocket,
}

impl Dhcp6Socket {
    /// Opens it on the link `ifindex`; `None` if the kernel does not let its link-local address be used yet.
    pub(crate) fn open(ifindex: u32) -> Result<Option<Self>> {
        let mut inside = Socket::open()?;
        let Some(address) = inside.link_local(ifindex)? else { return Ok(None) };
        // The kernel makes its route in a work queue, and drops answers until then.
        if !inside.is_local(address.into())? {
            return Ok(None);
        }
        let bind = || -> io::Result<UdpSocket> {
            let udp = UdpSocket::bind(SocketAddrV6::new(address, CLIENT_PORT, 0, ifindex))?;
            udp.set_nonblocking(true)?;
            Ok(udp)
        };
        match bind() {
            Ok(udp) => Ok(Some(Self { ifindex, udp })),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(None),
            Err(error) => Err(Error::kernel(&format!("use port {CLIENT_PORT} of {address}"), &error)
                .hint("a container with a DHCPv6 client of its own needs a network without dhcp6")),
        }
    }

    /// Sends `message`, as far as that is possible: the client sends it again.
    pub(crate) fn send(&self, message: &Message) {
        let to = SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.ifindex);
        match self.udp.send_to(&message.encode(), to) {
            Ok(_) => log::debug!("DHCPv6 {:?} by link number {}", message.kind, self.ifindex),
            Err(error) => log::debug!("cannot send a DHCPv6 {:?}: {error}", message.kind),
        }
    }

    /// Reads one datagram, if there is one. Returns the message of a server in it.
    pub(crate) fn receive(&self) -> Option<Message> {
        let mut buffer = [0; LENGTH];
        let (length, from) = self.udp.recv_from(&mut buffer).ok()?;
        let is_of_server = matches!(from, SocketAddr::V6(from) if from.port() == SERVER_PORT);
        let message = Message::parse(buffer.get(..length).filter(|_| is_of_server)?);
        message.inspect_err(|error| log::debug!("a DHCPv6 message is passed over: {error}")).ok()
    }
}
