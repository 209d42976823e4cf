//! Races with the world: before each message that the hook sends to the kernel, the world changes. It ends in a clear
//! error that leaves nothing, or in success.

use std::fs;

use nix::libc;
use serde_json::Value;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Container, Engine::Bare};
use crate::harness::need::Need;
use crate::harness::place::{self, soak};
use crate::harness::test::{Named, Test};
use crate::harness::tracer::{Traced, trace};

/// A change of the world, and its end.
#[derive(Clone, Copy)]
struct Change {
    name: &'static str,
    happens: fn(&Race, &mut Container<'_>),
    /// As `ip` commands on the host.
    undone: &'static [&'static str],
}

const CHANGES: [Change; 8] = [
    Change {
        name: "the_parent_disappears",
        happens: |race, _| drop(race.bed.host.ip("link del eth0")),
        undone: &[],
    },
    Change {
        name: "the_parent_goes_down",
        happens: |race, _| drop(race.bed.host.ip("link set eth0 down")),
        undone: &["link set eth0 up"],
    },
    Change {
        name: "the_parent_is_renamed",
        happens: |race, _| race.bed.host.ip_batch(&["link set eth0 down", "link set eth0 name was0"]),
        undone: &["link set was0 name eth0", "link set eth0 up"],
    },
    Change {
        name: "the_parent_becomes_a_port",
        // With a container's link on it already, it cannot.
        happens: |race, _| drop(race.bed.host.try_run("ip", "link set eth0 master br0")),
        undone: &["link set eth0 nomaster"],
    },
    Change {
        name: "a_gc_runs",
        happens: |race, _| assert_eq!(race.bed.gc(), "", "who is being attached lives"),
        undone: &[],
    },
    Change { name: "the_process_dies", happens: |_, web| web.kill(), undone: &[] },
    Change {
        name: "the_name_appears",
        // Once the hook has made its own, it cannot.
        happens: |race, _| drop(race.pinned.try_run("ip", "link add eth0 type veth peer name far0")),
        undone: &[],
    },
    Change {
        name: "the_host_gets_the_address",
        happens: |race, _| drop(race.bed.host.ip("addr replace 172.16.86.2/32 dev lo")),
        undone: &["addr flush dev lo to 172.16.86.2"],
    },
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for driver in ["macvlan", "ipvlan"] {
        let needs = if driver == "macvlan" { [Need::Macvlan] } else { [Need::Ipvlan] };
        for change in CHANGES {
            let name = format!("races::{}::{driver}", change.name);
            tests.push(Test::new(name, &needs, move || before_each_message(driver, change)));
        }
    }
    let all: [Named; 1] = [("the_pid_is_used_again", &[Need::Macvlan], used_again)];
    tests.extend(all.map(|(name, needs, run)| Test::new(format!("races::{name}"), needs, run)));
    tests
}

/// A bed with a bridge, and a namespace that outlives the containers in it.
struct Race {
    bed: Bed,
    pinned: Netns,
}

impl Race {
    fn new(driver: &str) -> Self {
        let bed = Bed::with_pub_net(driver, "");
        bed.host.ip("link add br0 type bridge");
        Self { bed, pinned: Netns::new("pinned") }
    }

    /// Attaches `web`; before the message number `at` the change happens. Whether it did.
    fn attach(&self, web: &mut Container<'_>, change: Change, at: usize) -> (Traced, bool) {
        let command = self.bed.underlay("hook createRuntime");
        let state = web.state_at("createRuntime");
        let mut messages = 0;
        let traced = trace(&command, state.as_bytes(), |call| {
            if matches!(call.number, libc::SYS_sendto | libc::SYS_sendmsg) {
                messages += 1;
                if messages == at {
                    (change.happens)(self, web);
                }
            }
            None
        });
        (traced, messages >= at)
    }
}

fn before_each_message(driver: &str, change: Change) {
    let race = Race::new(driver);
    // Before a parent's first use lost records are looked for, with the ledger locked: let that be over.
    race.bed.container(Bare, "first").networks("pub_net").start().unwrap().stop();
    // In the guest, which is emulated, some messages stand for all, unless there is time.
    let step = if place::is_guest() && !soak() { 5 } else { 1 };
    let (mut at, mut succeeded) = (step, 0);
    loop {
        let builder = race.bed.container(Bare, "web").networks("pub_net").without_hooks();
        let mut web = builder.in_netns(race.pinned.path()).start().unwrap();
        let (traced, happened) = race.attach(&mut web, change, at);
        let what = format!("before message {at}: {}", traced.stderr);
        match traced.code() {
            Some(0) => succeeded += 1,
            Some(1) if change.name != "a_gc_runs" => {
                assert!(traced.stderr.contains(&format!("underlay: container {}: ", web.id)), "{what}");
                race.bed.assert_nothing_held();
                let left = race.pinned.ip("-details link");
                assert!(!left.contains(&format!("{driver} mode")), "{what}: {left}");
            }
            _ => panic!("{what}: {:?}", traced.end),
        }
        web.kill();
        let stopped = web.hook("poststop");
        assert_eq!((stopped.code, stopped.stderr.as_str()), (0, ""), "{what}");
        race.bed.assert_nothing_held();
        assert_eq!(race.bed.gc(), "", "{what}");
        if !happened {
            break;
        }
        // The world as it was.
        let _ = race.pinned.try_run("ip", "link del far0");
        assert_eq!(race.pinned.ip("-brief link").lines().count(), 1, "{what}");
        race.bed.host.ip_batch(change.undone);
        if race.bed.host.link("eth0").is_none() {
            race.bed.plug_in();
        }
        at += step;
    }
    assert!(at > 6, "only {at} messages?");
    assert!(succeeded > 0, "without a change it succeeds");
}

/// The pid of a dead container is another process's by now: the start time tells.
fn used_again() {
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/29 --ip-range 10.0.0.2-10.0.0.2 -o parent=eth0 one");
    let mut web = bed.container(Bare, "web").networks("one").start().unwrap();
    let refused = bed.container(Bare, "next").networks("one").start().map(drop).unwrap_err();
    assert!(refused.contains("has no free IPv4 address left"), "{refused}");
    let path = bed.path("run/containers").join(format!("{}.json", web.id));
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    web.kill();
    record["holder"]["pid"] = 1.into();
    fs::write(&path, record.to_string()).unwrap();
    let next = bed.container(Bare, "next").networks("one").start().unwrap();
    assert_eq!(next.addresses("eth0"), ["10.0.0.2/29"]);
    // The old one's poststop comes late, and takes nothing from its successor.
    web.stop();
    assert_eq!((bed.records().len(), bed.leases().len()), (1, 1));
}
