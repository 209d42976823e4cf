//! What the tests of moby, netavark and the CNI plugins assert of macvlan, ipvlan, VLANs and addresses, and what no
//! other file here shows. docs/explanation/comparison.md lists their lines one by one.

use serde_json::Value;

use crate::conformance::pages::{assert_vlan, silent};
use crate::harness::bed::{Bed, Netns, Watched};
use crate::harness::container::Container;
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need::{self, Dummy, Ipvlan, Macvlan, Vlan};
use crate::harness::test::{Named, Test};

/// A test of both drivers: its name, and the function that takes the driver.
type OfDriver = (&'static str, fn(&str));

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    let mut add = |name: String, needs: &[Need], run: Box<dyn FnOnce() + Send>| {
        tests.push(Test::new(format!("conformance::{name}"), needs, run));
    };
    let alone: [Named; 9] = [
        ("a_vlan_goes_with_its_last_network", &[Macvlan, Vlan], vlan_counted),
        ("vlans_stack", &[Macvlan, Vlan], vlans_stack),
        ("names_that_are_no_vlan", &[Macvlan], vlan_names),
        ("the_mtu_of_a_vlan", &[Macvlan, Vlan], vlan_mtu),
        ("passthru_wants_its_parent_alone", &[Macvlan], passthru),
        ("ranges_of_networks_may_overlap", &[Macvlan], overlapping_ranges),
        ("usage_of_a_range", &[Macvlan], usage_of_a_range),
        ("a_range_of_one", &[Macvlan], range_of_one),
        ("definitions_that_are_refused", &[Macvlan], refused_definitions),
    ];
    for (name, needs, run) in alone {
        add(name.to_owned(), needs, Box::new(run));
    }
    for (driver, need) in [("macvlan", Macvlan), ("ipvlan", Ipvlan)] {
        let both: [OfDriver; 7] = [
            ("internal", internal),
            ("one_gateway", one_gateway),
            ("families", families),
            ("routes", routes),
            ("metric", metric),
            ("no_default_route", no_default_route),
            ("several_addresses", several_addresses),
        ];
        for (name, run) in both {
            add(format!("{name}::{driver}"), &[need], Box::new(move || run(driver)));
        }
        let several = move || several_subnets(driver, "-o parent=eth0");
        add(format!("several_subnets::{driver}"), &[need], Box::new(several));
        let several = move || several_subnets(driver, "");
        add(format!("several_subnets_without_a_parent::{driver}"), &[need, Dummy], Box::new(several));
    }
    add("two_on_a_31::macvlan".into(), &[Macvlan, Dummy], Box::new(|| two_on_a_31("-d macvlan")));
    for mode in ["l2", "l3", "l3s"] {
        let run = move || two_on_a_31(&format!("-d ipvlan -o ipvlan_mode={mode}"));
        add(format!("two_on_a_31::{mode}"), &[Ipvlan, Dummy], Box::new(run));
    }
    for mode in ["l3", "l3s"] {
        add(format!("subnets_of_{mode}"), &[Ipvlan], Box::new(move || l3(mode)));
        let inside = move || l3_inside(mode, "--internal -o parent=eth0");
        add(format!("subnets_of_{mode}_internal"), &[Ipvlan], Box::new(inside));
        let inside = move || l3_inside(mode, "");
        add(format!("subnets_of_{mode}_without_a_parent"), &[Ipvlan, Dummy], Box::new(inside));
    }
    tests
}

#[track_caller]
fn run<'a>(bed: &'a Bed, id: &str, networks: &str) -> Container<'a> {
    bed.container(Bare, id).networks(networks).start().unwrap()
}

/// Asserts that nothing leads to addresses outside of the container's networks.
#[track_caller]
fn assert_no_way_out(container: &Container<'_>) {
    for family in ["-4", "-6"] {
        let routes = container.routes(family);
        assert!(!routes.iter().any(|route| route.starts_with("default")), "{routes:?}");
    }
    let error = container.try_run("busybox", "ping -c 1 -W 5 8.8.8.8").unwrap_err();
    assert!(error.contains("Network is unreachable"), "{error}");
}

