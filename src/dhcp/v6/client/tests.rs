//! Whole exchanges, from their beginning, with their times.

mod lan;
mod states;

use self::lan::{Lan, OTHER, config, ip, lease, own, seconds, server};
use super::*;

/// What is different in a message.
type Change = fn(&mut Message);

#[test]
fn four_messages_and_a_probe() {
    let mut lan = Lan::new(config());
    let solicit = lan.sent(Event::Timer);
    assert_eq!((solicit.kind, solicit.elapsed, solicit.server.clone()), (Kind::Solicit, Some(0), None));
    assert_eq!(lan.step(lan::advertise(&solicit)), [], "a better one may come");
    let request = lan.next();
    assert_eq!((lan.now, request.kind), (Duration::from_millis(200), Kind::Request));
    assert_eq!((request.server.clone(), request.elapsed), (Some(server(1)), Some(0)));
    assert_ne!(request.xid, solicit.xid);
    assert_eq!(lan.step(lan::reply(&request)), [Effect::Probe(own())]);
    let [Effect::Bound(lease)] = &lan.step(Event::Free(own()))[..] else { panic!() };
    assert_eq!((lease.address, lease.times.obtained), (own(), Duration::from_millis(200)));
    assert_eq!(lan.client.deadline(), Some(Duration::from_millis(1_800_200)));
}

/// 1, 2, 4 … seconds with one number, and the time that has passed.
#[test]
fn solicit_is_repeated() {
    let mut lan = Lan::new(config());
    let first = lan.sent(Event::Timer);
    for (at, elapsed) in [(1, 100), (3, 300), (7, 700), (15, 1500)] {
        let again = lan.next();
        assert_eq!(lan.now, seconds(at));
        assert_eq!(again, Message { elapsed: Some(elapsed), ..first.clone() });
    }
    let effects = lan.at(20, lan::advertise(&first));
    assert_eq!((effects, lan.client.deadline()), (vec![Effect::Failed(Failure::NoAdvertise)], None));
    // Without a limit, up to an hour, or what a server says.
    let mut lan = Lan::patient(config());
    let first = lan.sent(Event::Timer);
    let waits = |lan: &mut Lan| {
        let begin = lan.now;
        lan.next();
        (lan.client.deadline().unwrap() - begin).as_secs()
    };
    for _ in 0..20 {
        waits(&mut lan);
    }
    assert_eq!(waits(&mut lan), 7200);
    let mut message = lan::answer(Kind::Advertise, &first);
    (message.sol_max_rt, message.ia) = (Some(60), Vec::new());
    lan.step(Event::Received(message));
    lan.next();
    assert_eq!(lan.client.deadline().unwrap() - lan.now, seconds(60));
}

#[test]
fn the_best_offer_is_taken() {
    let offers = |config: Config| {
        let mut lan = Lan::new(config);
        let solicit = lan.sent(Event::Timer);
        for (number, preference) in [(1, 0), (2, 5), (3, 5), (4, 1), (5, 255)] {
            let server = Some(server(number));
            let offer = Message { server, preference, ..lan::answer(Kind::Advertise, &solicit) };
            match &lan.step(Event::Received(offer))[..] {
                [] => {}
                [Effect::Send(request)] => return request.server.clone(),
                effects => panic!("{effects:?}"),
            }
            if number == 4 {
                let mut without_the_last = lan.clone();
                assert_eq!(without_the_last.next().server, Some(self::server(2)));
            }
        }
        None
    };
    assert_eq!(offers(config()), Some(server(5)), "at once");
    let known = Config { server: Some(server(2)), ..config() };
    assert_eq!(offers(known), Some(server(2)), "the one that the identity knows");
}

#[test]
fn a_lease_at_once_where_it_was_asked_for() {
    for rapid_commit in [true, false] {
        let mut lan = Lan::new(Config { rapid_commit, ..config() });
        let solicit = lan.sent(Event::Timer);
        assert_eq!(solicit.rapid_commit, rapid_commit);
        let plain = Message { rapid_commit: false, ..lan::answer(Kind::Reply, &solicit) };
        assert_eq!(lan.step(Event::Received(plain.clone())), []);
        let effects = lan.step(Event::Received(Message { rapid_commit: true, ..plain }));
        assert_eq!(effects.len(), usize::from(rapid_commit), "{effects:?}");
    }
}

#[test]
fn an_answer_to_another_client_is_dropped() {
    let changes: [(&str, Change); 6] = [
        ("xid", |message| message.xid += 1),
        ("client", |message| message.client = Some(server(9))),
        ("no client", |message| message.client = None),
        ("no server", |message| message.server = None),
        ("kind", |message| message.kind = Kind::Advertise),
        ("link", |message| message.ia[0].iaid.0 += 1),
    ];
    for (what, change) in changes {
        let mut lan = Lan::new(config());
        let request = lan.requesting();
        let mut message = lan::answer(Kind::Reply, &request);
        change(&mut message);
        assert_eq!(lan.step(Event::Received(message)), [], "{what}");
        assert_eq!(lan.step(lan::reply(&request)).len(), 1, "{what}");
    }
}

