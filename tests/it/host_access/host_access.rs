//! `host_access`: the host and its containers talk to each other, and nothing else of the host's network changes.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::bed::{Bed, Watched, finish};
use crate::harness::container::Container;
use crate::harness::container::Engine::{self, Bare};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::host_access::host_access_changes as changes;

pub fn tests() -> Vec<Test> {
    let all: [Named; 21] = [
        ("one_answer_on_the_lan", &[Need::Macvlan], one_answer),
        ("named_addresses", &[Need::Macvlan], named),
        ("kept", &[Need::Macvlan], kept),
        ("deleted_by_hand", &[Need::Macvlan], changes::deleted_by_hand),
        ("changed_by_hand", &[Need::Macvlan], changes::changed_by_hand),
        ("others_are_not_concerned", &[Need::Macvlan], changes::others),
        ("somebody_elses_link", &[Need::Macvlan], changes::foreign_link),
        ("somebody_elses_route", &[Need::Macvlan], changes::foreign_route),
        ("two_networks_of_one_parent", &[Need::Macvlan], two_networks),
        ("first_and_last_at_once", &[Need::Macvlan], at_once),
        ("the_dead", &[Need::Macvlan], changes::the_dead),
        ("a_lost_ledger", &[Need::Macvlan], changes::lost_ledger),
        ("a_changed_definition", &[Need::Macvlan], changes::changed_definition),
        ("another_parent", &[Need::Macvlan], changes::another_parent),
        ("a_definition_that_is_gone", &[Need::Macvlan], changes::gone_definition),
        ("another_mode_after_the_dead", &[Need::Macvlan], changes::another_mode),
        ("a_release_that_comes_late", &[Need::Macvlan], changes::released_late),
        ("a_full_network", &[Need::Macvlan], full),
        ("refused", &[Need::Macvlan], refused),
        ("parents_of_our_own", &[Need::Vlan, Need::Dummy], changes::made_parents),
        ("another_driver_after_the_dead", &[Need::Ipvlan], changes::another_driver),
    ];
    let mut tests: Vec<Test> =
        all.map(|(name, needs, run)| Test::new(format!("host_access::{name}"), needs, run)).into();
    for (what, options, needs) in [
        ("macvlan", "-d macvlan", Need::Macvlan),
        ("ipvlan_l2", "-d ipvlan -o ipvlan_mode=l2", Need::Ipvlan),
        ("ipvlan_l3", "-d ipvlan -o ipvlan_mode=l3", Need::Ipvlan),
        ("ipvlan_l3s", "-d ipvlan -o ipvlan_mode=l3s", Need::Ipvlan),
    ] {
        tests.push(Test::new(format!("host_access::both_ways::{what}"), &[needs], move || {
            both_ways(options, Bare)
        }));
    }
    let podman = [Need::Macvlan, Need::Engine(Engine::Podman)];
    tests.push(Test::new("host_access::both_ways::podman", &podman, || {
        both_ways("-d macvlan", Engine::Podman)
    }));
    tests
}

pub const SUBNETS: &str =
    "--subnet=172.16.86.0/24 --gateway=172.16.86.1 --subnet=2001:db8:abc8::/64 -o parent=eth0";

pub fn create(bed: &Bed, more: &str) {
    bed.create(&format!("{SUBNETS} --host-access {more} pub_net"));
}

pub fn start<'a>(bed: &'a Bed, id: &str) -> Container<'a> {
    bed.container(Bare, id).networks("pub_net").start().unwrap()
}

/// Whether the host's ping reaches `address`.
pub fn reaches(bed: &Bed, address: &str) -> bool {
    bed.host.try_run("busybox", &format!("ping -c 1 -W 5 {address}")).is_ok()
}

