//! `host_access` redirects no packets of the host: not those to its routers, nor those that go through them.

use std::fs;

use crate::harness::bed::{Bed, Watched};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 6] = [
        ("a_router_of_the_hosts", &[Need::Macvlan], router),
        ("behind_a_router", &[Need::Macvlan], behind),
        ("a_subnet_that_the_host_is_not_in", &[Need::Macvlan], not_in),
        ("a_router_that_comes_later", &[Need::Macvlan], later),
        ("a_container_that_is_a_router", &[Need::Macvlan], routing),
        ("routes_to_unread_records", &[Need::Macvlan], unread),
    ];
    all.map(|(name, needs, run)| Test::new(format!("host_access_routing::{name}"), needs, run)).into()
}

/// The route of the host's packets to `address`.
fn route(bed: &Bed, address: &str) -> String {
    let text = bed.host.ip(&format!("route get {address}"));
    text.lines().next().unwrap().split(" uid").next().unwrap().trim().to_owned()
}

fn refused(bed: &Bed, networks: &str, said: &str) {
    let error = bed.container(Bare, "web").networks(networks).start().err().unwrap_or_default();
    assert!(error.contains(said) && error.contains("\nhint: ask for another address"), "{networks}: {error}");
    let plan = bed.outcome(&format!("plan --annotation io.underlay.networks={networks}"), "");
    assert!(plan.code == 1 && plan.stderr.contains(said), "{networks}: {plan:?}");
}

/// Neither asked for nor picked, for whatever destination it is a router, and whether anybody answers there.
fn router() {
    let bed = Bed::new();
    let subnet = "--subnet 172.16.86.0/24 --gateway 172.16.86.1 -o parent=eth0 -o conflict_detection=off";
    bed.create(&format!("{subnet} --host-access=172.16.86.2 --ip-range 172.16.86.248-172.16.86.254 lan"));
    bed.create("--subnet 2001:db8:abc8::/64 --host-access -o parent=eth0 -o conflict_detection=off lan6");
    bed.create(&format!("{subnet} plain"));
    for route in [
        "route add default via 172.16.86.254",
        "route add 10.9.0.0/16 nexthop via 172.16.86.249 nexthop via 172.16.86.253",
        "route add 10.8.0.0/16 via 172.16.86.251 table 101",
        "-6 route add 2001:db9::/32 via 2001:db8:abc8::9",
    ] {
        bed.host.ip(route);
    }
    let before = route(&bed, "1.1.1.1");
    let of = |address: &str, network: &str| {
        format!("address {address} of network {network} is the next hop of the host's")
    };
    refused(&bed, "lan:ip=172.16.86.254", &format!("{} default route", of("172.16.86.254", "lan")));
    refused(&bed, "lan:ip=172.16.86.249", &format!("{} route to 10.9.0.0/16", of("172.16.86.249", "lan")));
    refused(&bed, "lan:ip=172.16.86.253", &format!("{} route to 10.9.0.0/16", of("172.16.86.253", "lan")));
    refused(&bed, "lan:ip=172.16.86.251", &format!("{} route to 10.8.0.0/16", of("172.16.86.251", "lan")));
    refused(
        &bed,
        "lan6:ip=2001:db8:abc8::9",
        &format!("{} route to 2001:db9::/32", of("2001:db8:abc8::9", "lan6")),
    );
    bed.assert_nothing_held();
    // Of seven addresses, four are routers' and one is the host's.
    let start = |id: &str| bed.container(Bare, id).networks("lan").start();
    let (first, second) = (start("first").unwrap(), start("second").unwrap());
    assert_eq!(first.addresses("eth0"), ["172.16.86.248/24"]);
    assert_eq!(second.addresses("eth0"), ["172.16.86.252/24"]);
    let full = start("third").err().unwrap();
    assert!(full.contains("network lan has no free IPv4 address left"), "{full}");
    assert_eq!(route(&bed, "1.1.1.1"), before);
    assert!(route(&bed, "172.16.86.254").contains("dev eth0"));
    // Without routes of the host's it is a matter of the LAN.
    bed.container(Bare, "plain").networks("plain:ip=172.16.86.254").start().unwrap().stop();
    first.stop();
    second.stop();
}

