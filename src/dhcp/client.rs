//! A client of either family, for those that drive one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::dhcp::lease::Lease;
use crate::dhcp::message::{Message, Outgoing};
use crate::dhcp::v4::client as client4;
use crate::dhcp::v4::outcome::{self as outcome4, Sharer};
use crate::dhcp::v6::client as client6;
use crate::dhcp::v6::outcome as outcome6;
use crate::dhcp::{v4, v6};
use crate::error::Error;
use crate::net::mac::MacAddr;

/// A client of one link.
#[derive(Clone, Debug)]
pub(crate) enum Client {
    V4(client4::Client),
    V6(client6::Client),
}

/// What has happened: as [`client4::Event`] and [`client6::Event`].
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Event {
    Timer,
    Received(Message),
    Free(IpAddr),
    Conflict { address: IpAddr, mac: MacAddr },
    Moved,
}

/// What is to be done: as [`outcome4::Effect`] and [`outcome6::Effect`].
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Send(Outgoing),
    Probe(IpAddr),
    Bound(Lease),
    /// Why the lease has ended.
    Lost(String),
    Failed(Error),
}

impl Client {
    /// The IPv4 addresses that it has or is about to get.
    pub(crate) fn v4_addresses(&self) -> Vec<Ipv4Addr> {
        match self {
            Self::V4(client) => client.addresses().collect(),
            Self::V6(_) => Vec::new(),
        }
    }

    /// As [`client4::Client::avoid`]. Servers of DHCPv6 tell clients by DUID.
    pub(crate) fn avoid(&mut self, taken: Vec<(Ipv4Addr, Sharer)>) {
        if let Self::V4(client) = self {
            client.avoid(taken);
        }
    }

    /// When [`Event::Timer`] is due; `None` if the client waits for something else.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self {
            Self::V4(client) => client.deadline(),
            Self::V6(client) => client.deadline(),
        }
    }

    /// Takes what has happened at `now`, unless it is of the other family. Each call gets another `random` number.
    pub(crate) fn step(&mut self, event: Event, now: Duration, random: u64) -> Vec<Effect> {
        match self {
            Self::V4(client) => {
                let event = match event {
                    Event::Timer => client4::Event::Timer,
                    Event::Received(Message::V4(message)) => client4::Event::Received(message),
                    Event::Free(IpAddr::V4(address)) => client4::Event::Free(address),
                    Event::Conflict { address: IpAddr::V4(address), mac } => {
                        client4::Event::Conflict { address, mac }
                    }
                    Event::Moved => client4::Event::Moved,
                    _ => return Vec::new(),
                };
                client.step(event, now, random).into_iter().map(Effect::from).collect()
            }
            Self::V6(client) => {
                let event = match event {
                    Event::Timer => client6::Event::Timer,
                    Event::Received(Message::V6(message)) => client6::Event::Received(message),
                    Event::Free(IpAddr::V6(address)) => client6::Event::Free(address),
                    Event::Conflict { address: IpAddr::V6(address), mac } => {
                        client6::Event::Conflict { address, mac: Some(mac) }
                    }
                    Event::Moved => client6::Event::Moved,
                    _ => return Vec::new(),
                };
                client.step(event, now, random).into_iter().map(Effect::from).collect()
            }
        }
    }
}

/// The message number `xid`, which gives `lease` back.
pub(crate) fn release(lease: &Lease, xid: u32) -> Outgoing {
    match lease {
        Lease::V4(lease) => Outgoing::V4(v4::request::release(lease, xid)),
        Lease::V6(lease) => Outgoing::V6(v6::request::release(lease, xid)),
    }
}

impl From<outcome4::Effect> for Effect {
    fn from(effect: outcome4::Effect) -> Self {
        match effect {
            outcome4::Effect::Send(outgoing) => Self::Send(Outgoing::V4(outgoing)),
            outcome4::Effect::Probe(address) => Self::Probe(address.into()),
            outcome4::Effect::Bound(lease) => Self::Bound(Lease::V4(lease)),
            outcome4::Effect::Lost(loss) => Self::Lost(loss.to_string()),
            outcome4::Effect::Failed(failure) => Self::Failed(failure.error()),
        }
    }
}

impl From<outcome6::Effect> for Effect {
    fn from(effect: outcome6::Effect) -> Self {
        match effect {
            outcome6::Effect::Send(message) => Self::Send(Outgoing::V6(message)),
            outcome6::Effect::Probe(address) => Self::Probe(address.into()),
            outcome6::Effect::Bound(lease) => Self::Bound(Lease::V6(lease)),
            outcome6::Effect::Lost(loss) => Self::Lost(loss.to_string()),
            outcome6::Effect::Failed(failure) => Self::Failed(failure.error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::client_id::{Duid, Iaid};
    use crate::dhcp::v6::message::Kind;
    use crate::dhcp::v6::request::Config;

    #[test]
    fn what_is_of_the_other_family_is_passed_over() {
        let second = Duration::from_secs(1);
        let config = Config {
            duid: Duid::try_from(vec![0, 4, 1]).unwrap(),
            iaid: Iaid(7),
            fqdn: None,
            address: None,
            server: None,
            rapid_commit: true,
        };
        let mut client = Client::V6(client6::Client::new(config, second, Some(second * 5)));
        assert_eq!(client.deadline(), Some(second));
        let effects = client.step(Event::Timer, second, 7);
        assert!(
            matches!(&effects[..], [Effect::Send(Outgoing::V6(message))] if message.kind == Kind::Solicit),
            "{effects:?}"
        );
        let deadline = client.deadline();
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let address = IpAddr::from([10, 0, 0, 9]);
        let offer = v4::message::Message::new(v4::message::Kind::Offer, 7, mac);
        for event in
            [Event::Received(Message::V4(offer)), Event::Free(address), Event::Conflict { address, mac }]
        {
            assert!(client.step(event, second, 7).is_empty());
        }
        assert_eq!(client.deadline(), deadline);
        let effects = client.step(Event::Timer, second * 5, 7);
        let [Effect::Failed(error)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(error.to_string(), "no DHCPv6 server answers");
    }
}