#[test]
fn no_address_is_free() {
    let mut lan = Lan::new(config());
    let solicit = lan.sent(Event::Timer);
    let Event::Received(refusal) = lan::refusal(&solicit, Status::NO_ADDRESSES) else { panic!() };
    assert_eq!(lan.step(Event::Received(Message { kind: Kind::Advertise, ..refusal })), []);
    let [Effect::Failed(failure)] = &lan.at(20, Event::Timer)[..] else { panic!() };
    let why = "DHCPv6 server 0003000101 answers and gives no lease: no address is free: \"sorry\"";
    assert_eq!(failure.error().to_string(), why);
    // In answer to a request: from the beginning, without that address.
    let hint = Config { address: Some(own()), ..config() };
    let mut lan = Lan::new(hint);
    let request = lan.requesting();
    assert_eq!(lan.step(lan::refusal(&request, Status::NOT_ON_LINK)), []);
    let solicit = lan.next();
    assert_eq!((solicit.kind, solicit.ia[0].addresses.len()), (Kind::Solicit, 0));
}

#[test]
fn a_request_is_repeated_ten_times() {
    let mut lan = Lan::patient(config());
    let request = lan.requesting();
    let begin = lan.now;
    let mut times = Vec::new();
    for _ in 0..9 {
        assert_eq!(Message { elapsed: Some(0), ..lan.next() }, request);
        times.push((lan.now - begin).as_secs());
    }
    assert_eq!(times, [1, 3, 7, 15, 31, 61, 91, 121, 151]);
    lan.now = lan.client.deadline().unwrap();
    assert_eq!(lan.step(Event::Timer), []);
    assert_eq!(lan.next().kind, Kind::Solicit);
}

#[test]
fn what_is_asked_for_when_the_time_is_over_is_given_back() {
    for replied in [false, true] {
        let mut lan = Lan::new(config());
        let request = lan.requesting();
        if replied {
            lan.step(lan::reply(&request));
        }
        let effects = lan.at(20, lan::reply(&request));
        let [Effect::Send(release), Effect::Failed(Failure::NoReply(_))] = &effects[..] else { panic!() };
        assert_eq!((release.kind, release.ia[0].addresses[0].address), (Kind::Release, own()));
    }
}

#[test]
fn an_address_in_use_is_declined_and_three_of_them_are_a_failure() {
    let mut lan = Lan::patient(config());
    for round in 1..=3 {
        let request = lan.requesting();
        lan.step(lan::reply(&request));
        let effects = lan.step(Event::Conflict { address: own(), mac: OTHER });
        let Effect::Send(decline) = &effects[0] else { panic!() };
        assert_eq!((decline.kind, decline.server.clone()), (Kind::Decline, Some(server(1))));
        match &effects[1..] {
            [] if round < 3 => {
                assert_eq!(lan.client.deadline(), Some(lan.now + seconds(10)));
                lan.now += seconds(10);
            }
            [Effect::Failed(failure)] if round == 3 => assert_eq!(
                failure.error().to_string(),
                "the DHCPv6 server gives 2001:db8::5, which another host (02:00:00:00:00:07) has"
            ),
            effects => panic!("{effects:?}"),
        }
    }
    // By the kernel, which does not say which host.
    let mut lan = Lan::bound(config());
    let effects = lan.step(Event::Conflict { address: own(), mac: None });
    let [Effect::Send(_), Effect::Lost(loss)] = &effects[..] else { panic!() };
    assert_eq!(loss.to_string(), "another host has the address of the DHCPv6 lease");
    assert_eq!(lan.step(Event::Conflict { address: ip("2001:db8::9"), mac: None }), []);
}