/// The host has a part of the subnet on the link, and a router for the rest, or for a part of that part.
fn behind() {
    let bed = Bed::new();
    bed.create("--subnet 172.16.0.0/16 --gateway 172.16.86.1 --host-access -o parent=eth0 wide");
    bed.create("--subnet 172.16.86.0/24 --gateway 172.16.86.1 --host-access -o parent=eth0 lan");
    bed.host.ip("route add default via 172.16.86.1");
    bed.host.ip("route add 172.16.86.64/28 via 172.16.86.1");
    let routes = || ["172.16.99.53", "172.16.86.70", "1.1.1.1"].map(|address| route(&bed, address));
    let before = routes();
    for (network, address) in [("wide", "172.16.99.53"), ("wide", "172.16.86.70"), ("lan", "172.16.86.70")] {
        let said = format!(
            "address {address} of network {network} is reached by the host through 172.16.86.1, and not on the parent"
        );
        refused(&bed, &format!("{network}:ip={address}"), &said);
    }
    assert_eq!(routes(), before);
    // What is on the link can be had.
    let web = bed.container(Bare, "web").networks("wide:ip=172.16.86.20").start().unwrap();
    assert!(route(&bed, "172.16.86.20").contains("dev ulh-wide"));
    web.stop();
}

/// Its network says that it is on the parent, and the default route says nothing.
fn not_in() {
    let bed = Bed::new();
    bed.host.ip("route add default via 172.16.86.1");
    bed.create("--subnet 10.7.0.0/24 --host-access -o parent=eth0 lan");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert!(route(&bed, "10.7.0.1").contains("dev ulh-lan"));
    assert!(bed.host.try_run("busybox", "ping -c 1 -W 5 10.7.0.1").is_ok());
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
    web.stop();
}

/// The host's own route goes where the router is; what a container had before, it has no more.
fn later() {
    let bed = Bed::new();
    bed.create("--subnet 172.16.86.0/24 --gateway 172.16.86.1 --host-access -o parent=eth0 lan");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(web.addresses("eth0"), ["172.16.86.2/24"]);
    assert!(route(&bed, "172.16.86.2").contains("dev ulh-lan"));
    bed.host.ip("route add 10.9.0.0/16 via 172.16.86.2 dev eth0 onlink");
    let plan = bed.run("gc --dry-run");
    assert_eq!(plan, "ip route del 172.16.86.2 dev ulh-lan\n");
    assert_eq!(bed.gc(), plan);
    assert!(route(&bed, "172.16.86.2").contains("dev eth0"));
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
    // Made anew with the next container, the host's link has no route to it either.
    bed.host.ip("link del ulh-lan");
    let next = bed.container(Bare, "next").networks("lan").start().unwrap();
    assert!(
        route(&bed, "172.16.86.2").contains("dev eth0") && route(&bed, "172.16.86.4").contains("dev ulh-lan")
    );
    web.stop();
    let again = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(again.addresses("eth0"), ["172.16.86.5/24"]);
    again.stop();
    next.stop();
}

/// A route of the host's by its link in the network leads to a container: that is its business, and stays.
fn routing() {
    let bed = Watched::new();
    bed.create("--subnet 172.16.86.0/24 --gateway 172.16.86.1 --host-access -o parent=eth0 lan");
    let vpn = bed.container(Bare, "vpn").networks("lan:ip=172.16.86.20").start().unwrap();
    let other = bed.container(Bare, "other").networks("lan").start().unwrap();
    bed.host.ip("route add 10.9.0.0/16 via 172.16.86.20");
    assert!(route(&bed, "10.9.0.1").contains("via 172.16.86.20 dev ulh-lan"));
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
    vpn.stop();
    let vpn = bed.container(Bare, "vpn").networks("lan:ip=172.16.86.20").start().unwrap();
    vpn.stop();
    other.stop();
}

/// What a record says that cannot be read nobody knows: the host's routes stay.
fn unread() {
    let bed = Watched::new();
    bed.create("--subnet 172.16.86.0/24 --gateway 172.16.86.1 --host-access -o parent=eth0 lan");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let other = bed.container(Bare, "other").networks("lan").start().unwrap();
    let path = bed.path("run/containers").join(format!("{}.json", web.id));
    let sound = fs::read_to_string(&path).unwrap();
    fs::write(&path, sound.replace("\"version\": 2", "\"version\": 4")).unwrap();
    assert_eq!((bed.run("gc --dry-run"), bed.gc()), (String::new(), String::new()));
    assert!(route(&bed, "172.16.86.2").contains("dev ulh-lan"));
    fs::write(&path, sound).unwrap();
    web.stop();
    other.stop();
}
