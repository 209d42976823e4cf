//! Addresses that others have, over a table in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::{Error, Kind};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::reserve::{Draft, Place};
use crate::ipam::tests::{MOMENT, Memory, NOW, OTHER, SMALL, applicant, conflict, wanted};
use crate::ledger::asked::Asked;
use crate::ledger::quarantine::{Conflict, PAUSE, PERIOD};
use crate::net::link::Link;
use crate::net::neighbour::Neighbour;

#[test]
fn what_others_have_comes_last() {
    let mut ledger = Memory::default();
    let detects = |keys: &str| wanted("lan", &format!("{SMALL}, {keys}"), 2);
    let lan = detects(r#""conflict_detection": 200"#);
    ledger.set_aside("10.0.0.3", 60);
    ledger.set_aside("10.0.0.2", 30);
    let neighbour = |last: u8, permanent: bool| {
        let address = IpAddr::from([10, 0, 0, last]);
        ((2, address), Neighbour { address, mac: OTHER, permanent })
    };
    ledger.facts.neighbours = BTreeMap::from([neighbour(4, false), neighbour(9, true)]);
    assert_eq!(ledger.address("one", &lan), "10.0.0.5");
    // Then the one that was set aside longest ago: the LAN is asked again.
    assert_eq!(ledger.address("two", &lan), "10.0.0.3");
    assert!(!ledger.segments.borrow()[&2].hints.quarantine.contains_key(&"10.0.0.3".parse().unwrap()));
    // Where it is not asked, none of them is given, and the error names who answered.
    let error = ledger.addresses("three", &wanted("lan", SMALL, 2)).unwrap_err();
    let text = "network lan has no free IPv4 address left, and 1 is set aside, for others answered: 1 by 02:00:00:00:00:01";
    assert_eq!((error.kind(), error.to_string()), (Kind::Exhausted, text.to_owned()));
    assert_eq!(ledger.address("three", &lan), "10.0.0.2");
    // Just now another host answered.
    ledger.free("10.0.0.2");
    ledger.set_aside("10.0.0.2", PAUSE - 1);
    assert_eq!(ledger.addresses("four", &lan).unwrap_err().kind(), Kind::Exhausted);
    // Over, and so picked as any other.
    ledger.set_aside("10.0.0.2", PERIOD + 1);
    assert_eq!(ledger.address("four", &lan), "10.0.0.2");
    // A neighbour may be gone, if the operator has not fixed it.
    assert_eq!(ledger.address("asks", &wanted("lan:ip=10.0.0.4", SMALL, 2)), "10.0.0.4");
    let error = ledger.addresses("asks", &wanted("lan:ip=10.0.0.9", SMALL, 2)).unwrap_err();
    let text =
        "address 10.0.0.9 of network lan is held by 02:00:00:00:00:01, as the host's neighbour table says";
    assert_eq!((error.kind(), error.to_string()), (Kind::Taken, text.to_owned()));
}

#[test]
fn another_address_after_a_conflict() {
    let replace = |text: &str| {
        let ledger = Memory::default();
        let lan = [wanted(text, SMALL, 2)];
        let record = ledger.attach_all("web", 7, &lan, true).unwrap();
        let conflict = conflict(&record.attachments()[0].addresses[0].addr().to_string());
        let place = Place::of(&record, &lan, &conflict).unwrap();
        assert!(Place::of(&record, &lan, &Conflict { attachment: 1, ..conflict }).is_err());
        let applicant = applicant(&record.container, &record.holder);
        let mut draft = Draft { applicant: Some(applicant), ..Draft::new(&ledger, &ledger.facts, MOMENT) };
        draft.quarantine(place, &conflict).unwrap();
        let replaced = draft.replace(&record, &lan, place, &conflict)?;
        assert!(!draft.segments[&2].hints.allow(conflict.address, NOW));
        ledger.keep(draft);
        let [old, new] = [&record, &replaced].map(|record| record.attachments()[0].addresses[0].to_string());
        assert_eq!(replaced.attachments()[0].mac, record.attachments()[0].mac);
        // The old one is leased until the record lists it no more.
        let addresses = ledger.leases().iter().filter(|lease| lease.contains("/10.0.0.")).count();
        Ok::<_, Error>((old, new, addresses))
    };
    assert_eq!(replace("lan").unwrap(), ("10.0.0.2/24".to_owned(), "10.0.0.3/24".to_owned(), 2));
    let error = replace("lan:ip=10.0.0.4").unwrap_err();
    let text = "address 10.0.0.4 of network lan is in use on the LAN, by 02:00:00:00:00:01";
    assert_eq!((error.kind(), error.to_string()), (Kind::Taken, text.to_owned()));
}

/// An attach waits unless all its addresses are known to be unclaimed, and its parent is connected.
#[test]
fn when_the_lan_is_asked() {
    let text = format!(r#"{SMALL}, "conflict_detection": 5, "probe_ahead": 600"#);
    let lan = wanted("lan", &text, 2);
    let unclaimed = |ago: u64| {
        let ledger = Memory::default();
        ledger.set_aside("10.0.0.5", 0);
        let mut segments = ledger.segments.borrow_mut();
        let hints = &mut segments.get_mut(&2).unwrap().hints;
        hints.note_carrier(0, 0);
        hints.note_unclaimed(["10.0.0.2".parse().unwrap()], MOMENT.since_boot - ago);
        drop(segments);
        ledger
    };
    let asked = |ledger: &Memory, wanted: &ResolvedAttachment| {
        ledger.attach("web", 7, wanted, true).unwrap().attachments()[0].asked
    };
    assert_eq!(asked(&unclaimed(599), &lan), Asked::Ahead);
    assert_eq!(asked(&unclaimed(600), &lan), Asked::Yes);
    let off = wanted("lan", &text.replace("600", "0"), 2);
    assert_eq!(asked(&unclaimed(0), &off), Asked::Yes);
    let unplugged = Link { carrier: false, ..lan.parent.clone() };
    let unplugged = ResolvedAttachment { parent: unplugged, ..lan.clone() };
    assert_eq!(asked(&unclaimed(599), &unplugged), Asked::No);
    // What is probed for is in quarantine no more: the probes tell.
    let ledger = unclaimed(599);
    let in_quarantine = || ledger.segments.borrow()[&2].hints.quarantine.len();
    assert_eq!(in_quarantine(), 1);
    assert_eq!(asked(&ledger, &wanted("lan:ip=10.0.0.5", &text, 2)), Asked::Yes);
    assert_eq!(in_quarantine(), 0);
}
