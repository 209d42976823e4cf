//! One client with the sockets of its link.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::config::conflict_detection::Detection;
use crate::dhcp::client::{Client, Effect, Event};
use crate::dhcp::message::Outgoing;
use crate::error::{Error, Result};
use crate::kernel::{self, Answer, DhcpSockets, PacketSocket, Probes};
use crate::ledger::attached::Attached;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::shared_mac::SharedMac;
use crate::net::name::ContainerId;
use crate::random::random;

/// The pause between two tries to open sockets.
const PAUSE: Duration = Duration::from_millis(5);

/// A client, and the sockets by which it talks, if it has any now.
pub(super) struct Session {
    client: Client,
    pub(super) sockets: Option<DhcpSockets>,
    question: Option<Question>,
    shared: Option<SharedMac>,
}

/// A question to the LAN: does a host have this address?
struct Question {
    address: IpAddr,
    probes: Probes,
    /// When there is something to do.
    next: Duration,
}

impl Session {
    /// That of the link `attached` of `container`.
    pub(super) fn new(client: Client, container: &ContainerId, attached: &Attached) -> Self {
        let shared = SharedMac { container: container.clone(), segment: attached.segment };
        Self { client, sockets: None, question: None, shared: Some(shared).filter(|_| attached.shares_mac()) }
    }

    /// Hears below the link `attached` as well, if that is necessary.
    pub(super) fn hear_below(&mut self, context: &Context<'_>, attached: &Attached) -> Result<()> {
        let Some((sockets, below)) = self.sockets.as_mut().zip(attached.heard_below()) else { return Ok(()) };
        context.host_netns.get()?.inside(|| sockets.hear_below(below))
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
    pub(super) fn step(&mut self, context: &mut Context<'_>) -> Result<VecDeque<Effect>> {
        let mut effects = VecDeque::new();
        for message in self.sockets.as_mut().map(DhcpSockets::receive).unwrap_or_default() {
            effects.extend(self.tell(context, Event::Received(message))?);
        }
        if self.client.deadline().is_some_and(|deadline| deadline <= since_boot()) {
            effects.extend(self.tell(context, Event::Timer)?);
        }
        Ok(effects)
    }

    /// Tells the client what has happened, and which addresses it must not take at this moment. Returns what is to be done.
    pub(super) fn tell(&mut self, context: &mut Context<'_>, event: Event) -> Result<Vec<Effect>> {
        if let Some(shared) = &self.shared {
            let offered = match &event {
                Event::Received(message) => message.offered(),
                _ => None,
            };
            let addresses: Vec<_> = self.client.v4_addresses().into_iter().chain(offered).collect();
            self.client.avoid(shared.taken(context, &addresses)?);
        }
        Ok(self.client.step(event, since_boot(), number()?))
    }

    /// Begins to ask the LAN for `address`, which `attached` is about to get, by a packet socket that is opened: on the parent, if
    /// only that hears answers. Without `how`, it is taken to be free.
    pub(super) fn ask(
        &mut self,
        context: &mut Context<'_>,
        (attached, address): (&Attached, IpAddr),
        how: Option<(Detection, impl FnOnce(&[IpAddr]) -> Result<PacketSocket>)>,
    ) -> Result<()> {
        let mut probes = Probes::default();
        if let Some((detection, open)) = how {
            let socket = match attached.driver.is_heard_on_parent() {
                true => on_parent(context, attached, address)?,
                false => open(&[address])?,
            };
            probes.begin(0, socket, &[address], detection)?;
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

/// Opens a packet socket for `address` of `attached` on the link below it.
fn on_parent(context: &mut Context<'_>, attached: &Attached, address: IpAddr) -> Result<PacketSocket> {
    let parent = context.host_netlink.link_by_index(attached.parent_index)?;
    let mac = parent.and_then(|parent| parent.mac);
    let mac = mac.ok_or_else(|| Error::input(format!("parent {} is gone", attached.parent)))?;
    let link = attached.driver.link_below(attached.parent_index, attached.segment);
    context.host_netns.get()?.inside(|| PacketSocket::open(link, mac, &[address]))
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
