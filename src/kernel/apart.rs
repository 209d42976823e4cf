//! Packet sockets on a link of their own, in a namespace of their own: what a new container would hear.

use std::net::IpAddr;

use super::apply;
use super::netns::NetnsFile;
use super::packet_socket::PacketSocket;
use crate::error::{Error, Result};
use crate::netlink::Socket;
use crate::plan::LinkPlan;

/// Makes the link of `plan` in a new namespace, and opens packet sockets on it for `addresses`. The kernel deletes link and
/// namespace when the sockets are closed, also by a kill. `host` is a socket of the host's namespace.
pub(crate) fn open_apart(plan: &LinkPlan, addresses: &[IpAddr], host: &mut Socket) -> Result<PacketSocket> {
    // If it were opened later, it would be one of the new namespace.
    host.connect()?;
    NetnsFile::thrown_away(|| {
        let mut inside = Socket::open()?;
        let (made, _) =
            apply::attach(std::slice::from_ref(plan), None, host, &mut inside, &NetnsFile::own()?)?;
        match made.first().and_then(|made| Some((made.ifindex, made.mac?))) {
            Some((ifindex, mac)) => PacketSocket::open(ifindex, mac, addresses),
            None => Err(Error::input(format!("link {} was made and has no MAC address", plan.create.name))),
        }
    })
}
