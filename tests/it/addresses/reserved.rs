//! What a network reserves for one identity each.

use crate::addresses::identity::{IDENTITY, have, start};
use crate::harness::bed::Bed;
use crate::harness::container::Engine::{self, Bare};

const RESERVED: &str = "--subnet 10.0.0.0/29 --gateway 10.0.0.1 --subnet 2001:db8:1::/64 -o parent=eth0 \
                        --reserve db=10.0.0.2,2001:db8:1::2,02:00:00:00:00:02 --reserve web=10.0.0.3 lan";

pub fn reservation(engine: Engine) {
    let bed = Bed::new();
    bed.create(RESERVED);
    let start = |id: &str, identity: &str| {
        bed.container(engine, id).annotation(IDENTITY, identity).networks("lan").start().unwrap()
    };
    let other = start("other", "cache");
    assert_eq!(other.addresses("eth0"), ["10.0.0.4/29", "2001:db8:1::1/64"]);
    for id in ["a", "b"] {
        let db = start(id, "db");
        let expected = vec!["10.0.0.2/29".to_owned(), "2001:db8:1::2/64".to_owned()];
        assert_eq!(have(&db), (expected, "02:00:00:00:00:02".to_owned()));
        assert!(db.reaches("10.0.0.4"));
        assert_eq!(bed.run("check"), "");
        db.stop();
    }
    let web = start("web", "web");
    // Of the family of which nothing is reserved for it, it gets one that nobody has reserved.
    assert_eq!(web.addresses("eth0"), ["10.0.0.3/29", "2001:db8:1::3/64"]);
}

/// Also while its holder is stopped, and by whatever way it is asked for.
pub fn reserved_for_others() {
    let bed = Bed::new();
    bed.create(RESERVED);
    let refused = |networks: &str| bed.container(Bare, "x").networks(networks).start().map(drop).unwrap_err();
    for (what, claim) in [
        ("address", "ip=10.0.0.2"),
        ("address", "ip=2001:db8:1::2"),
        ("MAC address", "mac=02:00:00:00:00:02"),
    ] {
        let error = refused(&format!("lan:{claim}"));
        let (_, value) = claim.split_once('=').unwrap();
        let sentence = format!("{what} {value} of network lan is reserved for another identity");
        assert!(error.contains(&sentence) && !error.contains("for db"), "{error}");
    }
    let _others: Vec<_> =
        (0..3).map(|n| bed.container(Bare, &format!("c{n}")).networks("lan").start().unwrap()).collect();
    let error = refused("lan");
    assert!(error.contains("network lan has no free IPv4 address left"), "{error}");
    // A container's id is its identity.
    let shown: serde_json::Value = serde_json::from_str(&bed.run("network inspect lan")).unwrap();
    assert_eq!(shown[0]["reservations"]["web"]["addresses"], serde_json::json!(["10.0.0.3"]));
    assert_eq!(shown[0]["usage"][0]["free"], 0);
    // What was remembered before it was reserved is not taken.
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/29 -o parent=eth0 lan");
    start(&bed, "a", "web", "lan").stop();
    bed.run("network rm lan");
    bed.create("--subnet 10.0.0.0/29 -o parent=eth0 --reserve db=10.0.0.1 lan");
    assert_eq!(start(&bed, "b", "web", "lan").addresses("eth0"), ["10.0.0.2/29"]);
}

/// A second of the same identity is refused, and hears who has it; what the dead hold is taken back.
pub fn reserved_in_use() {
    let bed = Bed::new();
    bed.create(RESERVED);
    let mut first = start(&bed, "first", "db", "lan");
    let second = || bed.container(Bare, "second").annotation(IDENTITY, "db").networks("lan").start();
    let error = second().map(drop).unwrap_err();
    assert!(
        error.contains(&format!("address 10.0.0.2 of network lan is held by container {}", first.id)),
        "{error}"
    );
    assert!(error.contains("hint: it is reserved for identity db, of which only one"), "{error}");
    assert_eq!((bed.records().len(), bed.leases().len(), bed.macs().len()), (1, 2, 1));
    // What it asks for itself, it can have beside.
    let beside = start(&bed, "beside", "db", "lan:ip=10.0.0.5,ip=2001:db8:1::5,mac=02:00:00:00:00:05");
    assert_eq!(beside.addresses("eth0"), ["10.0.0.5/29", "2001:db8:1::5/64"]);
    // Nor is it had twice by one.
    let web = start(&bed, "web", "web", "lan;lan");
    assert_eq!(
        (web.addresses("eth0"), web.addresses("eth1").len()),
        (vec!["10.0.0.3/29".into(), "2001:db8:1::1/64".into()], 2)
    );
    first.kill();
    assert_eq!(second().unwrap().addresses("eth0"), ["10.0.0.2/29", "2001:db8:1::2/64"]);
}

pub fn refused() {
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/24 --aux-address nas=10.0.0.8 -o parent=eth0 one");
    for (more, message) in [
        ("--reserve db=10.1.0.9", "reservations: db: address 10.1.0.9 is in none of the subnets"),
        (
            "--gateway 10.0.0.1 --reserve db=10.0.0.1",
            "db: address 10.0.0.1 is the gateway of subnet 10.0.0.0/24",
        ),
        ("--reserve db", "reservation \"db\" is not usable"),
        (
            "--reserve db=10.0.0.9",
            "network two reserves 10.0.0.9 for db, and one on the same parent eth0 could give it to others",
        ),
    ] {
        let made = bed.outcome(&format!("network create --subnet 10.0.0.0/24 -o parent=eth0 {more} two"), "");
        assert!(made.code != 0 && made.stderr.contains(message), "{made:?}");
    }
    bed.create("--subnet 10.0.0.0/24 -o parent=eth0 --reserve db=10.0.0.8 two");
    let made = bed.outcome("network create --subnet 10.0.0.0/24 -o parent=eth0 three", "");
    assert!(made.stderr.contains("network two reserves 10.0.0.8 for db, and three on"), "{made:?}");
}