/// The lines of the host's routes by its links of networks.
pub fn routes(bed: &Bed) -> Vec<String> {
    let all = [bed.host.ip("-4 route"), bed.host.ip("-6 route")].concat();
    let by = all.lines().filter(|line| line.contains("dev ulh-") && !line.starts_with("fe80"));
    by.map(|line| line.replace(" linkdown", "").replace(" metric 1024 pref medium", "").trim().to_owned())
        .collect()
}

/// The routes to containers with these last numbers of their IPv4 and IPv6 address, if the host was second.
pub fn expected(containers: &[(u8, u8)]) -> Vec<String> {
    let v4 = |(to, _): &(u8, u8)| format!("172.16.86.{to} dev ulh-pub_net scope link src 172.16.86.3");
    let v6 = |(_, to): &(u8, u8)| format!("2001:db8:abc8::{to} dev ulh-pub_net src 2001:db8:abc8::2");
    containers.iter().map(v4).chain(containers.iter().map(v6)).collect()
}

/// Sends a line from a server to a client, each run by its prefix of a command line.
fn talk(server: &[String], client: &[String], address: &str) -> bool {
    let command = |prefix: &[String], line: &str| {
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).args(line.split_whitespace());
        command
    };
    let mut listening = command(server, "busybox nc -l -p 8086 -w 20");
    let mut listening =
        listening.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut listening.stdin.take().unwrap(), b"hello\n").unwrap();
    let connect = || finish(&mut command(client, &format!("busybox nc -w 10 {address} 8086")));
    let mut said = connect();
    for _ in 0..50 {
        if said.is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
        said = connect();
    }
    let _ = listening.kill();
    listening.wait().unwrap();
    said.as_deref() == Ok("hello\n")
}

fn inside(pid: i32) -> Vec<String> {
    ["nsenter".to_owned(), format!("--net=/proc/{pid}/ns/net")].into()
}

fn on_host(bed: &Bed) -> Vec<String> {
    ["nsenter".to_owned(), format!("--net={}", bed.host.path().display())].into()
}

pub fn link_of(bed: &Bed) -> Option<Value> {
    bed.host.link("ulh-pub_net")
}

/// Ping and TCP from the host to a container and back, in both families, while the parent has addresses of the same
/// subnets.
fn both_ways(options: &str, engine: Engine) {
    let bed = Watched::new();
    create(&bed, options);
    assert!(link_of(&bed).is_none(), "nobody needs it yet");
    let start = |id| bed.container(engine, id).networks("pub_net").start().unwrap();
    let (first, second) = (start("first"), start("second"));
    assert_eq!(first.addresses("eth0"), ["172.16.86.2/24", "2001:db8:abc8::1/64"]);
    let link = link_of(&bed).unwrap();
    assert_eq!(link["ifalias"], "underlay:host:pub_net");
    assert_eq!(link["linkinfo"]["info_kind"], options.split_whitespace().nth(1).unwrap());
    for address in ["172.16.86.2", "172.16.86.4", "2001:db8:abc8::1", "2001:db8:abc8::3"] {
        assert!(reaches(&bed, address), "{address}\n{}\n{:?}", bed.host.ip("addr"), routes(&bed));
        let got = bed.host.ip(&format!("route get {address}"));
        let source = if address.contains(':') { "2001:db8:abc8::2" } else { "172.16.86.3" };
        assert!(got.contains(&format!("dev ulh-pub_net src {source}")), "{got}");
    }
    for container in [&first, &second] {
        for address in ["172.16.86.3", "2001:db8:abc8::2"] {
            assert!(container.reaches(address), "{address}: {:?}", container.routes("-4"));
        }
    }
    assert!(first.reaches("172.16.86.250"), "the address by which the LAN knows the host");
    assert!(first.reaches("172.16.86.4") && second.reaches("2001:db8:abc8::1"), "one another");
    assert!(reaches(&bed, "172.16.86.1"), "the LAN");
    assert!(talk(&inside(first.pid), &on_host(&bed), "172.16.86.2"), "host to container");
    assert!(talk(&on_host(&bed), &inside(first.pid), "172.16.86.3"), "container to host");
    assert!(talk(&inside(first.pid), &on_host(&bed), "2001:db8:abc8::1"), "host to container, IPv6");
    assert!(talk(&on_host(&bed), &inside(first.pid), "2001:db8:abc8::2"), "container to host, IPv6");
    assert_eq!(bed.run("check"), "");
    first.stop();
    assert_eq!(routes(&bed), expected(&[(4, 3)]));
    assert!(reaches(&bed, "172.16.86.4"));
    second.stop();
    assert!(link_of(&bed).is_none(), "gone with the last");
    assert_eq!(bed.run("check"), "");
    bed.run("network rm pub_net");
    bed.assert_nothing_held();
    assert!(!bed.path("run/host_links/pub_net.json").exists());
}

