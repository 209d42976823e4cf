//! The choice of addresses and MAC addresses, over a table in memory.

use std::net::IpAddr;

use crate::error::Kind;
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::lease_table::LeaseTable;
use crate::ipam::previous::PreviousAddresses;
use crate::ipam::reserve::{Applicant, Draft};
use crate::ipam::tests::{KEY, MACVLAN, MOMENT, Memory, OTHER, SMALL, holder, wanted};
use crate::net::link::Link;
use crate::net::mac::MacAddr;

#[test]
fn in_which_order() {
    let ledger = Memory::default();
    let reserved = format!(r#"{SMALL}, "reservations": {{"db": {{"addresses": ["10.0.0.3"]}}}}"#);
    let lan = |text: &str, had: Option<&str>| {
        let addresses = had.map(|had| had.parse().unwrap()).into_iter().collect();
        ResolvedAttachment {
            previous: PreviousAddresses { addresses, mac: None },
            ..wanted(text, &reserved, 2)
        }
    };
    // What is asked for goes before what is reserved, and that before what it had.
    assert_eq!(ledger.address("db", &lan("lan:ip=10.0.0.9", Some("10.0.0.5"))), "10.0.0.9");
    assert_eq!(ledger.address("db", &lan("lan", Some("10.0.0.5"))), "10.0.0.3");
    ledger.free("10.0.0.3");
    assert_eq!(ledger.address("web", &lan("lan", Some("10.0.0.5"))), "10.0.0.5");
    // What is held, reserved for another identity, or in no range, is passed over for the next that is free.
    assert_eq!(ledger.address("one", &lan("lan", Some("10.0.0.5"))), "10.0.0.2");
    assert_eq!(ledger.address("two", &lan("lan", Some("10.0.0.3"))), "10.0.0.4");
    ledger.free("10.0.0.2");
    assert_eq!(ledger.address("three", &lan("lan", Some("10.0.0.77"))), "10.0.0.2");
    // Nobody else has what is reserved, although it is free; not even by asking for it.
    assert_eq!(ledger.addresses("four", &lan("lan", None)).unwrap_err().kind(), Kind::Exhausted);
    let error = ledger.addresses("four", &lan("lan:ip=10.0.0.3", None)).unwrap_err();
    let text = "address 10.0.0.3 of network lan is reserved for another identity";
    assert_eq!((error.kind(), error.to_string()), (Kind::Taken, text.to_owned()));
    let error = ledger.addresses("four", &lan("lan:ip=10.0.0.9", None)).unwrap_err();
    let text = "address 10.0.0.9 of network lan is held by db";
    assert_eq!((error.kind(), error.to_string()), (Kind::Taken, text.to_owned()));
}

#[test]
fn round_the_pool_until_it_is_full() {
    let ledger = Memory::default();
    let lan = wanted("lan", SMALL, 2);
    let all = ["one", "two", "three"].map(|id| ledger.address(id, &lan));
    assert_eq!(all, ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    // An address that was just given back comes last.
    ledger.free("10.0.0.2");
    ledger.free("10.0.0.3");
    assert_eq!(
        ["four", "five", "six"].map(|id| ledger.address(id, &lan)),
        ["10.0.0.5", "10.0.0.2", "10.0.0.3"]
    );
    let before = ledger.leases();
    let error = ledger.addresses("seven", &lan).unwrap_err();
    let text = "network lan has no free IPv4 address left";
    assert_eq!((error.kind(), error.to_string()), (Kind::Exhausted, text.to_owned()));
    assert_eq!(ledger.leases(), before);
    assert_eq!(ledger.looked_up.get(), 0, "so few are tried");
    // Another segment has another pool.
    assert_eq!(ledger.address("elsewhere", &wanted("wan", SMALL, 3)), "10.0.0.2");
}

/// A map saves the trying; one that is wrong hides no address.
#[test]
fn by_the_map_of_a_crowded_pool() {
    let ledger = Memory::default();
    let lan = wanted("lan", MACVLAN, 2);
    for last in 1..=40 {
        let id = format!("web-{last}");
        assert_eq!(ledger.address(&id, &lan), format!("10.0.0.{last}"));
    }
    assert_eq!(ledger.looked_up.get(), 0, "the cursor is ahead of all that is held");
    let rewind = || {
        let mut segments = ledger.segments.borrow_mut();
        segments.get_mut(&2).unwrap().cursors.clear();
    };
    rewind();
    assert_eq!((ledger.address("next", &lan), ledger.looked_up.get()), ("10.0.0.41".to_owned(), 1));
    rewind();
    ledger.free("10.0.0.30");
    assert_eq!((ledger.address("by-map", &lan), ledger.looked_up.get()), ("10.0.0.42".to_owned(), 2));
    // It calls all held: made anew, it does not.
    let mut map = ledger.map.borrow().clone().unwrap();
    (1..=254).for_each(|last| map.set(IpAddr::from([10, 0, 0, last]), true));
    ledger.write_map(2, &map);
    rewind();
    assert_eq!((ledger.address("anew", &lan), ledger.looked_up.get()), ("10.0.0.30".to_owned(), 4));
}

#[test]
fn derived_mac_addresses() {
    let derived = |text: &str| MacAddr::derived(KEY, text);
    let ledger = Memory::default();
    let lan = wanted("lan", MACVLAN, 2);
    let identity = "db".parse().unwrap();
    let mac = |ledger: &Memory, id: &str, pid: i32, avoid_previous: bool| {
        let (container, holder) = (id.parse().unwrap(), holder(pid));
        let identity = Some(&identity);
        let applicant = Applicant {
            container: &container,
            identity,
            host_name: None,
            holder: &holder,
            nsid: None,
            avoid_previous,
        };
        let mut draft = Draft::new(ledger, &ledger.facts, MOMENT);
        let record = draft.record(applicant, std::slice::from_ref(&lan), |_| true).unwrap();
        ledger.keep(draft);
        record.attachments()[0].mac.unwrap()
    };
    // The identity's; of the next of that identity, its id's; then its process's, as often as need be.
    assert_eq!(mac(&ledger, "one", 7, false), derived("db lan"));
    assert_eq!(mac(&ledger, "two", 8, false), derived("db lan two"));
    assert_eq!(mac(&ledger, "two", 9, false), derived("db lan 9 8 0"));
    assert_eq!(mac(&ledger, "two", 9, false), derived("db lan 9 8 1"));
    // Neither of the first, if a link that the ledger does not know of may have it.
    ledger.leases.borrow_mut().clear();
    assert_eq!(mac(&ledger, "one", 7, true), derived("db lan 7 8 0"));
    // The parent's own is no container's, and one that is asked for is had or refused.
    let parent = Link { mac: Some(derived("web lan")), ..lan.parent.clone() };
    let on_parent = ResolvedAttachment { parent, ..wanted("lan", MACVLAN, 2) };
    let record = ledger.attach("web", 7, &on_parent, true).unwrap();
    assert_eq!(record.attachments()[0].mac, Some(derived("web lan web")));
    let asks = ResolvedAttachment {
        parent: Link { mac: Some(OTHER), ..lan.parent.clone() },
        ..wanted(&format!("lan:mac={OTHER}"), MACVLAN, 2)
    };
    let error = ledger.attach("asks", 8, &asks, true).unwrap_err();
    let text = format!("MAC address {OTHER} of network lan is held by parent eth2");
    assert_eq!((error.kind(), error.to_string()), (Kind::Taken, text));
}
