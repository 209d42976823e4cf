//! What containers that have ended leave to the agent: their poststop does not wait for the kernel to delete links.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::libc;

use crate::harness::agent::{Agent, tasks};
use crate::harness::bed::{Bed, Netns, run};
use crate::harness::container::{Container, Engine::Bare, wait};
use crate::harness::mishaps::{ERRORS, assert_clean, trace_to, turns};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::harness::tracer::{Mishap, trace};

pub fn tests() -> Vec<Test> {
    let all: [Named; 14] = [
        ("the_agent_releases", &[Need::Macvlan], released),
        ("poststop_asks_the_kernel_for_nothing", &[Need::Macvlan], no_netlink),
        ("an_agent_that_hangs", &[Need::Macvlan], hangs),
        ("a_namespace_that_stays", &[Need::Macvlan], kept),
        ("a_namespace_that_a_path_keeps", &[Need::Macvlan], path),
        ("a_restart", &[Need::Macvlan], restart),
        ("another_container_comes_to_share", &[Need::Macvlan], shared),
        ("without_word_of_it", &[Need::Macvlan], no_task),
        ("beside_one_without_poststop", &[Need::Macvlan], beside),
        ("another_kind_of_link", &[Need::Macvlan], another_kind),
        ("released_during_an_attach", &[Need::Macvlan], meanwhile),
        ("once", &[Need::Macvlan], once),
        ("killed_anywhere", &[Need::Macvlan], killed),
        ("error_anywhere", &[Need::Macvlan], errors),
    ];
    all.map(|(name, needs, run)| Test::new(format!("ended::{name}"), needs, run)).into()
}

/// How many events of this kind there are.
fn events(bed: &Bed, kind: &str) -> usize {
    bed.log().lines().filter(|line| line.contains(kind)).count()
}

/// Record, leases, the host's route and its link stay until the links are gone, and then go by themselves.
fn released() {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let before = bed.host_state();
    let agent = bed.be_agent();
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let address = web.addresses("eth0")[0].clone();
    web.stop();
    assert_eq!((bed.ended(), events(&bed, "detached")), (1, 0));
    assert!(bed.run("ps").lines().any(|line| line.contains("web") && line.trim_end().ends_with("ended")));
    let of_host: Vec<_> =
        bed.leases().into_iter().filter(|lease| !address.starts_with(&lease[2..])).collect();
    let next = bed.container(Bare, "next").networks("pub_net").start().unwrap();
    assert_ne!(next.addresses("eth0")[0], address);
    next.stop();
    drop(agent);
    let _agent = Agent::start(&bed);
    // It waits for the agent.
    assert_eq!(bed.outcome("check", "").code, 0);
    assert_eq!((bed.records().len(), bed.leases()), (0, of_host));
    wait(|| tasks(&bed) == 0);
    assert_eq!(bed.host_state(), before);
    assert_eq!((events(&bed, "detached"), events(&bed, "reclaimed")), (2, 0), "{}", bed.log());
}

fn no_netlink() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let _agent = bed.be_agent();
    web.kill();
    let mut calls = 0;
    let traced = trace(&bed.underlay("hook poststop"), web.state_at("poststop").as_bytes(), |call| {
        calls += 1;
        let is_netlink = call.number == libc::SYS_socket && call.arguments[0] == libc::AF_NETLINK as u64;
        assert!(!is_netlink && call.number != libc::SYS_clone3, "{call:?}");
        None
    });
    assert_eq!((traced.code(), bed.ended()), (Some(0), 1), "{}", traced.stderr);
    eprintln!("poststop: {calls} system calls");
    web.forget();
}

