//! Routes beyond one default route: asked for by the container, leading nowhere, by a gateway outside of the subnet,
//! and by the link that the question came in on. With routers that forward, and what outlives a link.

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::Engine::Bare;
use crate::harness::container::{Container, wait};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 8] = [
        ("asked_for", &[Need::Macvlan], asked_for),
        ("leading_nowhere", &[Need::Macvlan], nowhere),
        ("a_gateway_outside_of_the_subnet", &[Need::Macvlan], onlink),
        ("no_default_route_for_this_one", &[Need::Macvlan], no_default),
        ("replies_leave_as_questions_came", &[Need::Macvlan], source_routing),
        ("what_outlives_a_link", &[Need::Macvlan], lasting),
        ("two_containers_in_one_namespace", &[Need::Macvlan], two_in_one),
        ("checked_and_mended", &[Need::Macvlan], checked),
    ];
    all.map(|(name, needs, run)| Test::new(format!("uplinks::{name}"), needs, run)).into()
}

/// A namespace behind the LAN's router, at 10.9.0.9 and 2001:db8:9::9.
fn behind_the_router(bed: &Bed) -> Netns {
    let far = Netns::new("far");
    bed.lan.ip(&format!("link add far0 type veth peer name eth0 netns {}", far.name));
    bed.lan.ip_batch(&[
        "addr add 10.9.0.1/16 dev far0",
        "addr add 2001:db8:9::1/64 dev far0 nodad",
        "link set far0 up",
    ]);
    bed.lan.try_run("sysctl", "-qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").unwrap();
    far.ip_batch(&[
        "addr add 10.9.0.9/16 dev eth0",
        "addr add 2001:db8:9::9/64 dev eth0 nodad",
        "link set eth0 up",
        "route add default via 10.9.0.1",
        "route add default via 2001:db8:9::1",
    ]);
    far
}

/// No default route: what is reached beyond the subnet is reached by a route of its own.
const LAN: &str = "--subnet=172.16.86.0/24 --gateway=172.16.86.1 --subnet=2001:db8:abc8::/64 \
                   --gateway=2001:db8:abc8::10 -o parent=eth0 -o no_default_route=true lan";

fn asked_for() {
    let bed = Bed::new();
    let _far = behind_the_router(&bed);
    bed.create(LAN);
    let plain = bed.container(Bare, "plain").networks("lan").start().unwrap();
    assert!(!plain.reaches("10.9.0.9"));
    for asked in [
        "lan:route=10.9.0.0/16@172.16.86.1@50,route=2001:db8:9::/64@2001:db8:abc8::10",
        "lan: route=10.9.0.0/16@172.16.86.1@50 route=2001:db8:9::/64@2001:db8:abc8::10",
        r#"[{"name": "lan", "routes": [{"to": "10.9.0.0/16", "via": "172.16.86.1", "metric": 50},
            {"to": "2001:db8:9::/64", "via": "2001:db8:abc8::10"}]}]"#,
    ] {
        let web = bed.container(Bare, "web").networks(asked).start().unwrap();
        assert!(web.reaches("10.9.0.9") && web.reaches("2001:db8:9::9"), "{asked}");
        assert_eq!(web.routes("-4")[0], "10.9.0.0/16 via 172.16.86.1 dev eth0 metric 50");
        assert_eq!(bed.run("check"), "");
    }
    for (asked, said) in [
        (
            "lan:route=10.9.0.0/16@10.5.5.5",
            "routes: route to 10.9.0.0/16 leads to 10.5.5.5, which is in none of the subnets",
        ),
        ("lan:route=0.0.0.0/0@172.16.86.1", "routes: route to 0.0.0.0/0 is a default route"),
        (
            "lan:route=10.9.0.0/16",
            "option route of network lan: \"10.9.0.0/16\" is not a route\nhint: write DESTINATION@GATEWAY",
        ),
        ("lan:table=254", "option table of network lan: \"254\" is not a usable routing table"),
        ("lan:default-route=maybe", "option default-route of network lan: \"maybe\" is neither yes nor no"),
        (
            "lan:route=10.9.0.0/16@172.16.86.1,route=10.9.0.0/16@172.16.86.2",
            "the container has a route to 10.9.0.0/16 already",
        ),
    ] {
        let error = bed.container(Bare, "wrong").networks(asked).start().map(drop).unwrap_err();
        assert!(error.contains(said), "{asked}: {error}");
    }
    assert_eq!(bed.records().len(), 1, "the plain one");
}

