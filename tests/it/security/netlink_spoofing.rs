//! The kernel alone answers: what others send to our netlink sockets is neither believed nor in the way.

use std::fs;

use serde_json::Value;

use crate::harness::attacker::{Attacker, Lie};
use crate::harness::bed::{Bed, Netns};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

/// How often each command is tried: a lie comes now and then at the right time.
const TIMES: usize = 8;

pub fn tests() -> Vec<Test> {
    let all: [Named; 6] = [
        ("a_link_to_commands", &[Need::Macvlan, Need::Users], || commands(&link)),
        ("a_refusal_to_commands", &[Need::Macvlan, Need::Users], || commands(&|_| Lie::Refusal)),
        ("garbage_to_commands", &[Need::Macvlan, Need::Users], || commands(&|_| Lie::Garbage)),
        ("a_link_to_who_mends", &[Need::Macvlan, Need::Users], || mending(&link)),
        ("garbage_to_who_mends", &[Need::Macvlan, Need::Users], || mending(&|_| Lie::Garbage)),
        ("in_a_shared_namespace", &[Need::Macvlan], shared),
    ];
    all.map(|(name, needs, run)| Test::new(format!("netlink_spoofing::{name}"), needs, run)).into()
}

fn host_bed() -> Bed {
    let bed = Bed::new();
    bed.create(
        "--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 --host-access=172.16.86.200 pub_net",
    );
    bed
}

/// A link of a container that does not exist, with the router's address, a running container's and a free one.
fn link(bed: &Bed) -> Lie {
    let parent = bed.host.link("eth0").unwrap()["ifindex"].as_u64().unwrap() as u32;
    let addresses = [1, 20, 53].map(|last| [172, 16, 86, last]).to_vec();
    Lie::Link { parent, id: "forged".to_owned(), network: "pub_net".to_owned(), addresses }
}

fn commands(lie: &dyn Fn(&Bed) -> Lie) {
    let bed = host_bed();
    let web = bed.container(Bare, "web").networks("pub_net:ip=172.16.86.20").start().unwrap();
    let state = || (bed.leases(), bed.ps(), bed.host_state());
    let ids = |text: &str| -> Vec<Value> {
        let all: Vec<Value> = serde_json::from_str(text).unwrap();
        all.into_iter().map(|finding| finding["id"].clone()).collect()
    };
    bed.run("boot");
    let well = ids(&bed.outcome("doctor --format json", "").stdout);
    let before = state();
    let _attacker = Attacker::of_a_user(&lie(&bed));
    for _ in 0..TIMES {
        for command in ["gc --dry-run", "gc", "check", "boot"] {
            let told = bed.outcome(command, "");
            assert_eq!((told.code, &*told.stdout, &*told.stderr), (0, "", ""), "{command}");
        }
        let told = bed.outcome("doctor --format json", "");
        assert_eq!(ids(&told.stdout), well, "{told:?}");
        assert_eq!(state(), before);
    }
    web.stop();
}

/// Attaches of which one has its own record damaged, and one finds the ledger lost.
fn mending(lie: &dyn Fn(&Bed) -> Lie) {
    let bed = host_bed();
    let web = bed.container(Bare, "web").networks("pub_net:ip=172.16.86.20").start().unwrap();
    let _attacker = Attacker::of_a_user(&lie(&bed));
    for _ in 0..TIMES {
        let damaged = bed.path(&format!("run/containers/own-{}.json", bed.host.name));
        fs::write(damaged, "{").unwrap();
        bed.container(Bare, "own").networks("pub_net").start().unwrap().stop();
        assert_eq!(bed.records(), [format!("{}.json", web.id)]);
        fs::remove_dir_all(bed.path("run")).unwrap();
        bed.container(Bare, "next").networks("pub_net").start().unwrap().stop();
        assert_eq!(bed.records(), [format!("{}.json", web.id)], "that of the living is written anew");
    }
}

/// A container with CAP_NET_ADMIN lies to the hooks of those that share its namespace, also to what probes and announces.
fn shared() {
    for lie in [Lie::Garbage, Lie::Refusal] {
        let bed = Bed::with_pub_net("macvlan", "");
        let netns = Netns::new("pod");
        let first = bed.container(Bare, "first").networks("pub_net").in_netns(netns.path()).start().unwrap();
        let _attacker = Attacker::beside(first.pid, &lie);
        for number in 0..TIMES {
            let asked = format!("pub_net:ifname=net{number}");
            let other = bed.container(Bare, "other").networks(&asked).in_netns(netns.path()).start();
            let other = other.unwrap_or_else(|error| panic!("{lie}: {error}"));
            assert_eq!(bed.records().len(), 2);
            other.stop();
            assert_eq!(bed.records().len(), 1);
        }
    }
}