/// Nobody waits for it: whoever needs what is left takes it.
fn hangs() {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let before = bed.host_state();
    let _agent = bed.be_agent();
    for value in ["pub_net:ip=172.16.86.77", "pub_net:ip=172.16.86.77,mac=02:00:00:00:00:77"] {
        let web = bed.container(Bare, "web").networks(value).start().unwrap();
        web.stop();
        assert_eq!(bed.ended(), 1);
        let next = bed.container(Bare, "next").networks(value).start().unwrap();
        assert_eq!((next.addresses("eth0"), bed.ended()), (vec!["172.16.86.77/24".to_owned()], 0));
        next.stop();
        assert_eq!(bed.ended(), 1);
        // Its poststop may be called again.
        let id = bed.records().remove(0).replace(".json", "");
        let again = bed.outcome(
            "hook poststop",
            format!(r#"{{"ociVersion":"1.0.2","id":"{id}","status":"stopped","bundle":"/"}}"#),
        );
        assert_eq!((again.code, again.stderr.as_str(), bed.ended()), (0, "", 0));
    }
    bed.container(Bare, "web").networks("pub_net").start().unwrap().stop();
    assert_eq!(bed.ended(), 1);
    let first = bed.gc();
    assert!(first.contains("rm ") && bed.gc().is_empty(), "{first}");
    assert!(bed.records().is_empty());
    assert_eq!(events(&bed, "reclaimed"), 0, "{}", bed.log());
    bed.container(Bare, "web").networks("pub_net").start().unwrap().stop();
    bed.run("network rm pub_net");
    bed.assert_nothing_held();
    assert_eq!((events(&bed, "detached"), events(&bed, "reclaimed")), (6, 0), "{}", bed.log());
    assert_eq!(bed.host_state(), before);
}

/// The namespace of `container`, as an engine keeps it: mounted, but told to nobody.
fn keep(container: &Container<'_>, name: &str) -> Netns {
    let kept = Netns::new(name);
    run("umount", &[kept.path().to_str().unwrap()]).unwrap();
    run("mount", &["--bind", &format!("/proc/{}/ns/net", container.pid), kept.path().to_str().unwrap()])
        .unwrap();
    kept
}

/// The agent deletes links that have not gone with their namespace.
fn kept() {
    let bed = Bed::with_pub_net("macvlan", "");
    let agent = bed.be_agent();
    let web =
        bed.container(Bare, "web").networks("pub_net:route=10.9.0.0/16@blackhole,table=77").start().unwrap();
    let kept = keep(&web, "kept");
    web.stop();
    assert_eq!(bed.ended(), 1);
    assert!(kept.link("eth0").is_some());
    drop(agent);
    let _agent = Agent::start(&bed);
    wait(|| kept.link("eth0").is_none());
    bed.assert_nothing_held();
    assert!(!kept.ip("rule").contains("77") && !kept.ip("route show table all").contains("blackhole"));
    assert_eq!(events(&bed, "detached"), 1);
}

/// In a namespace that is to stay they are deleted at once: the next container is made in it, and wants their name.
fn path() {
    let bed = Bed::with_pub_net("macvlan", "");
    let _agent = bed.be_agent();
    let netns = Netns::new("inside");
    for _ in 0..2 {
        let web = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
        web.stop();
        assert_eq!((bed.ended(), netns.link("eth0")), (0, None));
    }
    bed.assert_nothing_held();
    assert_eq!(events(&bed, "detached"), 2);
}

/// The same container at once again, with the address and the MAC address that it had.
fn restart() {
    let bed = Bed::with_pub_net("macvlan", "");
    let _agent = Agent::start(&bed);
    let mut had = None;
    for _ in 0..10 {
        let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
        let has = (web.addresses("eth0"), web.link("eth0")["address"].clone());
        assert_eq!(*had.get_or_insert(has.clone()), has);
        web.stop();
    }
    bed.assert_nothing_held();
    wait(|| tasks(&bed) == 0);
    assert_eq!((events(&bed, "detached"), events(&bed, "reclaimed")), (10, 0), "{}", bed.log());
}

/// Calls poststop with `state`, and lets it go on until it has to wait.
fn call_poststop(bed: &Bed, state: &str) -> Child {
    let mut child =
        bed.underlay("hook poststop").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(state.as_bytes()).unwrap();
    let_go_on(&child);
    child
}

/// Waits until `child` has ended, or waits for the ledger's lock, which the process that is stopped may have.
fn let_go_on(child: &Child) {
    let folder = PathBuf::from(format!("/proc/{}", child.id()));
    let has_ended = || fs::read_to_string(folder.join("stat")).map_or(true, |stat| stat.contains(") Z "));
    let wants_lock = || {
        let tasks = fs::read_dir(folder.join("task")).into_iter().flatten().flatten();
        let mut calls = tasks.filter_map(|task| fs::read_to_string(task.path().join("syscall")).ok());
        // Its number, a descriptor, and the command.
        let is_it = |call: &[&str]| {
            call.first() == Some(&libc::SYS_fcntl.to_string().as_str())
                && call.get(2) == Some(&format!("{:#x}", libc::F_OFD_SETLKW).as_str())
        };
        calls.any(|call| is_it(&call.split(' ').collect::<Vec<_>>()))
    };
    wait(|| has_ended() || wants_lock());
}

/// A container that comes to share the links, whenever the first one ends meanwhile, keeps them: it is alive.
fn shared() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=off");
    let mut at = 1;
    loop {
        let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
        let agent = bed.be_agent();
        let inside = format!("/proc/{}/ns/net", web.pid).into();
        let side =
            bed.container(Bare, "side").networks("pub_net").in_netns(inside).without_hooks().start().unwrap();
        let (mut count, mut poststop) = (0, None);
        let state = web.state_at("poststop");
        let traced =
            trace(&bed.underlay("hook createRuntime"), side.state_at("createRuntime").as_bytes(), |_| {
                count += 1;
                if count == at {
                    web.kill();
                    poststop = Some(call_poststop(&bed, &state));
                }
                None
            });
        let is_over = poststop.is_none();
        // The tracer has waited for it, or has left it to be waited for.
        poststop.into_iter().for_each(|mut child| drop(child.wait()));
        let of_side = |container: &serde_json::Value| container["container"] == side.id.as_str();
        if traced.code() == Some(0) && bed.ps().iter().any(of_side) {
            let address = side.addresses("eth0").remove(0).replace("/24", "");
            // The first one has the record of the container that has ended looked at, the second what came of that.
            for _ in 0..2 {
                let next = bed.container(Bare, "next").networks(&format!("pub_net:ip={address}")).start();
                assert!(next.is_err(), "at call {at}: {address} is the living container's");
            }
            let ps = bed.ps();
            let known = ps.iter().find(|container| of_side(container)).unwrap();
            assert_eq!(
                (&known["state"], side.links().len()),
                (&"attached".into(), 1),
                "at call {at}: {known}"
            );
        }
        drop(agent);
        side.stop();
        drop(web);
        bed.gc();
        assert_eq!(bed.records().len() + bed.leases().len(), 0, "at call {at}");
        if is_over {
            break;
        }
        at += 1;
    }
    assert!(at > 30, "only {at} system calls?");
}