fn nowhere() {
    let bed = Bed::new();
    let _far = behind_the_router(&bed);
    bed.create(
        "--subnet=172.16.86.0/24 --gateway=172.16.86.1 --subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10 \
         -o parent=eth0 --route 10.9.5.0/24,prohibit --route 2001:db8:9:5::/64,blackhole lan",
    );
    let web = bed.container(Bare, "web").networks("lan;lan:route=10.9.0.9/32@unreachable").start().unwrap();
    web.run("ip", "link set lo up");
    let got = |address: &str| web.try_run("ip", &format!("route get {address}")).unwrap_err();
    assert!(got("10.9.0.9").contains("No route to host"), "{}", got("10.9.0.9"));
    assert!(got("10.9.5.5").contains("Permission denied"), "{}", got("10.9.5.5"));
    assert!(got("2001:db8:9:5::5").contains("Invalid argument"), "{}", got("2001:db8:9:5::5"));
    assert!(!web.reaches("10.9.0.9") && web.reaches("172.16.86.1"));
    assert!(
        web.routes("-4").contains(&"unreachable 10.9.0.9 proto 117".to_owned()),
        "{:?}",
        web.routes("-4")
    );
    assert_eq!(bed.run("check"), "");
    web.run("ip", "route del prohibit 10.9.5.0/24");
    let outcome = bed.outcome("check --format json", "");
    assert!(outcome.stdout.contains("\"prohibit 10.9.5.0/24\""), "{outcome:?}");
}

/// The address stands alone in its subnet, and the router in another.
fn onlink() {
    let bed = Bed::new();
    let _far = behind_the_router(&bed);
    bed.lan.ip_batch(&["route add 203.0.113.7/32 dev lan0", "route add 2001:db8:7::7/128 dev lan0"]);
    bed.create(
        "--subnet=203.0.113.7/32 --onlink-gateway=172.16.86.1 --subnet=2001:db8:7::7/128 \
         --onlink-gateway=2001:db8:abc8::10 -o parent=eth0 hosted",
    );
    let web = bed.container(Bare, "web").networks("hosted").start().unwrap();
    assert_eq!(web.routes("-4"), ["default via 172.16.86.1 dev eth0 onlink"]);
    assert!(web.reaches("10.9.0.9") && web.reaches("2001:db8:9::9"));
    assert_eq!(bed.run("check"), "");
    web.stop();
    bed.create("--subnet=203.0.113.7/32 --route 10.9.0.0/16,172.16.86.1,onlink -o parent=eth0 routed");
    let web = bed.container(Bare, "web").networks("routed").start().unwrap();
    assert_eq!(web.routes("-4"), ["10.9.0.0/16 via 172.16.86.1 dev eth0 onlink"]);
    assert!(web.reaches("10.9.0.9"));
    let text = r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10.0.0.0/24", "onlink": true}]}"#;
    bed.configure("networks/wrong.json", text);
    let outcome = bed.outcome("network inspect wrong", "");
    assert!(
        outcome.stderr.contains("subnet 10.0.0.0/24 has an onlink gateway, and no gateway"),
        "{outcome:?}"
    );
}

fn no_default() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.create("--subnet=10.1.0.0/24 --gateway=10.1.0.1 -o parent=eth0 other");
    let web = bed.container(Bare, "web").networks("pub_net:default-route=no;other").start().unwrap();
    assert_eq!(web.routes("-4")[0], "default via 10.1.0.1 dev eth1");
    web.stop();
    let alone = r#"[{"name": "pub_net", "default-route": false}]"#;
    let web = bed.container(Bare, "web").networks(alone).start().unwrap();
    assert!(!web.routes("-4").iter().any(|route| route.starts_with("default")));
}

/// Two providers, each with its router, and somebody far away that both lead to.
struct Uplinks {
    bed: Bed,
    other: Netns,
    far: Netns,
}

impl Uplinks {
    fn new() -> Self {
        let bed = Bed::new();
        let far = behind_the_router(&bed);
        let other = Netns::new("isp");
        bed.host.ip(&format!("link add eth1 type veth peer name isp0 netns {}", other.name));
        bed.host.ip("link set eth1 up");
        other.ip_batch(&[
            "addr add 172.16.99.1/24 dev isp0",
            "addr add 2001:db8:99::1/64 dev isp0 nodad",
            "link set isp0 up",
        ]);
        other.ip(&format!("link add far1 type veth peer name eth1 netns {}", far.name));
        other.ip_batch(&[
            "addr add 10.8.0.1/16 dev far1",
            "addr add 2001:db8:8::1/64 dev far1 nodad",
            "link set far1 up",
        ]);
        other.try_run("sysctl", "-qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").unwrap();
        far.ip_batch(&[
            "addr add 10.8.0.8/16 dev eth1",
            "addr add 2001:db8:8::8/64 dev eth1 nodad",
            "link set eth1 up",
            "route add 172.16.99.0/24 via 10.8.0.1",
            "route add 2001:db8:99::/64 via 2001:db8:8::1",
        ]);
        // Each knows the other's far side only by its own far link: neither forwards for the other.
        bed.create(
            "--subnet=172.16.86.0/24 --gateway=172.16.86.1 --subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10 \
             -o parent=eth0 one",
        );
        bed.create(
            "--subnet=172.16.99.0/24 --gateway=172.16.99.1 --subnet=2001:db8:99::/64 --gateway=2001:db8:99::1 \
             -o parent=eth1 two",
        );
        Self { bed, other, far }
    }

