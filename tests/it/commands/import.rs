//! `underlay network import`: networks that podman and Docker have made, made again.

use std::fs;

use serde_json::{Value, json};

use crate::harness::bed::{Bed, finish};
use crate::harness::container::repository;
use crate::harness::dockerd::Docker;
use crate::harness::need::Need;
use crate::harness::podman::{podman, splits_annotations};
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 4] = [
        ("samples", &[Need::Macvlan, Need::Vlan], samples),
        ("again", &[], again),
        ("of_podman", &[Need::Installed, Need::Program("podman")], of_podman),
        ("of_docker", &[Need::Installed, Need::Vlan, Need::Program("dockerd")], of_docker),
    ];
    all.map(|(name, needs, run)| Test::new(format!("import::{name}"), needs, run)).into()
}

/// The definition of a network, without its name.
fn definition(bed: &Bed, name: &str) -> Value {
    let text = fs::read(bed.path("etc/networks").join(format!("{name}.json"))).unwrap();
    let mut file: Value = serde_json::from_slice(&text).unwrap();
    file.as_object_mut().unwrap().remove("name");
    file
}

/// Asserts that the imported network `name` is the one that `create` makes.
#[track_caller]
fn assert_same(bed: &Bed, name: &str, create: &str) {
    let imported = definition(bed, name);
    bed.run(&format!("network rm {name}"));
    bed.create(&format!("{create} {name}"));
    assert_eq!(imported, definition(bed, name));
}

/// Files as podman and Docker write them.
fn samples() {
    let bed = Bed::new();
    let sample = |name: &str| repository().join("src/import/samples").join(name).display().to_string();
    let files = ["podman-macvlan.json", "podman-dhcp.json", "docker-macvlan.json"].map(sample).join(" ");
    let lines = bed.run(&format!("network import --dry-run {files}"));
    assert_eq!(bed.run("network ls -q"), "", "a dry run makes nothing");
    let made = bed.run(&format!("network import {files}"));
    assert_eq!(made, "lan\nhome\npub_net\n");
    let listed = bed.run("network ls");
    let home: Vec<_> = listed.lines().filter(|line| line.starts_with("home ")).collect();
    assert_eq!(home.len(), 1, "{listed}");
    assert_eq!(
        home[0].split_whitespace().collect::<Vec<_>>(),
        ["home", "macvlan", "mode", "bridge", "eth0", "dhcp"]
    );
    let inspected: Value = serde_json::from_str(&bed.run("network inspect home")).unwrap();
    assert_eq!((&inspected[0]["dhcp"], &inspected[0]["usage"]), (&json!({}), &json!([])));
    for line in lines.lines() {
        let create = line.strip_prefix("underlay network create ").unwrap();
        let (create, name) = create.rsplit_once(' ').unwrap();
        assert_same(&bed, name, create);
    }
    assert_eq!(lines.lines().count(), 3);
}

/// What is there already, what is another, what is none of ours, and what cannot be made.
fn again() {
    let bed = Bed::new();
    let of_docker = |subnet: &str| {
        format!(
            r#"[{{"Name": "lan", "Driver": "macvlan", "Options": {{"parent": "eth0", "x": "y"}},
                "IPAM": {{"Config": [{{"Subnet": "{subnet}"}}]}}}}, {{"Name": "bridge", "Driver": "bridge"}}]"#
        )
    };
    let import = |text: &str| bed.outcome("network import -", text);
    let lost = "underlay: warning: network lan: not carried over: option x=y\n";
    let bridge = "underlay: warning: network bridge has driver bridge: skipped\n";
    let first = import(&of_docker("10.0.0.0/24"));
    assert_eq!((first.code, first.stdout.as_str(), first.stderr), (0, "lan\n", format!("{lost}{bridge}")));
    let second = import(&of_docker("10.0.0.0/24"));
    let same = "underlay: warning: network lan is there already, and the same\n";
    assert_eq!(
        (second.code, second.stdout.as_str(), second.stderr),
        (0, "", format!("{lost}{same}{bridge}"))
    );
    let other = import(&of_docker("10.1.0.0/24"));
    assert_eq!((other.code, other.stdout.as_str()), (1, ""));
    assert!(other.stderr.contains("underlay: network lan: network lan exists already"), "{other:?}");
    assert!(bed.run("network ls").contains("10.0.0.0/24"));
    for (text, error) in [
        ("{", "underlay: -: EOF while parsing an object at line 1 column 1\n"),
        (
            r#"{"name": "a", "driver": "ipvlan", "network_interface": "eth0", "options": {"mode": "l3"},
                "ipam_options": {"driver": "dhcp"}}"#,
            "underlay: network a: dhcp: ipvlan mode l3 bridge sends no broadcasts, by which servers are found\nhint: ",
        ),
        (
            r#"{"name": "a", "driver": "macvlan", "network_interface": "eth0", "options": {"mode": "l2"}}"#,
            "underlay: network a: option mode: unknown macvlan mode \"l2\"\nhint: ",
        ),
        (
            r#"{"name": "a", "driver": "macvlan", "network_interface": "eth0", "subnets": [{"subnet": "10.0.0.1/8"}]}"#,
            "underlay: network a: subnets: subnet 10.0.0.1/8 has host bits set\n",
        ),
        (
            r#"{"name": "a/b", "driver": "macvlan", "network_interface": "eth0"}"#,
            "underlay: network a/b: invalid value 'a/b' for '<NAME>': ",
        ),
        (
            r#"{"name": "a", "driver": "macvlan", "network_interface": "eth9"}"#,
            "underlay: network a: network a: parent eth9 does not exist on this host\n",
        ),
    ] {
        let outcome = import(text);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{outcome:?}");
        assert!(outcome.stderr.starts_with(error), "{text}: {outcome:?}");
    }
    assert_eq!(bed.run("network ls -q"), "lan\n");
}

