//! Whole exchanges, from their beginning, with their times.

mod lan;
mod renewal;
mod states;

use self::lan::{HOST, Lan, OTHER, SERVER, config, ip, seconds};
use super::*;
use crate::dhcp::client_id::ClientId;
use crate::dhcp::v4::outcome::{Outgoing, Sharer};

/// What is different in a message.
type Change = fn(&mut Message);

#[test]
fn four_messages_and_a_probe() {
    let mut lan = Lan::new(config());
    let discover = lan.sent(Event::Timer);
    assert_eq!((discover.from, discover.to), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    assert_eq!((discover.message.kind, discover.message.secs), (Kind::Discover, 0));
    let request = lan.sent(lan::offer(&discover));
    assert_eq!((request.message.kind, request.message.xid), (Kind::Request, discover.message.xid));
    assert_eq!(lan.step(lan::ack(&request)), [Effect::Probe(ip("10.0.0.5"))], "before use");
    assert_eq!(lan.client.deadline(), Some(seconds(20)));
    let [Effect::Bound(lease)] = &lan.step(Event::Free(ip("10.0.0.5")))[..] else { panic!() };
    assert_eq!((lease.address.to_string(), lease.server), ("10.0.0.5/24".to_owned(), SERVER));
    assert_eq!(lan.step(lan::ack(&request)), [], "an answer that comes twice");
}

/// DISCOVER at 0, 1, 3, 7, 11, 15, 19 s with the same xid, and `secs` that grows.
#[test]
fn retries_have_the_same_xid_and_more_seconds() {
    let mut lan = Lan::new(config());
    let mut sent = Vec::new();
    while let Some(deadline) = lan.client.deadline() {
        lan.now = deadline;
        for effect in lan.step(Event::Timer) {
            match effect {
                Effect::Send(out) => sent.push((lan.now.as_secs(), out.message)),
                effect => {
                    assert_eq!(effect, Effect::Failed(Failure::NoOffer), "no server");
                    assert_eq!(lan.now, seconds(20), "at the end of its time");
                }
            }
        }
    }
    assert_eq!(sent.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1, 3, 7, 11, 15, 19]);
    for (at, message) in &sent {
        assert_eq!((u64::from(message.secs), message.xid), (*at, sent[0].1.xid));
        assert_eq!(message.kind, Kind::Discover);
    }
    assert_eq!(lan.step(Event::Timer), []);
}

/// A request has the `secs` of the DHCPDISCOVER that was answered (RFC 2131, 4.4.1), and comes at 0, 2, 6, 10, 14 s.
#[test]
fn an_offer_is_asked_for_five_times() {
    let mut lan = Lan::patient(config());
    let discover = lan.sent(Event::Timer);
    lan.sent_at(1, Event::Timer);
    let request = lan.sent_at(2, lan::offer(&discover));
    assert_eq!(request.message.secs, 1);
    for at in [4, 8, 16, 32] {
        assert_eq!(lan.client.deadline(), Some(seconds(at)));
        assert_eq!(lan.sent_at(at, Event::Timer), request);
    }
    let again = lan.client.deadline().unwrap();
    assert_eq!((again, lan.at(again.as_secs(), Event::Timer)), (seconds(64), vec![]));
    let next = lan.sent_at(65, Event::Timer);
    assert_eq!((next.message.kind, next.message.requested), (Kind::Discover, None));
    assert_ne!(next.message.xid, discover.message.xid, "another exchange");
}

#[test]
fn times_count_from_the_first_request() {
    let mut lan = Lan::new(config());
    let discover = lan.sent(Event::Timer);
    let request = lan.sent_at(1, lan::offer(&discover));
    lan.sent_at(3, Event::Timer);
    lan.at(4, lan::ack(&request));
    let [Effect::Bound(lease)] = &lan.at(5, Event::Free(ip("10.0.0.5")))[..] else { panic!() };
    assert_eq!(lease.times.obtained, seconds(1));
    assert_eq!(lan.client.deadline(), Some(seconds(1801)));
}

