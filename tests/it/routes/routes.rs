//! Routes: those of the network, and one default route whatever else the container is attached to.

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::Engine::{Bare, Podman};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 5] = [
        ("of_the_network", &[Need::Macvlan], of_the_network),
        ("metric", &[Need::Macvlan], metric),
        ("no_default_route", &[Need::Macvlan], no_default_route),
        ("beside_a_default_route_that_is_there", &[Need::Macvlan], beside),
        ("beside_podmans_bridge", &[Need::Macvlan, Need::Installed, Need::Engine(Podman)], podmans_bridge),
    ];
    all.map(|(name, needs, run)| Test::new(format!("routes::{name}"), needs, run)).into()
}

fn of_the_network() {
    let bed = Bed::with_pub_net(
        "macvlan",
        "--subnet=172.16.87.0/24 --subnet=2001:db8::/64 --route 10.9.0.0/16,172.16.86.9 \
         --route 10.8.0.0/16,172.16.86.8,50 --route 10.7.0.0/16,172.16.87.7 --route 2001:db8:9::/48,2001:db8::9",
    );
    let container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(
        container.routes("-4"),
        [
            "default via 172.16.86.1 dev eth0",
            "10.8.0.0/16 via 172.16.86.8 dev eth0 metric 50",
            "10.9.0.0/16 via 172.16.86.9 dev eth0",
            "172.16.86.0/24 dev eth0 proto kernel scope link src 172.16.86.2",
        ],
        "not the one whose next hop is in the other subnet"
    );
    assert!(
        container
            .routes("-6")
            .contains(&"2001:db8:9::/48 via 2001:db8::9 dev eth0 metric 1024 pref medium".into())
    );
}

fn metric() {
    let bed = Bed::with_pub_net("macvlan", "-o metric=77 --subnet=2001:db8::/64 --gateway=2001:db8::1");
    let container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(container.routes("-4")[0], "default via 172.16.86.1 dev eth0 metric 77");
    assert!(
        container.routes("-6").contains(&"default via 2001:db8::1 dev eth0 metric 77 pref medium".into())
    );
}

fn no_default_route() {
    let bed = Bed::with_pub_net("macvlan", "-o no_default_route=true");
    bed.create("--subnet=10.1.0.0/24 --gateway=10.1.0.1 -o parent=eth0 other");
    let container = bed.container(Bare, "web").networks("pub_net:gw-priority=5;other").start().unwrap();
    let routes = container.routes("-4");
    assert_eq!(routes[0], "default via 10.1.0.1 dev eth1");
    assert_eq!(routes.iter().filter(|route| route.starts_with("default")).count(), 1);
}

/// What is there counts as listed first, with priority 0.
fn beside() {
    let bed = Bed::with_pub_net("macvlan", "--subnet=2001:db8::/64 --gateway=2001:db8::1");
    let netns = Netns::new("pod");
    netns.ip("link add eth0 type veth peer name far");
    netns.ip("addr add 10.88.0.5/16 dev eth0");
    netns.ip("link set eth0 up");
    netns.ip("link set far up");
    netns.ip("route add default via 10.88.0.1 dev eth0 metric 100");
    let start = |asked| bed.container(Bare, "web").networks(asked).in_netns(netns.path()).start().unwrap();

    let container = start("pub_net");
    let defaults = |family| -> Vec<_> {
        container.routes(family).into_iter().filter(|route| route.starts_with("default")).collect()
    };
    assert_eq!(defaults("-4"), ["default via 10.88.0.1 dev eth0 metric 100"]);
    assert_eq!(
        defaults("-6"),
        ["default via 2001:db8::1 dev eth1 metric 1024 pref medium"],
        "there was none"
    );
    container.stop();

    let container = start("pub_net:gw-priority=1");
    assert_eq!(container.routes("-4")[0], "default via 172.16.86.1 dev eth1", "asked for, and it wins");
    container.stop();
    assert_eq!(netns.ip("route show default").trim(), "default via 10.88.0.1 dev eth0 metric 100");
}

fn podmans_bridge() {
    let bed = Bed::with_pub_net("macvlan", "");
    let container =
        bed.container(Podman, "web").networks("pub_net").podman_network("bridge").start().unwrap();
    assert_eq!(container.links(), ["eth0", "eth1"]);
    assert!(container.addresses("eth0")[0].starts_with("10.88."), "podman's own");
    assert_eq!(container.addresses("eth1"), ["172.16.86.2/24"]);
    let routes = container.routes("-4");
    let defaults: Vec<_> = routes.iter().filter(|route| route.starts_with("default")).collect();
    assert!(defaults.len() == 1 && defaults[0].starts_with("default via 10.88.0.1 dev eth0"), "{routes:?}");
    assert!(container.reaches("172.16.86.1"));
    container.stop();
    bed.assert_nothing_held();
}
