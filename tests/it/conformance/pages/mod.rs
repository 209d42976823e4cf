//! Every command block of three pages on Docker's macvlan driver, as underlay's users would type it. docs/explanation/comparison.md
//! lists them: `a` is "Get started with macvlan" of Docker 1.12, `b` Docker's macvlan page with its tutorial, `c` a blog
//! post that sums them up.

mod tutorial_and_post;

use std::fs;

use serde_json::Value;

use crate::harness::bed::{Bed, Watched};
use crate::harness::container::Container;
use crate::harness::container::Engine::{self, Bare};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    use Need::{Bond, Dummy, Ipvlan, Macvlan, Vlan};
    let all: [Named; 22] = [
        ("a_pub_net", &[Macvlan], a_pub_net),
        ("a_macvlan_mode", &[Macvlan], a_macvlan_mode),
        ("a_exclude_host", &[Macvlan], a_exclude_host),
        ("a_ip_range", &[Macvlan], a_ip_range),
        ("a_host_without_address", &[Macvlan], a_host_without_address),
        ("a_no_parent", &[Macvlan, Dummy], a_no_parent),
        ("a_bond", &[Macvlan, Bond], a_bond),
        ("a_macvlan50", &[Macvlan, Vlan], a_macvlan50),
        ("a_macvlan60", &[Macvlan, Vlan], a_macvlan60),
        ("a_by_hand", &[Macvlan, Vlan], a_by_hand),
        ("a_after_a_reboot", &[Macvlan, Vlan], a_after_a_reboot),
        ("a_ipvlan210", &[Ipvlan, Dummy], a_ipvlan210),
        ("a_macvlan216", &[Macvlan, Vlan], a_macvlan216),
        ("b_macnet32", &[Macvlan], tutorial_and_post::b_macnet32),
        ("b_host_shim", &[Macvlan], tutorial_and_post::b_host_shim),
        ("b_ipvlan210", &[Ipvlan], tutorial_and_post::b_ipvlan210),
        ("b_my_macvlan_net::bare", &[Macvlan], || tutorial_and_post::b_my_macvlan_net(Bare)),
        ("b_my_macvlan_net::crun", &[Macvlan, Need::Engine(Engine::Crun)], || {
            tutorial_and_post::b_my_macvlan_net(Engine::Crun)
        }),
        ("b_8021q", &[Macvlan, Vlan, Need::Engine(Engine::Podman)], tutorial_and_post::b_8021q),
        ("c_hosts_address", &[Macvlan], tutorial_and_post::c_hosts_address),
        ("c_ipvlan210", &[Ipvlan], tutorial_and_post::c_ipvlan210),
        ("c_mynet", &[Macvlan], tutorial_and_post::c_mynet),
    ];
    all.map(|(name, needs, run)| Test::new(format!("pages::{name}"), needs, run)).into()
}

const PUB_NET: &str = "-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net";
const MACVLAN50: &str =
    "-d macvlan --subnet=192.168.50.0/24 --gateway=192.168.50.1 -o parent=eth0.50 macvlan50";

/// `docker run`, where nothing is said of the engine.
#[track_caller]
fn run<'a>(bed: &'a Bed, id: &str, networks: &str) -> Container<'a> {
    bed.container(Bare, id).networks(networks).start().unwrap()
}

/// What the hook says when it refuses.
#[track_caller]
fn refused(bed: &Bed, networks: &str) -> String {
    bed.container(Bare, "refused").networks(networks).start().map(drop).unwrap_err()
}

/// Gives the router of the LAN `addresses`, and with `vlan` a place in that VLAN.
fn router(bed: &Bed, vlan: Option<u16>, addresses: &[&str]) {
    let mut batch = vec!["link set lan0 up".to_owned()];
    let mut link = "lan0".to_owned();
    if let Some(id) = vlan {
        link = format!("lan0.{id}");
        batch.push(format!("link add link lan0 name {link} type vlan id {id}"));
        batch.push(format!("link set {link} up"));
    }
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        batch.push(format!("addr add {address} dev {link} {nodad}"));
    }
    bed.lan.ip_batch(&batch.iter().map(String::as_str).collect::<Vec<_>>());
    // Otherwise it does what this machine does.
    routing(bed, 0);
}

/// Whether the router of the LAN routes between its subnets.
fn routing(bed: &Bed, on: u8) {
    bed.lan.try_run("sysctl", &format!("-qw net.ipv4.ip_forward={on}")).unwrap();
}

