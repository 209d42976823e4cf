//! Addresses that were asked for before a container came, those that nobody could be asked for, and conflicts that are found
//! when a container has its address already.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::agent::{Agent, tasks, unclaimed};
use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Container, Engine::Bare, wait};
use crate::harness::frames::Ear;
use crate::harness::mishaps::{assert_clean, steps, trace_to};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::harness::tracer::Mishap;

pub fn tests() -> Vec<Test> {
    let all: [Named; 22] = [
        ("an_attach_does_not_wait", &[Need::Macvlan], no_wait),
        ("an_attach_does_not_wait_on_ipvlan", &[Need::Ipvlan], no_wait_ipvlan),
        ("addresses_of_others_are_left_out", &[Need::Macvlan], left_out),
        ("siblings_of_other_programs_are_heard", &[Need::Macvlan], siblings),
        ("a_late_conflict_is_told", &[Need::Macvlan], late),
        ("a_late_conflict_moves_the_container", &[Need::Macvlan], moved),
        ("a_host_that_answers_for_all", &[Need::Macvlan], chased),
        ("questions_ahead_and_attaches", &[Need::Macvlan], beside_attaches),
        ("another_lan", &[Need::Macvlan], another_lan),
        ("one_of_two_parents", &[Need::Macvlan], two_parents),
        ("a_move_leaves_nothing", &[Need::Macvlan], move_leaves_nothing),
        ("a_move_that_was_killed", &[Need::Macvlan], killed_in_move),
        ("after_a_restart", &[Need::Macvlan], restart),
        ("for_a_while", &[Need::Macvlan], for_a_while),
        ("not_connected", &[Need::Macvlan], not_connected),
        ("not_connected_and_taken", &[Need::Macvlan], not_connected_and_taken),
        ("a_port_that_forwards_later", &[Need::Macvlan], || spanning_tree(false)),
        ("a_port_that_forwards_later_of_an_agent_that_runs", &[Need::Macvlan], || spanning_tree(true)),
        ("asked_again_once_a_port_forwards", &[Need::Macvlan], forwarding),
        ("announced_when_it_is_connected_again", &[Need::Macvlan], connected_again),
        ("announced_after_a_failover", &[Need::Macvlan, Need::Bond], failover),
        ("announced_after_a_failover_on_ipvlan", &[Need::Ipvlan, Need::Bond], failover_ipvlan),
    ];
    all.map(|(name, needs, run)| Test::new(format!("ahead::{name}"), needs, run)).into()
}

/// So long that a test sees whether an attach has waited.
const WAIT: Duration = Duration::from_millis(1500);
const LONG: &str = "-o conflict_detection=1500";

fn mac_of(container: &Container<'_>) -> String {
    container.link("eth0")["address"].as_str().unwrap().to_owned()
}

/// When the LAN was asked, by the record of a container.
fn asked(bed: &Bed, container: &Container<'_>) -> String {
    let all = bed.ps();
    let record = all.iter().find(|record| record["container"] == container.id.as_str()).unwrap();
    record["attachments"][0].get("asked").map_or("yes".to_owned(), |asked| asked.as_str().unwrap().to_owned())
}

/// How the events tell that another host has `address` too.
fn told(container: &Container<'_>, address: &str) -> String {
    format!(
        "container {} has address {address} of network pub_net, and so has another host on the LAN",
        container.id
    )
}

/// Starts a container, and returns whether that has waited for answers. What does not wait may take long on a busy machine.
fn start<'a>(bed: &'a Bed, id: &str, networks: &str) -> (Container<'a>, bool) {
    let container = bed.container(Bare, id).networks(networks).start().unwrap();
    let waited = asked(bed, &container) == "yes";
    (container, waited)
}

/// As [`start`], in a namespace that stays: what is deleted there at the end is all that there was.
fn start_in<'a>(bed: &'a Bed, netns: &Netns, networks: &str) -> (Container<'a>, bool) {
    let container = bed.container(Bare, "web").networks(networks).in_netns(netns.path()).start().unwrap();
    let waited = asked(bed, &container) == "yes";
    (container, waited)
}