#[test]
fn an_answer_to_another_client_is_dropped() {
    let changes: [(&str, Change); 6] = [
        ("xid", |message| message.xid += 1),
        ("chaddr", |message| message.chaddr = OTHER),
        ("client id", |message| message.client_id = Some(ClientId::mac(OTHER))),
        ("server", |message| message.server = None),
        ("kind", |message| message.kind = Kind::Inform),
        ("address", |message| message.yiaddr = ip("10.0.0.77")),
    ];
    for (what, change) in changes {
        let mut lan = Lan::new(config());
        let request = lan.requesting();
        let Event::Received(mut message) = lan::ack(&request) else { panic!() };
        change(&mut message);
        assert_eq!(lan.step(Event::Received(message)), [], "{what}");
        assert_eq!(lan.step(lan::ack(&request)).len(), 1, "{what}");
    }
    // A server need not repeat the client id; one that does repeats the right one (RFC 6842).
    let mut lan = Lan::new(config());
    let request = lan.requesting();
    let Event::Received(mut message) = lan::ack(&request) else { panic!() };
    message.client_id = Some(config().client_id);
    assert_eq!(lan.step(Event::Received(message)).len(), 1);
}

#[test]
fn an_offer_that_is_no_lease_is_dropped_and_named() {
    let changes: [(Change, &str); 4] = [
        (|message| message.server = None, "no DHCP server answers"),
        (|message| message.lease_time = None, "DHCP server 10.0.0.1 offers no lease time"),
        (|message| message.prefix_len = None, "DHCP server 10.0.0.1 offers no subnet mask"),
        (
            |message| message.yiaddr = Ipv4Addr::UNSPECIFIED,
            "DHCP server 10.0.0.1 offers the address 0.0.0.0, which no host can have",
        ),
    ];
    for (change, why) in changes {
        let mut lan = Lan::new(config());
        let discover = lan.sent(Event::Timer);
        let Event::Received(mut message) = lan::offer(&discover) else { panic!() };
        change(&mut message);
        assert_eq!(lan.step(Event::Received(message)), []);
        let [Effect::Failed(failure)] = &lan.at(20, Event::Timer)[..] else { panic!() };
        assert_eq!(failure.error().to_string(), why);
        assert!(failure.error().hint_text().is_some());
    }
}

#[test]
fn an_address_in_use_is_declined_and_three_of_them_are_a_failure() {
    let mut lan = Lan::new(config());
    let mut discover = lan.sent(Event::Timer);
    for round in 1..=3 {
        let request = lan.sent(lan::offer(&discover));
        lan.step(lan::ack(&request));
        let effects = lan.step(Event::Conflict { address: ip("10.0.0.5"), mac: OTHER });
        let Effect::Send(decline) = &effects[0] else { panic!() };
        assert_eq!((decline.message.kind, decline.to), (Kind::Decline, Ipv4Addr::BROADCAST));
        match &effects[1..] {
            [Effect::Send(next)] if round < 3 => discover = next.clone(),
            [Effect::Failed(failure)] if round == 3 => {
                let error = failure.error().to_string();
                let why = "the DHCP server offers 10.0.0.5, which another host has: 02:00:00:00:00:07";
                assert_eq!((&error[..], lan.client.deadline()), (why, None));
            }
            effects => panic!("{effects:?}"),
        }
    }
}

#[test]
fn ten_seconds_pass_after_a_conflict_where_there_is_time() {
    let mut lan = Lan::patient(config());
    let request = lan.requesting();
    lan.step(lan::ack(&request));
    lan.step(Event::Conflict { address: ip("10.0.0.5"), mac: OTHER });
    assert_eq!(lan.client.deadline(), Some(seconds(10)));
    assert_eq!(lan.at(9, Event::Timer), []);
    let mut discover = lan.sent_at(10, Event::Timer);
    assert_eq!((discover.message.kind, discover.message.requested), (Kind::Discover, None));
    // The third one is told, and it goes on.
    for effects in [1, 2] {
        let request = lan.sent(lan::offer(&discover));
        lan.step(lan::ack(&request));
        assert_eq!(lan.step(Event::Conflict { address: ip("10.0.0.5"), mac: OTHER }).len(), effects);
        let next = lan.now + seconds(10);
        assert_eq!(lan.client.deadline(), Some(next));
        discover = lan.sent_at(next.as_secs(), Event::Timer);
    }
}

