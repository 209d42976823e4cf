//! Every createRuntime that must fail: the container does not start, no link and no lease is left, and the
//! message says what to do.

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::Engine;
use crate::harness::need::Need;
use crate::harness::test::Test;

/// A situation in which a container asks for something that cannot be had.
struct Case {
    name: &'static str,
    need: Need,
    /// Makes the situation; what it returns lives until the end.
    prepare: fn(&Bed),
    /// What else runs on the bed, with its networks.
    other: Option<&'static str>,
    /// What the container asks for.
    networks: &'static str,
    /// The sentence and the hint; OTHER stands for the id of the other container.
    message: [&'static str; 2],
}

const CASES: [Case; 13] = [
    Case {
        name: "parent_missing",
        need: Need::Macvlan,
        prepare: |bed| {
            bed.host.ip("link add gone0 type veth peer name gone1");
            bed.create("--subnet 10.0.0.0/24 -o parent=gone0 lan");
            bed.host.ip("link del gone0");
        },
        other: None,
        networks: "lan",
        message: [
            "network lan: parent gone0 does not exist on this host",
            "see the host's links with `ip link`",
        ],
    },
    Case {
        name: "address_taken",
        need: Need::Macvlan,
        prepare: |_| {},
        other: Some("pub_net:ip=172.16.86.10"),
        networks: "pub_net:ip=172.16.86.10",
        message: [
            "address 172.16.86.10 of network pub_net is held by container OTHER",
            "ask for another address, or leave it out to get a free one",
        ],
    },
    Case {
        name: "address_outside_the_subnet",
        need: Need::Macvlan,
        prepare: |_| {},
        other: None,
        networks: "pub_net:ip=172.16.87.10",
        message: ["address 172.16.87.10 is in no subnet of network pub_net", "its subnets: 172.16.86.0/24"],
    },
    Case {
        name: "address_of_the_gateway",
        need: Need::Macvlan,
        prepare: |_| {},
        other: None,
        networks: "pub_net:ip=172.16.86.1",
        message: ["address 172.16.86.1 is the gateway of subnet 172.16.86.0/24", "ask for another address"],
    },
    Case {
        name: "address_with_another_prefix",
        need: Need::Macvlan,
        prepare: |_| {},
        other: None,
        networks: "pub_net:ip=172.16.86.9/16",
        message: [
            "address 172.16.86.9/16 does not fit subnet 172.16.86.0/24",
            "write 172.16.86.9, or 172.16.86.9/24",
        ],
    },
    Case {
        name: "pool_exhausted",
        need: Need::Macvlan,
        prepare: |bed| bed.create("--subnet 10.0.0.0/30 --gateway 10.0.0.1 -o parent=eth0 small"),
        other: Some("small"),
        networks: "pub_net;small",
        message: [
            "network small has no free IPv4 address left",
            "`underlay ps` shows who holds them; stop a container or widen the range",
        ],
    },
    Case {
        name: "unknown_network",
        need: Need::Macvlan,
        prepare: |_| {},
        other: None,
        networks: "pub_nett",
        message: [
            "network pub_nett does not exist",
            "there are: pub_net; `underlay network create` makes a new one",
        ],
    },
    Case {
        name: "unknown_key",
        need: Need::Macvlan,
        prepare: |_| {},
        other: None,
        networks: "pub_net:address=172.16.86.10",
        message: [
            "annotation io.underlay.networks: option address of network pub_net: is not known",
            "use ip, mac, ifname, gw-priority",
        ],
    },
    Case {
        name: "name_taken",
        need: Need::Macvlan,
        prepare: |_| {},
        other: None,
        networks: "pub_net;pub_net:ifname=lo",
        message: ["interface lo exists in the container already", "ask for another ifname, or leave it out"],
    },
    Case {
        name: "mtu_above_the_parents",
        need: Need::Macvlan,
        prepare: |bed| {
            bed.create("--subnet 10.0.0.0/24 -o parent=eth0 -o mtu=1500 lan");
            bed.host.ip("link set eth0 mtu 1400");
        },
        other: None,
        networks: "pub_net;lan",
        message: [
            "mtu 1500 of network lan is above the 1400 of parent eth0",
            "use at most 1400, or raise it with `ip link set eth0 mtu 1500`",
        ],
    },
    Case {
        name: "ipvlan_on_a_macvlan_parent",
        need: Need::Ipvlan,
        prepare: |bed| bed.create("-d ipvlan --subnet 10.0.0.0/24 -o parent=eth0 lan"),
        other: Some("pub_net"),
        networks: "pub_net;lan",
        message: [
            "parent eth0 is in use by another driver and takes no ipvlan link (ip link add link eth0 name eth1 type ipvlan mode l2 bridge: Device or resource busy (os error 16))",
            "a parent carries either macvlan or ipvlan links",
        ],
    },
    Case {
        name: "a_mac_for_an_ipvlan_link",
        need: Need::Macvlan,
        prepare: |bed| bed.create("-d ipvlan --subnet 10.0.0.0/24 -o parent=eth0 lan"),
        other: None,
        networks: "lan:mac=02:00:00:00:00:01",
        message: [
            "network lan has driver ipvlan mode l2 bridge, whose links all have the parent's MAC address, so none can have 02:00:00:00:00:01",
            "leave mac out, or use a macvlan network",
        ],
    },
    Case {
        name: "ipvlan_mode_unlike_its_siblings",
        need: Need::Ipvlan,
        prepare: |bed| {
            bed.create("-d ipvlan --subnet 10.0.0.0/24 -o parent=eth0 two");
            // By hand: `network create` would refuse it.
            let three = r#"{"version": 1, "driver": "ipvlan", "parent": "eth0", "ipvlan_mode": "l3",
                            "subnets": [{"subnet": "10.0.0.0/24"}]}"#;
            bed.configure("networks/three.json", three);
        },
        other: Some("two"),
        networks: "three",
        message: [
            "parent eth0 carries ipvlan mode l2 bridge links (container OTHER), so network three cannot have ipvlan mode l3 bridge",
            "all ipvlan links of a parent share one mode and flag",
        ],
    },
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for case in &CASES {
        // What is refused is ours to say, and an engine's to pass on: one case shows that.
        let engines =
            Engine::ALL.into_iter().filter(|&engine| engine == Engine::Bare || case.name == "address_taken");
        for engine in engines {
            let needs = [case.need, Need::Engine(engine)];
            tests.push(Test::new(format!("failures::{}::{engine}", case.name), &needs, move || {
                fails(case, engine)
            }));
        }
    }
    for engine in Engine::REAL {
        let needs = [Need::Macvlan, Need::Engine(engine)];
        let run = move || another_hook_fails(engine);
        tests.push(Test::new(format!("failures::another_hook_fails::{engine}"), &needs, run));
    }
    tests.push(Test::new("failures::what_was_made_is_undone", &[Need::Macvlan], undone));
    tests
}