/// A network of which the agent has asked for the next addresses.
fn asked_ahead(bed: &Bed) {
    let begin = Instant::now();
    let (first, waited) = start(bed, "first", "pub_net");
    assert!(waited && begin.elapsed() >= WAIT);
    wait(|| unclaimed(bed).contains(&"172.16.86.3".to_owned()));
    first.stop();
}

fn no_wait_on(driver: &str) {
    let bed = Bed::with_pub_net(driver, &format!("{LONG} --subnet=2001:db8:abc8::/64"));
    let _agent = Agent::start(&bed);
    let ear = Ear::on(&bed.lan);
    asked_ahead(&bed);
    let probes = |address: &str| ear.about(address).into_iter().filter(|heard| heard.what == "probe").count();
    assert_eq!(probes("172.16.86.3"), 3, "as often as during an attach");
    let (web, waited) = start(&bed, "web", "pub_net");
    assert!(!waited);
    assert_eq!(web.addresses("eth0"), ["172.16.86.3/24", "2001:db8:abc8::2/64"]);
    assert_eq!(asked(&bed, &web), "ahead");
    let mac = mac_of(&web);
    for address in ["172.16.86.3", "2001:db8:abc8::2"] {
        // It is asked again, now that a container has it, and announced as after any attach.
        wait(|| probes(address) == 6);
        wait(|| ear.times("announcement", &mac, address).len() == 3);
    }
    wait(|| tasks(&bed) == 0);
    assert!(!bed.log().contains("duplicate"), "{}", bed.log());
    web.stop();
    bed.assert_nothing_held();
}

fn no_wait() {
    no_wait_on("macvlan");
}

fn no_wait_ipvlan() {
    no_wait_on("ipvlan");
}

fn left_out() {
    let bed = Bed::with_pub_net("macvlan", LONG);
    bed.lan.ip_batch(&["addr add 172.16.86.3/32 dev lan0", "addr add 172.16.86.5/32 dev lan0"]);
    let _agent = Agent::start(&bed);
    let (_first, _) = start(&bed, "first", "pub_net");
    wait(|| unclaimed(&bed).contains(&"172.16.86.4".to_owned()));
    for (id, address) in [("web", "172.16.86.4/24"), ("two", "172.16.86.6/24")] {
        let (container, waited) = start(&bed, id, "pub_net");
        assert_eq!((container.addresses("eth0"), waited), (vec![address.to_owned()], false));
        std::mem::forget(container);
    }
    let inspected: Value = serde_json::from_str(&bed.run("network inspect pub_net")).unwrap();
    assert_eq!(inspected[0]["quarantine"].as_array().unwrap().len(), 2, "{inspected}");
}

/// A macvlan link of another program on the same parent hears no frame of the parent itself.
fn siblings() {
    let bed = Bed::with_pub_net("macvlan", LONG);
    let other = Netns::new("other");
    bed.host.ip(&format!("link add link eth0 name other0 netns {} type macvlan mode bridge", other.name));
    other.ip_batch(&["addr add 172.16.86.3/24 dev other0", "link set other0 up"]);
    let _agent = Agent::start(&bed);
    let (_first, _) = start(&bed, "first", "pub_net");
    wait(|| unclaimed(&bed).contains(&"172.16.86.4".to_owned()));
    let (web, waited) = start(&bed, "web", "pub_net");
    assert_eq!((web.addresses("eth0"), waited), (vec!["172.16.86.4/24".to_owned()], false));
}

fn late() {
    let bed = Bed::with_pub_net("macvlan", LONG);
    let _agent = Agent::start(&bed);
    asked_ahead(&bed);
    // A host comes that does not ask.
    bed.lan.ip("addr add 172.16.86.3/32 dev lan0");
    let (web, waited) = start(&bed, "web", "pub_net");
    assert_eq!((web.addresses("eth0"), waited), (vec!["172.16.86.3/24".to_owned()], false));
    let mac = bed.lan.link("lan0").unwrap()["address"].as_str().unwrap().to_owned();
    wait(|| bed.log().contains(&format!("{}, {mac}", told(&web, "172.16.86.3"))));
    wait(|| tasks(&bed) == 0);
    assert_eq!(bed.log().matches("another host").count(), 1, "{}", bed.log());
    let check = bed.outcome("check", "");
    assert!(check.code == 1 && check.stdout.contains(&mac), "{check:?}");
    assert!(bed.run("metrics").contains("duplicate"));
    web.stop();
    let (next, _) = start(&bed, "next", "pub_net");
    assert_ne!(next.addresses("eth0"), ["172.16.86.3/24"], "nobody else gets it");
    assert_eq!(bed.outcome("check", "").code, 0);
}

