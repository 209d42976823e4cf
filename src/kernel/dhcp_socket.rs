//! The sockets of a DHCPv4 client: a packet socket (packet(7)), because a client without an address has no other, and a UDP
//! socket once it has one.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc::{self, c_int};
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, RecvMsg, recvmsg, sendto, setsockopt};
use nix::{cmsg_space, setsockopt_impl, sockopt_impl};
use rustix::net::eth;

use super::{filter, packet_socket};
use crate::dhcp::v4::message::Message;
use crate::dhcp::v4::outcome::Outgoing;
use crate::dhcp::v4::udp::{self, CLIENT_PORT, Checksum, SERVER_PORT};
use crate::error::{Error, Result};
use crate::net::mac::MacAddr;

const BROADCAST: MacAddr = MacAddr([0xff; 6]);
/// `ETH_P_IP`
const IPV4: [u8; 2] = [0x08, 0x00];
/// Of asm-generic/socket.h, which libc lacks.
const SO_BINDTOIFINDEX: c_int = 62;

sockopt_impl!(
    /// Each frame comes with what the kernel knows of it (`PACKET_AUXDATA`, which neither nix nor rustix has).
    AuxData,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_AUXDATA,
    bool
);

sockopt_impl!(
    /// A socket sends and receives by one link (`SO_BINDTOIFINDEX`, which neither nix nor rustix has).
    BindToIfindex,
    SetOnly,
    libc::SOL_SOCKET,
    SO_BINDTOIFINDEX,
    c_int
);

/// The sockets of a DHCPv4 client on one link, in the network namespace of the thread that opened them.
///
/// The packet socket is not bound, for the reason that [`PacketSocket`](packet_socket::PacketSocket) has.
#[derive(Debug)]
pub(crate) struct Dhcp4Socket {
    ifindex: u32,
    mac: MacAddr,
    packets: OwnedFd,
    /// On the link below it, of that number.
    below: Option<(u32, OwnedFd)>,
    /// Bound to the address of the lease.
    udp: Option<(Ipv4Addr, UdpSocket)>,
    /// The server that has sent the last message, and the MAC address from which it came: that of a router, if it is elsewhere.
    server: Option<(Ipv4Addr, MacAddr)>,
}

impl Dhcp4Socket {
    /// Opens the packet socket on the link `ifindex` with the MAC address `mac`.
    pub(crate) fn open(ifindex: u32, mac: MacAddr) -> Result<Self> {
        Ok(Self { ifindex, mac, packets: packets(ifindex)?, below: None, udp: None, server: None })
    }

    /// Hears by the link `below`, too: the thread must be in the namespace of that. What a server sends to the MAC address of an
    /// ipvlan link arrives there as long as the link has no address. Servers should broadcast then, and some do not (Kea 2.2).
    pub(crate) fn hear_below(&mut self, below: u32) -> Result<()> {
        self.below = Some((below, packets(below)?));
        Ok(())
    }

    /// Renews the lease of `address`, which the link has, by a UDP socket from now on, if that is possible: the kernel then
    /// tells no server that the port is closed, and the container's firewall sees the messages. The thread must be in the
    /// namespace of the link.
    pub(crate) fn bind(&mut self, address: Ipv4Addr) {
        let bind = || -> io::Result<UdpSocket> {
            let udp = UdpSocket::bind((address, CLIENT_PORT))?;
            udp.set_nonblocking(true)?;
            setsockopt(&udp, BindToIfindex, &(self.ifindex as c_int))?;
            Ok(udp)
        };
        // Another socket with the same port would be refused.
        self.udp = None;
        match bind() {
            Ok(udp) => self.udp = Some((address, udp)),
            // A DHCP client of the container has the port, or the address is gone. The packet socket sends too.
            Err(error) => log::debug!("cannot use port {CLIENT_PORT} of {address}: {error}"),
        }
    }

    /// Sends `outgoing`, as far as that is possible: the client sends it again.
    pub(crate) fn send(&self, outgoing: &Outgoing) {
        let Outgoing { message, from, to } = outgoing;
        let payload = message.encode();
        let sent = match &self.udp {
            Some((address, udp)) if address == from && !to.is_broadcast() => {
                udp.send_to(&payload, (*to, SERVER_PORT)).map(drop)
            }
            _ => self.send_frame(*from, *to, &payload),
        };
        match sent {
            Ok(()) => log::debug!("DHCP {:?} from {} to {to}", message.kind, self.mac),
            Err(error) => log::debug!("cannot send a DHCP {:?} to {to}: {error}", message.kind),
        }
    }