/// A poststop was killed before it could tell the agent, or the agent was one that did not understand.
fn no_task() {
    let bed = Bed::with_pub_net("macvlan", "");
    let agent = bed.be_agent();
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let kept = keep(&web, "kept");
    web.stop();
    fs::remove_dir_all(bed.path("run/agent")).unwrap();
    drop(agent);
    let agent = Agent::start(&bed);
    wait(|| kept.link("eth0").is_none());
    bed.assert_nothing_held();
    wait(|| agent.ended().is_some());
}

/// What is in the way is released, also if something else could be.
fn beside() {
    let bed = Bed::with_pub_net("macvlan", "");
    let _agent = bed.be_agent();
    let start =
        |id: &str, ip: &str| bed.container(Bare, id).networks(&format!("pub_net:ip={ip}")).start().unwrap();
    let (ended, mut dead) = (start("ended", "172.16.86.70"), start("dead", "172.16.86.77"));
    ended.stop();
    dead.kill();
    dead.forget();
    assert_eq!(start("next", "172.16.86.77").addresses("eth0"), ["172.16.86.77/24"]);
}

/// A link that is left is in the way of a link of another kind.
fn another_kind() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.configure("underlay.json", r#"{"version": 1, "inline_networks": true}"#);
    let alone = r#"{"version": 1, "driver": "macvlan", "macvlan_mode": "passthru", "parent": "eth0",
                    "subnets": [{"subnet": "172.16.87.0/24"}]}"#;
    let _agent = bed.be_agent();
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let _kept = keep(&web, "kept");
    web.stop();
    assert_eq!(bed.ended(), 1);
    let next = bed.container(Bare, "next").networks("alone").annotation("io.underlay.network.alone", alone);
    next.start().unwrap();
}