/// A neighbour on the LAN hears of the host by the MAC address of the parent and no other, and reaches it.
fn one_answer() {
    let bed = Watched::new();
    create(&bed, "");
    let container = start(&bed, "web");
    let parent = bed.host.link("eth0").unwrap()["address"].as_str().unwrap().to_owned();
    for address in ["172.16.86.250", "172.16.86.3"] {
        let asked = bed
            .lan
            .command("busybox")
            .args(["arping", "-b", "-c", "2", "-w", "3", "-I", "lan0", address])
            .output();
        let said = String::from_utf8(asked.unwrap().stdout).unwrap();
        let replies: Vec<_> = said.lines().filter(|line| line.contains("reply from")).collect();
        assert!(!replies.is_empty() && replies.iter().all(|line| line.contains(&parent)), "{said}");
    }
    assert!(bed.lan.try_run("busybox", "ping -c 1 -W 5 172.16.86.250").is_ok());
    assert!(container.reaches("172.16.86.1"));
    // No subnet is reached by it, and no router is listened to.
    assert_eq!(routes(&bed), expected(&[(2, 1)]));
    let setting = |name: &str| bed.host.try_run("cat", &format!("/proc/sys/net/{name}")).unwrap();
    assert_eq!(setting("ipv6/conf/ulh-pub_net/accept_ra"), "0\n");
    assert_eq!(setting("ipv4/conf/ulh-pub_net/arp_filter"), "1\n");
    assert_eq!(setting("ipv4/conf/ulh-pub_net/arp_announce"), "2\n");
}

