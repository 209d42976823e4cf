//! Every state with every event.

use proptest::prelude::*;

use super::lan::{self, Lan, MAC, OTHER, SERVER, config, ip, seconds};
use super::*;
use crate::dhcp::times::{Limits, Times};
use crate::dhcp::v4::outcome::{Outgoing, Sharer};

/// A client in each state, at its time, with the message that it waits for an answer to.
fn states() -> Vec<(&'static str, Lan, Option<Outgoing>)> {
    let mut all = Vec::new();
    let mut lan = Lan::patient(config());
    all.push(("init", lan.clone(), None));
    let discover = lan.sent(Event::Timer);
    all.push(("selecting", lan.clone(), Some(discover.clone())));
    let request = lan.sent(lan::offer(&discover));
    all.push(("requesting", lan.clone(), Some(request.clone())));
    lan.step(lan::ack(&request));
    all.push(("probing", lan, Some(request)));
    let mut lan = Lan::bound(config());
    lan.now = seconds(1);
    all.push(("bound", lan.clone(), None));
    let reboot = lan.clone().sent(Event::Moved);
    let mut rebooting = lan.clone();
    rebooting.sent(Event::Moved);
    all.push(("rebooting", rebooting, Some(reboot)));
    let renew = lan.sent_at(1800, Event::Timer);
    all.push(("renewing", lan.clone(), Some(renew)));
    let rebind = lan.sent_at(3150, Event::Timer);
    all.push(("rebinding", lan, Some(rebind)));
    let mut lan = Lan::new(config());
    let discover = lan.sent(Event::Timer);
    lan.at(20, Event::Timer);
    all.push(("stopped", lan, Some(discover)));
    all
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Send(out) if out.to.is_broadcast() => format!("{:?}", out.message.kind).to_lowercase(),
        Effect::Send(out) => format!("{:?} to server", out.message.kind).to_lowercase(),
        Effect::Probe(_) => "probe".to_owned(),
        Effect::Bound(_) => "bound".to_owned(),
        Effect::Lost(_) => "lost".to_owned(),
        Effect::Failed(_) => "failed".to_owned(),
    }
}

/// The name of the state that a client is in.
fn name(client: &Client) -> &'static str {
    match client.state {
        State::Init(_) => "init",
        State::Selecting { .. } => "selecting",
        State::Requesting { .. } => "requesting",
        State::Rebooting(_) => "rebooting",
        State::Probing(_) => "probing",
        State::Bound(_) => "bound",
        State::Renewing(_) => "renewing",
        State::Rebinding(_) => "rebinding",
        State::Stopped => "stopped",
    }
}

#[test]
fn every_state_with_every_event() {
    type Make = fn(&Outgoing) -> Event;
    let request = Outgoing { message: Message::new(Kind::Request, 0, MAC), from: SERVER, to: SERVER };
    let events: [(&str, Make); 7] = [
        ("timer", |_| Event::Timer),
        ("offer", lan::offer),
        ("ack", lan::ack),
        ("nak", lan::nak),
        ("free", |_| Event::Free(ip("10.0.0.5"))),
        ("conflict", |_| Event::Conflict { address: ip("10.0.0.5"), mac: OTHER }),
        ("moved", |_| Event::Moved),
    ];
    let mut table = Vec::new();
    for (state, lan, sent) in states() {
        assert_eq!(state, name(&lan.client));
        for (event, make) in events {
            let mut lan = lan.clone();
            // Its time has come.
            if let Some(deadline) = lan.client.deadline().filter(|_| event == "timer" && state != "init") {
                lan.now = deadline;
            }
            if state == "init" && event != "timer" {
                lan.client.state = State::Init(seconds(1));
            }
            let effects = lan.step(make(sent.as_ref().unwrap_or(&request)));
            let words: Vec<_> = effects.iter().map(word).collect();
            let to = name(&lan.client);
            if to != state || !words.is_empty() {
                table.push(format!("{state} + {event} = {} → {to}", words.join(", ")).replace("=  →", "→"));
            }
        }
    }
    assert_eq!(table, TABLE.trim().lines().collect::<Vec<_>>(), "{}", table.join("\n"));
}

