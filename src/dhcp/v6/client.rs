//! The DHCPv6 client as a machine of states (RFC 8415, 18.2): what has happened goes in, what is to be done comes out.

mod exchange;
#[cfg(test)]
mod tests;
mod timer;

use std::net::Ipv6Addr;
use std::time::Duration;

use self::exchange::Exchange;
use crate::dhcp::client_id::Duid;
use crate::dhcp::times::renewal;
use crate::dhcp::v6::lease::{self, Flaw, Lease};
use crate::dhcp::v6::message::{Kind, Message};
use crate::dhcp::v6::outcome::{Effect, Failure, Loss};
use crate::dhcp::v6::request::{self, Config};
use crate::dhcp::v6::status::Status;
use crate::net::mac::MacAddr;

/// For how long better offers are waited for: less than the second of RFC 8415, because a container waits.
const COLLECT: Duration = Duration::from_millis(200);
/// No offer is better than one of this preference.
const BEST: u8 = 255;
/// For how long the address is left alone after a conflict, as with DHCPv4.
const AFTER_CONFLICT: Duration = Duration::from_secs(10);
const MOST_CONFLICTS: u32 = 3;
/// The limits of the longest wait for an answer to a SOLICIT that servers may set (RFC 8415, 21.24), and the default.
const SOL_MAX_RT: (u32, u32, u32) = (60, 86_400, 3_600);

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Event {
    /// Time has passed: see [`Client::deadline`].
    Timer,
    Received(Message),
    /// No host has answered for an address that the client wanted to be probed.
    Free(Ipv6Addr),
    /// A host has an address that the client probes for or has: it answers, or the kernel has found out
    /// (`IFA_F_DADFAILED`). It may be told late.
    Conflict {
        address: Ipv6Addr,
        mac: Option<MacAddr>,
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
    /// The longest wait for an answer to a SOLICIT, in seconds.
    sol_max_rt: u32,
}

#[derive(Clone, Debug)]
enum State {
    /// Begins at this time.
    Init(Duration),
    /// Until `collect` if there is an answer. Of the offers, the one with the highest preference.
    Soliciting {
        exchange: Exchange,
        offer: Option<(u8, Lease)>,
        collect: Option<Duration>,
    },
    Requesting {
        exchange: Exchange,
        offer: Lease,
    },
    Confirming(Exchange),
    /// The server has given the lease, and the LAN is asked about its address.
    Probing(Lease),
    /// Until T1.
    Bound(Option<Duration>),
    Renewing(Exchange),
    Rebinding(Exchange),
    /// It has given up.
    Stopped,
}

impl Client {
    /// A client that has no lease, and asks for one from `start` on, which need not be now: not all of a host should begin in
    /// the same second (RFC 8415, 18.2.1). It gives up at `until`.
    pub(crate) fn new(config: Config, start: Duration, until: Option<Duration>) -> Self {
        let state = State::Init(start);
        let (_, _, sol_max_rt) = SOL_MAX_RT;
        Self { config, state, held: None, until, reason: None, conflicts: 0, setbacks: 0, sol_max_rt }
    }

    /// A client that has `lease`, and never gives up. The lease may be due, or over.
    pub(crate) fn resume(mut config: Config, lease: Lease, random: u64) -> Self {
        (config.address, config.server) = (Some(lease.address), Some(lease.server.clone()));
        let state = State::Bound(renewal(&lease.times, random));
        Self { state, held: Some(lease), ..Self::new(config, Duration::ZERO, None) }
    }

    /// When [`Event::Timer`] is due: it may come early or late. None if the client waits for something else.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let state = match &self.state {
            State::Init(at) => Some(*at),
            State::Soliciting { exchange, collect, .. } => {
                Some(collect.map_or(exchange.next, |collect| collect.min(exchange.next)))
            }
            State::Requesting { exchange, .. }
            | State::Confirming(exchange)
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => Some(exchange.next),
            State::Bound(t1) => *t1,
            State::Probing(_) => None,
            State::Stopped => return None,
        };
        let limits = self.held.as_ref().and_then(|lease| lease.times.limits);
        [state, limits.map(|limits| limits.expiry), self.until].into_iter().flatten().min()
    }

    /// Takes what has happened at `now`. Each call gets another `random` number. Afterwards the deadline is later than `now`.
    pub(crate) fn step(&mut self, event: Event, now: Duration, random: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        // An answer that comes after the end is none.
        self.end(now, random, &mut effects);
        match event {
            Event::Timer => {}
            Event::Received(message) => self.received(&message, now, random, &mut effects),
            Event::Free(address) => self.free(address, now, random, &mut effects),
            Event::Conflict { address, mac } => self.conflict(address, mac, now, random, &mut effects),
            Event::Moved => self.moved(now, random),
        }
        // An answer that comes late is still one, so messages are sent again after it.
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.due(now, random, &mut effects);
        }
        effects
    }

    fn received(&mut self, message: &Message, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        let exchange = match &self.state {
            State::Soliciting { exchange, .. }
            | State::Requesting { exchange, .. }
            | State::Confirming(exchange)
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => exchange,
            State::Init(_) | State::Probing(_) | State::Bound(_) | State::Stopped => return,
        };
        let is_answer = match (&self.state, message.kind) {
            (State::Soliciting { .. }, Kind::Advertise) => true,
            (State::Soliciting { .. }, Kind::Reply) => self.config.rapid_commit && message.rapid_commit,
            (_, kind) => kind == Kind::Reply,
        };
        let is_for_us = message.xid == exchange.xid
            && exchange.tries > 0
            && message.client.as_ref() == Some(&self.config.duid);
        let asked = exchange.sent;
        let Some(server) = message.server.as_ref().filter(|_| is_for_us && is_answer) else { return };
        let (least, most, _) = SOL_MAX_RT;
        if let Some(seconds) = message.sol_max_rt.filter(|seconds| (least..=most).contains(seconds)) {
            self.sol_max_rt = seconds;
        }
        if matches!(self.state, State::Confirming(_)) {
            return self.confirmed(message, now, random, effects);
        }
        let client = (&self.config.duid, self.config.iaid);
        match Lease::of(message, server, client, self.config.address, asked) {
            Ok(lease) if message.kind == Kind::Advertise => {
                self.offered(lease, message.preference, now, random)
            }
            Ok(lease) => self.granted(lease, now, random, effects),
            Err(flaw) => self.refused(message, server.clone(), flaw, now, random, effects),
        }
    }

    /// A server offers `lease`.
    fn offered(&mut self, lease: Lease, preference: u8, now: Duration, random: u64) {
        let State::Soliciting { offer, collect, .. } = &mut self.state else { return };
        if preference == BEST || self.config.server.as_ref() == Some(&lease.server) {
            return self.select(lease, now, random);
        }
        // Of equal ones, the first.
        if offer.as_ref().is_none_or(|(best, _)| *best < preference) {
            *offer = Some((preference, lease));
        }
        collect.get_or_insert(now + COLLECT);
    }

    /// Asks the server that offers `offer` for it.
    fn select(&mut self, offer: Lease, now: Duration, random: u64) {
        (self.state, self.reason) = (State::Requesting { exchange: Exchange::new(now, random), offer }, None);
    }

    /// A server has given `lease`. Its address is probed for, unless the link has it already.
    fn granted(&mut self, lease: Lease, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        if self.held.as_ref().is_some_and(|held| held.address == lease.address) {
            return self.bind(lease, now, random, effects);
        }
        effects.push(Effect::Probe(lease.address));
        self.state = State::Probing(lease);
    }

    fn free(&mut self, address: Ipv6Addr, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        match &self.state {
            State::Probing(lease) if lease.address == address => {
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
        self.config.address = Some(lease.address);
        self.config.server = Some(lease.server.clone());
        self.state = State::Bound(renewal(&lease.times, random));
        (self.until, self.reason, self.conflicts, self.setbacks) = (None, None, 0, 0);
        effects.push(Effect::Bound(lease.clone()));
        self.held = Some(lease);
    }

    /// A server says that the addresses belong to the link, or not (RFC 8415, 18.2.10.1).
    fn confirmed(&mut self, message: &Message, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        match lease::failure(message, lease::own(message, self.config.iaid)) {
            Some(status) if status.code == Status::NOT_ON_LINK => self.lose(Loss::NotOnLink, now, effects),
            Some(_) => {}
            None => self.keep(random),
        }
    }

    /// The lease holds as it was.
    fn keep(&mut self, random: u64) {
        let t1 = self.held.as_ref().and_then(|lease| renewal(&lease.times, random));
        self.state = State::Bound(t1);
    }

    /// A server answers, and gives no lease.
    fn refused(
        &mut self,
        message: &Message,
        server: Duid,
        flaw: Flaw,
        now: Duration,
        random: u64,
        effects: &mut Vec<Effect>,
    ) {
        let code = match &flaw {
            Flaw::Status(status) => Some(status.code),
            Flaw::NoAddress | Flaw::Address(_) => None,
        };
        let ended = |lease: &Lease| {
            let ia = lease::own(message, lease.iaid);
            ia.is_some_and(|ia| ia.addresses.iter().any(|own| own.address == lease.address && own.valid == 0))
        };
        self.reason = Some(Failure::Unusable { server: server.clone(), flaw });
        match (&self.state, code) {
            // Another server may have more, and the same one more later.
            (
                State::Requesting { offer, .. },
                Some(Status::NO_ADDRESSES | Status::NOT_ON_LINK | Status::NO_BINDING),
            ) => {
                self.config.address = None;
                let is_held = self.held.as_ref().is_some_and(|held| held.address == offer.address);
                let begin = now + self.pause(random);
                self.state = State::Init(begin);
                if is_held && code == Some(Status::NOT_ON_LINK) {
                    self.lose(Loss::NotOnLink, begin, effects);
                }
            }
            // The server has forgotten it, and may give it again.
            (State::Renewing(_) | State::Rebinding(_), Some(Status::NO_BINDING)) => {
                if let Some(held) = self.held.clone() {
                    self.select(Lease { server, ..held }, now, random);
                }
            }
            (State::Renewing(_) | State::Rebinding(_), None) if self.held.as_ref().is_some_and(ended) => {
                self.config.address = None;
                self.lose(Loss::Withdrawn, now, effects);
            }
            // It is asked again when it is time.
            _ => {}
        }
    }

    fn conflict(
        &mut self,
        address: Ipv6Addr,
        mac: Option<MacAddr>,
        now: Duration,
        random: u64,
        effects: &mut Vec<Effect>,
    ) {
        let is_of = |lease: &&Lease| lease.address == address;
        let probed = match &self.state {
            State::Probing(lease) => Some(lease).filter(is_of).cloned(),
            _ => None,
        };
        let held = self.held.as_ref().filter(is_of).cloned();
        let is_held = held.is_some();
        let Some(lease) = probed.or(held) else { return };
        effects.push(Effect::Send(request::decline(&lease, random as u32)));
        self.config.address = self.config.address.filter(|&hint| hint != address);
        self.conflicts += 1;
        let failure = Failure::Conflict { address, mac };
        let begin = if self.until.is_some() { now } else { now + AFTER_CONFLICT };
        if is_held {
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

    fn moved(&mut self, now: Duration, random: u64) {
        if matches!(self.state, State::Bound(_) | State::Renewing(_) | State::Rebinding(_))
            && self.held.is_some()
        {
            let delay = Duration::from_millis(random % 1000);
            self.state = State::Confirming(Exchange::new(now + delay, random));
        }
    }

    /// The link has no address any more. Unless it asks for another one already, the client begins at `begin`.
    fn lose(&mut self, loss: Loss, begin: Duration, effects: &mut Vec<Effect>) {
        self.held = None;
        effects.push(Effect::Lost(loss));
        if matches!(
            self.state,
            State::Bound(_) | State::Renewing(_) | State::Rebinding(_) | State::Confirming(_)
        ) {
            self.state = State::Init(begin);
        }
    }
}
