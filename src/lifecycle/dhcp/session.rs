//! One client with the sockets of its link.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::config::conflict_detection::Detection;
use crate::dhcp::client::{Client, Effect, Event};
use crate::dhcp::message::Outgoing;
use crate::error::Result;
use crate::kernel::{self, Answer, DhcpSockets, PacketSocket, Probes};
use crate::ledger::segment_hints::since_boot;
use crate::random::random;

/// The pause between two tries to open sockets.
const PAUSE: Duration = Duration::from_millis(5);

/// A client, and the sockets by which it talks, if it has any now.
pub(super) struct Session {
    client: Client,
    pub(super) sockets: Option<DhcpSockets>,
    question: Option<Question>,
}

/// A question to the LAN: does a host have this address?
struct Question {
    address: IpAddr,
    probes: Probes,
    /// When there is something to do.
    next: Duration,
}

impl Session {
    pub(super) fn new(client: Client) -> Self {
        Self { client, sockets: None, question: None }
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let question = self.question.as_ref().map(|question| question.next);
        [self.client.deadline(), question].into_iter().flatten().min()
    }

    /// Whether the LAN is being asked for an address.
    pub(super) fn is_asking(&self) -> bool {
        self.question.is_some()
    }

    /// What is open, to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let probes = self.question.iter().flat_map(|question| question.probes.fds());
        self.sockets.iter().flat_map(DhcpSockets::fds).chain(probes)
    }

    /// What is to be done now: messages that have come are read, and timers looked at.
    pub(super) fn step(&mut self) -> Result<VecDeque<Effect>> {
        let mut effects = VecDeque::new();
        for message in self.sockets.as_mut().map(DhcpSockets::receive).unwrap_or_default() {
            effects.extend(self.tell(Event::Received(message))?);
        }
        if self.client.deadline().is_some_and(|deadline| deadline <= since_boot()) {
            effects.extend(self.tell(Event::Timer)?);
        }
        Ok(effects)
    }

    /// Tells the client what has happened. Returns what is to be done.
    pub(super) fn tell(&mut self, event: Event) -> Result<Vec<Effect>> {
        Ok(self.client.step(event, since_boot(), number()?))
    }

    /// Begins to ask the LAN for `address` by a packet socket that is opened; without `how`, it is taken to be free.
    pub(super) fn ask(
        &mut self,
        address: IpAddr,
        how: Option<(Detection, impl FnOnce(&[IpAddr]) -> Result<PacketSocket>)>,
    ) -> Result<()> {
        let mut probes = Probes::default();
        if let Some((detection, open)) = how {
            probes.begin(0, open(&[address])?, &[address], detection)?;
        }
        self.question = Some(Question { address, probes, next: since_boot() });
        Ok(())
    }

    /// What has come of the question for an address, if that is known now.
    pub(super) fn answer(&mut self) -> Result<Option<Event>> {
        let Some(Question { address, probes, next }) = &mut self.question else { return Ok(None) };
        let address = *address;
        let event = match probes.proceed()? {
            Answer::Pending(at) => {
                *next = since_boot() + at.saturating_duration_since(Instant::now());
                return Ok(None);
            }
            Answer::Free => Event::Free(address),
            Answer::Conflict(conflict) => Event::Conflict { address, mac: conflict.mac },
        };
        self.question = None;
        Ok(Some(event))
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
        Some(_) => session.deadline(),
        None => Some(now + PAUSE),
    };
    let deadline = sessions.clone().filter_map(next).min();
    let time = deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_sub(now));
    // After an error the sockets are read, and the time is looked at.
    let _ = kernel::wait(sessions.flat_map(Session::fds), Some(time));
}

/// Those of `addresses` that are of IPv4.
pub(super) fn v4<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> Vec<Ipv4Addr> {
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    };
    addresses.into_iter().filter_map(v4).collect()
}