/// moby: OverlapParent, OverlapDeleteCreatedSecond, OverlapKeepExistingParent.
fn vlan_counted() {
    let bed = Bed::new();
    for order in [["one", "two"], ["two", "one"]] {
        bed.create("--subnet 10.0.0.0/24 -o parent=eth0.40 one");
        bed.create("--subnet 10.1.0.0/24 -o parent=eth0.40 two");
        bed.run(&format!("network rm {}", order[0]));
        assert_vlan(&bed, "eth0.40", "eth0", 40);
        let last = run(&bed, "web", order[1]);
        last.stop();
        assert_vlan(&bed, "eth0.40", "eth0", 40);
        bed.run(&format!("network rm {}", order[1]));
        assert!(bed.host.link("eth0.40").is_none(), "{order:?}");
        assert!(bed.host.link("eth0").is_some());
    }
    bed.host.ip("link add link eth0 name eth0.40 type vlan id 40");
    bed.create("--subnet 10.0.0.0/24 -o parent=eth0.40 one");
    bed.create("--subnet 10.1.0.0/24 -o parent=eth0.40 two");
    bed.run("network rm one two");
    assert!(bed.host.link("eth0.40").is_some(), "made by hand, it stays");
}

/// moby refuses to make these.
fn vlans_stack() {
    let bed = Watched::new();
    bed.lan.ip_batch(&[
        "link add link lan0 name lan0.10 type vlan id 10",
        "link add link lan0.10 name lan0.10.20 type vlan id 20",
        "link set lan0.10 up",
        "link set lan0.10.20 up",
        "addr add 10.0.0.254/24 dev lan0.10.20",
    ]);
    bed.create("--subnet 10.0.0.0/24 --gateway 10.0.0.254 -o parent=eth0.10.20 inner");
    assert_vlan(&bed, "eth0.10", "eth0", 10);
    assert_vlan(&bed, "eth0.10.20", "eth0.10", 20);
    assert!(run(&bed, "web", "inner").reaches("10.0.0.254"), "through both tags");
}

/// moby's parseVlan, and what it does not check: that a link of that name is that VLAN.
fn vlan_names() {
    let bed = Bed::new();
    bed.host.ip("link add eth0.50 type veth peer name other");
    for parent in [
        "eth0.0",
        "eth0.4095",
        "eth0.99999999999",
        "eth0.-1",
        "eth0.ten",
        "eth0.",
        "eth0:10",
        "eth9.10",
        "lo.10",
        "enx001122334455.100",
        "eth0.50",
    ] {
        let refused = bed.outcome(&format!("network create --subnet 10.0.0.0/24 -o parent={parent} lan"), "");
        assert!(matches!(refused.code, 1 | 2) && refused.stdout.is_empty(), "{parent}: {refused:?}");
        let base = parent.split(['.', ':']).next().unwrap();
        assert!(refused.stderr.contains(base), "{parent}: {refused:?}");
    }
    assert_eq!(bed.run("network ls -q"), "");
    assert_eq!(bed.host.ip("-br link").lines().count(), 4, "lo, eth0, and the veth pair");
}

/// CNI's vlan plugin: the parent's MTU unless another is given, which is not larger.
fn vlan_mtu() {
    let bed = Bed::new();
    bed.host.ip("link set eth0 mtu 1400");
    let refused = bed.outcome("network create -o parent=eth0.50 -o mtu=1401 large", "");
    assert!(refused.stderr.contains("1401") && refused.stderr.contains("1400"), "{refused:?}");
    assert!(bed.host.link("eth0.50").is_none(), "a create that fails leaves nothing");
    bed.create("-o parent=eth0.50 plain");
    bed.create("-o parent=eth0.50 -o mtu=1300 small");
    let container = run(&bed, "web", "plain;small");
    assert_eq!(bed.host.link("eth0.50").unwrap()["mtu"], 1400);
    assert_eq!(
        (&container.link("eth0")["mtu"], &container.link("eth1")["mtu"]),
        (&1400.into(), &1300.into())
    );
}

