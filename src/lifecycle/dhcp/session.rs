//! One client with the sockets of its link.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::config::conflict_detection::Detection;
use crate::dhcp::client::{Client, Effect, Event, Outgoing};
use crate::error::Result;
use crate::kernel::{self, Answer, DhcpSockets, PacketSocket, Probes};
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::change;
use crate::net::name::ContainerId;
use crate::random::random;

/// The pause between two tries to open sockets.
const PAUSE: Duration = Duration::from_millis(5);

/// A client, and the sockets by which it talks, if it has any now.
pub(super) struct Session {
    client: Client,
    pub(super) sockets: Option<DhcpSockets>,
    claim: Option<Claim>,
}

/// An address that is leased in the ledger for a container, and is none of its record yet.
struct Claim {
    segment: u32,
    address: IpAddr,
    /// The question to the LAN whether a host has it, as long as that is not known.
    question: Option<(Probes, Duration)>,
}

impl Session {
    pub(super) fn new(client: Client) -> Self {
        Self { client, sockets: None, claim: None }
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let answer = self.question().map(|(_, next)| *next);
        [self.client.deadline(), answer].into_iter().flatten().min()
    }

    /// Whether the LAN is being asked for an address.
    pub(super) fn is_asking(&self) -> bool {
        self.question().is_some()
    }

    fn question(&self) -> Option<&(Probes, Duration)> {
        self.claim.as_ref().and_then(|claim| claim.question.as_ref())
    }

    /// What is open, to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> + Clone {
        let sockets = self.sockets.iter().flat_map(DhcpSockets::fds);
        let fds: Vec<_> =
            sockets.chain(self.question().into_iter().flat_map(|(probes, _)| probes.fds())).collect();
        fds.into_iter()
    }

    /// What is to be done now: messages that have come are read, and timers looked at.
    pub(super) fn step(&mut self, context: &Context<'_>) -> Result<Vec<Effect>> {
        let mut effects = Vec::new();
        for message in self.sockets.as_mut().map(DhcpSockets::receive).unwrap_or_default() {
            effects.extend(self.tell(Event::Received(message))?);
        }
        effects.extend(self.answer(context)?);
        if self.client.deadline().is_some_and(|deadline| deadline <= since_boot()) {
            effects.extend(self.tell(Event::Timer)?);
        }
        Ok(effects)
    }

    /// Tells the client what has happened.
    pub(super) fn tell(&mut self, event: Event) -> Result<Vec<Effect>> {
        Ok(self.client.step(event, since_boot(), number()?))
    }

    /// Leases `address` on `segment` in the ledger for `container`. If there is a `question`, the LAN is asked for it, by a packet
    /// socket that is opened.
    pub(super) fn claim(
        &mut self,
        context: &Context<'_>,
        container: &ContainerId,
        (segment, address): (u32, IpAddr),
        question: Option<(Detection, impl FnOnce(&[IpAddr]) -> Result<PacketSocket>)>,
    ) -> Result<Vec<Effect>> {
        self.give_up(context)?;
        if let Some(mac) = change::claim(context, container, segment, address)? {
            return self.tell(Event::Conflict { address, mac });
        }
        let mut probes = Probes::default();
        let addresses = [address];
        // If that fails, the lease is given back.
        self.claim = Some(Claim { segment, address, question: None });
        if let Some((detection, open)) = question {
            probes.begin(0, open(&addresses)?, &addresses, detection)?;
        }
        self.claim = Some(Claim { segment, address, question: Some((probes, since_boot())) });
        self.answer(context)
    }

    /// Tells the client what has come of the question for an address.
    fn answer(&mut self, context: &Context<'_>) -> Result<Vec<Effect>> {
        let Some(claim) = &mut self.claim else { return Ok(Vec::new()) };
        let Some((probes, next)) = &mut claim.question else { return Ok(Vec::new()) };
        let address = claim.address;
        match probes.proceed()? {
            Answer::Pending(at) => {
                *next = since_boot() + at.saturating_duration_since(Instant::now());
                Ok(Vec::new())
            }
            Answer::Free => {
                claim.question = None;
                self.tell(Event::Free(address))
            }
            Answer::Conflict(conflict) => {
                self.give_up(context)?;
                self.tell(Event::Conflict { address, mac: conflict.mac })
            }
        }
    }

    /// The record has the address that was claimed.
    pub(super) fn settle(&mut self) {
        self.claim = None;
    }

    /// Gives back what was claimed, if the record has not got it.
    pub(super) fn give_up(&mut self, context: &Context<'_>) -> Result<()> {
        if let Some(Claim { segment, address, .. }) = self.claim.take() {
            context.lock()?.give_back(segment, address.into());
        }
        Ok(())
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