    fn send_frame(&self, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
        // The MAC address of a server that is not known is not asked for: it takes broadcasts too.
        let known = self.server.filter(|(server, _)| *server == to);
        let mac = known.map_or(BROADCAST, |(_, mac)| mac);
        let frame = [&mac.0[..], &self.mac.0, &IPV4, &udp::packet(from, to, payload)].concat();
        let link = packet_socket::to(self.ifindex, eth::IP);
        sendto(self.packets.as_raw_fd(), &frame, &link, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// The sockets, to wait for.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let below = self.below.iter().map(|(_, packets)| packets.as_fd());
        let udp = self.udp.iter().map(|(_, udp)| udp.as_fd());
        std::iter::once(self.packets.as_fd()).chain(below).chain(udp)
    }

    /// Reads one datagram from each socket that has one. Returns the messages of servers among them. One may come by two sockets:
    /// to the address of the lease, or to all, if the link below is heard.
    pub(crate) fn receive(&mut self) -> Vec<Message> {
        let below = self.below.iter().map(|(below, packets)| (*below, packets));
        let by_frame: Vec<_> =
            std::iter::once((self.ifindex, &self.packets)).chain(below).filter_map(receive_frame).collect();
        for (message, mac) in &by_frame {
            self.server = message.server.map(|server| (server, *mac)).or(self.server);
        }
        by_frame.into_iter().map(|(message, _)| message).chain(self.receive_datagram()).collect()
    }
    /// Returns the message in the next datagram of the UDP socket.
    fn receive_datagram(&self) -> Option<Message> {
        let (_, udp) = self.udp.as_ref()?;
        let mut buffer = [0; filter::DHCP_LENGTH];
        let (length, from) = udp.recv_from(&mut buffer).ok()?;
        parse(buffer.get(..length).filter(|_| from.port() == SERVER_PORT)?)
    }
}

/// Opens a packet socket for the link `ifindex`.
fn packets(ifindex: u32) -> Result<OwnedFd> {
    let open = || -> io::Result<OwnedFd> {
        let packets = packet_socket::open(eth::IP, filter::dhcp(ifindex))?;
        setsockopt(&packets, AuxData, &true)?;
        Ok(packets)
    };
    open().map_err(|error| {
        Error::kernel(&format!("open a packet socket on link number {ifindex}"), &error)
            .hint("give the hook CAP_NET_RAW")
    })
}

/// Returns the message in the next frame of `packets`, which is for the link `ifindex`, and the MAC address from which it came.
fn receive_frame((ifindex, packets): (u32, &OwnedFd)) -> Option<(Message, MacAddr)> {
    let mut buffer = [0; filter::DHCP_LENGTH];
    let mut control = cmsg_space!(libc::tpacket_auxdata);
    let (length, checksum) = {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        // After any error, there is nothing to read now.
        let received =
            recvmsg::<LinkAddr>(packets.as_raw_fd(), &mut parts, Some(&mut control), flags).ok()?;
        // Before the filter was attached, frames of other links came in too.
        let is_here = received.address.is_some_and(|from| from.ifindex() == ifindex as usize);
        (Some(received.bytes).filter(|_| is_here)?, checksum(&received))
    };
    let (ethernet, packet) = buffer.get(..length)?.split_first_chunk::<14>()?;
    let &[_, _, _, _, _, _, a, b, c, d, e, f, _, _] = ethernet;
    let (_, payload) = udp::read(packet, checksum)?;
    Some((parse(payload)?, MacAddr([a, b, c, d, e, f])))
}

/// Whether the checksum of a frame is complete, as far as the kernel tells.
fn checksum(received: &RecvMsg<'_, '_, LinkAddr>) -> Checksum {
    let status = received.cmsgs().into_iter().flatten().find_map(|control| match control {
        ControlMessageOwned::Unknown(control)
            if (control.cmsg_header.cmsg_level, control.cmsg_header.cmsg_type)
                == (libc::SOL_PACKET, libc::PACKET_AUXDATA) =>
        {
            // `tp_status` is the first field of `struct tpacket_auxdata`.
            control.data_bytes.first_chunk().map(|status| u32::from_ne_bytes(*status))
        }
        _ => None,
    });
    match status {
        Some(status) if status & libc::TP_STATUS_CSUMNOTREADY != 0 => Checksum::NotReady,
        _ => Checksum::Ready,
    }
}

fn parse(payload: &[u8]) -> Option<Message> {
    let message = Message::parse(payload);
    message.inspect_err(|error| log::debug!("a DHCP message is passed over: {error}")).ok()
}