fn fails(case: &Case, engine: Engine) {
    let bed = Bed::with_pub_net("macvlan", "");
    (case.prepare)(&bed);
    let other = case.other.map(|networks| bed.container(engine, "other").networks(networks).start().unwrap());
    let before = (bed.leases(), bed.records(), other.as_ref().map(|other| other.ip("link")));

    let error = bed.container(engine, "web").networks(case.networks).start().map(drop).unwrap_err();
    let [sentence, hint] = case.message;
    let sentence = sentence.replace("OTHER", other.as_ref().map_or("", |other| &other.id));
    match engine {
        // Both show what the hook wrote; the first as it stands, the second escaped into its own message.
        Engine::Bare => {
            let sentence = format!("underlay: container web-{}: {sentence}", bed.host.name);
            assert!(error.starts_with(&sentence), "{error}\ndoes not say\n{sentence}");
            assert!(error.contains(&format!("\nhint: {hint}")), "{error}\ndoes not hint\n{hint}");
        }
        Engine::Runc => assert!(error.contains(&sentence), "{error}\ndoes not say\n{sentence}"),
        // They throw it away: the log has it.
        Engine::Crun | Engine::Podman => {}
    }
    let log = bed.log();
    assert!(log.contains("createRuntime failed: ") && log.contains(&sentence) && log.contains(hint), "{log}");
    assert_eq!((bed.leases(), bed.records(), other.as_ref().map(|other| other.ip("link"))), before);
    // Nor is anything left on the host.
    assert!(!bed.host.ip("-br link").contains("ul-"));
    drop(other);
    bed.assert_nothing_held();
}

/// A hook after ours fails: only runc calls poststop then. What is left with the others belongs to a dead
/// container, and is taken back when it is needed.
fn another_hook_fails(engine: Engine) {
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/30 --gateway 10.0.0.1 -o parent=eth0 small");
    bed.container(engine, "web").networks("small").with_failing_hook().start().map(drop).unwrap_err();
    assert!(bed.log().contains(" attached "), "{}", bed.log());
    let container = bed.container(engine, "next").networks("small").start().unwrap();
    assert_eq!(container.addresses("eth0"), ["10.0.0.2/30"]);
    assert_eq!(bed.leases().len(), 1);
    container.stop();
    bed.assert_nothing_held();
}

/// The second link fails in the kernel, after the first was made, addressed and routed.
fn undone() {
    let bed = Bed::with_pub_net("macvlan", "");
    let other = Netns::new("other");
    bed.host.ip(&format!(
        "link add hand0 link eth0 netns {} address 02:00:00:00:00:01 type macvlan mode bridge",
        other.name
    ));
    other.ip("link set hand0 up");
    let container = bed.container(Engine::Bare, "web").networks("pub_net;pub_net:mac=02:00:00:00:00:01");
    let container = container.without_hooks().start().unwrap();
    let refused = container.hook("createRuntime");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("the MAC address of eth1 is in use on the same parent"), "{refused:?}");
    assert!(container.links().is_empty() && container.routes("-4").is_empty());
    other.ip("link del hand0");
    bed.assert_nothing_held();
    // The same container may try again.
    assert_eq!(container.hook("createRuntime").code, 0);
    assert_eq!(container.link("eth1")["address"], "02:00:00:00:00:01");
}
