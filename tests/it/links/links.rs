//! Every kind of link in every mode, as `ip -details` sees it.

use std::time::Instant;

use crate::harness::bed::Bed;
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for mode in ["bridge", "private", "vepa", "passthru", "source"] {
        tests.push(Test::new(format!("links::macvlan_{mode}"), &[Need::Macvlan], move || macvlan(mode)));
    }
    for mode in ["l2", "l3", "l3s"] {
        for flag in ["bridge", "private", "vepa"] {
            let run = move || ipvlan(mode, flag);
            tests.push(Test::new(format!("links::ipvlan_{mode}_{flag}"), &[Need::Ipvlan], run));
        }
    }
    let all: [Named; 7] = [
        ("mac_and_mtu", &[Need::Macvlan], mac_and_mtu),
        ("the_mark", &[Need::Macvlan], mark),
        ("a_link_on_the_host_has_the_same_name", &[Need::Macvlan], same_name_on_the_host),
        ("a_mac_still_held_by_a_dying_namespace", &[Need::Macvlan], dying_namespace),
        ("a_parent_that_is_down", &[Need::Macvlan], parent_down),
        ("a_macvlan_link_as_parent", &[Need::Macvlan], macvlan_on_macvlan),
        ("ipv6_is_switched_on_where_it_is_wanted", &[Need::Macvlan], ipv6_switched_on),
    ];
    tests.extend(all.map(|(name, needs, run)| Test::new(format!("links::{name}"), needs, run)));
    tests
}

fn macvlan(mode: &str) {
    let bed = Bed::with_pub_net("macvlan", &format!("-o macvlan_mode={mode}"));
    let parent_mac = bed.host.ip("-br link show dev eth0");
    let container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let link = container.link("eth0");
    assert_eq!(
        (&link["linkinfo"]["info_kind"], &link["linkinfo"]["info_data"]["mode"]),
        (&"macvlan".into(), &mode.into())
    );
    assert_eq!(link["mtu"], 1500);
    assert_eq!(container.addresses("eth0"), ["172.16.86.2/24"]);
    if mode == "passthru" {
        // The parent's own address, which therefore stays what it is.
        assert!(parent_mac.contains(link["address"].as_str().unwrap()), "{parent_mac}");
        let error = bed.container(Bare, "second").networks("pub_net").start().map(drop).unwrap_err();
        assert!(
            error.contains("parent eth0 has macvlan links already, and passthru wants it alone"),
            "{error}"
        );
        assert_eq!(bed.leases().len(), 1);
    }
    container.stop();
    assert_eq!(bed.host.ip("-br link show dev eth0"), parent_mac);
    bed.assert_nothing_held();
}

fn ipvlan(mode: &str, flag: &str) {
    let bed = Bed::with_pub_net("ipvlan", &format!("-o ipvlan_mode={mode} -o ipvlan_flag={flag}"));
    let container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let link = container.link("eth0");
    let data = &link["linkinfo"]["info_data"];
    assert_eq!((&link["linkinfo"]["info_kind"], &data["mode"]), (&"ipvlan".into(), &mode.into()));
    let details = container.run("ip", "-details link show dev eth0");
    assert!(details.contains(&format!("ipvlan  mode {mode} {flag}")), "{details}");
    let default =
        if mode == "l2" { "default via 172.16.86.1 dev eth0" } else { "default dev eth0 scope link" };
    assert_eq!(container.routes("-4")[0], default);
}