/// Each of its addresses, its routes and rules, and the host's route to it.
/// A host that has every address does not chase a container, and it is told of the last one.
fn chased() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=200");
    bed.configure("underlay.json", r#"{"version": 1, "on_late_conflict": "move"}"#);
    let _agent = Agent::start(&bed);
    let _first = start(&bed, "first", "pub_net");
    wait(|| unclaimed(&bed).len() > 7);
    let all: Vec<_> = (3..40).map(|last| format!("addr add 172.16.86.{last}/32 dev lan0")).collect();
    bed.lan.ip_batch(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let (web, _) = start(&bed, "web", "pub_net");
    let moves = || bed.log().matches("and no more").count();
    wait(|| {
        moves() == 3 && bed.log().contains(&told(&web, web.addresses("eth0")[0].trim_end_matches("/24")))
    });
    wait(|| tasks(&bed) == 0);
    assert_eq!(moves(), 3, "{}", bed.log());
}

fn moved() {
    let bed = Bed::with_pub_net(
        "macvlan",
        &format!("{LONG} --subnet=2001:db8:abc8::/64 --host-access -o table=100"),
    );
    bed.configure("underlay.json", r#"{"version": 1, "on_late_conflict": "move"}"#);
    let _agent = Agent::start(&bed);
    let (kept, _) = start(&bed, "kept", "pub_net:ip=172.16.86.20");
    let (web, _) = start(&bed, "web", "pub_net");
    let had: Vec<_> =
        web.addresses("eth0").iter().map(|net| net.split('/').next().unwrap().to_owned()).collect();
    wait(|| tasks(&bed) == 0 && unclaimed(&bed).len() > 4);
    let ear = Ear::on(&bed.lan);
    let mac = mac_of(&web);
    // Hosts come that do not ask; the LAN is asked again when the parent is connected again.
    bed.lan.ip("link set lan0 down");
    bed.lan.ip_batch(&[
        &format!("addr add {}/32 dev lan0", had[0]),
        &format!("addr add {}/128 dev lan0 nodad", had[1]),
        "addr add 172.16.86.20/32 dev lan0",
        // It has gone with the link.
        "addr add 2001:db8:abc8::10/64 dev lan0 nodad",
        "link set lan0 up",
    ]);
    for address in &had {
        wait(|| bed.log().contains(&format!("and no more {address}")));
    }
    wait(|| bed.log().contains(&told(&kept, "172.16.86.20")));
    assert_eq!(bed.log().matches("and no more").count(), 2, "{}", bed.log());
    assert_eq!(kept.addresses("eth0")[0], "172.16.86.20/24", "it asked for it");
    let has: Vec<_> =
        web.addresses("eth0").iter().map(|net| net.split('/').next().unwrap().to_owned()).collect();
    assert!(has.len() == 2 && has.iter().all(|address| !had.contains(address)), "{had:?} {has:?}");
    for address in &has {
        wait(|| !ear.times("announcement", &mac, address).is_empty());
        let peer = if address.contains(':') { "2001:db8:abc8::10" } else { "172.16.86.1" };
        web.run("busybox", &format!("ping -c 1 -W 5 -I {address} {peer}"));
        let route = bed.host.ip(&format!("route get {address}"));
        assert!(route.contains("dev ulh-pub_net"), "{route}");
    }
    // What the ledger says is so, but for the one that is told.
    let check = bed.outcome("check", "").stdout;
    assert!(check.contains("kept") && !check.contains("web"), "{check}");
    web.stop();
    kept.stop();
    bed.run("network rm pub_net");
    bed.assert_nothing_held();
}

/// An attach that probes for an address which the agent asks ahead for gets it, whatever MAC address it has, and is no
/// conflict to the agent.
fn beside_attaches() {
    let bed = Bed::with_pub_net("macvlan", LONG);
    let ear = Ear::on(&bed.lan);
    let _agent = Agent::start(&bed);
    let (_first, _) = start(&bed, "first", "pub_net");
    for (id, address, mac) in
        [("high", "172.16.86.4", "fe:00:00:00:00:01"), ("low", "172.16.86.5", "02:00:00:00:00:01")]
    {
        wait(|| ear.about(address).iter().any(|heard| heard.what == "probe"));
        let (container, _) = start(&bed, id, &format!("pub_net:ip={address},mac={mac}"));
        assert_eq!(container.addresses("eth0"), [format!("{address}/24")]);
        std::mem::forget(container);
    }
    wait(|| tasks(&bed) == 0);
    let inspected: Value = serde_json::from_str(&bed.run("network inspect pub_net")).unwrap();
    assert!(inspected[0]["quarantine"].as_array().is_none_or(Vec::is_empty), "{inspected}");
    assert!(!bed.log().contains("another host"), "{}", bed.log());
}

/// Of a LAN that is plugged in, nothing is known that was known of the one before.
fn another_lan() {
    let bed = Bed::with_pub_net("macvlan", &format!("{LONG} -o announcements=0"));
    let kept = Netns::new("kept");
    let agent = Agent::start(&bed);
    asked_ahead(&bed);
    let (web, waited) = start_in(&bed, &kept, "pub_net");
    assert!(!waited);
    drop(agent);
    bed.lan.ip_batch(&["link set lan0 down", "link set lan0 up"]);
    web.stop();
    let (web, waited) = start_in(&bed, &kept, "pub_net");
    assert!(waited, "what it had before, it had on another LAN");
    web.stop();
    let (_web, waited) = start_in(&bed, &kept, "pub_net");
    assert!(!waited);
}

/// That nobody could be asked on one parent is not forgotten because hosts were asked on the other.
fn two_parents() {
    let bed = Bed::with_pub_net("macvlan", LONG);
    bed.host.ip_batch(&[
        &format!("link add eth1 type veth peer name lan1 netns {}", bed.lan.name),
        "link set eth1 up",
    ]);
    bed.create(&format!("--subnet=10.7.0.0/24 -o parent=eth1 {LONG} other"));
    let (web, _) = start(&bed, "web", "pub_net;other");
    let asked = |number: usize| {
        let all = bed.ps();
        let record = all.iter().find(|record| record["container"] == web.id.as_str()).unwrap();
        record["attachments"][number]["asked"].as_str().unwrap_or("yes").to_owned()
    };
    assert_eq!([asked(0), asked(1)], ["yes", "no"]);
    bed.run("agent --once");
    assert_eq!([asked(0), asked(1)], ["yes", "no"]);
    bed.lan.ip("link set lan1 up");
    wait(|| bed.host.link("eth1").unwrap()["operstate"] == "UP");
    bed.run("agent --once");
    assert_eq!([asked(0), asked(1)], ["yes", "yes"]);
}

/// A container that ends in the middle of a move: the lease of its former address, its rule, and the host's route go too.
fn move_leaves_nothing() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=20 --host-access -o table=100");
    bed.configure("underlay.json", r#"{"version": 1, "on_late_conflict": "move"}"#);
    let kept = Netns::new("kept");
    let (web, _) = start_in(&bed, &kept, "pub_net");
    bed.run("agent --once");
    let address = web.addresses("eth0").remove(0).trim_end_matches("/24").to_owned();
    bed.lan.ip(&format!("addr add {address}/32 dev lan0"));
    let is_begun = || {
        let all = bed.ps();
        all.iter().any(|record| record["attachments"][0].get("former").is_some())
    };
    // Killed by one system call after the other, until the record has both addresses.
    let begun = (3..).step_by(3).find(|&at| {
        let (_, hit) = trace_to(&bed.underlay("agent --once"), b"", at, Mishap::Kill);
        assert!(hit.is_some(), "it was never killed in between: {:?} {}", bed.ps(), bed.log());
        is_begun()
    });
    assert!(begun.is_some());
    assert!(bed.leases().iter().any(|lease| lease.ends_with(&format!("/{address}"))), "{:?}", bed.leases());
    web.stop();
    assert!(!kept.ip("rule").contains("172.16.86"), "{}", kept.ip("rule"));
    assert!(!bed.host.ip("route").contains("ulh-pub_net"), "{}", bed.host.ip("route"));
    assert!(bed.leases().iter().all(|lease| !lease.ends_with(&format!("/{address}"))), "{:?}", bed.leases());
    bed.run("network rm pub_net");
    // Half-written files and leases without a record, of those that were killed before.
    bed.gc();
    bed.assert_nothing_held();
}

/// The next agent finishes it.
fn killed_in_move() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=20 -o announcements=1");
    bed.configure("underlay.json", r#"{"version": 1, "on_late_conflict": "move"}"#);
    steps("agent", 13, |at| {
        let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
        bed.run("agent --once");
        let had = web.addresses("eth0").remove(0);
        let address = had.trim_end_matches("/24");
        bed.lan.ip(&format!("addr add {address}/32 dev lan0"));
        let (traced, hit) = trace_to(&bed.underlay("agent --once"), b"", at, Mishap::Kill);
        assert_clean(&traced, hit, "agent");
        bed.run("agent --once");
        let has = web.addresses("eth0");
        assert!(has.len() == 1 && has[0] != had, "{had} {has:?}");
        assert!(web.run("ip", "route").contains("default via 172.16.86.1"));
        // A half-written file.
        bed.gc();
        assert_eq!(bed.outcome("check", "").stdout, "");
        web.stop();
        bed.lan.ip(&format!("addr del {address}/32 dev lan0"));
        bed.run("gc --quarantine");
        bed.assert_nothing_held();
        hit.is_some()
    });
}

/// What a container has had until now, nobody else has: no agent is needed to know that.
fn restart() {
    let bed = Bed::with_pub_net("macvlan", LONG);
    let kept = Netns::new("kept");
    for networks in ["pub_net", "pub_net:ip=172.16.86.20"] {
        for (round, waits) in [true, false, false].into_iter().enumerate() {
            let (web, waited) = start_in(&bed, &kept, networks);
            assert_eq!(waited, waits, "{networks} {round}");
            web.stop();
        }
        bed.lan.ip("neigh flush all");
    }
    // A loss of the ledger is a loss of that too.
    fs::remove_dir_all(bed.path("run")).unwrap();
    let (_web, waited) = start(&bed, "web", "pub_net:ip=172.16.86.20");
    assert!(waited);
}

fn for_a_while() {
    let bed = Bed::with_pub_net("macvlan", &format!("{LONG} -o probe_ahead=4"));
    bed.create(&format!("--subnet=10.7.0.0/24 -o parent=eth0 {LONG} -o probe_ahead=0 never"));
    let kept = Netns::new("kept");
    for (network, again) in [("pub_net", false), ("never", true)] {
        let (web, _) = start_in(&bed, &kept, network);
        web.stop();
        let (web, waited) = start_in(&bed, &kept, network);
        assert_eq!(waited, again, "{network}");
        web.stop();
    }
    thread::sleep(Duration::from_secs(5));
    let (_web, waited) = start(&bed, "web", "pub_net");
    assert!(waited);
    let refused = bed.outcome("network create --subnet=10.8.0.0/24 -o parent=eth0 -o probe_ahead=3601 x", "");
    assert!(refused.stderr.contains("probe_ahead: 3601 seconds are too long"), "{refused:?}");
}

/// Nobody could be asked: the container starts, and the agent asks as soon as somebody can be.
fn not_connected() {
    let bed = Bed::with_pub_net("macvlan", LONG);
    let _agent = Agent::start(&bed);
    bed.lan.ip("link set lan0 down");
    let (web, waited) = start(&bed, "web", "pub_net");
    assert!(!waited);
    assert_eq!(asked(&bed, &web), "no");
    bed.lan.ip("link set lan0 up");
    wait(|| asked(&bed, &web) == "yes");
    assert!(!bed.log().contains("another host"), "{}", bed.log());
    web.stop();
}

fn not_connected_and_taken() {
    let bed = Bed::with_pub_net("macvlan", LONG);
    bed.lan.ip_batch(&["link set lan0 down", "addr add 172.16.86.20/32 dev lan0"]);
    let (web, _) = start(&bed, "web", "pub_net:ip=172.16.86.20");
    // Also one that is started afterwards.
    let _agent = Agent::start(&bed);
    bed.lan.ip("link set lan0 up");
    wait(|| bed.log().contains(&told(&web, "172.16.86.20")));
    wait(|| asked(&bed, &web) == "taken");
}

/// A switch port with spanning tree: it is connected, and lets nothing through for a while.
fn spanning_tree(agent_runs: bool) {
    let bed = Bed::new();
    // Listening and learning take two seconds each, the shortest that the kernel takes.
    bed.lan.ip_batch(&[
        "link add br0 type bridge stp_state 1 forward_delay 200",
        "link set lan0 master br0",
        "addr add 172.16.86.20/24 dev br0",
        "link set br0 up",
    ]);
    bed.create("--subnet=172.16.86.0/24 -o parent=eth0 pub_net");
    bed.host.ip_batch(&["link set eth0 down", "link set eth0 up"]);
    let forwards = || bed.lan.ip("-details link show dev lan0").contains("state forwarding");
    assert!(!forwards());
    let early = agent_runs.then(|| Agent::start(&bed));
    let (web, _) = start(&bed, "web", "pub_net:ip=172.16.86.20");
    assert!(!forwards(), "nobody could hear the probes");
    let _agent = early.unwrap_or_else(|| Agent::start(&bed));
    wait(|| bed.log().contains(&told(&web, "172.16.86.20")));
}

/// What was asked for ahead in the first forty seconds counts no longer than that, so the agent asks again by itself.
fn forwarding() {
    let bed = Bed::with_pub_net("macvlan", "");
    let _web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let _agent = Agent::start(&bed);
    wait(|| unclaimed(&bed).len() > 2);
    let ifindex = bed.host.link("eth0").unwrap()["ifindex"].clone();
    let path = bed.path(&format!("run/segments/{ifindex}/segment.json"));
    let times = || -> (u64, u64) {
        let segment: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let since = segment["carrier"]["since"].as_u64().unwrap();
        let asked = segment["unclaimed"].as_object().unwrap().values().map(|at| at.as_u64().unwrap());
        (since, asked.max().unwrap())
    };
    wait(|| {
        let (since, asked) = times();
        asked >= since + 40
    });
}

fn connected_again() {
    let bed = Bed::with_pub_net("macvlan", "-o announcements=1");
    let _agent = Agent::start(&bed);
    let (web, _) = start(&bed, "web", "pub_net");
    wait(|| tasks(&bed) == 0);
    let mac = mac_of(&web);
    let ear = Ear::on(&bed.lan);
    // The kernel may tell of both at once: its link watch waits for a second.
    bed.lan.ip_batch(&["link set lan0 down", "link set lan0 up"]);
    wait(|| !ear.times("announcement", &mac, "172.16.86.2").is_empty());
}

/// The other port of a bond is in another switch. Kernels since 6.14 tell that, for others the agent does.
fn failover_on(driver: &str) {
    let bed = Bed::new();
    bed.host.ip(&format!("link add eth1 type veth peer name lan1 netns {}", bed.lan.name));
    bed.lan.ip_batch(&[
        "link add br0 type bridge",
        "link set lan0 master br0",
        "link set lan1 master br0",
        "link set lan1 up",
        "link set br0 up",
    ]);
    bed.host.ip_batch(&[
        "link add bond0 type bond mode active-backup miimon 20",
        "link set eth0 down",
        "link set eth1 down",
        "link set eth0 master bond0",
        "link set eth1 master bond0",
        "link set bond0 up",
        "link set bond0 type bond active_slave eth0",
    ]);
    bed.create(&format!("-d {driver} --subnet=172.16.86.0/24 -o parent=bond0 pub_net"));
    let _agent = Agent::start(&bed);
    let (web, _) = start(&bed, "web", "pub_net");
    wait(|| tasks(&bed) == 0);
    let (mac, address) = (mac_of(&web), web.addresses("eth0").remove(0));
    let ear = Ear::on(&bed.lan);
    bed.host.ip("link set bond0 type bond active_slave eth1");
    wait(|| !ear.times("announcement", &mac, address.trim_end_matches("/24")).is_empty());
}

fn failover() {
    failover_on("macvlan");
}

fn failover_ipvlan() {
    failover_on("ipvlan");
}
