//! `underlay boot`: what of the networks lies on the host is there again after a reboot, before the first container.

use std::fs;

use serde_json::Value;

use crate::conformance::pages::{assert_vlan, silent};
use crate::harness::bed::{Bed, Watched};
use crate::harness::container::Engine::Bare;
use crate::harness::container::repository;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 5] = [
        ("examples", &[Need::Macvlan], examples),
        ("parents_of_our_own", &[Need::Macvlan, Need::Vlan, Need::Dummy], parents),
        ("named_host_link", &[Need::Macvlan], named_host_link),
        ("picked_host_link", &[Need::Macvlan], picked_host_link),
        ("what_is_wrong_is_said_and_the_rest_is_done", &[Need::Macvlan], wrong),
    ];
    all.map(|(name, needs, run)| Test::new(format!("boot::{name}"), needs, run)).into()
}

const SUBNET: &str = "--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o conflict_detection=off";

/// The example networks that the packages bring are such as are read.
fn examples() {
    let bed = Bed::new();
    let mut names = Vec::new();
    for file in fs::read_dir(repository().join("packaging/examples")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
            bed.configure(
                &format!("networks/{}.json", names.last().unwrap()),
                &fs::read_to_string(path).unwrap(),
            );
        }
    }
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    let listed = bed.outcome("network ls -q", "");
    assert_eq!(listed.stdout.lines().collect::<Vec<_>>(), names);
    let listed = bed.outcome("network ls", "");
    assert_eq!((listed.stdout.lines().count(), listed.stderr.as_str()), (names.len() + 1, ""));
}

/// What a reboot does: the state folder is empty, and the links that somebody made are gone.
fn reboot(bed: &Bed, links: &[&str]) {
    for link in links {
        bed.host.ip(&format!("link del {link}"));
    }
    let _ = fs::remove_dir_all(bed.path("run"));
}

/// VLANs, stacked ones too, and dummy links come again, once.
fn parents() {
    let bed = Watched::new();
    bed.create("--subnet=10.50.0.0/24 -o parent=eth0.50 office");
    bed.create("--subnet=10.51.0.0/24 -o parent=eth0.60.7 stacked");
    bed.create("--subnet=10.52.0.0/24 here");
    bed.create(&format!("{SUBNET} -o parent=eth0 lan"));
    reboot(&bed, &["eth0.50", "eth0.60.7", "eth0.60", "ul-here"]);
    let done = bed.run("boot");
    assert_eq!(done.lines().count(), 4, "{done}");
    for (command, at) in
        [("add ul-here", 0), ("name eth0.50", 1), ("name eth0.60 ", 2), ("name eth0.60.7", 3)]
    {
        assert!(done.lines().nth(at).unwrap().contains(command), "{command} is not in line {at} of\n{done}");
    }
    assert_vlan(&bed, "eth0.50", "eth0", 50);
    assert_vlan(&bed, "eth0.60", "eth0", 60);
    assert_vlan(&bed, "eth0.60.7", "eth0.60", 7);
    assert!(bed.host.link("ul-here").is_some());
    assert_eq!(bed.run("boot"), "", "all is there");
    assert_eq!(bed.run("check"), "");
    bed.container(Bare, "web").networks("office").start().unwrap().stop();
    assert_vlan(&bed, "eth0.50", "eth0", 50);
    // They are known as ours again: `Watched` sees them go with their networks.
}

/// The host's link whose addresses are named is there before the first container, and stays after the last.
fn named_host_link() {
    let bed = Watched::new();
    bed.create(&format!("{SUBNET} --host-access=172.16.86.200 -o parent=eth0 lan"));
    assert!(bed.host.link("ulh-lan").is_none());
    reboot(&bed, &[]);
    let done = bed.run("boot");
    assert!(done.contains("ulh-lan") && done.contains("172.16.86.200"), "{done}");
    let link = bed.host.link("ulh-lan").unwrap();
    assert!(bed.host.ip("addr show dev ulh-lan").contains("172.16.86.200/32"));
    let stays = |when: &str| {
        assert_eq!((bed.run("check"), bed.gc(), bed.run("boot")), Default::default(), "{when}");
        assert_eq!(bed.host.link("ulh-lan").unwrap()["ifindex"], link["ifindex"], "{when}");
    };
    stays("before any container");
    let container = bed.container(Bare, "web").networks("lan:ip=172.16.86.10").start().unwrap();
    assert!(container.reaches("172.16.86.200"));
    stays("beside a container");
    container.stop();
    assert!(!bed.host.ip("route").contains("172.16.86.10"), "its route is gone");
    stays("after the container");
    bed.host.ip("link del ulh-lan");
    let differs = bed.outcome("check", "");
    assert!(differs.code == 1 && differs.stdout.contains("ulh-lan"), "{differs:?}");
    assert!(bed.gc().contains("ulh-lan"), "gc makes it anew");
    // The definition is changed by hand: no host access any more.
    let path = bed.path("etc/networks/lan.json");
    let mut definition: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    definition.as_object_mut().unwrap().remove("host_access").unwrap();
    fs::write(&path, definition.to_string()).unwrap();
    assert!(bed.run("boot").contains("ulh-lan"));
    assert!(bed.host.link("ulh-lan").is_none());
}

/// One whose address is to be picked comes with the first container: it takes no address that a container had before.
fn picked_host_link() {
    let bed = Watched::new();
    bed.create(&format!("{SUBNET} --host-access -o parent=eth0 lan"));
    let container = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(container.addresses("eth0"), ["172.16.86.2/24"]);
    container.stop();
    reboot(&bed, &[]);
    assert_eq!(bed.run("boot"), "");
    assert!(bed.host.link("ulh-lan").is_none());
    let container = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(container.addresses("eth0"), ["172.16.86.2/24"]);
    // The service is started again while containers run: what they need is made.
    bed.host.ip("link del ulh-lan");
    assert!(silent(&container, "172.16.86.3"));
    assert!(bed.run("boot").contains("ulh-lan"));
    assert!(container.reaches("172.16.86.3"));
}

/// A parent that comes later, a definition that is damaged, a link of somebody else's: each is named, none is in the way
/// of another network.
fn wrong() {
    let bed = Bed::new();
    bed.create(&format!("{SUBNET} -o parent=eth0 --host-access=172.16.86.200 aaa"));
    bed.create("--subnet=10.53.0.0/24 --host-access=10.53.0.9 -o parent=eth0 foreign");
    bed.create("--subnet=10.54.0.0/24 --host-access=10.54.0.9 -o parent=eth0 zzz");
    bed.configure("networks/bond.json", r#"{"version": 1, "driver": "macvlan", "parent": "bond7"}"#);
    bed.configure("networks/damaged.json", r#"{"version": 1"#);
    bed.host.ip("link add ulh-foreign type veth peer name ulother");
    reboot(&bed, &[]);
    let outcome = bed.outcome("boot", "");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    for said in ["parent bond7 does not exist", "damaged.json", "link ulh-foreign is", "3 failures"] {
        assert!(outcome.stderr.contains(said), "{said:?} is not in {}", outcome.stderr);
    }
    assert!(bed.host.link("ulh-aaa").is_some() && bed.host.link("ulh-zzz").is_some(), "{outcome:?}");
    // It is tried again, as the service does.
    bed.host.ip("link add bond7 type veth peer name bond8");
    bed.host.ip("link del ulh-foreign");
    fs::remove_file(bed.path("etc/networks/damaged.json")).unwrap();
    assert!(bed.run("boot").contains("ulh-foreign"));
    assert_eq!(bed.run("boot"), "");
}
