//! Containers that share a network namespace, as those of a pod: attached once, detached with the last.

use std::process::Command;

use serde_json::Value;

use crate::harness::bed::{Bed, Netns, Outcome, Watched, outcome};
use crate::harness::container::Container;
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::harness::tracer::trace;

pub fn tests() -> Vec<Test> {
    let all: [Named; 8] = [
        ("once", &[Need::Macvlan], once),
        ("the_first_comes_again", &[Need::Macvlan], first_comes_again),
        ("nobody_says_a_word", &[Need::Macvlan], without_poststop),
        ("another_wish", &[Need::Macvlan], another_wish),
        ("while_the_last_one_leaves", &[Need::Macvlan], while_the_last_leaves),
        ("several_devices", &[Need::Macvlan], devices),
        ("the_end_is_told_once", &[Need::Macvlan], told_once),
        ("other_namespaces_are_not_read", &[Need::Macvlan], others_not_read),
    ];
    all.map(|(name, needs, run)| Test::new(format!("shares::{name}"), needs, run)).into()
}

const CREATE: &str = "--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net";
const ASKED: &str = "pub_net:ip=172.16.86.10";

fn start<'a>(bed: &'a Bed, pod: &Netns, id: &str, networks: &str) -> Container<'a> {
    bed.container(Bare, id).networks(networks).in_netns(pod.path()).start().unwrap()
}

/// The number of the pod's eth0, if that is its only link, is as the ledger says, and answers on the LAN.
#[track_caller]
fn attached(bed: &Bed, pod: &Netns) -> Value {
    let links: Vec<Value> = serde_json::from_str(&pod.ip("-json link")).unwrap();
    let names: Vec<_> = links.iter().map(|link| link["ifname"].as_str().unwrap()).collect();
    assert_eq!(names, ["lo", "eth0"]);
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    assert_eq!(bed.leases().len(), 1);
    bed.lan.try_run("busybox", "ping -c 1 -W 5 172.16.86.10").unwrap();
    links[1]["ifindex"].clone()
}

fn once() {
    let bed = Watched::new();
    let pod = Netns::new("pod");
    bed.create(CREATE);
    let [web, log, cron] = ["web", "log", "cron"].map(|id| start(&bed, &pod, id, ASKED));
    let link = attached(&bed, &pod);
    assert_eq!(bed.records().len(), 3);
    let listed = bed.run("ps");
    assert_eq!(listed.matches("172.16.86.10/24").count(), 3, "{listed}");
    assert_eq!(web.hook("createRuntime").code, 0, "a hook that is called twice");
    // In whatever order they go.
    web.stop();
    assert_eq!(attached(&bed, &pod), link, "not the first");
    cron.stop();
    assert_eq!(attached(&bed, &pod), link);
    // Whoever comes later finds it.
    let late = start(&bed, &pod, "late", ASKED);
    log.stop();
    assert_eq!(attached(&bed, &pod), link);
    late.stop();
    assert!(pod.link("eth0").is_none(), "with the last");
    bed.assert_nothing_held();
}

fn first_comes_again() {
    let bed = Watched::new();
    let pod = Netns::new("pod");
    bed.create(CREATE);
    let (web, log) = (start(&bed, &pod, "web", ASKED), start(&bed, &pod, "log", "pub_net"));
    let link = attached(&bed, &pod);
    web.stop();
    let web = start(&bed, &pod, "web", ASKED);
    assert_eq!(attached(&bed, &pod), link);
    log.stop();
    assert_eq!(attached(&bed, &pod), link);
    web.stop();
    assert!(pod.link("eth0").is_none());
    bed.assert_nothing_held();
}

/// What is dead passes on what it holds when that is noticed, be it by `gc`, by the next container, or by a poststop.
fn without_poststop() {
    let bed = Watched::new();
    let pod = Netns::new("pod");
    bed.create(CREATE);
    let [mut web, mut log, cron] = ["web", "log", "cron"].map(|id| start(&bed, &pod, id, ASKED));
    let link = attached(&bed, &pod);
    web.kill();
    web.forget();
    assert!(bed.run("gc --dry-run").contains("are handed over"));
    assert!(bed.gc().contains("are handed over"));
    assert_eq!(attached(&bed, &pod), link);
    log.kill();
    log.forget();
    let web = start(&bed, &pod, "web", ASKED);
    assert!(!bed.gc().contains("ip link"), "the record of the dead, and no more");
    assert_eq!(attached(&bed, &pod), link);
    cron.stop();
    assert_eq!(attached(&bed, &pod), link);
    let mut web = web;
    web.kill();
    web.forget();
    assert!(bed.gc().contains("ip link del"));
    assert!(pod.link("eth0").is_none());
    bed.assert_nothing_held();
}

/// Who asks for something else gets it beside.
fn another_wish() {
    let bed = Watched::new();
    let pod = Netns::new("pod");
    bed.create(CREATE);
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0 san");
    let web = start(&bed, &pod, "web", ASKED);
    let more = ["san", "pub_net:ip=172.16.86.11", "pub_net:ifname=lan0"];
    let others: Vec<_> =
        more.iter().map(|asked| start(&bed, &pod, &asked.replace([':', '=', '_'], "-"), asked)).collect();
    assert_eq!(web.links(), ["eth0", "eth1", "eth2", "lan0"]);
    assert_eq!(bed.leases().len(), 4);
    web.stop();
    assert_eq!(others[0].links(), ["eth1", "eth2", "lan0"]);
    // In a namespace of its own nobody shares.
    let alone = bed.container(Bare, "alone").networks("pub_net").start().unwrap();
    assert_eq!(bed.leases().len(), 4);
    drop((others, alone));
    bed.assert_nothing_held();
}

