//! Addresses of the LAN's own DHCP server on links and parents of each kind.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::addresses::dhcp::{self, address, bed, seconds_left, sent_by};
use crate::addresses::dhcp_renewal;
use crate::addresses::identity::have;
use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::dhcp::{Kind, Options, Server, beside};
use crate::harness::frames::{Ear, MessageType};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    const KEA: Need = Kind::Kea.need();
    let all: [Named; 7] = [
        ("ipvlan_is_renewed", &[Need::Ipvlan, KEA], || dhcp_renewal::renewed("ipvlan")),
        ("ipvlan_taken_by_another_host", &[Need::Ipvlan, KEA], || dhcp::taken("ipvlan")),
        ("passthru", &[Need::Macvlan, KEA], passthru),
        ("vlan", &[Need::Macvlan, Need::Vlan, KEA], vlan),
        ("bond", &[Need::Macvlan, Need::Bond, KEA], || upper("bond", "mode active-backup")),
        ("bridge", &[Need::Macvlan, KEA], || upper("bridge", "forward_delay 0")),
        ("edited_to_a_mode_without_broadcasts", &[], edited),
    ];
    let mut tests: Vec<Test> =
        all.map(|(name, needs, run)| Test::new(format!("dhcp_links::{name}"), needs, run).in_one()).into();
    for kind in [Kind::Dnsmasq, Kind::Kea, Kind::Isc] {
        let name = format!("dhcp_links::three_on_ipvlan::{kind}");
        let test = Test::new(name, &[Need::Ipvlan, kind.need()], move || three_on_ipvlan(kind));
        tests.push(test.of(kind.debians()));
    }
    tests
}

/// They have one MAC address, and are three clients.
fn three_on_ipvlan(kind: Kind) {
    let bed = bed("-d ipvlan");
    let server = Server::start(&bed, kind, Options::default());
    let ear = Ear::on(&bed.lan);
    let all = ["a", "b", "c"].map(|id| bed.container(Bare, id).networks("lan").start().unwrap());
    let got: BTreeSet<_> = all.iter().map(address).collect();
    let known: BTreeSet<_> = server.leased().into_iter().collect();
    assert_eq!((got.len(), &known), (3, &got));
    assert!(all.iter().all(|container| container.reaches("10.77.0.1") && seconds_left(container) > 3500));
    let sent = sent_by(&ear, &all[0]);
    let ids: BTreeSet<_> = sent.iter().filter_map(|message| message.client_id()).collect();
    assert_eq!(ids.len(), 3);
    // Answers to the parent's MAC address would be the host's.
    assert!(sent.iter().all(|message| message.flag), "{sent:?}");
    let mac = have(&all[0]).1;
    assert_eq!(mac, bed.host.link("eth0").unwrap()["address"].as_str().unwrap());
    all.into_iter().for_each(|container| container.stop());
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
    let released = ear.dhcp(&mac).into_iter().filter(|message| message.kind == MessageType::Release);
    assert_eq!(released.map(|message| message.ciaddr).collect::<BTreeSet<_>>(), got);
}

fn passthru() {
    let bed = bed("-o macvlan_mode=passthru");
    let server = Server::start(&bed, Kind::Kea, Options::default());
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let mac = have(&web).1;
    assert_eq!(mac, bed.host.link("eth0").unwrap()["address"].as_str().unwrap());
    assert_eq!((server.leased(), &server.leases()[0].mac), (vec![address(&web)], &mac));
    // RFC 4361: not that of the host.
    assert!(sent_by(&ear, &web).iter().all(|message| message.client_id().unwrap()[0] == 255));
    assert!(web.reaches("10.77.0.1"));
    assert_eq!(bed.run("check"), "");
    web.stop();
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
}

/// A container of the network `lan`, whose server is in `netns`, gets an address.
fn lands(bed: &Bed, netns: &Netns) {
    let server = Server::start_in(bed, netns, Kind::Kea, Options::default());
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(server.leased(), [address(&web)]);
    assert!(web.reaches("10.77.0.1"));
    web.stop();
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
}

/// The server of the untagged LAN is another one.
fn vlan() {
    let bed = bed("-o vlan=5");
    let tagged = Netns::new("tagged");
    bed.lan.ip_batch(&[
        "link add link lan0 name tagged0 type vlan id 5",
        &format!("link set tagged0 netns {} name lan0", tagged.name),
    ]);
    tagged.ip_batch(&["link set lo up", "link set lan0 up"]);
    let untagged = Server::start(&bed, Kind::Kea, Options::default().range(150, 199));
    lands(&bed, &tagged);
    assert_eq!(untagged.leased(), [] as [Ipv4Addr; 0]);
}

/// A parent of `kind` with the port `eth0`.
fn upper(kind: &str, options: &str) {
    let bed = Bed::new();
    bed.host.ip_batch(&[
        &format!("link add upper0 type {kind} {options}"),
        "link set eth0 down",
        "link set eth0 master upper0",
        "link set eth0 up",
        "link set upper0 up",
    ]);
    let is_connected =
        || bed.host.link("upper0").unwrap()["flags"].as_array().unwrap().contains(&"LOWER_UP".into());
    wait(is_connected);
    bed.create("--ipam-driver dhcp -o parent=upper0 lan");
    let beside = beside(&bed, "server");
    lands(&bed, &beside);
}

/// Whatever `network create` would refuse is refused when it was written by hand.
fn edited() {
    let bed = bed("-d ipvlan");
    for (mode, named) in [("l3", "ipvlan mode l3 bridge"), ("l3s", "ipvlan mode l3s bridge")] {
        let text = format!(
            r#"{{"version": 1, "driver": "ipvlan", "ipvlan_mode": "{mode}", "parent": "eth0", "dhcp": {{}}}}"#
        );
        bed.configure("networks/lan.json", &text);
        let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
        let sentence = format!("dhcp: {named} sends no broadcasts, by which servers are found");
        assert!(refused.contains(&sentence), "{refused}");
        bed.assert_nothing_held();
    }
    bed.configure("networks/lan.json", r#"{"version": 1, "driver": "macvlan", "dhcp": {}}"#);
    let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
    assert!(refused.contains("dhcp: a network without a parent has no DHCP server"), "{refused}");
}