/// Whether nothing answers at `address`: what is not there needs no long wait.
pub fn silent(container: &Container<'_>, address: &str) -> bool {
    container.try_run("busybox", &format!("ping -c 1 -W 1 {address}")).is_err()
}

/// Asserts that `name` is VLAN `id` of `base` on the host, and up.
#[track_caller]
pub fn assert_vlan(bed: &Bed, name: &str, base: &str, id: u16) {
    let link = bed.host.link(name).unwrap_or_else(|| panic!("there is no {name} on the host"));
    let info = &link["linkinfo"];
    assert_eq!(
        (&info["info_kind"], &info["info_data"]["id"], &info["info_data"]["protocol"], &link["link"]),
        (&"vlan".into(), &id.into(), &"802.1Q".into(), &base.into())
    );
    assert!(link["flags"].as_array().unwrap().contains(&"UP".into()), "{name} is up: {link}");
}

/// Asserts what the pages print of `ip a show eth0`: a link on `parent`, up, with a MAC address, and `addresses`.
/// Returns the MAC address.
#[track_caller]
fn assert_shows(bed: &Bed, container: &Container<'_>, parent: &str, addresses: &[&str]) -> String {
    let link = container.link("eth0");
    let below = bed.host.link(parent).unwrap();
    assert_eq!(link["link_index"], below["ifindex"], "eth0@if{}", below["ifindex"]);
    let flags = link["flags"].as_array().unwrap();
    for flag in ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"] {
        assert!(flags.contains(&flag.into()), "{flag} is not in {flags:?}");
    }
    assert_eq!((&link["mtu"], &link["broadcast"]), (&1500.into(), &"ff:ff:ff:ff:ff:ff".into()));
    assert_eq!(container.addresses("eth0"), addresses);
    let mac = link["address"].as_str().unwrap();
    assert_eq!(mac.len(), "46:b2:6b:26:2f:69".len());
    let shared = below["address"] == mac;
    assert_eq!(shared, link["linkinfo"]["info_kind"] == "ipvlan", "only ipvlan shares the parent's MAC");
    mac.to_owned()
}

/// The page's first network: two containers find each other and the router, but not the host below them.
fn a_pub_net() {
    let bed = Watched::new();
    let host = bed.host.ip("-4 -oneline addr show dev eth0");
    assert!(host.contains("inet 172.16.86.250/24"), "{host}");
    bed.create(PUB_NET);
    let first = run(&bed, "first", "pub_net:ip=172.16.86.10");
    let second = run(&bed, "second", "pub_net");
    assert!(second.reaches("172.16.86.10"), "the first container");
    assert!(second.reaches("172.16.86.1"), "the router");

    let macs = [
        assert_shows(&bed, &first, "eth0", &["172.16.86.10/24"]),
        assert_shows(&bed, &second, "eth0", &["172.16.86.2/24"]),
    ];
    assert_ne!(macs[0], macs[1], "each has a MAC address of its own");
    assert_eq!(
        second.routes("-4"),
        [
            "default via 172.16.86.1 dev eth0",
            "172.16.86.0/24 dev eth0 proto kernel scope link src 172.16.86.2"
        ]
    );
    assert!(silent(&second, "172.16.86.250"), "the parent's address");
    assert_eq!(bed.host.ip("-4 -oneline addr show dev eth0"), host, "the parent is as it was");
}