/// moby: OverlapParentPassthruFirst and -Second, on a VLAN or not: the second network is refused.
fn passthru() {
    let bed = Watched::new();
    for (first, second) in [("bridge", "passthru"), ("passthru", "bridge"), ("passthru", "passthru")] {
        bed.create(&format!("--subnet 10.0.0.0/24 -o parent=eth0 -o macvlan_mode={first} one"));
        let line = format!("network create --subnet 10.1.0.0/24 -o parent=eth0 -o macvlan_mode={second} two");
        let refused = bed.outcome(&line, "");
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{first}, {second}: {refused:?}");
        assert!(refused.stderr.contains("passthru") && refused.stderr.contains("eth0"), "{refused:?}");
        bed.run("network rm one");
    }
    assert_eq!(bed.run("network ls -q"), "");
}

/// What `network inspect` counts of a network's first subnet: taken, and left to pick.
fn usage(bed: &Bed, name: &str) -> (u64, u64) {
    let shown: Value = serde_json::from_str(&bed.run(&format!("network inspect {name}"))).unwrap();
    let usage = &shown[0]["usage"][0];
    (usage["in_use"].as_u64().unwrap(), usage["free"].as_u64().unwrap())
}

/// moby: TestMacvlanIPAMOverlap. An address is taken in all networks, and missing where the range had it.
fn overlapping_ranges() {
    let bed = Watched::new();
    let all = ["low", "whole", "high"];
    for (name, range) in all.iter().zip(["--ip-range 10.0.0.0/25", "", "--ip-range 10.0.0.128/25"]) {
        bed.create(&format!("--subnet 10.0.0.0/24 {range} -o parent=eth0 {name}"));
    }
    // The network and the broadcast address.
    assert_eq!(all.map(|name| usage(&bed, name)), [(2, 127), (2, 254), (2, 127)]);
    let mut started = Vec::new();
    for (network, address) in [("low", 1), ("whole", 2), ("high", 128), ("low", 3)] {
        let container = run(&bed, &format!("c{address}"), network);
        assert_eq!(container.addresses("eth0"), [format!("10.0.0.{address}/24")], "{network}");
        if started.is_empty() {
            assert_eq!(all.map(|name| usage(&bed, name)), [(3, 126), (3, 253), (3, 127)]);
        }
        started.push(container);
    }
}

/// moby's example: a range of four, one aux address inside, another and the gateway outside, one container.
fn usage_of_a_range() {
    let bed = Watched::new();
    bed.create(
        "--subnet 10.0.0.0/24 --ip-range 10.0.0.16/30 --gateway 10.0.0.1 --aux-address in=10.0.0.16 \
         --aux-address out=10.0.0.2 -o parent=eth0 lan",
    );
    let container = run(&bed, "web", "lan");
    assert_eq!(container.addresses("eth0"), ["10.0.0.17/24"]);
    assert_eq!(usage(&bed, "lan"), (6, 2));
}

/// moby: TestWatchtowerCreate. The range has one address, the one asked for is another.
fn range_of_one() {
    let bed = Watched::new();
    bed.create("--subnet 10.0.0.0/29 --ip-range 10.0.0.5/32 -o parent=eth0 small");
    let asked = run(&bed, "asked", "small:ip=10.0.0.3,mac=02:00:00:00:00:03");
    assert_eq!(asked.addresses("eth0"), ["10.0.0.3/29"]);
    assert_eq!(asked.link("eth0")["address"], "02:00:00:00:00:03");
    let only = run(&bed, "only", "small");
    assert_eq!(only.addresses("eth0"), ["10.0.0.5/29"]);
    let error = bed.container(Bare, "late").networks("small").start().map(drop).unwrap_err();
    assert!(error.contains("network small has no free IPv4 address left"), "{error}");
}

