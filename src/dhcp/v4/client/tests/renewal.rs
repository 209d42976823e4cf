//! A client that has a lease: until it is renewed, changed or lost.

use super::lan::{self, Lan, OTHER, SERVER, config, ip, lease, seconds};
use super::*;

#[test]
fn a_conflict_that_is_found_late_ends_the_lease() {
    let mut lan = Lan::bound(config());
    assert_eq!(lan.step(Event::Conflict { address: ip("10.0.0.9"), mac: OTHER }), [], "not ours");
    let effects = lan.step(Event::Conflict { address: ip("10.0.0.5"), mac: OTHER });
    let [Effect::Send(decline), Effect::Lost(Loss::Conflict(OTHER))] = &effects[..] else { panic!() };
    assert_eq!(decline.message.kind, Kind::Decline);
    assert_eq!(lan.client.deadline(), Some(lan.now + seconds(10)));
}

#[test]
fn renewed_at_t1_by_the_server_alone() {
    let mut lan = Lan::bound(config());
    let renew = lan.sent_at(1800, Event::Timer);
    assert_eq!((renew.from, renew.to), (ip("10.0.0.5"), SERVER));
    // Half of what is left until T2, and a minute at least.
    let again = lan.sent_at(2475, Event::Timer);
    assert_eq!((again.to, again.message.secs), (SERVER, 675));
    assert_ne!(again.message.xid, renew.message.xid);
    assert_eq!(lan.step(lan::ack(&renew)), [], "a lease counts from the request that is answered");
    let [Effect::Bound(lease)] = &lan.step(lan::ack(&again))[..] else { panic!() };
    assert_eq!((lease.times.obtained, lan.client.deadline()), (seconds(2475), Some(seconds(2475 + 1800))));
}