/// Whenever what is in the way of an attach is released, the attach succeeds.
fn meanwhile() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=off");
    let _agent = bed.be_agent();
    let mut at = 1;
    loop {
        let web = bed.container(Bare, "web").networks("pub_net:ip=172.16.86.77").start().unwrap();
        let state = web.state_at("poststop");
        web.stop();
        let next = bed
            .container(Bare, &format!("next{at}"))
            .networks("pub_net:ip=172.16.86.77")
            .without_hooks()
            .start()
            .unwrap();
        let (mut count, mut again) = (0, None);
        let traced =
            trace(&bed.underlay("hook createRuntime"), next.state_at("createRuntime").as_bytes(), |_| {
                count += 1;
                if count == at {
                    again = Some(call_poststop(&bed, &state));
                }
                None
            });
        assert_eq!(traced.code(), Some(0), "poststop at call {at}: {}", traced.stderr);
        let is_over = again.is_none();
        // The tracer has waited for it, or has left it to be waited for.
        again.into_iter().for_each(|mut again| drop(again.wait()));
        next.stop();
        bed.gc();
        if is_over {
            break;
        }
        at += 1;
    }
    assert!(at > 40, "only {at} system calls?");
}

fn once() {
    let bed = Bed::with_pub_net("macvlan", "");
    let agent = bed.be_agent();
    bed.container(Bare, "web").networks("pub_net").start().unwrap().stop();
    assert_eq!(bed.ended(), 1);
    drop(agent);
    bed.run("agent --once");
    assert_eq!((bed.ended(), tasks(&bed), bed.records().len()), (0, 0, 0));
}

/// Runs poststop of a container with `mishap` at each system call, while somebody is the agent; `then` says what follows.
fn each_poststop(bed: &Bed, mishap: impl Fn(usize) -> Mishap, then: impl Fn(&str)) {
    let agent = bed.be_agent();
    let mut at = 1;
    loop {
        let mut web = bed.container(Bare, "web").networks("pub_net:ip=172.16.86.77").start().unwrap();
        web.kill();
        let state = web.state_at("poststop");
        let (traced, hit) = trace_to(&bed.underlay("hook poststop"), state.as_bytes(), at, mishap(at));
        let what = format!("{hit:?}: {}", traced.stderr);
        assert_clean(&traced, hit, &what);
        web.forget();
        then(&what);
        assert!(at > 40 || hit.is_some(), "only {at} system calls?");
        if hit.is_none() {
            break;
        }
        at += 1;
    }
    drop(agent);
    bed.run("agent --once");
    bed.gc();
    bed.assert_nothing_held();
    assert_eq!(tasks(bed), 0);
}

/// Whatever has become of the poststop, the next container gets the address, and gc leaves nothing.
fn killed() {
    let bed = Bed::with_pub_net("macvlan", "");
    each_poststop(
        &bed,
        |_| Mishap::Kill,
        |what| {
            let next = bed.container(Bare, "next").networks("pub_net:ip=172.16.86.77").start();
            next.unwrap_or_else(|error| panic!("{what}: {error}")).stop();
            bed.gc();
            assert_eq!(bed.records().len() + bed.leases().len(), 0, "{what}");
        },
    );
}

fn errors() {
    let bed = Bed::with_pub_net("macvlan", "");
    for turn in turns() {
        let error = |at: usize| Mishap::Error(ERRORS[(at + turn) % ERRORS.len()]);
        each_poststop(&bed, error, |what| {
            bed.gc();
            assert_eq!(bed.records().len() + bed.leases().len(), 0, "{what}");
        });
    }
    assert!(fs::read_dir(bed.path("run/containers")).unwrap().next().is_none());
}