#[test]
fn renewed_at_t1_rebound_at_t2_and_gone_at_the_end() {
    let mut lan = Lan::bound(config());
    let renew = lan.sent_at(1800, Event::Timer);
    assert_eq!((renew.kind, renew.server.clone()), (Kind::Renew, Some(server(1))));
    let again = lan.next();
    assert_eq!((lan.now, again.xid, again.elapsed), (seconds(1810), renew.xid, Some(1000)));
    let mut renewed = lan.clone();
    let [Effect::Bound(lease)] = &renewed.at(1811, lan::reply(&again))[..] else { panic!() };
    assert_eq!(
        (lease.times.obtained, renewed.client.deadline()),
        (seconds(1810), Some(seconds(1810 + 1800)))
    );
    let rebind = loop {
        let message = lan.next();
        assert!(lan.now <= seconds(2880));
        if message.kind == Kind::Rebind {
            break message;
        }
    };
    assert_eq!((lan.now, rebind.server.clone(), rebind.elapsed), (seconds(2880), None, Some(0)));
    let mut rebound = lan.clone();
    let by_another = Message { server: Some(server(2)), ..lan::answer(Kind::Reply, &rebind) };
    let [Effect::Bound(lease)] = &rebound.step(Event::Received(by_another))[..] else { panic!() };
    assert_eq!(lease.server, server(2));
    let effects = lan.at(7200, lan::reply(&rebind));
    let [Effect::Lost(Loss::Expired), Effect::Send(solicit)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((solicit.kind, solicit.ia[0].addresses[0].address), (Kind::Solicit, own()));
}

#[test]
fn a_server_that_has_forgotten_the_lease_is_asked_to_give_it_again() {
    let mut lan = Lan::bound(config());
    let renew = lan.sent_at(1800, Event::Timer);
    let request = lan.sent(lan::refusal(&renew, Status::NO_BINDING));
    assert_eq!((request.kind, request.server.clone()), (Kind::Request, Some(server(1))));
    assert_eq!(request.ia[0].addresses[0].address, own());
    let (mut refused, mut moved) = (lan.clone(), lan.clone());
    assert!(matches!(lan.step(lan::reply(&request))[..], [Effect::Bound(_)]), "no probe of its own address");
    let effects = moved.step(lan::refusal(&request, Status::NOT_ON_LINK));
    assert_eq!(effects, [Effect::Lost(Loss::NotOnLink)]);
    assert_eq!(refused.step(lan::refusal(&request, Status::NO_BINDING)), []);
    assert_eq!(refused.next().kind, Kind::Solicit);
    assert_eq!(refused.at(7200, Event::Timer)[0], Effect::Lost(Loss::Expired), "it is held until its end");
}

#[test]
fn an_address_without_time_is_withdrawn() {
    let mut lan = Lan::bound(config());
    let renew = lan.sent_at(1800, Event::Timer);
    let mut message = lan::answer(Kind::Reply, &renew);
    message.ia[0].addresses[0].valid = 0;
    message.ia[0].addresses[0].preferred = 0;
    let mut other = message.clone();
    other.ia[0].addresses.clear();
    assert_eq!(lan.step(Event::Received(other.clone())), [], "nothing is said of it");
    let mut changed = lan.clone();
    let effects = lan.step(Event::Received(message.clone()));
    let [Effect::Lost(Loss::Withdrawn), Effect::Send(solicit)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(solicit.kind, Kind::Solicit);
    // Another one is given instead.
    let mut next = lan::answer(Kind::Reply, &renew).ia[0].addresses[0];
    next.address = ip("2001:db8::6");
    message.ia[0].addresses.push(next);
    assert_eq!(changed.step(Event::Received(message)), [Effect::Probe(ip("2001:db8::6"))]);
    assert!(matches!(changed.step(Event::Free(ip("2001:db8::6")))[..], [Effect::Bound(_)]));
}

#[test]
fn after_a_move_the_lease_is_confirmed() {
    let mut lan = Lan::bound(config());
    lan.now = seconds(60);
    assert_eq!(lan.step(Event::Moved), [], "within a second");
    let confirm = lan.next();
    assert!(lan.now < seconds(61));
    assert_eq!((confirm.kind, confirm.server.clone()), (Kind::Confirm, None));
    let (mut refused, mut silent) = (lan.clone(), lan.clone());
    assert_eq!(lan.step(lan::status(&confirm, Status::SUCCESS)), []);
    assert_eq!(lan.client.deadline(), Some(seconds(1800)), "as it was");
    let effects = refused.step(lan::status(&confirm, Status::NOT_ON_LINK));
    assert!(matches!(effects[..], [Effect::Lost(Loss::NotOnLink), Effect::Send(_)]));
    // Nothing is heard for ten seconds: it holds.
    let begin = silent.now;
    for after in [1, 3, 7] {
        assert_eq!(silent.next().kind, Kind::Confirm);
        assert_eq!(silent.now - begin, seconds(after));
    }
    silent.now = silent.client.deadline().unwrap();
    assert_eq!((silent.now - begin, silent.step(Event::Timer)), (seconds(10), vec![]));
    assert_eq!(silent.client.deadline(), Some(seconds(1800)));
}

#[test]
fn after_a_suspend() {
    for (at, kind) in [(1799, None), (1900, Some(Kind::Renew)), (3000, Some(Kind::Rebind))] {
        let mut lan = Lan::bound(config());
        let kinds = lan.at(at, Event::Timer).into_iter().map(|effect| match effect {
            Effect::Send(message) => message.kind,
            effect => panic!("{effect:?}"),
        });
        assert_eq!(kinds.collect::<Vec<_>>(), kind.into_iter().collect::<Vec<_>>());
    }
    let mut lan = Lan::bound(config());
    assert!(matches!(lan.at(90_000, Event::Timer)[..], [Effect::Lost(Loss::Expired), Effect::Send(_)]));
}

#[test]
fn a_lease_for_ever_and_one_of_a_second() {
    let for_ever = Client::resume(config(), lease(u32::MAX, u32::MAX), 0);
    assert_eq!(for_ever.deadline(), None);
    let mut lan = Lan { client: Client::resume(config(), lease(1, 1), 1 << 63), ..Lan::new(config()) };
    let kinds = [lan.next().kind, lan.next().kind];
    assert_eq!((kinds, lan.now), ([Kind::Renew, Kind::Rebind], Duration::from_millis(800)));
    assert_eq!(lan.client.deadline(), Some(seconds(1)));
}
