//! Trunks: a VLAN of the parent for a network, for each container, and within another VLAN; with tagged peers.

use std::fs;

use serde_json::Value;

use crate::harness::bed::{Bed, Netns, Watched};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 7] = [
        ("a_vlan_for_a_network", &[Need::Vlan], one_vlan),
        ("a_vlan_for_each_container", &[Need::Vlan], each_its_own),
        ("which_vlan_there_is", &[Need::Macvlan], refusals),
        ("within_a_providers_vlan", &[Need::Vlan], provider),
        ("what_is_there_is_verified", &[Need::Vlan], verified),
        ("long_names", &[Need::Vlan], long_names),
        ("policy", &[Need::Vlan], policy),
    ];
    all.map(|(name, needs, run)| Test::new(format!("trunks::{name}"), needs, run)).into()
}

/// The network namespace of a peer on the LAN, behind the tags `tags`, each `PROTOCOL ID`, with the address 10.0.0.1.
fn peer(bed: &Bed, tags: &[&str]) -> Netns {
    let peer = Netns::new("peer");
    let mut below = "lan0".to_owned();
    for tag in tags {
        let (protocol, id) = tag.split_once(' ').unwrap();
        let name = format!("{below}.{id}");
        if bed.lan.link(&name).is_none() {
            bed.lan.ip(&format!("link add link {below} name {name} type vlan protocol {protocol} id {id}"));
        }
        bed.lan.ip(&format!("link set {name} up"));
        below = name;
    }
    bed.lan.ip(&format!("link set {below} netns {}", peer.name));
    peer.ip(&format!("addr add 10.0.0.1/24 dev {below}"));
    peer.ip(&format!("link set {below} up"));
    peer
}

fn one_vlan() {
    let bed = Watched::new();
    let _peer = peer(&bed, &["802.1Q 50"]);
    bed.create("--subnet=10.0.0.0/24 --gateway=10.0.0.1 -o parent=eth0 -o vlan=50 lan");
    let shown = bed.host.ip("-d link show eth0.50");
    assert!(shown.contains("vlan protocol 802.1Q id 50") && shown.contains("underlay:parent"), "{shown}");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(web.addresses("eth0"), ["10.0.0.2/24"]);
    assert!(web.reaches("10.0.0.1"), "tagged");
    assert_eq!(bed.run("check"), "");
    web.stop();
    // A dotted parent means the same link.
    bed.create("--subnet=10.1.0.0/24 -o parent=eth0.50 dotted");
    bed.run("network rm lan");
    assert!(bed.host.link("eth0.50").is_some(), "needed under its name");
    bed.run("network rm dotted");
    assert!(bed.host.link("eth0.50").is_none());
}

