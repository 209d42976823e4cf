//! What a detach takes away, and what it leaves alone.

use std::fs;
use std::process::Command;

use crate::harness::bed::{Bed, Netns, finish};
use crate::harness::container::Engine::{self, Bare};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for engine in Engine::ALL {
        let needs = [Need::Macvlan, Need::Engine(engine)];
        let name = |what: &str| format!("detach::{what}::{engine}");
        tests.push(Test::new(name("a_pinned_namespace"), &needs, move || pinned(engine)));
    }
    let all: [Named; 8] = [
        ("the_dead_give_way", &[Need::Macvlan], dead_give_way),
        ("who_lives_is_left_alone", &[Need::Macvlan], lives),
        ("a_link_of_the_same_name_is_somebody_elses", &[Need::Macvlan], same_name),
        ("poststop_twice_or_without_a_create", &[Need::Macvlan], twice),
        ("the_next_container_in_the_namespace_keeps_its_link", &[Need::Macvlan], successor),
        ("what_nobody_holds_is_free", &[Need::Macvlan], small_debts),
        ("a_create_after_a_death_without_poststop", &[Need::Macvlan], create_after_death),
        ("podman_restart", &[Need::Macvlan, Need::Engine(Engine::Podman)], restart),
    ];
    tests.extend(all.map(|(name, needs, run)| Test::new(format!("detach::{name}"), needs, run)));
    tests
}

/// A namespace made by `ip netns` outlives the container, and with it every link that is not ours.
fn pinned(engine: Engine) {
    let bed = Bed::with_pub_net("macvlan", "");
    let netns = Netns::new("pinned");
    netns.ip("link add eth0 type veth peer name byhand");
    let container = bed.container(engine, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    assert_eq!(container.addresses("eth1"), ["172.16.86.2/24"], "the first free name");
    container.stop();
    bed.assert_nothing_held();
    let links = netns.ip("-br link");
    assert!(links.contains("eth0") && links.contains("byhand") && !links.contains("eth1"), "{links}");
    assert!(!bed.log().contains("failed"), "{}", bed.log());
}

fn same_name() {
    let bed = Bed::with_pub_net("macvlan", "--internal");
    let netns = Netns::new("pinned");
    let container = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    netns.ip("link del eth0");
    netns.ip("link add eth0 type veth peer name byhand");
    container.stop();
    bed.assert_nothing_held();
    assert!(netns.ip("-br link").contains("eth0"));

    // The same number and the same type, but not our mark.
    let container = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    container.run("ip", "link set dev eth1 alias mine");
    container.stop();
    bed.assert_nothing_held();
    assert!(netns.ip("-br link").contains("eth1"));

    // The same number and our mark, but not the same type.
    let container = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    let link = container.link("eth2");
    let (number, mark) = (&link["ifindex"], link["ifalias"].as_str().unwrap());
    netns.ip("link del eth2");
    netns.ip(&format!("link add eth2 index {number} type veth peer name byhand2"));
    netns.ip(&format!("link set eth2 alias {mark}"));
    container.stop();
    bed.assert_nothing_held();
    assert!(netns.ip("-br link").contains("eth2"));
    netns.ip("link del eth2");

    // Renamed, it is still the one that was made.
    let container = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    container.run("ip", "link set dev eth2 down");
    container.run("ip", "link set dev eth2 name renamed");
    container.stop();
    assert!(!netns.ip("-br link").contains("renamed"));
}

fn twice() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    container.kill();
    for _ in 0..2 {
        let stopped = container.hook("poststop");
        assert_eq!((stopped.code, stopped.stdout.as_str(), stopped.stderr.as_str()), (0, "", ""));
        bed.assert_nothing_held();
    }
    let other = bed.container(Bare, "other").without_hooks().start().unwrap();
    let stopped = other.hook("poststop");
    assert_eq!((stopped.code, stopped.stderr.as_str()), (0, ""));
    // Whatever else the state says: youki keeps the dead pid there, crun says 0, runc leaves it out.
    for rest in [
        "",
        r#","pid":0"#,
        r#","pid":1,"status":"running","bundle":"/gone""#,
        r#","pid":"x","annotations":7"#,
    ] {
        let state = format!(r#"{{"id":"{}"{rest}}}"#, other.id);
        assert_eq!(bed.outcome("hook poststop", state).code, 0, "{rest}");
    }
}

/// Two runtimes may have a container of one id: what is over for the one lives for the other.
fn lives() {
    let bed = Bed::with_pub_net("macvlan", "");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let before = (web.ip("addr"), web.routes("-4"), bed.leases(), bed.macs(), bed.ps());
    let refused = web.hook("poststop");
    let expected = format!("container {} was stopped, but its process {} is alive", web.id, web.pid);
    // If a poststop fails, runc skips the hooks of others.
    assert!(refused.code == 0 && refused.stderr.contains(&expected), "{refused:?}");
    assert!(refused.stderr.contains("hint: another runtime has a container of that id"), "{refused:?}");
    assert_eq!((web.ip("addr"), web.routes("-4"), bed.leases(), bed.macs(), bed.ps()), before);
    assert!(web.reaches("172.16.86.1"));
    web.stop();
    bed.assert_nothing_held();
}

/// A container that died without poststop holds its address until somebody needs it.
fn dead_give_way() {
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/29 --gateway 10.0.0.1 --ip-range 10.0.0.2-10.0.0.3 -o parent=eth0 small");
    let lives = bed.container(Bare, "lives").networks("small").start().unwrap();
    let mut dies = bed.container(Bare, "dies").networks("small").start().unwrap();
    assert_eq!(
        (lives.addresses("eth0"), dies.addresses("eth0")),
        (vec!["10.0.0.2/29".into()], vec!["10.0.0.3/29".into()])
    );
    let error = bed.container(Bare, "early").networks("small").start().map(drop);
    assert!(error.is_err(), "both live");
    dies.kill();
    assert_eq!(bed.leases().len(), 2);
    assert_eq!(bed.ps().iter().filter(|record| record["alive"] == false).count(), 1);
    assert!(bed.run("ps").contains("dead"));

    let next = bed.container(Bare, "next").networks("small").start().unwrap();
    assert_eq!(next.addresses("eth0"), ["10.0.0.3/29"]);
    assert_eq!(lives.addresses("eth0"), ["10.0.0.2/29"], "the living keep theirs");
    assert_eq!((bed.leases().len(), bed.records().len()), (2, 2));
}

/// The same with an address that was asked for, and with a lease that a killed hook left without a record.
fn small_debts() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut dies = bed.container(Bare, "dies").networks("pub_net:ip=172.16.86.5").start().unwrap();
    dies.kill();
    let next = bed.container(Bare, "next").networks("pub_net:ip=172.16.86.5").start().unwrap();
    assert_eq!(next.addresses("eth0"), ["172.16.86.5/24"]);

    bed.create("--subnet 10.0.0.0/29 --ip-range 10.0.0.2-10.0.0.2 -o parent=eth0 one");
    let segment = bed.path("run/segments").join(bed.leases()[0].split('/').next().unwrap());
    let orphan = segment.join("10.0.0.2");
    std::os::unix::fs::symlink("../../containers/nobody.json", &orphan).unwrap();
    let last = bed.container(Bare, "last").networks("one").start().unwrap();
    assert_eq!(last.addresses("eth0"), ["10.0.0.2/29"]);
    assert_eq!(
        fs::read_link(orphan).unwrap().file_name().unwrap().to_str().unwrap(),
        format!("{}.json", last.id)
    );
}

