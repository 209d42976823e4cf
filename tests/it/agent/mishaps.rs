//! What becomes of the agent's work when it is killed, or when what it works on goes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::agent::{Agent, tasks, unclaimed};
use crate::harness::bed::{Bed, Outcome, outcome};
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::frames::Ear;
use crate::harness::mishaps::{assert_clean, steps, trace_to, turns};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::harness::tracer::Mishap;

pub fn tests() -> Vec<Test> {
    let all: [Named; 7] = [
        ("killed_anywhere", &[Need::Macvlan], killed),
        ("error_anywhere", &[Need::Macvlan], errors),
        ("killed_between_announcements", &[Need::Macvlan], between),
        ("the_ledger_is_lost", &[Need::Macvlan], ledger),
        ("the_host_was_suspended", &[Need::Macvlan, Need::Time], suspended),
        ("the_parent_goes", &[Need::Macvlan], parent),
        ("containers_end_meanwhile", &[Need::Macvlan], containers),
    ];
    all.map(|(name, needs, run)| Test::new(format!("agent_mishaps::{name}"), needs, run)).into()
}

/// The next agent finishes what one has begun that was killed.
fn killed() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=5");
    let before = bed.host_state();
    steps("agent", 23, |at| {
        let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
        let (traced, hit) = trace_to(&bed.underlay("agent --once"), b"", at, Mishap::Kill);
        assert_clean(&traced, hit, "agent");
        bed.run("agent --once");
        assert_eq!(tasks(&bed), 0);
        assert!(bed.outcome("check", "").code == 0);
        web.stop();
        bed.assert_nothing_held();
        hit.is_some()
    });
    assert_eq!(bed.host_state(), before);
}

fn errors() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=5");
    for turn in turns() {
        steps("agent", 41, |at| {
            let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
            let errors = crate::harness::mishaps::ERRORS;
            let error = errors[(at + turn) % errors.len()];
            let (traced, hit) = trace_to(&bed.underlay("agent --once"), b"", at, Mishap::Error(error));
            assert_clean(&traced, hit, "agent");
            bed.run("agent --once");
            assert_eq!(tasks(&bed), 0);
            web.stop();
            bed.assert_nothing_held();
            hit.is_some()
        });
    }
}

/// What was sent is not sent again, and what is due is.
fn between() {
    let bed = Bed::with_pub_net("macvlan", "-o announcements=6");
    let agent = Agent::start(&bed);
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let mac = web.link("eth0")["address"].as_str().unwrap().to_owned();
    let announced = || ear.times("announcement", &mac, "172.16.86.2").len();
    wait(|| announced() == 3);
    drop(agent);
    let _agent = Agent::start(&bed);
    wait(|| tasks(&bed) == 0);
    assert!((5..=7).contains(&announced()), "{}", announced());
}

fn ledger() {
    let bed = Bed::with_pub_net("macvlan", "");
    let agent = Agent::start(&bed);
    let _web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    // The agent may write to it at the same time.
    wait(|| fs::remove_dir_all(bed.path("run")).is_ok() || !bed.path("run").exists());
    // What it knew is of the old one, and another process can have the new lock: the next agent begins with it.
    wait(|| agent.ended().is_some());
    assert!(agent.ended().unwrap().success(), "{}", agent.log());
    let _next = bed.container(Bare, "next").networks("pub_net").start().unwrap();
    let _agent = Agent::start(&bed);
    wait(|| tasks(&bed) == 0);
    wait(|| unclaimed(&bed).contains(&"172.16.86.4".to_owned()));
}

/// Runs `command` with a clock that is an hour later, as after suspend (time_namespaces(7)).
fn an_hour_later(command: &Command, stdin: &str) -> Outcome {
    let mut later = Command::new("unshare");
    later.args(["--time", "--boottime=3600"]).arg(command.get_program()).args(command.get_args());
    outcome(&mut later, stdin.as_bytes())
}

/// The agent goes on where it was, and what was known of the LAN is known no more.
fn suspended() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=1500");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let mac = web.link("eth0")["address"].as_str().unwrap().to_owned();
    let ear = Ear::on(&bed.lan);
    bed.run("agent --once");
    wait(|| ear.times("announcement", &mac, "172.16.86.2").len() == 1);
    let next = |id: &str| bed.container(Bare, id).networks("pub_net").without_hooks().start().unwrap();
    let attached = [("at-once", false), ("later", true)].map(|(id, is_later)| {
        let container = next(id);
        let (hook, state) = (bed.underlay("hook createRuntime"), container.state_at("createRuntime"));
        let begin = Instant::now();
        let outcome = if is_later { an_hour_later(&hook, &state) } else { container.hook("createRuntime") };
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert_eq!(begin.elapsed() >= Duration::from_millis(1500), is_later, "{id}");
        container
    });
    // As if that attach had been an hour ago.
    let mac = attached[0].link("eth0")["address"].as_str().unwrap().to_owned();
    let announced = || ear.times("announcement", &mac, "172.16.86.3").len();
    wait(|| announced() == 1);
    for task in fs::read_dir(bed.path("run/agent")).unwrap() {
        let task = task.unwrap().path();
        fs::rename(&task, task.with_file_name(format!("1-{}", task.metadata().unwrap().ino()))).unwrap();
    }
    let _agent = Agent::start(&bed);
    wait(|| tasks(&bed) == 0);
    assert_eq!(announced(), 3, "as often as is wanted, and no more");
}

fn parent() {
    let bed = Bed::with_pub_net("macvlan", "-o announcements=10");
    let agent = Agent::start(&bed);
    let _web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    bed.host.ip("link del eth0");
    bed.plug_in();
    bed.lan.ip("addr replace 172.16.86.1/24 dev lan0");
    let _next = bed.container(Bare, "next").networks("pub_net").start().unwrap();
    wait(|| tasks(&bed) == 0);
    assert!(agent.ended().is_none(), "{}", agent.log());
}

fn containers() {
    let bed = Bed::with_pub_net("macvlan", "-o announcements=10");
    let agent = Agent::start(&bed);
    for round in 0..10 {
        let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
        if round % 2 == 0 {
            web.stop();
        } else {
            drop(web);
            bed.gc();
        }
    }
    wait(|| tasks(&bed) == 0);
    bed.assert_nothing_held();
    assert!(agent.ended().is_none(), "{}", agent.log());
}