/// moby's and netavark's lists of what `network create` does not take.
fn refused_definitions() {
    let bed = Watched::new();
    for arguments in [
        "--subnet 10.0.0.0/24 --subnet 10.0.0.0/24",
        "--subnet 10.0.0.0/16 --subnet 10.0.5.0/24",
        "--gateway 10.0.0.1",
        "--ip-range 10.0.0.0/25",
        "--subnet 10.0.0.0/24 --gateway ::1",
        "--subnet 10.0.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2",
        "--subnet 10.0.0.0/24 --ip-range 10.0.0.0/23",
        "--subnet 10.0.0.0/24 --ip-range 10.0.0.5/25",
        "--subnet 10.0.0.0/24 --ip-range 10.0.0.0/26 --ip-range 10.0.0.64/26",
        "--subnet 10.0.0.0/24 --aux-address a=10.0.1.5",
        "--subnet 10.0.0.0/24 --aux-address a=::5",
        "--subnet 10.0.0.0/24 --aux-address a=nowhere",
        "--subnet 10.0.0.0/24 --aux-address a=10.0.0.5 --aux-address a=10.0.0.6",
        "--subnet 10.0.0.0/24 --route 10.8.0.0/16",
        "--subnet 10.0.0.0/24 --route nowhere,10.0.0.1",
        "--subnet 10.0.0.0/24 --route 10.8.0.0/16,10.1.0.1",
        "--subnet 10.0.0.0/24 --route 10.8.0.0/16,10.0.0.1,much",
        "-o mtu=-1",
        "-o mtu=large",
        "-o metric=much",
        "-o no_default_route=perhaps",
        "-o macvlan_mode=",
        "-o macvlan_mode=bridges",
        "-d ipvlan -o bclim=5",
        "-d ipvlan -o ipvlan_mode=l4",
    ] {
        let refused = bed.outcome(&format!("network create {arguments} -o parent=eth0 lan"), "");
        assert!(matches!(refused.code, 1 | 2) && refused.stdout.is_empty(), "{arguments}: {refused:?}");
        assert!(!refused.stderr.is_empty(), "{arguments}");
    }
    assert_eq!(bed.run("network ls -q"), "");
}

/// moby: InternalMode. Inside they find each other, nothing leads outside.
fn internal(driver: &str) {
    let bed = Watched::new();
    bed.create(&format!(
        "-d {driver} --subnet 10.0.0.0/24 --gateway 10.0.0.254 --internal -o parent=eth0 inside"
    ));
    let _first = run(&bed, "first", "inside");
    let second = run(&bed, "second", "inside");
    assert_no_way_out(&second);
    assert!(second.reaches("10.0.0.1"));
}

/// moby: Addressing. A family without a gateway has no default route, whatever the other has.
fn one_gateway(driver: &str) {
    let bed = Watched::new();
    for (name, gateway, default4, default6) in [
        (
            "six",
            "2001:db8:1::254",
            None,
            Some("default via 2001:db8:1::254 dev eth0 metric 1024 pref medium"),
        ),
        ("four", "10.0.0.254", Some("default via 10.0.0.254 dev eth0"), None),
    ] {
        bed.create(&format!(
            "-d {driver} --ipv6 --subnet 10.0.0.0/24 --subnet 2001:db8:1::/64 --gateway {gateway} -o parent=eth0 {name}"
        ));
        let container = run(&bed, name, name);
        let default =
            |family: &str| container.routes(family).into_iter().find(|route| route.starts_with("default"));
        assert_eq!((default("-4").as_deref(), default("-6").as_deref()), (default4, default6));
    }
}

/// moby: TestMacvlanIPAM and TestIpvlanIPAM. IPv6 is on where there is an IPv6 address, and off elsewhere.
fn families(driver: &str) {
    let bed = Watched::new();
    for (name, subnets, addresses, ipv6_off) in [
        (
            "dual",
            "--ipv6 --subnet 10.0.0.0/24 --subnet 2001:db8:1::/64",
            &["10.0.0.1/24", "2001:db8:1::1/64"][..],
            "0",
        ),
        ("four", "--subnet 10.1.0.0/24", &["10.1.0.1/24"], "1"),
        ("six", "--ipv6 --subnet 2001:db8:2::/64", &["2001:db8:2::1/64"], "0"),
        ("none", "", &[], "1"),
    ] {
        bed.create(&format!("-d {driver} {subnets} -o parent=eth0 {name}"));
        let container = run(&bed, name, name);
        assert_eq!(container.addresses("eth0"), addresses, "{name}");
        let off = container.run("sysctl", "-n net.ipv6.conf.eth0.disable_ipv6");
        assert_eq!(off.trim(), ipv6_off, "{name}");
    }
}

