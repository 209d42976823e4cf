//! A client, a clock, and what a server says.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::dhcp::client_id::{ClientId, Duid, Iaid};
use crate::dhcp::v4::client::{Client, Event};
use crate::dhcp::v4::lease::Lease;
use crate::dhcp::v4::message::{Kind, Message};
use crate::dhcp::v4::outcome::{Effect, Outgoing};
use crate::dhcp::v4::request::Config;
use crate::net::mac::MacAddr;

pub(super) const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
pub(super) const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);

pub(super) fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn config() -> Config {
    let duid = Duid::derived([7; 16], &"web".parse().unwrap());
    Config {
        mac: MAC,
        client_id: ClientId::identity(&duid, Iaid(1)),
        host_name: Some("web".parse().unwrap()),
        fqdn: None,
        vendor_class: Some("underlay".to_owned()),
        servers: Vec::new(),
        address: None,
        server: None,
        broadcast: false,
        rapid_commit: false,
        taken: Vec::new(),
    }
}

#[derive(Clone)]
pub(super) struct Lan {
    pub client: Client,
    pub now: Duration,
    /// No jitter, and another xid each time.
    pub random: u64,
}

impl Lan {
    /// A client that has 20 s.
    pub(super) fn new(config: Config) -> Self {
        let client = Client::new(config, Duration::ZERO, Some(seconds(20)));
        Self { client, now: Duration::ZERO, random: 1 << 63 }
    }

    /// A client that never gives up.
    pub(super) fn patient(config: Config) -> Self {
        Self { client: Client::new(config.clone(), Duration::ZERO, None), ..Self::new(config) }
    }

    /// A client that has a lease of an hour, from now on.
    pub(super) fn bound(config: Config) -> Self {
        let client = Client::resume(config.clone(), lease("10.0.0.5", 3600), 1 << 63);
        Self { client, ..Self::new(config) }
    }

    pub(super) fn step(&mut self, event: Event) -> Vec<Effect> {
        self.random += 1;
        self.client.step(event, self.now, self.random)
    }

    pub(super) fn at(&mut self, at: u64, event: Event) -> Vec<Effect> {
        self.now = seconds(at);
        self.step(event)
    }

    /// The one message that is sent then.
    pub(super) fn sent(&mut self, event: Event) -> Outgoing {
        match &self.step(event)[..] {
            [Effect::Send(sent)] => sent.clone(),
            effects => panic!("{effects:?}"),
        }
    }

    pub(super) fn sent_at(&mut self, at: u64, event: Event) -> Outgoing {
        self.now = seconds(at);
        self.sent(event)
    }

    /// Takes an offer; the request for it.
    pub(super) fn requesting(&mut self) -> Outgoing {
        let discover = self.sent(Event::Timer);
        self.sent(offer(&discover))
    }
}

fn answer(kind: Kind, request: &Outgoing) -> Message {
    Message {
        yiaddr: ip("10.0.0.5"),
        server: Some(SERVER),
        lease_time: Some(3600),
        prefix_len: Some(24),
        routers: vec![SERVER],
        rapid_commit: request.message.rapid_commit && kind == Kind::Ack,
        ..Message::new(kind, request.message.xid, request.message.chaddr)
    }
}

pub(super) fn offer(request: &Outgoing) -> Event {
    Event::Received(answer(Kind::Offer, request))
}

pub(super) fn ack(request: &Outgoing) -> Event {
    Event::Received(answer(Kind::Ack, request))
}

pub(super) fn nak(request: &Outgoing) -> Event {
    let Outgoing { message, .. } = request;
    let nak = Message::new(Kind::Nak, message.xid, message.chaddr);
    Event::Received(Message { server: Some(SERVER), error_text: Some("wrong network".to_owned()), ..nak })
}

/// A lease that was asked for at the beginning.
pub(super) fn lease(address: &str, seconds: u32) -> Lease {
    let request = Outgoing { message: Message::new(Kind::Request, 1, MAC), from: SERVER, to: SERVER };
    let ack = Message { yiaddr: ip(address), lease_time: Some(seconds), ..answer(Kind::Ack, &request) };
    Lease::of(&ack, &config().client_id, Duration::ZERO).unwrap()
}
