//! Every state with every event.

use proptest::prelude::*;

use super::lan::{self, Lan, OTHER, config, ip, own, seconds, server};
use super::*;
use crate::dhcp::times::{Limits, Times};

/// A client in each state, at its time, with the message that it waits for an answer to.
fn states() -> Vec<(&'static str, Lan, Option<Message>)> {
    let mut all = Vec::new();
    let mut lan = Lan::patient(config());
    all.push(("init", lan.clone(), None));
    let solicit = lan.sent(Event::Timer);
    all.push(("soliciting", lan, Some(solicit)));
    let mut lan = Lan::patient(config());
    let request = lan.requesting();
    all.push(("requesting", lan.clone(), Some(request.clone())));
    lan.step(lan::reply(&request));
    all.push(("probing", lan, Some(request)));
    let mut lan = Lan::bound(config());
    lan.now = seconds(1);
    all.push(("bound", lan.clone(), None));
    let mut confirming = lan.clone();
    confirming.step(Event::Moved);
    let confirm = confirming.next();
    all.push(("confirming", confirming, Some(confirm)));
    let renew = lan.sent_at(1800, Event::Timer);
    all.push(("renewing", lan.clone(), Some(renew)));
    lan.now = seconds(2880);
    let rebind = lan.sent(Event::Timer);
    all.push(("rebinding", lan, Some(rebind)));
    let mut lan = Lan::new(config());
    let solicit = lan.sent(Event::Timer);
    lan.at(20, Event::Timer);
    all.push(("stopped", lan, Some(solicit)));
    all
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Send(message) => format!("{:?}", message.kind).to_lowercase(),
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
        State::Soliciting { .. } => "soliciting",
        State::Requesting { .. } => "requesting",
        State::Confirming(_) => "confirming",
        State::Probing(_) => "probing",
        State::Bound(_) => "bound",
        State::Renewing(_) => "renewing",
        State::Rebinding(_) => "rebinding",
        State::Stopped => "stopped",
    }
}

#[test]
fn every_state_with_every_event() {
    type Make = fn(&Message) -> Event;
    let events: [(&str, Make); 9] = [
        ("timer", |_| Event::Timer),
        ("best advertise", |request| {
            Event::Received(Message { preference: 255, ..lan::answer(Kind::Advertise, request) })
        }),
        ("reply", lan::reply),
        ("success", |request| lan::status(request, Status::SUCCESS)),
        ("not on link", |request| lan::refusal(request, Status::NOT_ON_LINK)),
        ("no binding", |request| lan::refusal(request, Status::NO_BINDING)),
        ("free", |_| Event::Free(own())),
        ("conflict", |_| Event::Conflict { address: own(), mac: OTHER }),
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
            let effects = lan.step(make(sent.as_ref().unwrap_or(&Message::new(Kind::Request, 0))));
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
init + timer = solicit → soliciting
soliciting + timer = solicit → soliciting
soliciting + best advertise = request → requesting
requesting + timer = request → requesting
requesting + reply = probe → probing
requesting + not on link → init
requesting + no binding → init
probing + free = bound → bound
probing + conflict = decline → init
bound + timer = renew → renewing
bound + conflict = decline, lost → init
bound + moved → confirming
confirming + timer = confirm → confirming
confirming + reply → bound
confirming + success → bound
confirming + not on link = lost, solicit → soliciting
confirming + conflict = decline, lost → init
renewing + timer = renew → renewing
renewing + reply = bound → bound
renewing + no binding = request → requesting
renewing + conflict = decline, lost → init
renewing + moved → confirming
rebinding + timer = rebind → rebinding
rebinding + reply = bound → bound
rebinding + no binding = request → requesting
rebinding + conflict = decline, lost → init
rebinding + moved → confirming
";

fn address() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![Just(own()), Just(ip("2001:db8::6")), Just(ip("fe80::1")), Just(Ipv6Addr::UNSPECIFIED)]
}

/// What may happen: the kind of an event with its values, and the time until it does.
fn event() -> impl Strategy<Value = (u8, Ipv6Addr, [u32; 4], u16, u64, u64)> {
    let time = prop_oneof![0..3_u64, 0..2_000_000_u64, Just(1_u64 << 40)];
    (0..10_u8, address(), any::<[u32; 4]>(), 0..6_u16, time, any::<u64>())
}

proptest! {
    /// Whatever happens: the client has something to wait for, and what it says agrees.
    #[test]
    fn any_course_of_events(
        limit in proptest::option::of(0..30_u64),
        rapid_commit: bool,
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut client = Client::new(Config { rapid_commit, ..config() }, Duration::ZERO, limit.map(seconds));
        let (mut now, mut last, mut bound, mut probed) = (Duration::ZERO, Message::new(Kind::Solicit, 0), None, None);
        for (kind, address, [t1, t2, preferred, valid], code, passed, random) in events {
            now += Duration::from_millis(passed);
            let odd = |kind| {
                let mut message = lan::answer(kind, &last);
                (message.ia[0].t1, message.ia[0].t2) = (t1, t2);
                let own = &mut message.ia[0].addresses[0];
                (own.address, own.preferred, own.valid) = (address, preferred, valid);
                Event::Received(Message { server: Some(server(code as u8)), ..message })
            };
            let event = match kind {
                0 => Event::Timer,
                1 => odd(Kind::Advertise),
                2 => odd(Kind::Reply),
                3 => lan::advertise(&last),
                4 => lan::reply(&last),
                5 => lan::refusal(&last, code),
                6 => lan::status(&last, code),
                7 => Event::Free(probed.unwrap_or(address)),
                8 => Event::Conflict { address, mac: None },
                _ => Event::Moved,
            };
            for effect in client.step(event, now, random) {
                match effect {
                    Effect::Send(message) => {
                        prop_assert_eq!(Message::parse(&message.encode()).unwrap(), message.clone());
                        if matches!(message.kind, Kind::Renew | Kind::Rebind | Kind::Confirm) {
                            prop_assert_eq!(Some(message.ia[0].addresses[0].address), bound);
                        }
                        last = message;
                    }
                    Effect::Probe(address) => probed = Some(address),
                    Effect::Bound(lease) => {
                        prop_assert!(Some(lease.address) == probed || Some(lease.address) == bound);
                        prop_assert!(!lease.times.is_over(now));
                        bound = Some(lease.address);
                    }
                    Effect::Lost(_) => prop_assert!(bound.take().is_some()),
                    Effect::Failed(failure) => prop_assert!(!failure.error().to_string().is_empty()),
                }
            }
            prop_assert_eq!(client.held.as_ref().map(|lease| lease.address), bound);
            prop_assert!(client.deadline().is_none_or(|deadline| deadline > now), "it never spins");
        }
    }

    /// Whatever a file says about the times of a lease.
    #[test]
    fn any_lease_of_the_ledger(times: [u64; 4], now: u64, random: u64) {
        let [obtained, t1, t2, expiry] = times.map(Duration::from_millis);
        let mut lease = lan::lease(60, 60);
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
