//! The host's own links take no address that a host on the LAN has.

use std::fs;

use crate::harness::bed::Bed;
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 7] = [
        ("picked::macvlan", &[Need::Macvlan], || picked("macvlan")),
        ("picked::ipvlan", &[Need::Ipvlan], || picked("ipvlan")),
        ("named", &[Need::Macvlan], named),
        ("at_boot", &[Need::Macvlan], at_boot),
        ("come_since", &[Need::Macvlan], come_since),
        ("made_by_gc", &[Need::Macvlan], made_by_gc),
        ("not_asked_for", &[Need::Macvlan], not_asked),
    ];
    all.map(|(name, needs, run)| Test::new(format!("host_access_conflicts::{name}"), needs, run)).into()
}

const CREATE: &str = "-o parent=eth0 --subnet=172.16.86.0/24 --subnet=2001:db8:abc8::/64";

/// The LAN has `more` addresses besides the router's, 172.16.86.1.
fn bed(more: &[&str]) -> Bed {
    let bed = Bed::new();
    for address in more {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        bed.lan.ip(&format!("addr add {address} dev lan0 {nodad}"));
    }
    bed
}

/// The addresses of the host's link.
fn of_host(bed: &Bed) -> Vec<String> {
    let shown = bed.host.ip("-brief addr show dev ulh-lan");
    let addresses = shown.split_whitespace().skip(2).filter(|word| !word.starts_with("fe80"));
    addresses.map(|net| net.split('/').next().unwrap().to_owned()).collect()
}

/// Who has `address`, as the host `lan` sees it.
fn owner(bed: &Bed, address: &str) -> String {
    let _ = bed.host.try_run("ip", "neigh flush dev eth0");
    assert!(bed.host.try_run("busybox", &format!("ping -c 1 -W 5 -I eth0 {address}")).is_ok());
    bed.host.ip(&format!("neigh show {address}"))
}

fn picked(driver: &str) {
    let bed = bed(&["172.16.86.2/24", "172.16.86.3/24", "2001:db8:abc8::1/64", "2001:db8:abc8::2/64"]);
    let before = owner(&bed, "172.16.86.1");
    bed.create(&format!("-d {driver} {CREATE} --host-access lan"));
    let web =
        bed.container(Bare, "web").networks("lan:ip=172.16.86.77,ip=2001:db8:abc8::77").start().unwrap();
    assert_eq!(of_host(&bed), ["172.16.86.4", "2001:db8:abc8::3"]);
    assert_eq!(owner(&bed, "172.16.86.1"), before, "the router has its own still");
    let events = bed.run("events");
    // The host knows its router as a neighbour, and need not ask.
    for address in ["172.16.86.2", "172.16.86.3", "2001:db8:abc8::1", "2001:db8:abc8::2"] {
        let told = format!("the host: address {address} of network lan is in use on the LAN, by ");
        assert!(events.contains(&told), "{events}");
    }
    assert!(web.reaches("172.16.86.4"));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    // The next link has what the last one had.
    web.stop();
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(of_host(&bed), ["172.16.86.4", "2001:db8:abc8::3"]);
    assert!(web.reaches("172.16.86.4"));
}

/// What the operator names is not replaced: nothing is attached, and the reason is told.
fn named() {
    let bed = bed(&["172.16.86.3/24"]);
    bed.create(&format!("{CREATE} --host-access=172.16.86.3 lan"));
    let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
    let told = "address 172.16.86.3 of network lan is in use on the LAN, by ";
    assert!(refused.contains(told), "{refused}");
    assert!(bed.host.link("ulh-lan").is_none());
    assert_eq!(bed.records().len(), 0);
    bed.lan.ip("addr del 172.16.86.3/24 dev lan0");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(of_host(&bed)[0], "172.16.86.3");
    drop(web);
}

fn at_boot() {
    let bed = bed(&["172.16.86.3/24"]);
    bed.create("-o parent=eth0 --subnet=172.16.86.0/24 --host-access=172.16.86.3 lan");
    let booted = bed.outcome("boot", "");
    assert_eq!(booted.code, 1, "{booted:?}");
    assert!(booted.stderr.contains("address 172.16.86.3 of network lan is in use"), "{booted:?}");
    assert!(bed.host.link("ulh-lan").is_none());
    bed.lan.ip("addr del 172.16.86.3/24 dev lan0");
    assert_eq!(bed.outcome("boot", "").code, 0);
    assert_eq!(of_host(&bed), ["172.16.86.3"]);
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
}

/// The link went with the last container, and a host on the LAN has taken its address since.
fn come_since() {
    let bed = bed(&[]);
    bed.create(&format!("{CREATE} --gateway=172.16.86.1 --host-access lan"));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let had = of_host(&bed);
    web.stop();
    assert!(bed.host.link("ulh-lan").is_none());
    bed.lan.ip(&format!("addr add {}/24 dev lan0", had[0]));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let has = of_host(&bed);
    assert!(has[0] != had[0] && has[1] == had[1], "{had:?} {has:?}");
    assert!(!bed.leases().iter().any(|lease| lease.ends_with(&format!("/{}", had[0]))), "given back");
    assert!(web.reaches(&has[0]));
    // Of the routes to containers that were there.
    let next = bed.container(Bare, "next").networks("lan").start().unwrap();
    assert!(next.reaches(&has[0]) && web.reaches(&has[0]));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
}

/// The link was deleted under a running container, and a host on the LAN has taken its address. The record is as older versions
/// have written it.
fn made_by_gc() {
    let bed = bed(&[]);
    bed.create("-o parent=eth0 --subnet=172.16.86.0/24 --gateway=172.16.86.1 --host-access lan");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let had = of_host(&bed).remove(0);
    let path = bed.path("run/host_links/lan.json");
    let record = fs::read_to_string(&path).unwrap().replacen('{', r#"{"born_as": "ul~1", "#, 1);
    fs::write(&path, record).unwrap();
    bed.host.ip("link del ulh-lan");
    bed.lan.ip(&format!("addr add {had}/24 dev lan0"));
    bed.gc();
    let has = of_host(&bed).remove(0);
    assert!(has != had && web.reaches(&has), "{had} {has}");
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
}

/// Without conflict detection nobody is asked.
fn not_asked() {
    let bed = bed(&["172.16.86.2/24"]);
    bed.create("-o parent=eth0 --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o conflict_detection=off --host-access lan");
    let web = bed.container(Bare, "web").networks("lan:ip=172.16.86.77").start().unwrap();
    assert_eq!(of_host(&bed), ["172.16.86.2"]);
    drop(web);
}
