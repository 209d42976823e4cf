//! One client with the sockets of its link.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::config::conflict_detection::Detection;
use crate::dhcp::client::{Client, Effect, Event, Message, Outgoing};
use crate::error::{Error, Result};
use crate::kernel::{self, Answer, DhcpSockets, PacketSocket, Probes};
use crate::ledger::attached::Attached;
use crate::ledger::event::Event as Told;
use crate::ledger::quarantine::Conflict;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::change;
use crate::lifecycle::dhcp::shared_mac::SharedMac;
use crate::lifecycle::report::report;
use crate::net::name::{ContainerId, NetworkName};
use crate::random::random;

/// The pause between two tries to open sockets.
const PAUSE: Duration = Duration::from_millis(5);

/// A client, and the sockets by which it talks, if it has any now.
pub(super) struct Session {
    client: Client,
    pub(super) sockets: Option<DhcpSockets>,
    claim: Option<Claim>,
    shared: Option<SharedMac>,
}

/// An address that is leased in the ledger for a container, and is none of its record yet.
struct Claim {
    segment: u32,
    address: IpAddr,
    container: ContainerId,
    network: NetworkName,
    /// The question to the LAN whether a host has it, as long as that is not known.
    question: Option<(Probes, Duration)>,
}

impl Session {
    /// That of the link `attached` of `container`.
    pub(super) fn new(client: Client, container: &ContainerId, attached: &Attached) -> Self {
        let shared = SharedMac { container: container.clone(), segment: attached.segment };
        Self { client, sockets: None, claim: None, shared: Some(shared).filter(|_| attached.shares_mac()) }
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
    pub(super) fn step(&mut self, context: &mut Context<'_>) -> Result<Vec<Effect>> {
        let mut effects = Vec::new();
        let received = self.sockets.as_mut().map(DhcpSockets::receive).unwrap_or_default();
        self.avoid(context, received.iter().filter_map(Message::offered))?;
        for message in received {
            effects.extend(self.tell(Event::Received(message))?);
        }
        effects.extend(self.answer(context)?);
        if self.client.deadline().is_some_and(|deadline| deadline <= since_boot()) {
            effects.extend(self.tell(Event::Timer)?);
        }
        Ok(effects)
    }

    /// Hears below the link `attached` as well, if that is necessary.
    pub(super) fn hear_below(&mut self, context: &Context<'_>, attached: &Attached) -> Result<()> {
        let Some((sockets, below)) = self.sockets.as_mut().zip(attached.heard_below()) else { return Ok(()) };
        context.host_netns.get()?.inside(|| sockets.hear_below(below))
    }

    /// Tells the client which of `offered`, and of its own addresses, it must not take at this moment.
    fn avoid(&mut self, context: &mut Context<'_>, offered: impl Iterator<Item = Ipv4Addr>) -> Result<()> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let addresses: Vec<_> = offered.chain(self.client.v4_addresses()).collect();
        self.client.avoid(shared.taken(context, &addresses)?);
        Ok(())
    }

    /// Tells the client what has happened.
    pub(super) fn tell(&mut self, event: Event) -> Result<Vec<Effect>> {
        Ok(self.client.step(event, since_boot(), number()?))
    }

    /// Leases `address` in the ledger for the link `attached` of `container`. If there is a `question`, the LAN is asked for it, by
    /// a packet socket that is opened: on the parent, if only that hears answers.
    pub(super) fn claim(
        &mut self,
        context: &mut Context<'_>,
        container: &ContainerId,
        (attached, address): (&Attached, IpAddr),
        question: Option<(Detection, impl FnOnce(&[IpAddr]) -> Result<PacketSocket>)>,
    ) -> Result<Vec<Effect>> {
        self.give_up(context)?;
        let (segment, network) = (attached.segment, attached.network.clone());
        if let Some(mac) = change::claim(context, container, segment, address)? {
            self.avoid(context, std::iter::empty())?;
            return self.tell(Event::Conflict { address, mac });
        }
        let mut probes = Probes::default();
        let addresses = [address];
        // If that fails, the lease is given back.
        let claim = Claim { segment, address, container: container.clone(), network, question: None };
        let claim = self.claim.insert(claim);
        if let Some((detection, open)) = question {
            let socket = match attached.driver.is_heard_on_parent() {
                true => on_parent(context, attached, &addresses)?,
                false => open(&addresses)?,
            };
            probes.begin(0, socket, &addresses, detection)?;
        }
        claim.question = Some((probes, since_boot()));
        self.answer(context)
    }

    /// Tells the client what has come of the question for an address.
    fn answer(&mut self, context: &mut Context<'_>) -> Result<Vec<Effect>> {
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
                self.avoid(context, std::iter::empty())?;
                self.tell(Event::Free(address))
            }
            Answer::Conflict(Conflict { mac, .. }) => {
                let (container, network) = (Some(claim.container.clone()), claim.network.clone());
                report(context.store, &Told::Conflict { container, network, address, mac });
                self.give_up(context)?;
                self.avoid(context, std::iter::empty())?;
                self.tell(Event::Conflict { address, mac })
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

/// A packet socket for `addresses` of `attached` on the link below it.
fn on_parent(context: &mut Context<'_>, attached: &Attached, addresses: &[IpAddr]) -> Result<PacketSocket> {
    let parent = context.host_netlink.link_by_index(attached.parent_index)?;
    let mac = parent.and_then(|parent| parent.mac);
    let mac = mac.ok_or_else(|| Error::input(format!("parent {} is gone", attached.parent)))?;
    let link = attached.driver.link_below(attached.parent_index, attached.segment);
    context.host_netns.get()?.inside(|| PacketSocket::open(link, mac, addresses))
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
