//! The first example of Docker's macvlan page, through every engine: two containers, one with an address of its
//! choice, that find each other; and a container with two networks.

use crate::harness::bed::Bed;
use crate::harness::container::Engine;
use crate::harness::need::Need;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for engine in Engine::ALL {
        for (driver, need) in [("macvlan", Need::Macvlan), ("ipvlan", Need::Ipvlan)] {
            let needs = [need, Need::Engine(engine)];
            let name = |what: &str| format!("first_example::{what}::{driver}::{engine}");
            tests.push(Test::new(name("ipv4"), &needs, move || ipv4(engine, driver)));
            // No engine knows the driver: with ipvlan one example of each is enough.
            if driver == "macvlan" || engine == Engine::Bare {
                tests.push(Test::new(name("dual_stack"), &needs, move || dual_stack(engine, driver)));
                tests.push(Test::new(name("two_networks"), &needs, move || two_networks(engine, driver)));
            }
        }
    }
    tests
}

fn ipv4(engine: Engine, driver: &str) {
    let bed = Bed::with_pub_net(driver, "");
    let first = bed.container(engine, "first").networks("pub_net:ip=172.16.86.10").start().unwrap();
    let second = bed.container(engine, "second").networks("pub_net").start().unwrap();

    // What the page prints.
    assert_eq!(first.links(), ["eth0"]);
    let link = first.link("eth0");
    assert_eq!(link["linkinfo"]["info_kind"], driver);
    assert_eq!(link["mtu"], 1500);
    let flags = link["flags"].as_array().unwrap();
    assert!(
        ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"].iter().all(|&flag| flags.contains(&flag.into())),
        "{flags:?}"
    );
    let addresses = link["addr_info"].as_array().unwrap();
    assert_eq!(addresses.len(), 1, "nothing but the IPv4 address: {addresses:?}");
    assert_eq!(addresses[0]["local"], "172.16.86.10");
    assert_eq!(addresses[0]["prefixlen"], 24);
    assert_eq!(addresses[0]["broadcast"], "172.16.86.255");
    assert_eq!(addresses[0]["scope"], "global");
    assert_eq!(
        first.routes("-4"),
        [
            "default via 172.16.86.1 dev eth0",
            "172.16.86.0/24 dev eth0 proto kernel scope link src 172.16.86.10"
        ]
    );
    assert!(first.routes("-6").is_empty());

    // The next free one: .1 is the gateway.
    assert_eq!(second.addresses("eth0"), ["172.16.86.2/24"]);
    assert!(second.reaches("172.16.86.10"), "the other container");
    assert!(second.reaches("172.16.86.1"), "the router of the LAN");
    assert!(
        second.try_run("busybox", "ping -c 1 -W 1 172.16.86.250").is_err(),
        "the kernel keeps host and child apart"
    );

    // What the command shows.
    let all = bed.ps();
    assert_eq!(all.len(), 2);
    let shown = [&first, &second]
        .map(|c| all.iter().find(|record| record["container"] == c.id).expect("each is shown"));
    for (record, container) in shown.iter().zip([&first, &second]) {
        assert_eq!((&record["state"], &record["alive"]), (&"attached".into(), &true.into()));
        assert_eq!(record["holder"]["pid"], container.pid);
        let attached = &record["attachments"][0];
        assert_eq!(attached["mac"], container.link("eth0")["address"]);
        assert_eq!(attached["ifindex"], container.link("eth0")["ifindex"]);
    }
    let table = bed.run("ps");
    assert!(table.contains("172.16.86.10/24") && table.contains(&format!("{driver}@eth0")), "{table}");
    let inspected: serde_json::Value =
        serde_json::from_str(&bed.run(&format!("inspect {}", first.id))).unwrap();
    assert_eq!(&inspected, shown[0]);

    let refused = bed.outcome("network rm pub_net", "");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.starts_with("underlay: network pub_net is in use by container "), "{refused:?}");
    first.stop();
    second.stop();
    bed.assert_nothing_held();
    assert!(bed.ps().is_empty());
    assert_eq!(bed.run("network rm pub_net"), "pub_net\n");
    assert_eq!(bed.run("network ls -q"), "");
}

fn dual_stack(engine: Engine, driver: &str) {
    let bed = Bed::with_pub_net(driver, "--subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10");
    let first = bed.container(engine, "first").networks("pub_net:ip=172.16.86.10").start().unwrap();
    let link = first.link("eth0");
    let addresses = link["addr_info"].as_array().unwrap();
    let v6 = addresses
        .iter()
        .find(|a| a["local"] == "2001:db8:abc8::1")
        .expect("an IPv6 address beside the one asked for");
    assert!(v6["tentative"].is_null() && v6["nodad"] == true, "usable at once: {v6}");
    assert_eq!(first.addresses("eth0"), ["172.16.86.10/24", "2001:db8:abc8::1/64"]);
    assert_eq!(
        first.routes("-6"),
        [
            "2001:db8:abc8::/64 dev eth0 proto kernel metric 256 pref medium",
            "default via 2001:db8:abc8::10 dev eth0 metric 1024 pref medium"
        ]
    );
    // Spaces, because podman before 5.0 takes a comma for the end of the annotation.
    let asked = "pub_net:ip=172.16.86.20 ip=2001:db8:abc8::20";
    let second = bed.container(engine, "second").networks(asked).start().unwrap();
    assert_eq!(second.addresses("eth0"), ["172.16.86.20/24", "2001:db8:abc8::20/64"]);
    for address in ["172.16.86.10", "2001:db8:abc8::1", "2001:db8:abc8::10"] {
        assert!(second.reaches(address), "{address}");
    }
    first.stop();
    second.stop();
    bed.assert_nothing_held();
}

fn two_networks(engine: Engine, driver: &str) {
    let bed = Bed::with_pub_net(driver, "");
    bed.host.ip(&format!("link add eth1 type veth peer name lan1 netns {}", bed.lan.name));
    bed.host.ip("link set eth1 up");
    bed.lan.ip("link set lan1 up");
    bed.create(&format!("-d {driver} --subnet=10.1.0.0/24 --gateway=10.1.0.1 -o parent=eth1 san"));

    let container = bed.container(engine, "both").networks("san;pub_net").start().unwrap();
    assert_eq!(container.links(), ["eth0", "eth1"]);
    assert_eq!(container.addresses("eth0"), ["10.1.0.2/24"]);
    assert_eq!(container.addresses("eth1"), ["172.16.86.2/24"]);
    assert_eq!(
        container.routes("-4"),
        [
            "default via 10.1.0.1 dev eth0",
            "10.1.0.0/24 dev eth0 proto kernel scope link src 10.1.0.2",
            "172.16.86.0/24 dev eth1 proto kernel scope link src 172.16.86.2",
        ]
    );
    container.stop();
    bed.assert_nothing_held();

    let asked = r#"[{"name": "san"}, {"name": "pub_net", "gw-priority": 1, "interface": "lan"}]"#;
    let container = bed.container(engine, "again").networks(asked).start().unwrap();
    assert_eq!(container.links(), ["eth0", "lan"]);
    assert_eq!(container.routes("-4")[0], "default via 172.16.86.1 dev lan");
    assert_eq!(container.routes("-4").iter().filter(|route| route.starts_with("default")).count(), 1);
    container.stop();
    bed.assert_nothing_held();
}
