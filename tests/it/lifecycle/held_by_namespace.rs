//! Records whose holder is a network namespace that a path keeps, as network plugins make them. Here a record of a process is
//! changed into one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Child;

use serde_json::{Value, json};

use crate::harness::bed::{Bed, Netns, Watched, run};
use crate::harness::container::Engine::Bare;
use crate::harness::container::wait;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 3] = [
        ("as_long_as_it_is_mounted", &[Need::Macvlan], as_long_as_it_is_mounted),
        ("not_by_the_next_one_at_the_path", &[Need::Macvlan], next_at_the_path),
        ("until_its_engine_says_so", &[Need::Macvlan], until_its_engine_says_so),
    ];
    all.map(|(name, needs, run)| Test::new(format!("held_by_namespace::{name}"), needs, run)).into()
}

fn bed() -> Watched {
    let bed = Watched::new();
    bed.create("-d macvlan --subnet=172.16.86.0/29 --gateway=172.16.86.1 -o parent=eth0 pub_net");
    bed
}

/// The record of the container `id`, which is in `netns`, names that as its holder. The container has no process any more.
fn attached(bed: &Bed, id: &str, netns: &Netns) -> String {
    let mut container = bed.container(Bare, id).networks("pub_net").in_netns(netns.path()).start().unwrap();
    container.kill();
    let id = container.id.clone();
    container.forget();
    let path = bed.path("run/containers").join(format!("{id}.json"));
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let kept = fs::metadata(netns.path()).unwrap();
    let holder = json!({
        "netns": record["holder"]["netns"],
        "made": kept.ctime() * 1_000_000_000 + kept.ctime_nsec(),
        "mount_namespace": fs::metadata("/proc/self/ns/mnt").unwrap().ino(),
    });
    let process = std::mem::replace(&mut record["holder"], holder);
    // The links were made for the process.
    record["made_for"] = json!({"container": id, "pid": process["pid"], "start_time": process["start_time"]});
    record["version"] = 3.into();
    fs::write(&path, record.to_string()).unwrap();
    id
}

/// A process in `netns` that is none of the container's.
fn join(netns: &Netns) -> Child {
    let child = netns.command("sleep").arg("1000").spawn().unwrap();
    wait(|| fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "sleep\n");
    child
}

fn state(bed: &Bed) -> (bool, usize) {
    let [shown] = bed.ps().try_into().unwrap();
    (shown["alive"] == true, bed.leases().len())
}

/// No process is needed. When it is mounted no longer, its links hold their addresses as long as a process is there.
fn as_long_as_it_is_mounted() {
    let bed = bed();
    let pod = Netns::new("pod");
    let id = attached(&bed, "web", &pod);
    assert_eq!(state(&bed), (true, 1));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    assert!(bed.answers("172.16.86.2"));
    let asks = || bed.container(Bare, "other").networks("pub_net:ip=172.16.86.2").start().map(drop);
    assert!(asks().unwrap_err().contains(&id));
    let mut joined = join(&pod);
    run("umount", &["--lazy", pod.path().to_str().unwrap()]).unwrap();
    assert_eq!((state(&bed), bed.gc()), ((false, 1), String::new()));
    assert!(asks().unwrap_err().contains(&id));
    assert!(bed.outcome("check", "").stdout.contains("network namespace"));
    joined.kill().unwrap();
    joined.wait().unwrap();
    assert!(bed.gc().contains("rm "));
    bed.assert_nothing_held();
    asks().unwrap();
}

/// The next namespace at that path is another one, even if it has the same inode.
fn next_at_the_path() {
    let bed = bed();
    let pod = Netns::new("pod");
    attached(&bed, "web", &pod);
    let (path, inode) = (pod.path(), fs::metadata(pod.path()).unwrap().ino());
    run("umount", &["--lazy", path.to_str().unwrap()]).unwrap();
    wait(|| !bed.answers("172.16.86.2"));
    // The kernel frees an inode some time after the namespace has gone, and gives the lowest one first.
    let mut others = Vec::new();
    let has_its_inode = |netns: &Netns| fs::metadata(netns.path()).unwrap().ino() == inode;
    while others.len() < 100 && !others.last().is_some_and(has_its_inode) {
        others.push(Netns::new("next"));
    }
    let next = others.last().unwrap();
    run("mount", &["--bind", next.path().to_str().unwrap(), path.to_str().unwrap()]).unwrap();
    let same = has_its_inode(next);
    assert_eq!(state(&bed), (false, 1), "same inode: {same}");
    assert!(bed.gc().contains("rm "));
    bed.assert_nothing_held();
}

/// The namespace may stay when the container has ended.
fn until_its_engine_says_so() {
    let bed = bed();
    let pod = Netns::new("pod");
    let id = attached(&bed, "web", &pod);
    let mut joined = join(&pod);
    let stopped = format!(r#"{{"ociVersion":"1.0.2","id":"{id}","status":"stopped","bundle":"/"}}"#);
    let told = bed.outcome("hook poststop", stopped);
    assert_eq!((told.code, &*told.stderr), (0, ""));
    assert!(pod.link("eth0").is_none());
    bed.assert_nothing_held();
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    joined.kill().unwrap();
    joined.wait().unwrap();
}