    /// How many packets the other router has forwarded, questions and replies.
    fn forwarded_by_other(&self) -> u64 {
        let v4 = self.other.try_run("cat", "/proc/net/snmp").unwrap();
        let mut lines = v4.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|name| name == "ForwDatagrams").unwrap();
        let v6 = self.other.try_run("cat", "/proc/net/snmp6").unwrap();
        let v6 = v6.lines().find(|line| line.starts_with("Ip6OutForwDatagrams")).unwrap();
        let number = |text: Option<&str>| text.unwrap().parse::<u64>().unwrap();
        number(values.split(' ').nth(at)) + number(v6.split_ascii_whitespace().last())
    }
}

const TABLES: &str = "one:table=101;two:table=102";

/// A question to the second link's address is answered by the second router, though the default route is by the first.
fn source_routing() {
    let uplinks = Uplinks::new();
    let (bed, far) = (&uplinks.bed, &uplinks.far);
    let ask = |address: &str| far.try_run("busybox", &format!("ping -c 3 -W 2 {address}"));
    // Without rules all replies leave by the default route.
    let plain = bed.container(Bare, "plain").networks("one;two").start().unwrap();
    assert_eq!(plain.addresses("eth1"), ["172.16.99.2/24", "2001:db8:99::2/64"]);
    assert!(ask("172.16.99.2").is_err());
    assert_eq!(uplinks.forwarded_by_other(), 3, "questions, and no reply");
    plain.stop();

    let web = bed.container(Bare, "web").networks(TABLES).start().unwrap();
    assert_eq!(web.routes("-4")[0], "default via 172.16.86.1 dev eth0", "the main table is as ever");
    assert_eq!(
        web.run("ip", "-4 route show table 102").lines().map(str::trim).collect::<Vec<_>>(),
        ["default via 172.16.99.1 dev eth1", "172.16.99.0/24 dev eth1 scope link"]
    );
    let address = |link: &str, at: usize| web.addresses(link)[at].split('/').next().unwrap().to_owned();
    let rules = web.run("ip", "rule");
    assert!(rules.contains(&format!("from {} lookup 102 proto 117", address("eth1", 0))), "{rules}");
    for at in [0, 1] {
        let before = uplinks.forwarded_by_other();
        ask(&address("eth1", at)).unwrap();
        assert_eq!(uplinks.forwarded_by_other(), before + 6, "three questions and as many replies");
        ask(&address("eth0", at)).unwrap();
        assert_eq!(uplinks.forwarded_by_other(), before + 6, "those of the first leave by the first");
    }
    assert_eq!(bed.run("check"), "");
}

/// What `netns` has of rules and of routes that no link takes along.
fn left(netns: &Netns) -> String {
    let all = ["rule", "-6 rule", "route show table all proto 117", "-6 route show table all proto 117"];
    all.map(|what| netns.ip(what)).concat()
}

const LASTING: &str = "lan:table=101,route=10.9.0.0/16@blackhole,route=2001:db8:9::/64@prohibit@77";

/// In a namespace that something keeps, detach and gc undo what would stay.
fn lasting() {
    let bed = Bed::new();
    bed.create(LAN);
    let netns = Netns::new("kept");
    netns.ip("rule add from 10.77.0.1 lookup 77");
    netns.ip("route add blackhole 10.66.0.0/16");
    let before = left(&netns);
    let start = || bed.container(Bare, "web").networks(LASTING).in_netns(netns.path()).start().unwrap();
    let web = start();
    let there = left(&netns);
    for part in [
        "from 172.16.86.2 lookup 101 proto 117",
        "blackhole 10.9.0.0/16 table 101",
        "prohibit 2001:db8:9::/64",
    ] {
        assert!(there.contains(part), "{part}: {there}");
    }
    web.stop();
    assert_eq!(left(&netns), before);

    let mut web = start();
    web.kill();
    let plan = bed.run("gc --dry-run");
    let enter = format!("nsenter --net={} ", netns.path().display());
    for command in [
        "ip route del blackhole 10.9.0.0/16 protocol 117",
        "ip -6 route del prohibit 2001:db8:9::/64 metric 77 table 101 protocol 117",
        "ip rule del from 172.16.86.2 lookup 101 protocol 117",
        "ip link del eth0",
    ] {
        assert!(plan.contains(&format!("{enter}{command}\n")), "{command}: {plan}");
    }
    // They are meant to be used.
    let script = std::process::Command::new("sh").args(["-ec", &plan]).status().unwrap();
    assert!(script.success());
    assert_eq!(left(&netns), before);
    assert_eq!(bed.gc(), "");

    // The next container in the namespace finds nothing in its way, though the link that tells is gone.
    let mut web = start();
    web.kill();
    netns.ip("link del eth0");
    let next = bed.container(Bare, "next").networks(LASTING).in_netns(netns.path()).start().unwrap();
    assert_eq!(bed.run("check"), "");
    next.stop();
    assert_eq!(left(&netns), before);
    bed.gc();
    bed.assert_nothing_held();
}

