//! The agent's process: there is one, it holds nothing of containers, and nothing of underlay outlives a hook.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::harness::agent::{Agent, tasks, unclaimed};
use crate::harness::bed::Bed;
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::frames::Ear;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 6] = [
        ("there_is_one", &[Need::Macvlan], one),
        ("it_holds_nothing", &[Need::Macvlan], holds_nothing),
        ("it_ends_when_it_is_idle", &[Need::Macvlan], idle),
        ("no_process_outlives_a_hook", &[Need::Macvlan], no_child),
        ("many_containers", &[Need::Macvlan], many),
        ("once", &[Need::Macvlan], once),
    ];
    all.map(|(name, needs, run)| Test::new(format!("agent::{name}"), needs, run)).into()
}

fn one() {
    let bed = Bed::with_pub_net("macvlan", "");
    let agent = Agent::start(&bed);
    let second = bed.outcome("agent", "");
    let expected = format!("the agent is running already: pid {} (underlay)", agent.pid());
    assert!(second.code == 1 && second.stderr.contains(&expected), "{second:?}");
    let second = bed.outcome("agent --once", "");
    assert!(second.code == 1 && second.stderr.contains(&expected), "{second:?}");
    drop(agent);
    // One that was killed is in nobody's way.
    drop(Agent::start(&bed));
}

/// While it waits, it has no descriptor of a container's namespace.
fn holds_nothing() {
    let bed = Bed::with_pub_net("macvlan", "-o announcements=10");
    let agent = Agent::start(&bed);
    // It has asked ahead once, and knows the files of the ledger.
    let first = bed.container(Bare, "first").networks("pub_net").start().unwrap();
    wait(|| unclaimed(&bed).len() > 2);
    first.stop();
    wait(|| tasks(&bed) == 0);
    let waiting = agent.descriptors();
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let mac = web.link("eth0")["address"].as_str().unwrap().to_owned();
    let address = web.addresses("eth0")[0].replace("/24", "");
    let announced = || ear.times("announcement", &mac, &address).len();
    wait(|| announced() > 2);
    // The host's namespace, and six sockets and the like; those of the container are open while it announces.
    let host = format!("net:[{}]", fs::metadata(bed.host.path()).unwrap().ino());
    wait(|| agent.descriptors().iter().filter(|to| to.starts_with("net:")).all(|to| *to == host));
    wait(|| agent.descriptors().len() == waiting.len());
    // It ends with the container, not when it was announced ten times.
    web.stop();
    wait(|| tasks(&bed) == 0);
    assert!(announced() < 10);
    bed.assert_nothing_held();
}

fn idle() {
    let bed = Bed::with_pub_net("macvlan", "");
    let agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    wait(|| tasks(&bed) == 0);
    web.stop();
    let begin = Instant::now();
    wait(|| agent.ended().is_some());
    assert!(agent.ended().unwrap().success(), "{}", agent.log());
    assert!(begin.elapsed() < Duration::from_secs(30));
}

/// Neither the hook's process nor a child of it is left when the attach has ended.
fn no_child() {
    let bed = Bed::with_pub_net("macvlan", "-o announcements=10");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let ours = || {
        let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            line.contains(bed.path("run").to_str()?).then_some(line)
        });
        all.collect::<Vec<_>>()
    };
    assert_eq!(ours(), Vec::<String>::new());
    assert_eq!(tasks(&bed), 1, "the agent has word of it");
    web.stop();
}

/// Many attaches in a short time: one process, and little memory.
fn many() {
    let bed = Bed::with_pub_net("macvlan", "-o announcements=2");
    let agent = Agent::start(&bed);
    let ear = Ear::on(&bed.lan);
    let names: Vec<_> = (0..60).map(|number| format!("web{number}")).collect();
    let all: Vec<_> =
        names.iter().map(|name| bed.container(Bare, name).networks("pub_net").start().unwrap()).collect();
    wait(|| tasks(&bed) == 0);
    for container in &all {
        let mac = container.link("eth0")["address"].as_str().unwrap().to_owned();
        let address = container.addresses("eth0")[0].replace("/24", "");
        assert_eq!(ear.times("announcement", &mac, &address).len(), 2, "{address}");
    }
    assert!(agent.memory() < 16 * 1024, "{} KiB", agent.memory());
    let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().count();
    assert!(threads <= 3, "{threads} threads");
    all.into_iter().for_each(|container| container.stop());
    bed.assert_nothing_held();
}

/// Without a service manager, each run does what is due.
fn once() {
    let bed = Bed::with_pub_net("macvlan", "");
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let mac = web.link("eth0")["address"].as_str().unwrap().to_owned();
    assert_eq!(bed.run("agent --once"), "");
    assert_eq!(tasks(&bed), 0);
    wait(|| ear.times("announcement", &mac, "172.16.86.2").len() == 2);
    let unclaimed = unclaimed(&bed);
    assert!(unclaimed.contains(&"172.16.86.3".to_owned()), "{unclaimed:?}");
    bed.run("agent --once");
    web.stop();
}