fn named() {
    let bed = Watched::new();
    bed.create(&format!("{SUBNETS} --host-access=172.16.86.200 --host-access=2001:db8:abc8::200 pub_net"));
    let file = fs::read_to_string(bed.path("etc/networks/pub_net.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["host_access"], serde_json::json!(["172.16.86.200", "2001:db8:abc8::200"]));
    // Before the host has it, nobody gets it.
    let refused = bed.container(Bare, "thief").networks("pub_net:ip=172.16.86.200").start().err().unwrap();
    assert!(
        refused.contains("address 172.16.86.200 of network pub_net is held by this host itself"),
        "{refused}"
    );
    assert!(link_of(&bed).is_none());
    let web = start(&bed, "web");
    assert!(
        web.reaches("172.16.86.200") && web.reaches("2001:db8:abc8::200") && reaches(&bed, "172.16.86.2")
    );
    let shown = bed.host.ip("-oneline addr show dev ulh-pub_net");
    assert!(shown.contains("172.16.86.200/32") && shown.contains("2001:db8:abc8::200/128"), "{shown}");
    web.stop();
    // An address the host has is not to be had twice.
    bed.host.ip("addr add 172.16.86.200/32 dev lo");
    let refused = bed.container(Bare, "web").networks("pub_net").start().err().unwrap();
    let expected = "address 172.16.86.200, the host's in network pub_net, is on another link of the host";
    assert!(refused.contains(expected), "{refused}");
    bed.host.ip("addr del 172.16.86.200/32 dev lo");
    start(&bed, "web").stop();
}

/// The host's link comes back as it was: same addresses, same MAC address, whatever happened meanwhile.
fn kept() {
    let bed = Watched::new();
    create(&bed, "");
    let web = bed.container(Bare, "web").networks("pub_net:ip=172.16.86.9").start().unwrap();
    let before = (
        bed.host.ip("-oneline -4 addr show dev ulh-pub_net").split_once(' ').unwrap().1.to_owned(),
        link_of(&bed).unwrap(),
    );
    assert!(before.0.contains("172.16.86.2/32"), "what is asked for goes first: {}", before.0);
    web.stop();
    let leases = bed.leases();
    assert_eq!(leases.len(), 2, "{leases:?}");
    let refused = bed.container(Bare, "thief").networks("pub_net:ip=172.16.86.2").start().err().unwrap();
    assert!(refused.contains("is held by the host, in network pub_net"), "{refused}");
    let inspected: Value = serde_json::from_str(&bed.run("network inspect pub_net")).unwrap();
    assert_eq!(inspected[0]["host_link"]["state"], "missing", "{inspected}");
    let others = ["a", "b"].map(|id| start(&bed, id));
    assert_eq!(others[0].addresses("eth0")[0], "172.16.86.3/24");
    let after = link_of(&bed).unwrap();
    assert_eq!(after["address"], before.1["address"]);
    assert!(bed.host.ip("-oneline -4 addr show dev ulh-pub_net").contains(" 172.16.86.2/32 "));
    let inspected: Value = serde_json::from_str(&bed.run("network inspect pub_net")).unwrap();
    let link = &inspected[0]["host_link"];
    assert_eq!((&link["name"], &link["state"]), (&"ulh-pub_net".into(), &"up".into()));
    assert_eq!(link["addresses"], serde_json::json!(["172.16.86.2", "2001:db8:abc8::2"]));
}

fn two_networks() {
    let bed = Watched::new();
    bed.create("--subnet 10.1.0.0/24 -o parent=eth0 --host-access one");
    bed.create("--subnet 10.2.0.0/24 -o parent=eth0 --host-access two");
    bed.create("--subnet 10.3.0.0/24 -o parent=eth0 three");
    let start = |id, networks| bed.container(Bare, id).networks(networks).start().unwrap();
    let (both, one) = (start("both", "one;two;three"), start("one", "one"));
    assert_eq!(both.links(), ["eth0", "eth1", "eth2"]);
    assert_eq!(
        routes(&bed),
        [
            "10.1.0.1 dev ulh-one scope link src 10.1.0.2",
            "10.1.0.3 dev ulh-one scope link src 10.1.0.2",
            "10.2.0.1 dev ulh-two scope link src 10.2.0.2"
        ]
    );
    for address in ["10.1.0.1", "10.2.0.1", "10.1.0.3"] {
        assert!(reaches(&bed, address), "{address}");
    }
    assert!(both.reaches("10.1.0.2") && both.reaches("10.2.0.2") && one.reaches("10.1.0.2"));
    assert_eq!(bed.run("check"), "");
    both.stop();
    assert!(bed.host.link("ulh-two").is_none() && bed.host.link("ulh-one").is_some());
    assert!(reaches(&bed, "10.1.0.3"));
}

/// The link comes and goes while others start and stop; whoever runs is reached.
fn at_once() {
    let bed = Watched::new();
    create(&bed, "");
    // The ledger is repaired before its first use; that is another test's subject.
    start(&bed, "before").stop();
    let bed_of = &*bed;
    thread::scope(|scope| {
        for thread in 0..6 {
            scope.spawn(move || {
                for turn in 0..4 {
                    let mut container = start(bed_of, &format!("c{thread}-{turn}"));
                    for address in container.addresses("eth0") {
                        let address = address.split('/').next().unwrap();
                        assert!(
                            reaches(bed_of, address),
                            "{address}\n{:?}\n{}",
                            routes(bed_of),
                            bed_of.log()
                        );
                    }
                    container.kill();
                    // On a slow machine it says that it waits for the ledger.
                    let stopped = container.hook("poststop");
                    assert!(!stopped.stderr.contains("underlay: "), "{stopped:?}");
                    container.forget();
                }
            });
        }
    });
    assert_eq!((routes(&bed), bed.records()), (vec![], vec![]), "{}", bed.log());
    assert!(link_of(&bed).is_none(), "{}", bed.log());
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
}

fn full() {
    let bed = Watched::new();
    bed.create("--subnet 10.0.0.0/30 -o parent=eth0 --host-access tiny");
    let start = |id| bed.container(Bare, id).networks("tiny").start();
    let mut web = start("web").unwrap();
    let refused = start("more").err().unwrap();
    assert!(refused.contains("network tiny has no free IPv4 address left"), "{refused}");
    web.kill();
    web.forget();
    // What the dead hold is taken back.
    let web = start("next").unwrap();
    assert!(reaches(&bed, "10.0.0.1") || reaches(&bed, "10.0.0.2"), "{:?}", web.addresses("eth0"));
    web.stop();
    let refused =
        bed.outcome("network create --subnet 10.9.0.5/32 -o parent=eth0 --host-access one", "").stderr;
    assert!(
        refused.contains("10.9.0.5/32 has one address, and the host needs one beside the container"),
        "{refused}"
    );
    assert_eq!(bed.records(), Vec::<String>::new());
}

fn refused() {
    let bed = Watched::new();
    for (options, reason) in [
        (
            "-o macvlan_mode=private",
            "macvlan mode private keeps the host from its containers: no link of a parent",
        ),
        (
            "-o macvlan_mode=vepa",
            "macvlan mode vepa keeps the host from its containers: every frame goes out",
        ),
        (
            "-o macvlan_mode=passthru",
            "macvlan mode passthru keeps the host from its containers: one link has the",
        ),
        (
            "-o macvlan_mode=source",
            "macvlan mode source keeps the host from its containers: its links take frames",
        ),
        (
            "-d ipvlan -o ipvlan_flag=private",
            "ipvlan mode l2 private keeps the host from its containers: no link",
        ),
        (
            "-d ipvlan -o ipvlan_mode=l3 -o ipvlan_flag=vepa",
            "ipvlan mode l3 vepa keeps the host from its containers",
        ),
    ] {
        let outcome = bed.outcome(&format!("network create {SUBNETS} --host-access {options} pub_net"), "");
        assert!(
            outcome.code == 1 && outcome.stderr.contains(&format!("host_access: {reason}")),
            "{outcome:?}"
        );
    }
    for (options, reason) in [
        (
            "--host-access -o parent=eth0",
            "host_access: the network has no subnet the host could have an address of",
        ),
        (
            "--subnet 10.0.0.0/24 --host-access=10.0.1.1",
            "host_access: address 10.0.1.1 is in none of the subnets",
        ),
        ("--subnet 10.0.0.0/24 --host-access=x", "host access \"x\" is not an address"),
    ] {
        let outcome = bed.outcome(&format!("network create {options} pub_net"), "");
        assert!(outcome.code != 0 && outcome.stderr.contains(reason), "{outcome:?}");
    }
    bed.configure("underlay.json", r#"{"version": 1, "inline_networks": true}"#);
    let definition = r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "host_access": true,
        "subnets": [{"subnet": "10.0.0.0/24"}]}"#;
    let web = bed.container(Bare, "web").networks("own").annotation("io.underlay.network.own", definition);
    let refused = web.start().err().unwrap();
    let expected =
        "host_access: network own is defined by an annotation, which cannot change the host's routes";
    assert!(refused.contains(expected), "{refused}");
    bed.assert_nothing_held();
}