/// What cannot be told apart is refused; nobody's is taken away by another.
fn two_in_one() {
    let bed = Bed::new();
    bed.create(LAN);
    let netns = Netns::new("pod");
    let start =
        |id: &str, asked: &str| bed.container(Bare, id).networks(asked).in_netns(netns.path()).start();
    let first = start("first", LASTING).unwrap();
    let there = left(&netns);
    let error = start("second", "lan:route=10.9.0.0/16@unreachable").map(drop).unwrap_err();
    assert!(
        error.contains("has `blackhole 10.9.0.0/16` in the same network namespace already")
            || error.contains("has `unreachable 10.9.0.0/16` in the same network namespace already"),
        "{error}"
    );
    assert!(error.contains("container first-"), "{error}");
    let error = start("second", "lan:ifname=eth1,table=101").map(drop).unwrap_err();
    assert!(error.contains("table 101 of the container has a route to 172.16.86.0/24 already"), "{error}");
    assert_eq!(left(&netns), there, "the first has what it had");
    let second = start("second", "lan:table=102,route=10.7.0.0/16@blackhole").unwrap();
    assert_eq!(bed.run("check"), "");
    second.stop();
    assert_eq!(left(&netns), there);
    // An admin's is in the way, and stays.
    netns.ip("route add blackhole 10.6.0.0/16");
    let error = start("second", "lan:route=10.6.0.0/16@blackhole").map(drop).unwrap_err();
    assert!(error.contains("the container has a route to 10.6.0.0/16 already"), "{error}");
    assert!(netns.ip("route").contains("blackhole 10.6.0.0/16"));
    first.stop();
    bed.assert_nothing_held();
}

fn checked() {
    let bed = Bed::new();
    bed.create("--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 -o table=101 lan");
    let web = bed.container(Bare, "web").networks("lan:route=10.9.0.0/16@blackhole").start().unwrap();
    assert_eq!(bed.run("check"), "");
    for (change, found, back) in [
        (
            "rule del from 172.16.86.2 lookup 101",
            "from 172.16.86.2 lookup 101",
            "rule add from 172.16.86.2 lookup 101 protocol 117",
        ),
        (
            "route del default table 101",
            "default via 172.16.86.1 table 101",
            "route add default via 172.16.86.1 table 101",
        ),
        (
            "route del blackhole 10.9.0.0/16",
            "blackhole 10.9.0.0/16",
            "route add blackhole 10.9.0.0/16 proto 117",
        ),
    ] {
        web.run("ip", change);
        let outcome = bed.outcome("check --format json", "");
        assert!(
            outcome.code == 1 && outcome.stdout.contains(&format!("\"expected\": \"{found}\"")),
            "{outcome:?}"
        );
        web.run("ip", back);
        wait(|| bed.outcome("check", "").code == 0);
    }
    // A record that is lost is written anew with them.
    let before = attachments(&bed, &web);
    std::fs::write(bed.path("run/containers").join(format!("{}.json", web.id)), "{").unwrap();
    bed.gc();
    assert_eq!(bed.run("check"), "");
    let (mut expected, mut repaired) = (before, attachments(&bed, &web));
    for attached in [&mut expected, &mut repaired] {
        for key in ["/routes", "/table/routes"] {
            attached.pointer_mut(key).unwrap().as_array_mut().unwrap().sort_by_key(ToString::to_string);
        }
    }
    assert_eq!(repaired, expected);
}

fn attachments(bed: &Bed, container: &Container<'_>) -> serde_json::Value {
    let shown: serde_json::Value =
        serde_json::from_str(&bed.run(&format!("inspect {}", container.id))).unwrap();
    let mut attached = shown["attachments"][0].clone();
    // No mark says which addresses underlay chose.
    attached.as_object_mut().unwrap().remove("picked");
    attached
}
