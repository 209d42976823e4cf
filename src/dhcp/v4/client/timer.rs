//! What a DHCPv4 client does as time passes.

use std::time::Duration;

use super::exchange::Exchange;
use super::{Client, State, xid};
use crate::dhcp::times::{self, Limits};
use crate::dhcp::v4::outcome::{Effect, Failure, Loss};
use crate::dhcp::v4::request;

/// How often an offer is asked for: a server that tests addresses one after the other answers nothing meanwhile.
const MOST_REQUESTS: u32 = 5;

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
        match (&mut self.state, &self.held) {
            (State::Init(_), _) => {
                let exchange = Exchange::new(now, random, self.until);
                effects.push(Effect::Send(self.config.discover(exchange.xid, exchange.secs)));
                self.state = State::Selecting { exchange, offer: None, collect: None };
            }
            (State::Selecting { offer, collect: Some(collect), .. }, _) if *collect <= now => {
                match offer.take() {
                    Some(offer) => self.select(offer, now, random, effects),
                    None => {
                        let reason = self.reason.take();
                        self.give_up(reason, now, random, effects);
                    }
                }
            }
            (State::Selecting { exchange, .. }, _) => {
                exchange.again(now, random, self.until);
                effects.push(Effect::Send(self.config.discover(exchange.xid, exchange.secs)));
            }
            (State::Requesting { exchange, offer }, _) if exchange.tries <= MOST_REQUESTS => {
                exchange.repeat(now, random, self.until);
                effects.push(Effect::Send(self.config.select(exchange.xid, exchange.secs, offer)));
            }
            (State::Requesting { offer, .. }, _) => {
                self.reason = Some(Failure::NoAck(offer.server));
                self.state = State::Init(now + self.pause(random));
            }
            // The server may be gone, or does not know the client: asked so, any server answers.
            (State::Rebooting(_), _) => self.state = State::Init(now),
            (State::Bound(_) | State::Renewing(_) | State::Rebinding(_), Some(lease)) => {
                match lease.times.limits.map(|Limits { t2, expiry, .. }| (now < t2, t2, expiry)) {
                    Some((true, t2, _)) => {
                        let exchange = Exchange::until(t2, now, random, self.started());
                        effects.push(Effect::Send(self.config.renew(exchange.xid, exchange.secs, lease)));
                        self.state = State::Renewing(exchange);
                    }
                    Some((false, _, expiry)) => {
                        let exchange = Exchange::until(expiry, now, random, self.started());
                        effects.push(Effect::Send(self.config.rebind(exchange.xid, exchange.secs, lease)));
                        self.state = State::Rebinding(exchange);
                    }
                    None => self.state = State::Bound(None),
                }
            }
            (State::Bound(_) | State::Renewing(_) | State::Rebinding(_), None) => {
                self.state = State::Init(now)
            }
            // They have no deadline.
            (State::Probing(_) | State::Stopped, _) => {}
        }
    }

    /// When the attempts to renew began, if they did.
    fn started(&self) -> Option<Duration> {
        match &self.state {
            State::Renewing(exchange) | State::Rebinding(exchange) => Some(exchange.started),
            _ => None,
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
            State::Requesting { offer, .. } => (Some(offer), Failure::NoAck(offer.server)),
            State::Probing(lease) => (Some(lease), Failure::NoAck(lease.server)),
            _ => (None, Failure::NoOffer),
        };
        effects.extend(asked.map(|lease| Effect::Send(request::release(lease, xid(random)))));
        effects.push(Effect::Failed(reason.unwrap_or(default)));
        self.state = match self.until {
            Some(_) => State::Stopped,
            None => State::Init(now + self.pause(random)),
        };
    }

    /// The pause before it begins again, each one twice as long.
    pub(super) fn pause(&mut self, random: u64) -> Duration {
        self.setbacks += 1;
        times::pause(self.setbacks - 1, random)
    }
}
