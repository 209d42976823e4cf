//! One client with the sockets of its link.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::config::conflict_detection::Detection;
use crate::dhcp::client::{Client, Effect, Event, Outgoing};
use crate::error::Result;
use crate::kernel::{self, DhcpSockets, PacketSocket, Probes};
use crate::ledger::segment_hints::since_boot;
use crate::net::mac::MacAddr;
use crate::random::random;

/// The pause between two tries to open sockets.
const PAUSE: Duration = Duration::from_millis(5);

/// A client, and the sockets by which it talks, if it has any now.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) sockets: Option<DhcpSockets>,
}

impl Session {
    /// What is to be done now: messages that have come are read, and timers looked at.
    pub(super) fn step(&mut self) -> Result<Vec<Effect>> {
        let mut effects = Vec::new();
        for message in self.sockets.as_mut().map(DhcpSockets::receive).unwrap_or_default() {
            effects.extend(self.client.step(Event::Received(message), since_boot(), number()?));
        }
        if self.client.deadline().is_some_and(|deadline| deadline <= since_boot()) {
            effects.extend(self.client.step(Event::Timer, since_boot(), number()?));
        }
        Ok(effects)
    }

    /// Tells the client what has come of a probe for `address`.
    pub(super) fn probed(&mut self, address: IpAddr, other: Option<MacAddr>) -> Result<Vec<Effect>> {
        let event = match other {
            Some(mac) => Event::Conflict { address, mac },
            None => Event::Free(address),
        };
        Ok(self.client.step(event, since_boot(), number()?))
    }

    pub(super) fn send(&self, outgoing: &Outgoing) {
        self.sockets.iter().for_each(|sockets| sockets.send(outgoing));
    }
}

/// A random number that no server can guess.
pub(super) fn number() -> Result<u64> {
    random().map(u64::from_ne_bytes)
}

/// Waits until one of `sessions` has something to do, of which opening its sockets is a part.
pub(super) fn wait<'a>(sessions: impl Iterator<Item = &'a Session> + Clone) {
    let now = since_boot();
    let next = |session: &Session| match &session.sockets {
        Some(_) => session.client.deadline(),
        None => Some(now + PAUSE),
    };
    let deadline = sessions.clone().filter_map(next).min();
    let time = deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_sub(now));
    let sockets = sessions.filter_map(|session| session.sockets.as_ref()).flat_map(DhcpSockets::fds);
    // After an error the sockets are read, and the time is looked at.
    let _ = kernel::wait(sockets, Some(time));
}

/// Asks the LAN by the link `ifindex`, with the MAC address `mac`, whether another host has `address`; returns that host's MAC
/// address. The thread is in the namespace of the link.
pub(super) fn probe(
    ifindex: u32,
    mac: MacAddr,
    address: IpAddr,
    detection: Detection,
) -> Result<Option<MacAddr>> {
    let addresses = [address];
    let mut probes = Probes::default();
    probes.begin(0, PacketSocket::open(ifindex, mac, &addresses)?, &addresses, detection)?;
    Ok(probes.next_conflict()?.map(|conflict| conflict.mac))
}

/// Those of `addresses` that are of IPv4.
pub(super) fn v4<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> Vec<Ipv4Addr> {
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    };
    addresses.into_iter().filter_map(v4).collect()
}