/// Bridge is the default, so saying it changes nothing.
fn a_macvlan_mode() {
    let bed = Watched::new();
    bed.create(PUB_NET);
    let read = || {
        let text = fs::read(bed.path("etc/networks/pub_net.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    let plain = read();
    assert_eq!(plain["macvlan_mode"], "bridge");
    bed.run("network rm pub_net");
    bed.create(&PUB_NET.replace("-o parent", "-o macvlan_mode=bridge -o parent"));
    assert_eq!(read(), plain);
}

/// The host's address is excluded by name, and stays excluded if the host loses it.
fn a_exclude_host() {
    let bed = Bed::new();
    let excluded = PUB_NET.replace("-o", "--aux-address=exclude_host=172.16.86.250 -o");
    bed.create(&excluded);
    bed.host.ip("addr del 172.16.86.250/24 dev eth0");
    let error = refused(&bed, "pub_net:ip=172.16.86.250");
    assert!(error.contains("172.16.86.250"), "{error}");
    // Where nothing else is left, it is not handed out either.
    bed.create(&excluded.replace("-o", "--ip-range=172.16.86.250/31 -o").replace("pub_net", "two"));
    let only = run(&bed, "only", "two");
    assert_eq!(only.addresses("eth0"), ["172.16.86.251/24"]);
    let error = refused(&bed, "two");
    assert!(error.contains("network two has no free IPv4 address left"), "{error}");
    drop(only);
    bed.assert_nothing_held();
}

/// Addresses start at the first of the range and go upwards. The network is removed, but not below a container.
fn a_ip_range() {
    let bed = Watched::new();
    router(&bed, None, &["192.168.32.254/24"]);
    bed.create(
        "-d macvlan --subnet=192.168.32.0/24 --ip-range=192.168.32.128/25 --gateway=192.168.32.254 \
         -o parent=eth0 macnet32",
    );
    let first = run(&bed, "first", "macnet32");
    let second = run(&bed, "second", "macnet32");
    assert_eq!(first.addresses("eth0"), ["192.168.32.128/24"], "not .1, and the whole subnet's prefix");
    assert_eq!(second.addresses("eth0"), ["192.168.32.129/24"]);
    assert_eq!(
        second.routes("-4"),
        [
            "default via 192.168.32.254 dev eth0",
            "192.168.32.0/24 dev eth0 proto kernel scope link src 192.168.32.129"
        ]
    );
    assert!(second.reaches("192.168.32.128") && second.reaches("192.168.32.254"));

    let in_use = bed.outcome("network rm macnet32", "");
    assert_eq!((in_use.code, in_use.stdout.as_str()), (1, ""), "{in_use:?}");
    first.stop();
    second.stop();
    assert_eq!(bed.run("network rm macnet32"), "macnet32\n");
    assert_eq!(bed.run("network ls -q"), "");
    assert!(bed.host.link("eth0").is_some(), "the parent is not ours");
}

/// The parent needs no address, it needs to be on the right wire.
fn a_host_without_address() {
    let bed = Bed::new();
    bed.host.ip("addr flush dev eth0");
    bed.create(PUB_NET);
    let container = run(&bed, "web", "pub_net");
    assert_eq!(container.addresses("eth0"), ["172.16.86.2/24"]);
    assert!(container.reaches("172.16.86.1"));
    assert!(!bed.host.ip("addr show dev eth0").contains("inet 172."), "and gets none from us");
}

/// "-o parent interfaces can also be left out": the containers then see each other and nothing else.
fn a_no_parent() {
    let bed = Watched::new();
    bed.create("-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 pub_net");
    let dummy = bed.host.link("ul-pub_net").expect("a dummy link stands for the parent");
    assert_eq!(dummy["linkinfo"]["info_kind"], "dummy");
    let first = run(&bed, "first", "pub_net:ip=172.16.86.10");
    let second = run(&bed, "second", "pub_net");
    assert_shows(&bed, &second, "ul-pub_net", &["172.16.86.2/24"]);
    assert!(second.reaches("172.16.86.10"));
    assert_eq!(
        second.routes("-4"),
        ["172.16.86.0/24 dev eth0 proto kernel scope link src 172.16.86.2"],
        "nothing leads out, although a gateway is given"
    );
    assert!(silent(&second, "172.16.86.1"), "the LAN is another segment");
    first.stop();
    second.stop();
    // A name that leaves no room for our prefix.
    bed.create("-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 my-macvlan-net");
    let ours = || bed.host.ip("-br link").lines().filter(|line| line.starts_with("ul-")).count();
    assert_eq!(ours(), 2);
    bed.run("network rm pub_net my-macvlan-net");
    assert_eq!(ours(), 0, "the dummies go with their networks");
}

/// "or even bonded host adaptors".
fn a_bond() {
    let bed = Bed::new();
    bed.host.ip_batch(&[
        "link add bond0 type bond mode active-backup",
        "link set eth0 down",
        "link set eth0 master bond0",
        "link set bond0 up",
    ]);
    bed.create(&PUB_NET.replace("eth0", "bond0"));
    let first = run(&bed, "first", "pub_net:ip=172.16.86.10");
    let second = run(&bed, "second", "pub_net");
    assert_shows(&bed, &second, "bond0", &["172.16.86.2/24"]);
    assert!(second.reaches("172.16.86.10") && first.reaches("172.16.86.1"));
    let port = bed.outcome(&format!("network create {}", PUB_NET.replace("pub_net", "port")), "");
    assert_eq!(port.code, 1, "a port of the bond cannot be a parent: {port:?}");
}

/// VLAN 50 of eth0 is there when the network is, and no longer.
fn a_macvlan50() {
    let bed = Watched::new();
    router(&bed, Some(50), &["192.168.50.1/24"]);
    assert!(bed.host.link("eth0.50").is_none());
    bed.create(MACVLAN50);
    assert_vlan(&bed, "eth0.50", "eth0", 50);
    let five = run(&bed, "macvlan_test5", "macvlan50");
    let six = run(&bed, "macvlan_test6", "macvlan50");
    assert_shows(&bed, &five, "eth0.50", &["192.168.50.2/24"]);
    assert_shows(&bed, &six, "eth0.50", &["192.168.50.3/24"]);
    assert_eq!(six.routes("-4")[0], "default via 192.168.50.1 dev eth0");
    assert!(five.reaches("192.168.50.3") && six.reaches("192.168.50.2"), "they ping one another");
    assert!(six.reaches("192.168.50.1"), "the router, through the tag");

    five.stop();
    six.stop();
    assert_vlan(&bed, "eth0.50", "eth0", 50);
    bed.run("network rm macvlan50");
    assert!(bed.host.link("eth0.50").is_none(), "it was made for this network");
    assert!(bed.host.link("eth0").is_some(), "the master link stays");
}

/// The page's line has an `-o` too many, which Docker refuses as well. VLANs are apart.
fn a_macvlan60() {
    let bed = Watched::new();
    router(&bed, Some(50), &["192.168.50.1/24"]);
    router(&bed, Some(60), &["192.168.60.1/24"]);
    let typed = "-d macvlan --subnet=192.168.60.0/24 --gateway=192.168.60.1 -o parent=eth0.60 -o \
                 -o macvlan_mode=bridge macvlan60";
    let misspelt = bed.outcome(&format!("network create {typed}"), "");
    assert_eq!((misspelt.code, misspelt.stdout.as_str()), (2, ""), "{misspelt:?}");
    assert!(bed.host.link("eth0.60").is_none(), "nothing was made");

    bed.create(&typed.replace("-o -o", "-o"));
    bed.create(MACVLAN50);
    assert_vlan(&bed, "eth0.60", "eth0", 60);
    let seven = run(&bed, "macvlan_test7", "macvlan60");
    let eight = run(&bed, "macvlan_test8", "macvlan60");
    assert_shows(&bed, &eight, "eth0.60", &["192.168.60.3/24"]);
    assert!(seven.reaches("192.168.60.3") && eight.reaches("192.168.60.2") && eight.reaches("192.168.60.1"));
    let other = run(&bed, "macvlan_test5", "macvlan50");
    assert!(other.reaches("192.168.50.1"));
    assert!(silent(&other, "192.168.60.2"), "nothing routes between the two");
    // The same subnet by hand, and still another segment.
    other.run("ip", "addr add 192.168.60.99/24 dev eth0");
    assert!(silent(&other, "192.168.60.2"), "the tag keeps them apart");
}

/// What the user has made with `ip link add link eth0 name eth0.50 type vlan id 50`, or under any other name, is used
/// and left alone.
fn a_by_hand() {
    let bed = Bed::new();
    router(&bed, Some(50), &["192.168.50.1/24"]);
    router(&bed, Some(70), &["192.168.70.1/24"]);
    bed.host.ip_batch(&[
        "link add link eth0 name eth0.50 type vlan id 50",
        "link set eth0.50 up",
        "link add link eth0 name trunk type vlan id 70",
        "link set trunk up",
    ]);
    let of = |name: &str| bed.host.link(name).map(|link| (link["ifindex"].clone(), link["ifalias"].clone()));
    let before = (of("eth0.50"), of("trunk"));
    bed.create(MACVLAN50);
    bed.create("-d macvlan --subnet=192.168.70.0/24 --gateway=192.168.70.1 -o parent=trunk macvlan70");
    let container = run(&bed, "both", "macvlan50;macvlan70");
    assert_shows(&bed, &container, "eth0.50", &["192.168.50.2/24"]);
    assert!(container.reaches("192.168.50.1") && container.reaches("192.168.70.1"));
    container.stop();
    bed.run("network rm macvlan50 macvlan70");
    assert_eq!((of("eth0.50"), of("trunk")), before, "the same links, without a mark of ours");
}

/// "In the case of a host reboot": links and ledger are gone, the definition is not. The next attach makes the link.
fn a_after_a_reboot() {
    let bed = Bed::new();
    router(&bed, Some(50), &["192.168.50.1/24"]);
    bed.create(MACVLAN50);
    bed.host.ip("link del eth0.50");
    let _ = fs::remove_dir_all(bed.path("run"));
    let container = run(&bed, "web", "macvlan50");
    assert_vlan(&bed, "eth0.50", "eth0", 50);
    assert!(container.reaches("192.168.50.1"));
    container.stop();
    bed.run("network rm macvlan50");
    assert!(bed.host.link("eth0.50").is_none(), "still known as made by underlay");
}

/// Two subnets and no parent at all: within each they find each other, across they do not.
fn a_ipvlan210() {
    let bed = Watched::new();
    bed.create(
        "-d ipvlan --subnet=192.168.210.0/24 --subnet=192.168.212.0/24 --gateway=192.168.210.254 \
         --gateway=192.168.212.254 -o ipvlan_mode=l2 ipvlan210",
    );
    let started = ["210.10", "210.9", "212.10", "212.9"]
        .map(|end| run(&bed, &format!("c{end}"), &format!("ipvlan210:ip=192.168.{end}")));
    let [_, nine, _, other_nine] = &started;
    assert!(nine.reaches("192.168.210.10"), "192.168.210.0/24");
    assert!(other_nine.reaches("192.168.212.10"), "192.168.212.0/24");
    assert!(silent(nine, "192.168.212.10"), "no router between the subnets");
    assert_shows(&bed, nine, "ul-ipvlan210", &["192.168.210.9/24"]);
    assert_eq!(
        other_nine.routes("-4"),
        ["192.168.212.0/24 dev eth0 proto kernel scope link src 192.168.212.9"]
    );
    started.into_iter().for_each(Container::stop);
    bed.run("network rm ipvlan210");
    assert!(bed.host.link("ul-ipvlan210").is_none());
    bed.assert_nothing_held();
}

/// VLAN 218 with two IPv4 subnets and one of IPv6; the address asked for decides the gateway.
fn a_macvlan216() {
    let bed = Watched::new();
    let gateways = ["192.168.216.1/24", "192.168.218.1/24", "2001:db8:abc8::10/64"];
    router(&bed, Some(218), &gateways);
    bed.create(
        "-d macvlan --subnet=192.168.216.0/24 --subnet=192.168.218.0/24 --gateway=192.168.216.1 \
         --gateway=192.168.218.1 --subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10 -o parent=eth0.218 \
         -o macvlan_mode=bridge macvlan216",
    );
    assert_vlan(&bed, "eth0.218", "eth0", 218);
    let started = ["216.10", "218.10", "216.11", "218.11"]
        .map(|end| run(&bed, &format!("c{end}"), &format!("macvlan216:ip=192.168.{end}")));
    let [_, _, eleven, other_eleven] = &started;
    assert!(eleven.reaches("192.168.216.10"), "the first subnet");
    assert!(other_eleven.reaches("192.168.218.10"), "the second subnet");
    assert!(eleven.reaches("2001:db8:abc8::1"), "the first container by IPv6");

    // What the page prints of 192.168.216.11.
    assert_shows(&bed, eleven, "eth0.218", &["192.168.216.11/24", "2001:db8:abc8::3/64"]);
    let link = eleven.link("eth0");
    let v6 = link["addr_info"].as_array().unwrap().iter().find(|a| a["local"] == "2001:db8:abc8::3").unwrap();
    assert_eq!(v6["nodad"], true);
    assert_eq!(
        eleven.routes("-4"),
        [
            "default via 192.168.216.1 dev eth0",
            "192.168.216.0/24 dev eth0 proto kernel scope link src 192.168.216.11"
        ]
    );
    assert_eq!(
        eleven.routes("-6"),
        [
            "2001:db8:abc8::/64 dev eth0 proto kernel metric 256 pref medium",
            "default via 2001:db8:abc8::10 dev eth0 metric 1024 pref medium"
        ]
    );
    assert_eq!(other_eleven.routes("-4")[0], "default via 192.168.218.1 dev eth0");
    for gateway in ["192.168.216.1", "2001:db8:abc8::10"] {
        assert!(eleven.reaches(gateway), "{gateway}");
    }
    // "unless there is an external router that routes the traffic".
    assert!(silent(eleven, "192.168.218.10"), "nothing routes between the subnets");
    routing(&bed, 1);
    assert!(eleven.reaches("192.168.218.10"), "the router does");
}