/// netavark: static routes in both families, gone with the link that carried them.
fn routes(driver: &str) {
    let bed = Watched::new();
    bed.lan.ip("addr add 10.8.0.1/32 dev lan0");
    bed.create(&format!(
        "-d {driver} --subnet 172.16.86.0/24 --subnet 2001:db8:abc8::/64 --route 10.8.0.0/16,172.16.86.1 \
         --route 10.9.0.0/16,172.16.86.1,50 --route 2001:db8:99::/48,2001:db8:abc8::10 -o parent=eth0 lan"
    ));
    let netns = Netns::new("pinned");
    let container = bed.container(Bare, "web").networks("lan").in_netns(netns.path()).start().unwrap();
    assert_eq!(
        container.routes("-4"),
        [
            "10.8.0.0/16 via 172.16.86.1 dev eth0",
            "10.9.0.0/16 via 172.16.86.1 dev eth0 metric 50",
            "172.16.86.0/24 dev eth0 proto kernel scope link src 172.16.86.2",
        ]
    );
    let six = container.routes("-6");
    let wanted = "2001:db8:99::/48 via 2001:db8:abc8::10 dev eth0 metric 1024 pref medium";
    assert!(six.iter().any(|route| route == wanted), "{six:?}");
    assert!(container.reaches("10.8.0.1"), "by the route alone: there is no default route");
    container.stop();
    assert_eq!((netns.ip("-4 route"), netns.ip("-6 route")), (String::new(), String::new()));
}

/// netavark: the metric of the network is that of its default routes.
fn metric(driver: &str) {
    let bed =
        Bed::with_pub_net(driver, "--subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10 -o metric=200");
    let container = run(&bed, "web", "pub_net");
    assert_eq!(container.routes("-4")[0], "default via 172.16.86.1 dev eth0 metric 200");
    let six = container.routes("-6");
    let wanted = "default via 2001:db8:abc8::10 dev eth0 metric 200 pref medium";
    assert!(six.iter().any(|route| route == wanted), "{six:?}");
    assert!(container.reaches("172.16.86.1") && container.reaches("2001:db8:abc8::10"));
}

/// netavark: a network that leaves the default route to others.
fn no_default_route(driver: &str) {
    let bed = Bed::with_pub_net(driver, "-o no_default_route=true");
    bed.create(&format!("-d {driver} --subnet 10.0.0.0/24 --gateway 10.0.0.254 -o parent=eth0 other"));
    let alone = run(&bed, "alone", "pub_net");
    assert_no_way_out(&alone);
    assert!(alone.reaches("172.16.86.1"), "its own subnet");
    let both = run(&bed, "both", "pub_net;other");
    assert_eq!(both.routes("-4")[0], "default via 10.0.0.254 dev eth1", "though it is listed second");
}

/// netavark: several addresses of one subnet; one that fits nowhere spoils all.
fn several_addresses(driver: &str) {
    let bed = Watched::new();
    bed.create(&format!("-d {driver} --subnet 10.0.0.0/24 -o parent=eth0 lan"));
    let container = run(&bed, "web", "lan:ip=10.0.0.5,ip=10.0.0.6");
    assert_eq!(container.addresses("eth0"), ["10.0.0.5/24", "10.0.0.6/24"]);
    container.stop();
    let error =
        bed.container(Bare, "web").networks("lan:ip=10.0.0.5,ip=10.9.0.5").start().map(drop).unwrap_err();
    assert!(error.contains("address 10.9.0.5 is in no subnet of network lan"), "{error}");
    bed.assert_nothing_held();
}