/// What is not here does nothing.
const TABLE: &str = "
init + timer = discover → selecting
selecting + timer = discover → selecting
selecting + offer = request → requesting
requesting + timer = request → requesting
requesting + ack = probe → probing
requesting + nak → init
probing + free = bound → bound
probing + conflict = decline → init
bound + timer = request to server → renewing
bound + conflict = decline, lost → init
bound + moved = request → rebooting
rebooting + timer = discover → selecting
rebooting + ack = bound → bound
rebooting + nak = lost → init
rebooting + conflict = decline, lost → init
renewing + timer = request to server → renewing
renewing + ack = bound → bound
renewing + nak = lost → init
renewing + conflict = decline, lost → init
renewing + moved = request → rebooting
rebinding + timer = request → rebinding
rebinding + ack = bound → bound
rebinding + nak = lost → init
rebinding + conflict = decline, lost → init
rebinding + moved = request → rebooting
";

fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![Just(SERVER), Just(ip("10.0.0.5")), Just(ip("10.0.0.6")), Just(Ipv4Addr::UNSPECIFIED)]
}

/// What may happen: the kind of an answer, if it is one, with its values, and the time until it does.
fn event() -> impl Strategy<Value = (u8, Ipv4Addr, Ipv4Addr, Option<u32>, u64, u64)> {
    let time = prop_oneof![0..3_u64, 0..2_000_000_u64, Just(1_u64 << 40)];
    (0..9_u8, address(), address(), proptest::option::of(any::<u32>()), time, any::<u64>())
}

proptest! {
    /// Whatever happens: the client has something to wait for, and what it says agrees.
    #[test]
    fn any_course_of_events(
        limit in proptest::option::of(0..30_u64),
        rapid_commit: bool,
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let config = Config { rapid_commit, taken: vec![(ip("10.0.0.6"), Sharer::Host)], ..config() };
        let mut client = Client::new(config, Duration::ZERO, limit.map(seconds));
        let (mut now, mut last, mut bound, mut probed) = (Duration::ZERO, None, None, None);
        for (kind, address, server, time, passed, random) in events {
            now += Duration::from_millis(passed);
            let request = last.clone().unwrap_or(Outgoing { message: Message::new(Kind::Request, 0, MAC), from: SERVER, to: SERVER });
            let answer = |event| match event {
                Event::Received(message) => Event::Received(Message {
                    yiaddr: address, server: Some(server), lease_time: time, t1: time, ..message
                }),
                event => event,
            };
            let event = match kind {
                0 => Event::Timer,
                1 => answer(lan::offer(&request)),
                2 => answer(lan::ack(&request)),
                3 => lan::offer(&request),
                4 => lan::ack(&request),
                5 => lan::nak(&request),
                6 => Event::Free(probed.unwrap_or(address)),
                7 => Event::Conflict { address, mac: OTHER },
                _ => Event::Moved,
            };
            for effect in client.step(event, now, random) {
                match effect {
                    Effect::Send(out) => {
                        prop_assert!(!out.message.encode().is_empty());
                        if out.message.kind == Kind::Request && !out.message.ciaddr.is_unspecified() {
                            prop_assert_eq!(Some(out.message.ciaddr), bound);
                        }
                        last = Some(out);
                    }
                    Effect::Probe(address) => {
                        prop_assert!(address != ip("10.0.0.6"), "the host's own");
                        probed = Some(address);
                    }
                    Effect::Bound(lease) => {
                        let address = lease.address.addr();
                        prop_assert!(Some(address) == probed || Some(address) == bound, "never without a probe");
                        prop_assert!(!lease.times.is_over(now));
                        bound = Some(address);
                    }
                    Effect::Lost(_) => prop_assert!(bound.take().is_some()),
                    Effect::Failed(failure) => prop_assert!(!failure.error().to_string().is_empty()),
                }
            }
            prop_assert_eq!(client.held.as_ref().map(|lease| lease.address.addr()), bound);
            prop_assert!(client.deadline().is_none_or(|deadline| deadline > now), "it never spins");
        }
    }

    /// Whatever a file says about the times of a lease.
    #[test]
    fn any_lease_of_the_ledger(times: [u64; 4], now: u64, random: u64) {
        let [obtained, t1, t2, expiry] = times.map(Duration::from_millis);
        let mut lease = lan::lease("10.0.0.5", 60);
        lease.times = Times { obtained, limits: Some(Limits { t1, t2, expiry }) };
        let mut client = Client::resume(config(), lease, random);
        let mut now = Duration::from_millis(now);
        for _ in 0..10 {
            client.step(Event::Timer, now, random);
            let next = client.deadline();
            prop_assert!(next.is_some_and(|next| next > now));
            now = next.unwrap_or(now);
        }
    }
}
