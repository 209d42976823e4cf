//! A client, a clock, and what a server says.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::dhcp::client_id::{Duid, Iaid};
use crate::dhcp::v6::client::{Client, Event};
use crate::dhcp::v6::lease::Lease;
use crate::dhcp::v6::message::{Ia, IaAddress, Kind, Message};
use crate::dhcp::v6::outcome::Effect;
use crate::dhcp::v6::request::Config;
use crate::dhcp::v6::status::Status;
use crate::net::mac::MacAddr;

pub(super) const OTHER: Option<MacAddr> = Some(MacAddr([2, 0, 0, 0, 0, 7]));

pub(super) fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// What the server gives.
pub(super) fn own() -> Ipv6Addr {
    ip("2001:db8::5")
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn server(number: u8) -> Duid {
    Duid::try_from(vec![0, 3, 0, 1, number]).unwrap()
}

pub(super) fn config() -> Config {
    Config {
        duid: Duid::derived([7; 16], &"web".parse().unwrap()),
        iaid: Iaid(1),
        fqdn: None,
        address: None,
        server: None,
        rapid_commit: false,
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

    /// A client that has a lease, from now on: T1 is 1800 s, T2 2880 s, and the end 7200 s.
    pub(super) fn bound(config: Config) -> Self {
        let client = Client::resume(config.clone(), lease(3600, 7200), 1 << 63);
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
    pub(super) fn sent(&mut self, event: Event) -> Message {
        match &self.step(event)[..] {
            [Effect::Send(sent)] => sent.clone(),
            effects => panic!("{effects:?}"),
        }
    }

    pub(super) fn sent_at(&mut self, at: u64, event: Event) -> Message {
        self.now = seconds(at);
        self.sent(event)
    }

    /// What is sent next, when it is time.
    pub(super) fn next(&mut self) -> Message {
        self.now = self.client.deadline().unwrap();
        self.sent(Event::Timer)
    }

    /// Takes an offer; the request for it.
    pub(super) fn requesting(&mut self) -> Message {
        let solicit = self.sent(Event::Timer);
        assert_eq!(self.step(advertise(&solicit)), []);
        self.next()
    }
}

pub(super) fn answer(kind: Kind, request: &Message) -> Message {
    let address = IaAddress { address: own(), preferred: 3600, valid: 7200 };
    Message {
        client: request.client.clone(),
        server: Some(server(1)),
        ia: vec![Ia { iaid: config().iaid, t1: 0, t2: 0, addresses: vec![address], status: None }],
        rapid_commit: request.rapid_commit && kind == Kind::Reply,
        ..Message::new(kind, request.xid)
    }
}

pub(super) fn advertise(request: &Message) -> Event {
    Event::Received(answer(Kind::Advertise, request))
}

pub(super) fn reply(request: &Message) -> Event {
    Event::Received(answer(Kind::Reply, request))
}

/// A status of the link, without an address.
pub(super) fn refusal(request: &Message, code: u16) -> Event {
    let mut message = answer(Kind::Reply, request);
    message.ia[0].addresses.clear();
    message.ia[0].status = Some(Status { code, text: "sorry".to_owned() });
    Event::Received(message)
}

/// A status of the whole message.
pub(super) fn status(request: &Message, code: u16) -> Event {
    let status = Some(Status { code, text: String::new() });
    Event::Received(Message { ia: Vec::new(), status, ..answer(Kind::Reply, request) })
}

/// A lease that was asked for at the beginning.
pub(super) fn lease(preferred: u32, valid: u32) -> Lease {
    let mut reply = answer(Kind::Reply, &Message::new(Kind::Request, 1));
    reply.ia[0].addresses = vec![IaAddress { address: own(), preferred, valid }];
    let Config { duid, iaid, .. } = config();
    Lease::of(&reply, &server(1), (&duid, iaid), None, Duration::ZERO).unwrap()
}