fn of_podman() {
    let bed = Bed::new();
    let folder = bed.path("podman");
    fs::create_dir(&folder).unwrap();
    let create = |arguments: &str| {
        let mut command = podman(&bed);
        command.arg("--network-config-dir").arg(&folder).args(["network", "create"]);
        finish(command.args(arguments.split_whitespace())).unwrap();
    };
    create(
        "-d macvlan -o parent=eth0 -o mode=private -o mtu=1400 --subnet 172.16.86.0/24 --gateway 172.16.86.1 \
         --ip-range 172.16.86.128/25 --subnet 2001:db8:abc8::/64 --gateway 2001:db8:abc8::10 --label team=web lan",
    );
    // podman 4.3 has no driver ipvlan, and names a gateway for internal networks too.
    let old = splits_annotations();
    let (driver, mode, gateway) =
        if old { ("macvlan", "vepa", "--gateway 10.20.0.1") } else { ("ipvlan", "l3", "") };
    let backend = format!("-d {driver} -o parent=eth0 -o mode={mode} --subnet 10.20.0.0/24 --internal");
    create(&format!("{backend} backend"));
    create("plain");
    let files =
        ["backend", "lan", "plain"].map(|name| folder.join(format!("{name}.json")).display().to_string());
    let outcome = bed.outcome(&format!("network import {}", files.join(" ")), "");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "backend\nlan\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("network plain has driver bridge: skipped"), "{outcome:?}");
    // podman leaves the first address of a range out.
    assert_same(
        &bed,
        "lan",
        "-o parent=eth0 -o mode=private -o mtu=1400 --subnet 172.16.86.0/24 --gateway 172.16.86.1 \
         --ip-range 172.16.86.129-172.16.86.255 --subnet 2001:db8:abc8::/64 --gateway 2001:db8:abc8::10 --label team=web",
    );
    assert_same(&bed, "backend", &format!("{backend} {gateway}"));
}

fn of_docker() {
    let bed = Bed::new();
    let docker = Docker::with(&bed, json!({}));
    let docker = |arguments: &str| docker.run(arguments).unwrap();
    let macvlan = "-d macvlan --subnet 172.16.86.0/24 --gateway 172.16.86.1 --ip-range 172.16.86.128/25 \
                   --aux-address router2=172.16.86.200 --ipv6 --subnet 2001:db8:abc8::/64 \
                   --gateway 2001:db8:abc8::10 -o parent=eth0.50 -o macvlan_mode=private --label team=web";
    docker(&format!("network create {macvlan} pub_net"));
    let ipvlan =
        "-d ipvlan --subnet 10.20.0.0/24 -o parent=eth0 -o ipvlan_mode=l3 -o ipvlan_flag=vepa --internal";
    docker(&format!("network create {ipvlan} backend"));
    let inspected = docker("network inspect pub_net backend host");
    docker("network rm pub_net backend");
    let outcome = bed.outcome("network import -", &inspected);
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (0, "pub_net\nbackend\n"),
        "{outcome:?}\n{inspected}"
    );
    assert_eq!(outcome.stderr, "underlay: warning: network host has driver host: skipped\n", "{inspected}");
    assert_same(&bed, "pub_net", macvlan);
    assert_same(&bed, "backend", ipvlan);
}
