//! The DHCPv4 client as a machine of states (RFC 2131, figure 5): what has happened goes in, what is to be done comes out.

mod exchange;
#[cfg(test)]
mod tests;
mod timer;

use std::net::Ipv4Addr;
use std::time::Duration;

use self::exchange::Exchange;
use crate::dhcp::times::renewal;
use crate::dhcp::v4::lease::Lease;
use crate::dhcp::v4::message::{Kind, Message};
use crate::dhcp::v4::outcome::{Effect, Failure, Loss, Refusal, Sharer};
use crate::dhcp::v4::request::{self, Config};
use crate::net::mac::MacAddr;

/// For how long the offer of the server or address that the identity knows is waited for, when there is another one.
const COLLECT: Duration = Duration::from_millis(200);
/// For how long the address is left alone after a conflict (RFC 2131, 3.1): what is not possible within the time of a hook.
const AFTER_CONFLICT: Duration = Duration::from_secs(10);
const MOST_CONFLICTS: u32 = 3;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Event {
    /// Time has passed: see [`Client::deadline`].
    Timer,
    Received(Message),
    /// No host has answered for an address that the client wanted to be probed.
    Free(Ipv4Addr),
    /// A host has an address that the client probes for or has. It may be told late.
    Conflict {
        address: Ipv4Addr,
        mac: MacAddr,
    },
    /// The link may have come to another network: it was down, or the host was suspended.
    Moved,
}

/// A client of one link.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    config: Config,
    state: State,
    /// The lease whose address the link has.
    held: Option<Lease>,
    /// When to give up; none for a client that never does.
    until: Option<Duration>,
    /// Why it has not come further yet.
    reason: Option<Failure>,
    conflicts: u32,
    /// How often it had to begin again since it last had a lease.
    setbacks: u32,
}

#[derive(Clone, Debug)]
enum State {
    /// INIT: begins at this time.
    Init(Duration),
    /// SELECTING, until `collect` if there is an answer.
    Selecting {
        exchange: Exchange,
        offer: Option<Lease>,
        collect: Option<Duration>,
    },
    Requesting {
        exchange: Exchange,
        offer: Lease,
    },
    /// INIT-REBOOT and REBOOTING.
    Rebooting(Exchange),
    /// The server has given the lease, and the LAN is asked about its address.
    Probing(Lease),
    /// BOUND, until T1.
    Bound(Option<Duration>),
    Renewing(Exchange),
    Rebinding(Exchange),
    /// It has given up.
    Stopped,
}

impl Client {
    /// A client that has no lease, and asks for one from `start` on, which need not be now: not all of a host should begin at
    /// once. It gives up at `until`.
    pub(crate) fn new(config: Config, start: Duration, until: Option<Duration>) -> Self {
        let state = State::Init(start);
        Self { config, state, held: None, until, reason: None, conflicts: 0, setbacks: 0 }
    }

    /// A client that has `lease`, and never gives up. The lease may be due, or over.
    pub(crate) fn resume(mut config: Config, lease: Lease, random: u64) -> Self {
        (config.address, config.server) = (Some(lease.address.addr()), Some(lease.server));
        let state = State::Bound(renewal(&lease.times, random));
        Self { state, held: Some(lease), ..Self::new(config, Duration::ZERO, None) }
    }