/// An engine in a pid namespace of its own cannot tell whether the first one lives; what is being taken away by then is
/// not shared any more.
fn while_the_last_leaves() {
    let bed = Bed::new();
    let pod = Netns::new("pod");
    bed.create(CREATE);
    let mut web = start(&bed, &pod, "web", ASKED);
    let late = bed.container(Bare, "late").networks("pub_net").in_netns(pod.path()).without_hooks();
    let late = late.start().unwrap();
    web.kill();
    let mut joined = None;
    // The first message is about the link that is to be deleted.
    let traced = trace(&bed.underlay("hook poststop"), web.state_at("poststop").as_bytes(), |call| {
        if call.sent().is_some() && joined.is_none() {
            joined = Some(elsewhere(&bed, &pod, &late));
        }
        None
    });
    assert_eq!(traced.code(), Some(0), "{traced:?}");
    let joined = joined.unwrap();
    assert_eq!(joined.code, 0, "{joined:?}");
    let links: Vec<Value> = serde_json::from_str(&pod.ip("-json link")).unwrap();
    let names: Vec<_> = links.iter().map(|link| link["ifname"].as_str().unwrap()).collect();
    assert_eq!(names, ["lo", "eth1"], "one of its own");
    assert_eq!((bed.leases().len(), bed.records().len()), (1, 1));
}

/// Each device is a hook of its own, of the first container and of those that share what it has.
fn devices() {
    let bed = Watched::new();
    let pod = Netns::new("pod");
    bed.create(CREATE);
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0 san");
    let start =
        |id| bed.container(Bare, id).device("pub_net").device("san").in_netns(pod.path()).start().unwrap();
    let all = ["web", "log", "cron"].map(start);
    assert_eq!(all[1].links(), ["eth0", "eth1"]);
    assert_eq!((bed.leases().len(), bed.records().len()), (2, 3));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    for container in all {
        // There is a poststop for each device, too.
        let again = container.state_at("poststop");
        container.stop();
        assert_eq!(bed.outcome("hook poststop", again).stderr, "");
    }
    bed.assert_nothing_held();
}

/// The links of one that has ended are another's: a second poststop has nothing to say or to wait for, nothing is told of
/// that has not happened, and `ps` says who uses what.
fn told_once() {
    let bed = Watched::new();
    let pod = Netns::new("pod");
    bed.create(CREATE);
    let (mut web, log) = (start(&bed, &pod, "web", ASKED), start(&bed, &pod, "log", ASKED));
    let state = |bed: &Bed| -> Vec<String> {
        let rows = bed.run("ps");
        rows.lines().skip(1).map(|row| row.split_once("macvlan@eth0").unwrap().1.trim().to_owned()).collect()
    };
    assert_eq!(
        state(&bed),
        [format!("pid {}  shares {}", log.pid, web.id), format!("pid {}  attached", web.pid)]
    );
    web.kill();
    for _ in 0..2 {
        let begin = std::time::Instant::now();
        let told = web.hook("poststop");
        assert_eq!((told.code, &*told.stderr), (0, ""));
        assert!(begin.elapsed() < std::time::Duration::from_millis(900), "{:?}", begin.elapsed());
    }
    assert_eq!(state(&bed), [format!("pid {}  attached", log.pid)]);
    let events = bed.run("events");
    assert!(!events.contains("detached") && !events.contains("failed"), "{events}");
    web.forget();
    log.stop();
    bed.assert_nothing_held();
}

/// What a container of a pod costs does not depend on how many others there are elsewhere.
fn others_not_read() {
    let bed = Bed::new();
    bed.create(
        "--subnet=172.16.0.0/16 --gateway=172.16.86.1 -o parent=eth0 -o conflict_detection=off pub_net",
    );
    let pods = ["few", "many"].map(Netns::new);
    let seed = start(&bed, &pods[0], "seed", "pub_net");
    let calls = |pod: &Netns, id: &str| {
        let late = bed.container(Bare, id).networks("pub_net").in_netns(pod.path()).without_hooks();
        let mut late = late.start().unwrap();
        let mut calls = 0;
        for stage in ["createRuntime", "poststop"] {
            if stage == "poststop" {
                // It would wait for a process that is alive, and ask for it again and again.
                late.kill();
            }
            let hook = bed.underlay(&format!("hook {stage}"));
            let traced = trace(&hook, late.state_at(stage).as_bytes(), |_| {
                calls += 1;
                None
            });
            assert_eq!(traced.code(), Some(0), "{traced:?}");
        }
        calls
    };
    let before = calls(&pods[1], "one");
    let record =
        std::fs::read_to_string(bed.path("run/containers").join(format!("{}.json", seed.id))).unwrap();
    for other in 0..300 {
        let path = bed.path("run/containers").join(format!("other{other}.json"));
        std::fs::write(path, record.replace(&seed.id, &format!("other{other}"))).unwrap();
    }
    let after = calls(&pods[1], "two");
    assert!(after < before + 30, "{before} system calls, and with 300 others {after}");
}

/// Attaches `container` by a hook in a pid namespace of its own, for a process there.
fn elsewhere(bed: &Bed, pod: &Netns, container: &Container<'_>) -> Outcome {
    let hook = bed.underlay("hook createRuntime");
    let script = r#"nsenter --net="$1" sleep 1000 &
        until [ "$(cat /proc/$!/comm)" = sleep ]; do :; done
        shift
        sed "s/4242/$!/" | "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh"]).arg(pod.path());
    command.arg(hook.get_program()).args(hook.get_args());
    outcome(&mut command, container.state(4242, "created").as_bytes())
}
