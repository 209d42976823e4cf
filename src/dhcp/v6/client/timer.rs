//! What a DHCPv6 client does as time passes.

use std::time::Duration;

use super::exchange::Exchange;
use super::{Client, State};
use crate::dhcp::times;
use crate::dhcp::v6::outcome::{Effect, Failure, Loss};
use crate::dhcp::v6::request;

/// The first wait for an answer and the longest, and how often or for how long it is asked for (RFC 8415, section 7.6).
const SOLICIT: Duration = Duration::from_secs(1);
const REQUEST: (Duration, Duration, u32) = (Duration::from_secs(1), Duration::from_secs(30), 10);
const CONFIRM: (Duration, Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(10));
const RENEW: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

impl Client {
    /// Ends what is over: the lease, and the time that was given.
    pub(super) fn end(&mut self, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        if self.held.as_ref().is_some_and(|lease| lease.times.is_over(now)) {
            self.lose(Loss::Expired, now, effects);
        }
        if self.until.is_some_and(|until| until <= now) && !matches!(self.state, State::Stopped) {
            let reason = self.reason.take();
            self.give_up(reason, now, random, effects);
        }
    }

    /// Does the next thing that is due. Afterwards the deadline is a later one, or there is another thing to do.
    pub(super) fn due(&mut self, now: Duration, random: u64, effects: &mut Vec<Effect>) {
        let limits = self.held.as_ref().and_then(|lease| lease.times.limits);
        let mut send = |message| effects.push(Effect::Send(message));
        match (&mut self.state, &self.held) {
            (State::Init(_), _) => {
                let exchange = Exchange::new(now, random);
                self.state = State::Soliciting { exchange, offer: None, collect: None };
            }
            (State::Soliciting { offer, collect, .. }, _) if collect.is_some_and(|end| end <= now) => {
                *collect = None;
                if let Some((_, offer)) = offer.take() {
                    self.select(offer, now, random);
                }
            }
            (State::Soliciting { exchange, .. }, _) => {
                send(self.config.solicit(exchange.xid, exchange.elapsed(now)));
                exchange.send(now, SOLICIT, Duration::from_secs(self.sol_max_rt.into()), random);
            }
            (State::Requesting { exchange, offer }, _) => {
                let (first, longest, most) = REQUEST;
                if exchange.tries < most {
                    send(self.config.request(exchange.xid, exchange.elapsed(now), offer));
                    exchange.send(now, first, longest, random);
                } else {
                    self.reason = Some(Failure::NoReply(offer.server.clone()));
                    self.state = State::Init(now + self.pause(random));
                }
            }
            (State::Confirming(exchange), Some(lease)) => {
                let (first, longest, whole) = CONFIRM;
                let end = exchange.started + whole;
                if exchange.tries == 0 || now < end {
                    send(request::confirm(exchange.xid, exchange.elapsed(now), lease));
                    exchange.send(now, first, longest, random);
                    exchange.next = exchange.next.min(exchange.started + whole);
                } else {
                    // Nothing says that it does not hold (RFC 8415, 18.2.3).
                    self.keep(random);
                }
            }
            (State::Bound(_), Some(_)) => self.state = State::Renewing(Exchange::new(now, random)),
            (State::Renewing(exchange), Some(lease)) => {
                let t2 = limits.map_or(Duration::MAX, |limits| limits.t2);
                if now < t2 {
                    send(self.config.renew(exchange.xid, exchange.elapsed(now), lease));
                    exchange.send(now, RENEW.0, RENEW.1, random);
                    exchange.next = exchange.next.min(t2);
                } else {
                    self.state = State::Rebinding(Exchange::new(now, random));
                }
            }
            (State::Rebinding(exchange), Some(lease)) => {
                send(self.config.rebind(exchange.xid, exchange.elapsed(now), lease));
                exchange.send(now, RENEW.0, RENEW.1, random);
            }
            (State::Confirming(_) | State::Bound(_) | State::Renewing(_) | State::Rebinding(_), None) => {
                self.state = State::Init(now);
            }
            // They have no deadline.
            (State::Probing(_) | State::Stopped, _) => {}
        }
    }

    /// Gives back what a server may have given meanwhile, and stops, or begins again later.
    pub(super) fn give_up(
        &mut self,
        reason: Option<Failure>,
        now: Duration,
        random: u64,
        effects: &mut Vec<Effect>,
    ) {
        let (asked, default) = match &self.state {
            State::Requesting { offer, .. } => (Some(offer), Failure::NoReply(offer.server.clone())),
            State::Probing(lease) => (Some(lease), Failure::NoReply(lease.server.clone())),
            _ => (None, Failure::NoAdvertise),
        };
        effects.extend(asked.map(|lease| Effect::Send(request::release(lease, random as u32))));
        effects.push(Effect::Failed(reason.unwrap_or(default)));
        self.state = match self.until {
            Some(_) => State::Stopped,
            None => State::Init(now + self.pause(random)),
        };
    }

    /// The pause before it begins again.
    pub(super) fn pause(&mut self, random: u64) -> Duration {
        self.setbacks += 1;
        times::pause(self.setbacks - 1, random)
    }
}
