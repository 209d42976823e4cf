//! One client with the sockets of its link.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::config::conflict_detection::Detection;
use crate::dhcp::v4::client::{Client, Event};
use crate::dhcp::v4::outcome::{Effect, Outgoing};
use crate::error::Result;
use crate::kernel::{self, DhcpSocket, PacketSocket, Probes};
use crate::ledger::attached::Attached;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::shared_mac;
use crate::net::mac::MacAddr;
use crate::net::name::ContainerId;
use crate::random::random;

/// A client, and the sockets by which it talks, if it has any now.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) socket: Option<DhcpSocket>,
    /// The segment of a link that has its parent's MAC address.
    pub(super) shared: Option<u32>,
}

impl Session {
    /// What is to be done now: messages that have come are read, and timers looked at.
    pub(super) fn step(&mut self, context: &mut Context<'_>, container: &ContainerId) -> Result<Vec<Effect>> {
        let mut effects = Vec::new();
        let received = self.socket.as_mut().map(DhcpSocket::receive).unwrap_or_default();
        self.avoid(context, container, received.iter().map(|message| message.yiaddr))?;
        for message in received {
            effects.extend(self.client.step(Event::Received(message), since_boot(), number()?));
        }
        if self.client.deadline().is_some_and(|deadline| deadline <= since_boot()) {
            effects.extend(self.client.step(Event::Timer, since_boot(), number()?));
        }
        Ok(effects)
    }

    /// Tells the client what has come of a probe for `address`: the MAC address of an `other` host or container that has it.
    pub(super) fn probed(
        &mut self,
        context: &mut Context<'_>,
        container: &ContainerId,
        (address, other): (Ipv4Addr, Option<MacAddr>),
    ) -> Result<Vec<Effect>> {
        self.avoid(context, container, std::iter::empty())?;
        let event = match other {
            Some(mac) => Event::Conflict { address, mac },
            None => Event::Free(address),
        };
        Ok(self.client.step(event, since_boot(), number()?))
    }

    /// Tells the client which of `offered`, and of its own addresses, it must not take at this moment.
    fn avoid(
        &mut self,
        context: &mut Context<'_>,
        container: &ContainerId,
        offered: impl Iterator<Item = Ipv4Addr>,
    ) -> Result<()> {
        let Some(segment) = self.shared else { return Ok(()) };
        let offered = offered.filter(|address| !address.is_unspecified());
        let addresses: Vec<_> = offered.chain(self.client.addresses()).collect();
        self.client.avoid(shared_mac::taken(context, container, segment, &addresses)?);
        Ok(())
    }

    pub(super) fn send(&self, outgoing: &Outgoing) {
        self.socket.iter().for_each(|socket| socket.send(outgoing));
    }
}

/// A random number that no server can guess.
pub(super) fn number() -> Result<u64> {
    random().map(u64::from_ne_bytes)
}

/// Waits until one of `sessions` has something to do.
pub(super) fn wait<'a>(sessions: impl Iterator<Item = &'a Session> + Clone) {
    let deadline = sessions.clone().filter_map(|session| session.client.deadline()).min();
    let time = deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_sub(since_boot()));
    let sockets = sessions.filter_map(|session| session.socket.as_ref()).flat_map(DhcpSocket::sockets);
    // After an error the sockets are read, and the time is looked at.
    let _ = kernel::wait(sockets, Some(time));
}

/// Asks the LAN whether another host has `address`, which `attached` is about to get; returns that host's MAC address. The
/// question leaves by the parent, if only that hears answers, or else by a socket that is opened `inside` the namespace of the link.
pub(super) fn probe(
    context: &mut Context<'_>,
    attached: &Attached,
    (address, detection): (Ipv4Addr, Detection),
    inside: impl FnOnce(&[IpAddr]) -> Result<PacketSocket>,
) -> Result<Option<MacAddr>> {
    let addresses = [IpAddr::V4(address)];
    let socket = if attached.driver.is_heard_on_parent() {
        let parent = context.host_netlink.link_by_index(attached.parent_index)?;
        let Some(mac) = parent.and_then(|parent| parent.mac) else { return Ok(None) };
        let link = attached.driver.link_below(attached.parent_index, attached.segment);
        context.host_netns.get()?.inside(|| PacketSocket::open(link, mac, &addresses))?
    } else {
        inside(&addresses)?
    };
    let mut probes = Probes::default();
    probes.begin(0, socket, &addresses, detection)?;
    Ok(probes.next_conflict()?.map(|conflict| conflict.mac))
}