/// 1 s, then twice as long each time, up to 30 minutes.
#[test]
fn pauses_after_refusals_grow() {
    let mut lan = Lan::patient(config());
    let mut pauses = Vec::new();
    for _ in 0..13 {
        let request = lan.requesting();
        assert_eq!(lan.step(lan::nak(&request)), []);
        let next = lan.client.deadline().unwrap();
        pauses.push((next - lan.now).as_secs());
        lan.now = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800]);
    let request = lan.requesting();
    lan.step(lan::ack(&request));
    lan.step(Event::Free(ip("10.0.0.5")));
    assert_eq!(lan.client.setbacks, 0);
}

#[test]
fn what_is_asked_for_when_the_time_is_over_is_given_back() {
    for acknowledged in [false, true] {
        let mut lan = Lan::new(config());
        let request = lan.requesting();
        if acknowledged {
            lan.step(lan::ack(&request));
        }
        // The acknowledgement comes too late.
        let effects = lan.at(20, lan::ack(&request));
        let [Effect::Send(Outgoing { message, to, .. }), Effect::Failed(Failure::NoAck(SERVER))] =
            &effects[..]
        else {
            panic!("{effects:?}")
        };
        assert_eq!((message.kind, message.ciaddr, *to), (Kind::Release, ip("10.0.0.5"), SERVER));
        assert_eq!((lan.step(lan::ack(&request)), lan.client.deadline()), (vec![], None));
    }
}

/// ipvlan: four of four servers give the host's address to a container, if the host has no client id.
#[test]
fn the_hosts_own_address_is_neither_asked_for_nor_declined() {
    let taken = Config { taken: vec![(ip("10.0.0.5"), Sharer::Host)], ..config() };
    for rapid_commit in [false, true] {
        let mut lan = Lan::new(Config { rapid_commit, ..taken.clone() });
        let discover = lan.sent(Event::Timer);
        let event = if rapid_commit { lan::ack(&discover) } else { lan::offer(&discover) };
        assert_eq!(lan.step(event), []);
        lan.now = Duration::from_millis(200);
        let [Effect::Failed(failure)] = &lan.step(Event::Timer)[..] else { panic!() };
        assert_eq!(
            failure.error().to_string(),
            "DHCP server 10.0.0.1 offers 10.0.0.5, which this host has: it gives by MAC address, and the link has that of its \
             parent"
        );
    }
    // Another server may know better.
    let mut lan = Lan::new(taken.clone());
    let discover = lan.sent(Event::Timer);
    lan.step(lan::offer(&discover));
    let Event::Received(mut message) = lan::offer(&discover) else { panic!() };
    (message.server, message.yiaddr) = (Some(ip("10.0.0.2")), ip("10.0.0.6"));
    assert_eq!(lan.sent(Event::Received(message)).message.requested, Some(ip("10.0.0.6")));
    // Nor does it change to it.
    let mut lan = Lan::bound(Config { taken: vec![(HOST, Sharer::Host)], ..config() });
    let renew = lan.sent_at(1800, Event::Timer);
    let Event::Received(mut message) = lan::ack(&renew) else { panic!() };
    message.yiaddr = HOST;
    assert_eq!(lan.step(Event::Received(message)), []);
}

/// Another container gets the address while this one asks for it: its lease is neither declined nor given back.
#[test]
fn an_address_that_is_taken_meanwhile_is_left_alone() {
    let taken = || vec![(ip("10.0.0.5"), Sharer::Container)];
    let failed = |effects: Vec<Effect>| match &effects[..] {
        [Effect::Failed(failure)] => failure.error(),
        _ => panic!("{effects:?}"),
    };
    let mut lan = Lan::new(config());
    let request = lan.requesting();
    let mut probing = lan.clone();
    lan.client.avoid(taken());
    let error = failed(lan.step(lan::ack(&request)));
    assert!(error.to_string().contains("which another container of this host has"), "{error}");
    assert_eq!(error.hint_text(), Some("use macvlan, or a server that tells clients by client id"));
    probing.step(lan::ack(&request));
    for event in [Event::Free(ip("10.0.0.5")), Event::Conflict { address: ip("10.0.0.5"), mac: OTHER }] {
        let mut probing = probing.clone();
        probing.client.avoid(taken());
        failed(probing.step(event));
        assert_eq!(probing.client.deadline(), None);
    }
}