/// Two VLANs are two segments: the same address is free in each.
fn each_its_own() {
    let bed = Watched::new();
    let (hundred, _other) = (peer(&bed, &["802.1Q 100"]), peer(&bed, &["802.1Q 101"]));
    hundred.ip("addr add 10.0.0.100/24 dev lan0.100");
    bed.create("--subnet=10.0.0.0/24 --gateway=10.0.0.1 -o parent=eth0 -o vlans=100-199,210 lan");
    assert!(bed.host.link("eth0.100").is_none(), "nobody is in it");
    let a = bed.container(Bare, "a").networks("lan:vlan=100").start().unwrap();
    let b = bed.container(Bare, "b").networks(r#"[{"name": "lan", "vlan": 101}]"#).start().unwrap();
    assert_eq!((a.addresses("eth0"), b.addresses("eth0")), (b.addresses("eth0"), a.addresses("eth0")));
    assert!(a.reaches("10.0.0.1") && b.reaches("10.0.0.1"));
    assert!(a.reaches("10.0.0.100") && !b.reaches("10.0.0.100"), "each in its own");
    assert_eq!(bed.run("check"), "");
    // One container in both, and two in one.
    let both = bed.container(Bare, "both").networks("lan:vlan=100;lan:vlan=101").start().unwrap();
    assert_eq!(
        (both.addresses("eth0"), both.addresses("eth1")),
        (both.addresses("eth1"), both.addresses("eth0"))
    );
    let shown: Value = serde_json::from_str(&bed.run("network inspect lan")).unwrap();
    let shown = &shown[0];
    assert_eq!(
        (&shown["parent"], &shown["vlans"], &shown["usage"]),
        (&"eth0".into(), &"100-199,210".into(), &Value::Null)
    );
    let vlans: Vec<_> =
        shown["vlans_in_use"].as_array().unwrap().iter().map(|vlan| &vlan["parent_link"]["name"]).collect();
    assert_eq!(vlans, ["eth0.100", "eth0.101"]);
    assert_eq!(
        shown["vlans_in_use"][0]["usage"][0]["in_use"], 5,
        "network, broadcast, gateway and two containers"
    );
    let parents: Vec<_> =
        shown["containers"].as_array().unwrap().iter().map(|user| &user["parent"]).collect();
    assert_eq!(parents, ["eth0.100", "eth0.101", "eth0.100", "eth0.101"]);
    both.stop();
    a.stop();
    assert!(bed.host.link("eth0.100").is_none(), "its last container is gone");
    assert!(bed.host.link("eth0.101").is_some());
    // Who dies takes it along at the next gc.
    let mut b = b;
    b.kill();
    assert!(bed.gc().ends_with("ip link del eth0.101\n"));
    assert!(bed.host.link("eth0.101").is_none());
}

fn refusals() {
    let bed = Bed::new();
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0 -o vlans=100-199 lan");
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0 plain");
    for (asked, said, hint) in [
        ("lan", "network lan has VLANs 100-199, and none is asked for", "ask for one, like lan:vlan=100"),
        ("lan:vlan=50", "network lan has no VLAN 50", "it has VLANs 100-199"),
        ("lan:vlan=0", "option vlan of network lan: \"0\" is not a VLAN id", "use 1 to 4094"),
        ("plain:vlan=50", "network plain has no VLAN 50", "leave vlan out"),
    ] {
        let error = bed.container(Bare, "web").networks(asked).start().map(drop).unwrap_err();
        assert!(error.contains(said) && error.contains(hint), "{error}");
    }
    for (options, said) in [
        ("-o vlan=50", "vlan: the network has no parent that could carry VLANs"),
        ("-o parent=eth0 -o vlan=4095", "option vlan: \"4095\" is not a VLAN id"),
        ("-o parent=eth0 -o vlan_protocol=802.1ad", "vlan_protocol: the network has no VLAN"),
        ("-o parent=nosuch -o vlans=5-9", "parent nosuch does not exist"),
    ] {
        let outcome = bed.outcome(&format!("network create {options} wrong"), "");
        assert!(outcome.code == 1 && outcome.stderr.contains(said), "{outcome:?}");
    }
    bed.assert_nothing_held();
}

/// 802.1ad outside, 802.1Q inside; both are made, and go one after the other.
fn provider() {
    let bed = Watched::new();
    let _peer = peer(&bed, &["802.1ad 10", "802.1Q 20"]);
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0.ad10 -o vlans=20-29 customers");
    assert!(bed.host.ip("-d link show eth0.ad10").contains("vlan protocol 802.1ad id 10"));
    let web = bed.container(Bare, "web").networks("customers:vlan=20,ip=10.0.0.9").start().unwrap();
    assert!(bed.host.ip("-d link show eth0.ad10.20").contains("vlan protocol 802.1Q id 20"));
    assert!(web.reaches("10.0.0.1"), "tagged twice");
    assert_eq!(bed.run("check"), "");
    let outcome = bed.outcome("network rm customers", "");
    assert!(outcome.stderr.contains("in use by container"), "{outcome:?}");
    // The outer one by itself, spelt with keys: the same link.
    bed.create("-o parent=eth0 -o vlan=10 -o vlan_protocol=802.1ad outer");
    web.stop();
    assert!(bed.host.link("eth0.ad10.20").is_none());
    bed.run("network rm customers");
    assert!(bed.host.link("eth0.ad10").is_some(), "outer needs it");
    bed.run("network rm outer");
    assert!(bed.host.link("eth0.ad10").is_none());
}

fn verified() {
    let bed = Bed::new();
    bed.host.ip("link add link eth0 name eth0.50 type vlan id 50");
    bed.host.ip("link add link eth0 name eth0.60 type vlan protocol 802.1ad id 60");
    let before = bed.host.ip("-d link show eth0.50");
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0 -o vlans=50-60 lan");
    let web = bed.container(Bare, "web").networks("lan:vlan=50").start().unwrap();
    web.stop();
    assert_eq!(bed.host.ip("-d link show eth0.50"), before, "an admin's: not even set up");
    let error = bed.container(Bare, "web").networks("lan:vlan=60").start().map(drop).unwrap_err();
    assert!(error.contains("parent eth0.60 is 802.1ad VLAN 60 of link number"), "{error}");
    assert!(error.contains("not VLAN 60 of eth0"), "{error}");
    bed.assert_nothing_held();
}

/// Names that are no names any more are made of a hash: what they stand on is known all the same.
fn long_names() {
    let bed = Watched::new();
    let base = "enp195s0f1np1";
    bed.host.ip(&format!("link add link eth0 name {base} type vlan id 7"));
    bed.host.ip(&format!("link set {base} up"));
    bed.create(&format!("--subnet=10.0.0.0/24 -o parent={base}.1 -o vlans=1000-1999 lan"));
    let web = bed.container(Bare, "web").networks("lan:vlan=1234").start().unwrap();
    let name = bed.ps()[0]["attachments"][0]["parent"].as_str().unwrap().to_owned();
    assert!(name.starts_with("vl-") && name.ends_with("-1234"), "{name}");
    assert!(bed.host.ip(&format!("-d link show {name}")).contains("protocol 802.1Q id 1234"));
    assert_eq!(bed.run("check"), "");
    // Lost, it is written down anew from what the kernel tells.
    fs::remove_dir_all(bed.path("run/parents")).unwrap();
    let repaired = bed.gc();
    assert!(repaired.contains(&format!("VLAN 1234 of {base}.1")), "{repaired}");
    assert_eq!((bed.gc(), bed.run("check")), (String::new(), String::new()));
    // The container needs what its parent stands on, network or not.
    fs::remove_file(bed.path("etc/networks/lan.json")).unwrap();
    assert_eq!(bed.gc(), "");
    let mut web = web;
    web.kill();
    let done = bed.gc();
    let links: Vec<_> = done.lines().filter(|line| line.contains("link del")).collect();
    assert_eq!(links, [format!("ip link del {name}"), format!("ip link del {base}.1")], "{done}");
    bed.host.ip(&format!("link del {base}"));
}

/// What an annotation defines may name a VLAN by the name of its link alone.
fn policy() {
    let bed = Watched::new();
    bed.configure("underlay.json", r#"{"inline_networks": true, "allowed_parents": ["eth0.1??"]}"#);
    let start = |asked: &str, keys: &str| {
        let network = format!(
            r#"{{"version": 1, "driver": "macvlan", "parent": "eth0", {keys}, "subnets": [{{"subnet": "10.0.0.0/24"}}]}}"#
        );
        let builder = bed.container(Bare, "web").networks(asked);
        let started = builder.annotation("io.underlay.network.own", &network).start();
        started.map(|container| container.stop())
    };
    start("own", r#""vlan": 150"#).unwrap();
    start("own:vlan=150", r#""vlans": "1-4094""#).unwrap();
    for (asked, keys, parent) in [
        ("own", r#""vlan": 50"#, "eth0.50"),
        ("own:vlan=50", r#""vlans": "1-4094""#, "eth0.50"),
        ("own", r#""vlan": 150, "vlan_protocol": "802.1ad""#, "eth0.ad150"),
        ("own", r#""internal": true"#, "eth0"),
    ] {
        let error = start(asked, keys).unwrap_err();
        let said = format!("allowed_parents: network own names parent {parent}, which");
        assert!(error.contains(&said), "{keys}: {error}");
    }
    bed.assert_nothing_held();
}