/// moby: MultiSubnet, with and without a parent. The gateway is that of the subnet the address lies in, or none.
fn several_subnets(driver: &str, parent: &str) {
    let bed = Watched::new();
    bed.create(&format!(
        "-d {driver} --ipv6 --subnet=172.28.200.0/24 --subnet=172.28.202.0/24 --gateway=172.28.202.254 \
         --subnet=2001:db8:abc8::/64 --subnet=2001:db8:abc6::/64 --gateway=2001:db8:abc6::254 {parent} dualstack"
    ));
    let start = |end: u8, four: &str, six: &str| {
        run(
            &bed,
            &format!("c{four}{end}"),
            &format!("dualstack:ip=172.28.{four}.{end},ip=2001:db8:{six}::{end}"),
        )
    };
    for (four, six, has_gateway) in [("200", "abc8", false), ("202", "abc6", !parent.is_empty())] {
        let (_first, second) = (start(20, four, six), start(21, four, six));
        let defaults: Vec<_> = ["-4", "-6"]
            .iter()
            .flat_map(|family| second.routes(family))
            .filter(|route| route.starts_with("default"))
            .collect();
        let expected = [
            "default via 172.28.202.254 dev eth0",
            "default via 2001:db8:abc6::254 dev eth0 metric 1024 pref medium",
        ];
        assert_eq!(defaults, if has_gateway { &expected[..] } else { &[] });
        assert!(
            second.reaches(&format!("172.28.{four}.20")) && second.reaches(&format!("2001:db8:{six}::20"))
        );
    }
}

/// moby: TestPointToPoint. Both addresses of a /31 are for containers.
fn two_on_a_31(options: &str) {
    let bed = Watched::new();
    bed.create(&format!("{options} --subnet 10.0.0.0/31 pair"));
    let (first, second) = (run(&bed, "first", "pair"), run(&bed, "second", "pair"));
    assert_eq!(
        (first.addresses("eth0"), second.addresses("eth0")),
        (vec!["10.0.0.0/31".into()], vec!["10.0.0.1/31".into()])
    );
    assert!(first.reaches("10.0.0.1") && second.reaches("10.0.0.0"));
    let error = bed.container(Bare, "third").networks("pair").start().map(drop).unwrap_err();
    assert!(error.contains("network pair has no free IPv4 address left"), "{error}");
}

/// Two subnets of each family, one with and one without a gateway.
const L3: &str = "--subnet=172.28.10.0/24 --subnet=172.28.12.0/24 --gateway=172.28.12.254 \
                  --subnet=2001:db8:abc9::/64 --subnet=2001:db8:abc7::/64 --gateway=2001:db8:abc7::254";
const TEN: &str = "three:ip=172.28.10.20,ip=2001:db8:abc9::20";
const TWELVE: &str = "three:ip=172.28.12.20,ip=2001:db8:abc7::20";

/// moby: L3MultiSubnet, L3Addressing. The link itself is the way out, whatever gateway is given, and the parent routes
/// between all its containers.
fn l3(mode: &str) {
    let bed = Watched::new();
    bed.create(&format!("-d ipvlan -o ipvlan_mode={mode} --ipv6 {L3} -o parent=eth0 three"));
    let (ten, twelve) = (run(&bed, "ten", TEN), run(&bed, "twelve", TWELVE));
    for container in [&ten, &twelve] {
        assert_eq!(container.routes("-4")[0], "default dev eth0 scope link");
        let six = container.routes("-6");
        assert!(six.iter().any(|route| route == "default dev eth0 metric 1024 pref medium"), "{six:?}");
    }
    let near = run(&bed, "near", "three:ip=172.28.12.21,ip=2001:db8:abc7::21");
    for address in ["172.28.12.20", "2001:db8:abc7::20", "172.28.10.20", "2001:db8:abc9::20"] {
        assert!(near.reaches(address), "{address}");
    }
}

/// moby: L3NilParent, L3InternalMode. Without a way out the subnets of the network still reach each other.
fn l3_inside(mode: &str, more: &str) {
    let bed = Watched::new();
    bed.create(&format!("-d ipvlan -o ipvlan_mode={mode} --ipv6 {L3} {more} three"));
    let (_ten, twelve) = (run(&bed, "ten", TEN), run(&bed, "twelve", TWELVE));
    assert_no_way_out(&twelve);
    assert!(silent(&twelve, "172.16.86.1"), "nor to the LAN's router");
    for address in ["172.28.10.20", "2001:db8:abc9::20"] {
        assert!(twelve.reaches(address), "{address}");
    }
}