fn mac_and_mtu() {
    let bed = Bed::with_pub_net("macvlan", "-o mtu=1400");
    let container = bed.container(Bare, "web").networks("pub_net:mac=02-00-00-00-00-AA").start().unwrap();
    let link = container.link("eth0");
    assert_eq!((&link["address"], &link["mtu"]), (&"02:00:00:00:00:aa".into(), &1400.into()));
    let second = bed.container(Bare, "second").networks("pub_net:mac=02:00:00:00:00:aa").start();
    let error = second.map(drop).unwrap_err();
    assert!(
        error.contains(&format!(
            "MAC address 02:00:00:00:00:aa of network pub_net is held by container {}",
            container.id
        )),
        "{error}"
    );
    let multicast = bed.container(Bare, "third").networks("pub_net:mac=01:00:00:00:00:aa").start();
    let error = multicast.map(drop).unwrap_err();
    assert!(error.contains("MAC address 01:00:00:00:00:aa cannot be that of a link"), "{error}");
    assert_eq!((bed.leases().len(), bed.records().len()), (1, 1));
}

fn mark() {
    let bed = Bed::with_pub_net("macvlan", "");
    let container = bed.container(Bare, "web").networks("pub_net;pub_net").start().unwrap();
    for (index, name) in ["eth0", "eth1"].iter().enumerate() {
        let alias = container.link(name)["ifalias"].as_str().unwrap().to_owned();
        let mark = format!("underlay:{}:{index}:{}:", container.id, container.pid);
        assert!(alias.starts_with(&mark), "{alias}");
        let (network, seal) =
            alias.trim_start_matches(&mark).split_once(':').unwrap().1.split_once(':').unwrap();
        assert_eq!((network, seal.len()), ("pub_net", 16), "{alias}");
    }
    // Nothing of it ever shows on the host.
    assert_eq!(bed.host.ip("-br link").lines().count(), 2, "lo and eth0");
}

/// Kernels before 6.15 compare the new link's name with the names of the host.
fn same_name_on_the_host() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.host.ip("link add mylan type veth peer name other");
    let container = bed.container(Bare, "web").networks("pub_net;pub_net:ifname=mylan").start().unwrap();
    assert_eq!(container.links(), ["eth0", "mylan"]);
    assert!(bed.ps()[0]["attachments"][1]["ifname"] == "mylan");
}

/// The kernel takes a namespace apart some time after its last process: until then it holds the MAC address.
fn dying_namespace() {
    let bed = Bed::with_pub_net("macvlan", "");
    let start = Instant::now();
    for _ in 0..10 {
        let mut container =
            bed.container(Bare, "web").networks("pub_net:mac=02:00:00:00:00:aa").start().unwrap();
        container.kill();
    }
    assert!(start.elapsed().as_secs() < 60);
}

fn parent_down() {
    let bed = Bed::with_pub_net("macvlan", "--subnet=2001:db8::/64");
    bed.host.ip("link set eth0 down");
    let container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(container.addresses("eth0"), ["172.16.86.2/24", "2001:db8::1/64"]);
    bed.host.ip("link set eth0 up");
    assert!(container.reaches("172.16.86.1"));
}

/// The kernel hangs the child on the link below, so both networks are one segment.
fn macvlan_on_macvlan() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.host.ip("link add shim link eth0 type macvlan mode bridge");
    bed.create("--subnet=172.16.86.0/24 -o parent=shim shimmed");
    let a = bed.container(Bare, "a").networks("pub_net:ip=172.16.86.5").start().unwrap();
    let error = bed.container(Bare, "b").networks("shimmed:ip=172.16.86.5").start().map(drop).unwrap_err();
    assert!(error.contains("is held by container a-"), "{error}");
    let b = bed.container(Bare, "c").networks("shimmed:ip=172.16.86.6").start().unwrap();
    bed.host.ip("link set shim up");
    assert!(b.reaches("172.16.86.5") && a.reaches("172.16.86.6"));
}

fn ipv6_switched_on() {
    let bed = Bed::new();
    bed.create("--subnet 2001:db8:1::/64 -o parent=eth0 six");
    let container = bed.container(Bare, "web").networks("six").without_hooks().start().unwrap();
    container.run("sysctl", "-qw net.ipv6.conf.default.disable_ipv6=1");
    assert_eq!(container.hook("createRuntime").code, 0);
    assert_eq!(container.addresses("eth0"), ["2001:db8:1::1/64"]);
}