/// A server may give the lease of a container to the host, if that has no client id.
#[test]
fn the_host_gets_the_address_of_the_lease() {
    let mut lan = Lan::bound(config());
    lan.client.avoid(vec![(ip("10.0.0.5"), Sharer::Host)]);
    let [Effect::Lost(loss)] = &lan.at(1800, Event::Timer)[..] else { panic!("it renews nothing") };
    assert_eq!(loss.to_string(), "this host has the address of the DHCP lease, too");
    let discover = lan.sent_at(1801, Event::Timer);
    assert_eq!((discover.message.kind, discover.message.requested), (Kind::Discover, None));
    assert_eq!(lan.step(lan::offer(&discover)), []);
    assert!(matches!(lan.at(1802, Event::Timer)[..], [Effect::Failed(Failure::Shared { .. })]));
}

#[test]
fn the_known_server_is_preferred_for_200_milliseconds() {
    let known = Config { server: Some(ip("10.0.0.2")), address: Some(ip("10.0.0.5")), ..config() };
    let mut lan = Lan::new(known);
    let discover = lan.sent(Event::Timer);
    assert_eq!(discover.message.requested, Some(ip("10.0.0.5")), "what the identity had");
    let Event::Received(mut message) = lan::offer(&discover) else { panic!() };
    assert_eq!(lan.step(lan::offer(&discover)), []);
    let mut alone = lan.clone();
    message.server = Some(ip("10.0.0.2"));
    assert_eq!(lan.sent(Event::Received(message)).message.server, Some(ip("10.0.0.2")));
    alone.now = Duration::from_millis(200);
    assert_eq!(alone.sent(Event::Timer).message.server, Some(SERVER));
}

#[test]
fn a_server_that_is_not_allowed_is_not_heard() {
    let mut lan = Lan::new(Config { servers: vec![ip("10.0.0.2")], ..config() });
    let discover = lan.sent(Event::Timer);
    assert_eq!(lan.step(lan::offer(&discover)), []);
    let [Effect::Failed(failure)] = &lan.at(20, Event::Timer)[..] else { panic!() };
    let why = "DHCP server 10.0.0.1 answers, and the network does not allow it";
    assert_eq!(failure.error().to_string(), why);
}

#[test]
fn a_lease_at_once_where_it_was_asked_for() {
    let mut lan = Lan::new(Config { rapid_commit: true, ..config() });
    let discover = lan.sent(Event::Timer);
    assert!(discover.message.rapid_commit);
    let Event::Received(plain) = lan::ack(&discover) else { panic!() };
    assert_eq!(lan.step(Event::Received(Message { rapid_commit: false, ..plain })), []);
    let mut offered = lan.clone();
    assert_eq!(lan.step(lan::ack(&discover)), [Effect::Probe(ip("10.0.0.5"))]);
    // An offer with the option is an offer.
    let Event::Received(offer) = lan::offer(&discover) else { panic!() };
    let request = offered.sent(Event::Received(Message { rapid_commit: true, ..offer }));
    assert_eq!(request.message.kind, Kind::Request);
    assert!(!request.message.rapid_commit);
    // Not asked for.
    let mut lan = Lan::new(config());
    let discover = lan.sent(Event::Timer);
    let Event::Received(ack) = lan::ack(&discover) else { panic!() };
    assert_eq!(lan.step(Event::Received(Message { rapid_commit: true, ..ack })), []);
}

/// A suspend is a step from one time to another: what is due is the last of what was.
#[test]
fn without_a_limit_it_goes_on_after_a_failure() {
    let mut lan = Lan::patient(Config { taken: vec![(ip("10.0.0.5"), Sharer::Host)], ..config() });
    let discover = lan.sent(Event::Timer);
    lan.step(lan::offer(&discover));
    lan.now = Duration::from_millis(200);
    assert!(matches!(lan.step(Event::Timer)[..], [Effect::Failed(_)]));
    assert_eq!(lan.client.deadline(), Some(Duration::from_millis(1200)));
    assert_eq!(lan.sent_at(2, Event::Timer).message.kind, Kind::Discover);
}