/// CRI-O runs the old container's poststop after the new one's create, in one namespace. The old link, with its
/// default route, makes way.
fn successor() {
    let bed = Bed::with_pub_net("macvlan", "");
    let netns = Netns::new("pod");
    let mut old = bed.container(Bare, "old").networks("pub_net").in_netns(netns.path()).start().unwrap();
    old.kill();
    let new = bed.container(Bare, "new").networks("pub_net").in_netns(netns.path()).start().unwrap();
    let as_made = (new.ip("addr"), bed.leases(), bed.records());
    assert_eq!((new.links(), new.addresses("eth0")), (vec!["eth0".into()], vec!["172.16.86.3/24".into()]));
    assert_eq!(as_made.1.len(), 1);
    assert_eq!(old.hook("poststop").code, 0);
    assert_eq!((new.ip("addr"), bed.leases(), bed.records()), as_made);
    // A neighbour that lives is left alone, and so is its default route, where a link of its own is asked for.
    let third =
        bed.container(Bare, "third").networks("pub_net:ifname=eth1").in_netns(netns.path()).start().unwrap();
    assert_eq!(third.links(), ["eth0", "eth1"]);
    assert_eq!(third.routes("-4").iter().filter(|route| route.starts_with("default")).count(), 1);
    third.stop();
    assert_eq!((new.ip("addr"), bed.leases(), bed.records()), as_made);
}

/// containerd forgets poststop when it is restarted; a reboot forgets all of them.
fn create_after_death() {
    let bed = Bed::with_pub_net("macvlan", "");
    let netns = Netns::new("pinned");
    let mut first = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    first.kill();
    let again = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    assert_eq!(again.links(), ["eth0"], "the link of its former life is gone");
    assert_eq!(again.addresses("eth0"), ["172.16.86.2/24"], "the same container, the same address");
    assert_eq!((bed.leases().len(), bed.records().len()), (1, 1));
}

fn restart() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut container = bed.container(Engine::Podman, "web").networks("pub_net").start().unwrap();
    for _ in 0..2 {
        container.restart();
        assert_eq!(container.links(), ["eth0"]);
        assert_eq!((bed.leases().len(), bed.records().len()), (1, 1));
        assert_eq!(bed.ps()[0]["holder"]["pid"], container.pid);
    }
    let attached = bed.log().matches(" attached ").count();
    assert_eq!((attached, bed.log().matches(" detached ").count()), (3, 2), "{}", bed.log());
    // It dies by itself: conmon calls `podman container cleanup`, and that the hook.
    finish(Command::new("kill").args(["-9", &container.pid.to_string()])).unwrap();
    crate::harness::container::wait(|| bed.records().is_empty());
    bed.assert_nothing_held();
}