#[test]
fn rebound_at_t2_by_any_server_and_gone_at_expiry() {
    let mut lan = Lan::bound(config());
    lan.sent_at(1800, Event::Timer);
    let rebind = lan.sent_at(3150, Event::Timer);
    assert_eq!((rebind.from, rebind.to), (ip("10.0.0.5"), Ipv4Addr::BROADCAST));
    assert_eq!((rebind.message.server, rebind.message.requested), (None, None));
    let another = lan.sent_at(3375, Event::Timer);
    assert_eq!(lan.client.deadline(), Some(Duration::from_millis(3_487_500)));
    let mut late = lan.clone();
    // An answer that comes when the lease is over is too late.
    let effects = late.at(3600, lan::ack(&another));
    let [Effect::Lost(Loss::Expired), Effect::Send(discover)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((discover.message.kind, discover.message.requested), (Kind::Discover, Some(ip("10.0.0.5"))));
    // In time, from another server.
    let Event::Received(mut message) = lan::ack(&another) else { panic!() };
    message.server = Some(ip("10.0.0.2"));
    let [Effect::Bound(lease)] = &lan.at(3599, Event::Received(message))[..] else { panic!() };
    assert_eq!(lease.server, ip("10.0.0.2"));
}

#[test]
fn a_server_that_comes_back_after_expiry_gives_the_same_address() {
    let mut lan = Lan::bound(config());
    let effects = lan.at(4000, Event::Timer);
    let [Effect::Lost(Loss::Expired), Effect::Send(discover)] = &effects[..] else { panic!("{effects:?}") };
    let request = lan.sent_at(4001, lan::offer(discover));
    assert_eq!(
        lan.step(lan::ack(&request)),
        [Effect::Probe(ip("10.0.0.5"))],
        "another host may have it by now"
    );
    assert!(matches!(lan.step(Event::Free(ip("10.0.0.5")))[..], [Effect::Bound(_)]));
}

#[test]
fn a_refusal_in_renewing_ends_the_lease_at_once() {
    let mut lan = Lan::bound(config());
    let renew = lan.sent_at(1800, Event::Timer);
    let Event::Received(mut other) = lan::nak(&renew) else { panic!() };
    other.server = Some(ip("10.0.0.2"));
    assert_eq!(lan.step(Event::Received(other)), [], "not by the server that gave the lease");
    let [Effect::Lost(loss)] = &lan.step(lan::nak(&renew))[..] else { panic!() };
    assert_eq!(loss.to_string(), "DHCP server 10.0.0.1 refuses the address: \"wrong network\"");
    let discover = lan.sent_at(1801, Event::Timer);
    assert_eq!(
        (discover.message.kind, discover.message.requested),
        (Kind::Discover, None),
        "not the same again"
    );
}

#[test]
fn another_address_at_renewal_is_probed_and_taken() {
    let mut lan = Lan::bound(config());
    let renew = lan.sent_at(1800, Event::Timer);
    let Event::Received(mut message) = lan::ack(&renew) else { panic!() };
    message.yiaddr = ip("10.0.0.6");
    assert_eq!(lan.step(Event::Received(message)), [Effect::Probe(ip("10.0.0.6"))]);
    assert_eq!(lan.step(Event::Free(ip("10.0.0.5"))), []);
    let [Effect::Bound(lease)] = &lan.step(Event::Free(ip("10.0.0.6")))[..] else { panic!() };
    assert_eq!(lease.address.addr(), ip("10.0.0.6"));
}

#[test]
fn after_a_move_the_lease_is_confirmed() {
    let mut lan = Lan::bound(config());
    let reboot = lan.sent_at(60, Event::Moved);
    assert_eq!((reboot.message.requested, reboot.message.server), (Some(ip("10.0.0.5")), None));
    assert_eq!((reboot.message.ciaddr, reboot.to), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    let mut refused = lan.clone();
    let mut silent = lan.clone();
    assert!(matches!(lan.step(lan::ack(&reboot))[..], [Effect::Bound(_)]), "its own address is not probed");
    // By whichever server that network has.
    let Event::Received(mut nak) = lan::nak(&reboot) else { panic!() };
    nak.server = Some(ip("192.168.0.1"));
    assert!(matches!(refused.step(Event::Received(nak))[..], [Effect::Lost(Loss::Refused(_))]));
    // One try, then as at first, with the address as a hint. The lease holds meanwhile.
    let discover = silent.sent_at(61, Event::Timer);
    assert_eq!((discover.message.kind, discover.message.requested), (Kind::Discover, Some(ip("10.0.0.5"))));
    let mut over = silent.clone();
    let mut denied = silent.clone();
    let request = denied.sent(lan::offer(&discover));
    assert!(matches!(denied.step(lan::nak(&request))[..], [Effect::Lost(Loss::Refused(_))]), "what it has");
    let request = silent.sent(lan::offer(&discover));
    assert!(matches!(silent.step(lan::ack(&request))[..], [Effect::Bound(_)]));
    let mut effects = Vec::new();
    while over.now < seconds(3600) {
        assert_eq!(effects, []);
        over.now = over.client.deadline().unwrap();
        effects = over.step(Event::Timer);
        effects.retain(|effect| !matches!(effect, Effect::Send(_)));
    }
    assert_eq!(effects, [Effect::Lost(Loss::Expired)]);
}

#[test]
fn after_a_suspend() {
    for (at, to) in [(1799, None), (1900, Some(SERVER)), (3200, Some(Ipv4Addr::BROADCAST))] {
        let mut lan = Lan::bound(config());
        let sent = lan.at(at, Event::Timer).into_iter().map(|effect| match effect {
            Effect::Send(out) => out.to,
            effect => panic!("{effect:?}"),
        });
        assert_eq!(sent.collect::<Vec<_>>(), to.into_iter().collect::<Vec<_>>());
    }
    let mut lan = Lan::bound(config());
    assert!(matches!(lan.at(90_000, Event::Timer)[..], [Effect::Lost(Loss::Expired), Effect::Send(_)]));
}

#[test]
fn resumed_from_the_ledger() {
    let lease = lease("10.0.0.5", 3600);
    for (now, sent) in [(0, 0), (1800, 1), (3200, 1)] {
        let client = Client::resume(config(), lease.clone(), 1 << 63);
        let mut lan = Lan { client, ..Lan::new(config()) };
        assert_eq!(lan.client.deadline(), Some(seconds(1800)));
        assert_eq!(lan.at(now, Event::Timer).len(), sent);
    }
    // At T1, a little earlier or later; never behind T2.
    let random =
        [0, u64::MAX].map(|random| Client::resume(config(), lease.clone(), random).deadline().unwrap());
    assert_eq!(random.map(|time| time.as_secs()), [1710, 1889]);
}

#[test]
fn a_lease_for_ever_and_one_of_a_second() {
    let for_ever = Client::resume(config(), lease("10.0.0.5", u32::MAX), 0);
    assert_eq!(for_ever.deadline(), None);
    let mut lan =
        Lan { client: Client::resume(config(), lease("10.0.0.5", 1), 1 << 63), ..Lan::new(config()) };
    lan.now = Duration::from_millis(500);
    assert_eq!(lan.sent(Event::Timer).to, SERVER);
    lan.now = Duration::from_millis(875);
    assert_eq!(lan.sent(Event::Timer).to, Ipv4Addr::BROADCAST);
    assert_eq!(lan.client.deadline(), Some(seconds(1)));
    // What is over when the probe has ended is not taken.
    let mut lan = Lan::patient(config());
    let request = lan.requesting();
    let Event::Received(mut message) = lan::ack(&request) else { panic!() };
    message.lease_time = Some(1);
    lan.step(Event::Received(message));
    assert_eq!(lan.at(2, Event::Free(ip("10.0.0.5"))), []);
}