    /// The address that it has, and the one that it is about to get.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.held.iter().chain(self.asked()).map(|lease| lease.address.addr())
    }

    /// From now on it must not take the addresses that are `taken`, and gives up those of [`Client::addresses`] among them: see
    /// [`Config::taken`].
    pub(crate) fn avoid(&mut self, taken: Vec<(Ipv4Addr, Sharer)>) {
        self.config.taken = taken;
    }

    /// When [`Event::Timer`] is due: it may come early or late. None if the client waits for something else.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let state = match &self.state {
            State::Init(at) => Some(*at),
            State::Selecting { exchange, collect, .. } => {
                Some(collect.map_or(exchange.next, |collect| collect.min(exchange.next)))
            }
            State::Requesting { exchange, .. }
            | State::Rebooting(exchange)
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => Some(exchange.next),
            State::Bound(t1) => *t1,
            State::Probing(_) => None,
            State::Stopped => return None,
        };
        let expiry = self.held.as_ref().and_then(|lease| lease.times.limits).map(|limits| limits.expiry);
        [state, expiry, self.until].into_iter().flatten().min()
    }

    /// Takes what has happened at `now`. Each call gets another `random` number. Afterwards the deadline is later than `now`.
    pub(crate) fn step(&mut self, event: Event, now: Duration, random: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.yield_shared(now, random, &mut effects);
        // An answer that comes after the end is none.
        self.end(now, random, &mut effects);
        match event {
            Event::Timer => {}
            Event::Received(message) => self.received(&message, now, random, &mut effects),
            Event::Free(address) => self.free(address, now, random, &mut effects),
            Event::Conflict { address, mac } => self.conflict(address, mac, now, random, &mut effects),
            Event::Moved => self.moved(now, random, &mut effects),
        }
        // An answer that comes late is still one, so messages are sent again after it.
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.due(now, random, &mut effects);
        }
        effects
    }

    fn received(&mut self, message: &Message, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        let Some(exchange) = self.exchange().filter(|exchange| exchange.xid == message.xid) else { return };
        let asked = exchange.sent;
        let is_for_us = message.chaddr == self.config.mac
            && message.client_id.as_ref().is_none_or(|id| *id == self.config.client_id);
        let is_answer = match (&self.state, message.kind) {
            (State::Selecting { .. }, Kind::Offer) => true,
            // An offer may say that it could have been a lease at once.
            (State::Selecting { .. }, Kind::Ack) => self.config.rapid_commit && message.rapid_commit,
            (State::Selecting { .. }, _) => false,
            (_, kind) => matches!(kind, Kind::Ack | Kind::Nak),
        };
        let Some(server) = message.server.filter(|_| is_for_us && is_answer) else { return };
        if !self.config.servers.is_empty() && !self.config.servers.contains(&server) {
            self.reason.get_or_insert(Failure::NotAllowed(server));
            return;
        }
        if message.kind == Kind::Nak {
            return self.refused(Refusal { server, text: message.error_text.clone() }, now, random, effects);
        }
        match Lease::of(message, &self.config.client_id, asked) {
            Ok(lease) => self.offered(lease, message.kind, now, random, effects),
            Err(flaw) => self.reason = Some(Failure::Unusable { server, flaw }),
        }
    }

    /// A server offers `lease`, or gives it.
    fn offered(&mut self, lease: Lease, kind: Kind, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        let (server, address) = (lease.server, lease.address.addr());
        let sharer = self.sharer(address);
        if let (State::Selecting { collect, .. }, Some(by)) = (&mut self.state, sharer) {
            // It is neither asked for nor declined, because it is the lease of the other one.
            self.reason = Some(Failure::Shared { server, address, by });
            collect.get_or_insert(now + COLLECT);
            return;
        }
        let is_expected = self.is_expected(server, address);
        let is_granted = match &mut self.state {
            State::Selecting { offer, collect, .. } if kind == Kind::Offer => {
                if is_expected {
                    return self.select(lease, now, random, effects);
                }
                offer.get_or_insert(lease.clone());
                collect.get_or_insert(now + COLLECT);
                false
            }
            State::Selecting { .. } => true,
            State::Requesting { offer, .. } => (server, address) == (offer.server, offer.address.addr()),
            State::Rebooting(_) => self.held.as_ref().is_some_and(|held| held.address.addr() == address),
            State::Renewing(_) | State::Rebinding(_) => sharer.is_none(),
            State::Init(_) | State::Probing(_) | State::Bound(_) | State::Stopped => false,
        };
        if is_granted {
            self.granted(lease, now, random, effects);
        }
    }

    /// The lease that it asks for, or has been given and not taken yet.
    fn asked(&self) -> Option<&Lease> {
        match &self.state {
            State::Selecting { offer, .. } => offer.as_ref(),
            State::Requesting { offer, .. } => Some(offer),
            State::Probing(lease) => Some(lease),
            _ => None,
        }
    }

    /// What has `address` and the same MAC address.
    fn sharer(&self, address: Ipv4Addr) -> Option<Sharer> {
        self.config.taken.iter().find(|(taken, _)| *taken == address).map(|&(_, by)| by)
    }

    /// Gives up an address that it has asked for, or has, and that is taken. The server is told nothing: it would end the lease
    /// of the other one.
    fn yield_shared(&mut self, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        let asked = self.asked().and_then(|lease| {
            let (server, address) = (lease.server, lease.address.addr());
            Some(Failure::Shared { server, address, by: self.sharer(address)? })
        });
        if asked.is_some() {
            self.state = State::Init(now);
            self.give_up(asked, now, random, effects);
        }
        if let Some(by) = self.held.as_ref().and_then(|lease| self.sharer(lease.address.addr())) {
            self.config.address = None;
            let begin = now + self.pause(random);
            self.lose(Loss::Shared(by), begin, effects);
        }
    }

    /// Whether no better offer is to be waited for: it is of the server that knows the client, or of the address that it had.
    fn is_expected(&self, server: Ipv4Addr, address: Ipv4Addr) -> bool {
        match (self.config.server, self.config.address) {
            (Some(known), _) => known == server,
            (None, Some(had)) => had == address,
            (None, None) => true,
        }
    }

    /// The exchange whose answers count.
    fn exchange(&self) -> Option<&Exchange> {
        match &self.state {
            State::Selecting { exchange, .. }
            | State::Requesting { exchange, .. }
            | State::Rebooting(exchange)
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => Some(exchange),
            State::Init(_) | State::Probing(_) | State::Bound(_) | State::Stopped => None,
        }
    }

    /// Takes an offer.
    fn select(&mut self, offer: Lease, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        let Some(mut exchange) = self.exchange().cloned() else { return };
        exchange.request(now, random, self.until);
        effects.push(Effect::Send(self.config.select(exchange.xid, exchange.secs, &offer)));
        (self.state, self.reason) = (State::Requesting { exchange, offer }, None);
    }

    /// A server has given `lease`. Its address is probed for, unless the link has it already.
    fn granted(&mut self, lease: Lease, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        let address = lease.address.addr();
        if self.held.as_ref().is_some_and(|held| held.address.addr() == address) {
            return self.bind(lease, now, random, effects);
        }
        self.state = State::Probing(lease);
        effects.push(Effect::Probe(address));
    }

    fn free(&mut self, address: Ipv4Addr, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        match &self.state {
            State::Probing(lease) if lease.address.addr() == address => {
                self.bind(lease.clone(), now, random, effects);
            }
            _ => {}
        }
    }

    fn bind(&mut self, lease: Lease, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        if lease.times.is_over(now) {
            self.state = State::Init(now + self.pause(random));
            return;
        }
        self.config.address = Some(lease.address.addr());
        self.config.server = Some(lease.server);
        self.state = State::Bound(renewal(&lease.times, random));
        (self.until, self.reason, self.conflicts, self.setbacks) = (None, None, 0, 0);
        effects.push(Effect::Bound(lease.clone()));
        self.held = Some(lease);
    }

    /// A server says no. It counts if it is the one that gave the address, or if any may answer, after a move.
    fn refused(&mut self, refusal: Refusal, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        let giver = match &self.state {
            State::Requesting { offer, .. } => Some(offer.server),
            State::Rebooting(_) => Some(refusal.server),
            State::Renewing(_) | State::Rebinding(_) => self.held.as_ref().map(|lease| lease.server),
            _ => None,
        };
        if giver != Some(refusal.server) {
            return;
        }
        self.config.address = None;
        self.reason = Some(Failure::Refused(refusal.clone()));
        let is_held = match (&self.state, &self.held) {
            (State::Requesting { offer, .. }, Some(held)) => offer.address.addr() == held.address.addr(),
            (_, held) => held.is_some(),
        };
        let begin = now + self.pause(random);
        self.state = State::Init(begin);
        if is_held {
            self.lose(Loss::Refused(refusal), begin, effects);
        }
    }

    fn conflict(
        &mut self,
        address: Ipv4Addr,
        mac: MacAddr,
        now: Duration,
        random: u64,
        effects: &mut Vec<Effect>,
    ) {
        let is_of = |lease: &&Lease| lease.address.addr() == address;
        let probed = match &self.state {
            State::Probing(lease) => Some(lease).filter(is_of).cloned(),
            _ => None,
        };
        let held = self.held.as_ref().filter(is_of).cloned();
        let Some(lease) = probed.or(held) else { return };
        effects.push(Effect::Send(request::decline(&lease, xid(random))));
        self.config.address = self.config.address.filter(|&hint| hint != address);
        self.conflicts += 1;
        let failure = Failure::Conflict { address, mac };
        let begin = if self.until.is_some() { now } else { now + AFTER_CONFLICT };
        if self.held.as_ref().is_some_and(|lease| is_of(&lease)) {
            return self.lose(Loss::Conflict(mac), begin, effects);
        }
        self.state = State::Init(begin);
        if self.conflicts >= MOST_CONFLICTS {
            self.conflicts = 0;
            self.give_up(Some(failure), now, random, effects);
            if let State::Init(at) = &mut self.state {
                *at = (*at).max(begin);
            }
            return;
        }
        self.reason = Some(failure);
    }

    fn moved(&mut self, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        let (State::Bound(_) | State::Renewing(_) | State::Rebinding(_), Some(lease)) =
            (&self.state, &self.held)
        else {
            return;
        };
        let exchange = Exchange::new(now, random, self.until);
        effects.push(Effect::Send(self.config.reboot(exchange.xid, exchange.secs, lease)));
        self.state = State::Rebooting(exchange);
    }

    /// The link has no address any more. Unless it asks for another one already, the client begins at `begin`.
    fn lose(&mut self, loss: Loss, begin: Duration, effects: &mut Vec<Effect>) {
        self.held = None;
        effects.push(Effect::Lost(loss));
        if matches!(
            self.state,
            State::Bound(_) | State::Renewing(_) | State::Rebinding(_) | State::Rebooting(_)
        ) {
            self.state = State::Init(begin);
        }
    }
}

/// The number of a message that no answer is expected to.
fn xid(random: u64) -> u32 {
    random as u32
}
