//! Network namespaces that outlive the container they were made for: a process or a descriptor keeps them. What is up
//! there holds its addresses, and what is released is there no longer.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};

use crate::harness::bed::{Bed, Netns, Watched, finish, outcome, run};
use crate::harness::container::Engine::{Bare, Podman};
use crate::harness::container::{Container, wait};
use crate::harness::need::Need;
use crate::harness::podman::{self, podman};
use crate::harness::rootfs::rootfs;
use crate::harness::test::{Named, Test};
use crate::harness::tracer::trace;

pub fn tests() -> Vec<Test> {
    let all: [Named; 19] = [
        ("by_a_process::macvlan", &[Need::Macvlan], || by_a_process("macvlan")),
        ("by_a_process::ipvlan", &[Need::Ipvlan], || by_a_process("ipvlan")),
        ("by_a_mount", &[Need::Macvlan], by_a_mount),
        ("by_a_descriptor", &[Need::Macvlan], by_a_descriptor),
        ("after_rules_and_routes", &[Need::Macvlan], rules_and_routes),
        ("by_one_that_asks_for_the_same", &[Need::Macvlan], asks_for_the_same),
        ("by_one_that_asks_for_another", &[Need::Macvlan], asks_for_another),
        ("by_one_of_podman", &[Need::Macvlan, Need::Engine(Podman)], podman_container),
        ("on_a_vlan", &[Need::Vlan], vlan),
        ("with_host_access", &[Need::Macvlan], host_access),
        ("without_poststop", &[Need::Macvlan], without_poststop),
        ("before_it_is_confirmed", &[Need::Macvlan], pending),
        ("by_a_record_of_version_1", &[Need::Macvlan], version_1),
        ("by_one_that_version_1_handed_over_to", &[Need::Macvlan], handed_over_by_version_1),
        ("by_one_that_stops_at_the_same_time", &[Need::Macvlan], both_stop),
        ("with_a_number_of_somebody_else", &[Need::Macvlan], foreign_number),
        ("seen_from_another_namespace", &[Need::Macvlan], other_host),
        ("under_another_alias", &[Need::Macvlan], other_alias),
        ("while_it_is_attached", &[Need::Macvlan], while_attached),
    ];
    all.map(|(name, needs, run)| Test::new(format!("in_use::{name}"), needs, run)).into()
}

const CREATE: &str = "--subnet=172.16.86.0/29 --gateway=172.16.86.1 -o parent=eth0";
const ASKED: &str = "pub_net:ip=172.16.86.4";
const NONE: [&str; 0] = [];

/// A process in the namespace of a container, which is none of the container's.
struct Joiner(Child);

impl Joiner {
    fn new(container: &Container<'_>) -> Self {
        let target = container.pid.to_string();
        let child =
            Command::new("nsenter").args(["--target", &target, "--net", "sleep", "1000"]).spawn().unwrap();
        let joiner = Self(child);
        wait(|| std::fs::read_to_string(format!("/proc/{}/comm", joiner.0.id())).unwrap() == "sleep\n");
        joiner
    }

    /// The names of the links in its namespace, but for `lo`.
    fn links(&self) -> Vec<String> {
        let shown = self.run("ip", "-brief link");
        let names = shown.lines().map(|line| line.split(['@', ' ']).next().unwrap().to_owned());
        names.filter(|name| name != "lo").collect()
    }

    fn run(&self, program: &str, arguments: &str) -> String {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.id().to_string(), "--net", program]);
        finish(command.args(arguments.split_whitespace())).unwrap()
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bed(driver: &str, more: &str) -> Watched {
    let bed = Watched::new();
    bed.create(&format!("-d {driver} {CREATE} {more} pub_net"));
    bed
}

/// All that there is to ask says that nothing is held, and nothing is left to do.
#[track_caller]
fn assert_over(bed: &Bed) {
    bed.assert_nothing_held();
    assert_nothing_to_do(bed);
}

#[track_caller]
fn assert_nothing_to_do(bed: &Bed) {
    assert_eq!((bed.run("check"), bed.gc(), bed.gc()), Default::default());
    assert!(!bed.outcome("doctor", "").stdout.contains("left over"));
}

/// The owner stops, and comes again, while a process that is none of its own is in its namespace: with what it had, with
/// an address and a MAC address that it asks for, and others get none of its addresses.
fn by_a_process(driver: &str) {
    let bed = bed(driver, "");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let (had, mac) = (bed.leases(), bed.macs());
    let joiner = Joiner::new(&web);
    assert_eq!(joiner.links(), ["eth0"]);
    web.stop();
    assert_eq!(joiner.links(), NONE);
    assert_over(&bed);
    let again = |asked: &str| bed.container(Bare, "web").networks(asked).start().unwrap();
    let web = again("pub_net");
    assert_eq!(
        (bed.leases(), bed.macs()),
        (had, mac),
        "the same container, the same address and MAC address"
    );
    let others = [Joiner::new(&web), Joiner::new(&web)];
    web.stop();
    let asked = match driver {
        "macvlan" => "pub_net:ip=172.16.86.4,mac=02:00:00:00:00:04",
        _ => ASKED,
    };
    for _ in 0..2 {
        let web = again(asked);
        let inside = Joiner::new(&web);
        assert!(bed.answers("172.16.86.4"));
        assert_eq!((bed.run("check"), bed.gc()), Default::default());
        web.stop();
        assert!(!bed.answers("172.16.86.4"), "nothing has it");
        drop(inside);
    }
    drop((joiner, others));
    // As many as there are addresses.
    let all: Vec<_> =
        (0..5).map(|n| bed.container(Bare, &format!("n{n}")).networks("pub_net").start()).collect();
    assert!(all.iter().all(Result::is_ok));
    drop(all);
    assert_over(&bed);
}

/// Somebody has given the namespace a name, of which config.json does not know.
fn by_a_mount() {
    let bed = bed("macvlan", "");
    let web = bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let name = format!("{}-pinned", bed.host.name);
    run("ip", &["netns", "attach", &name, &web.pid.to_string()]).unwrap();
    web.stop();
    let links = run("ip", &["-netns", &name, "-brief", "link"]).unwrap();
    run("ip", &["netns", "delete", &name]).unwrap();
    assert!(!links.contains("eth0"), "{links}");
    assert_over(&bed);
}

/// Nothing in /proc leads to the namespace; the kernel has it all the same.
fn by_a_descriptor() {
    let bed = bed("macvlan", "");
    let web = bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let kept = File::open(format!("/proc/{}/ns/net", web.pid)).unwrap();
    web.stop();
    assert!(!bed.answers("172.16.86.4"));
    assert_over(&bed);
    drop(kept);
}

/// What does not go with a link goes too, where something leads to the namespace.
fn rules_and_routes() {
    let bed = bed("macvlan", "");
    let asked = r#"[{"name": "pub_net", "ip": "172.16.86.4", "table": 100,
        "routes": [{"to": "10.9.0.0/16", "type": "blackhole"}]}]"#;
    let web = bed.container(Bare, "web").networks(asked).start().unwrap();
    let joiner = Joiner::new(&web);
    assert!(joiner.run("ip", "rule").contains("lookup 100"));
    web.stop();
    assert!(!joiner.run("ip", "rule").contains("lookup 100"));
    assert!(!joiner.run("ip", "route").contains("blackhole"));
    assert_eq!(joiner.links(), NONE);
    assert_over(&bed);
}

/// A container of ours that uses the same links takes them over: they are its own from then on.
fn asks_for_the_same() {
    let bed = bed("macvlan", "");
    let web = bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let mac = bed.macs();
    let path = format!("/proc/{}/ns/net", web.pid).into();
    let log = bed.container(Bare, "log").networks(ASKED).in_netns(path).start().unwrap();
    assert_eq!((bed.leases().len(), bed.records().len()), (1, 2), "shared");
    web.stop();
    assert!(bed.answers("172.16.86.4"));
    let [shown] = bed.ps().try_into().unwrap();
    assert_eq!((&shown["container"], &shown["alive"]), (&log.id.clone().into(), &true.into()));
    assert_eq!(shown["attachments"][0]["addresses"][0], "172.16.86.4/29");
    assert_eq!(shown.get("shares"), None);
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    assert!(!bed.outcome("doctor", "").stdout.contains(&log.id));
    // The owner comes again, in another namespace.
    let again = |asked: &str| bed.container(Bare, "web").networks(asked).start();
    let refused = again(ASKED).map(drop).unwrap_err();
    assert!(
        refused.contains(&format!("172.16.86.4 of network pub_net is held by container {}", log.id)),
        "{refused}"
    );
    assert!(bed.answers("172.16.86.4"), "and log has it still");
    let web = again("pub_net").unwrap();
    assert_eq!((bed.leases().len(), bed.records().len()), (2, 2));
    assert!(!bed.macs().iter().all(|of| mac.contains(of)), "another one");
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    assert_eq!(web.hook("createRuntime").code, 0, "the hook was called twice");
    web.stop();
    log.stop();
    assert_over(&bed);
}

/// One that asks for another network has that alone, when the owner has gone.
fn asks_for_another() {
    let bed = bed("macvlan", "");
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0 san");
    let web = bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let path: std::path::PathBuf = format!("/proc/{}/ns/net", web.pid).into();
    let log = bed.container(Bare, "log").networks("san").in_netns(path.clone()).start().unwrap();
    // And one that asks for nothing.
    let plain = bed.container(Bare, "plain").in_netns(path).start().unwrap();
    assert_eq!(log.links(), ["eth0", "eth1"]);
    web.stop();
    assert_eq!((log.links(), plain.links()), (vec!["eth1".to_owned()], vec!["eth1".to_owned()]));
    assert_eq!((bed.leases().len(), bed.records().len()), (1, 1));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    log.stop();
    assert_eq!(plain.links(), NONE);
    plain.stop();
    assert_over(&bed);
}

/// As compose's `network_mode: service:web`: the owner is restarted while another container is in its namespace.
fn podman_container() {
    let bed = bed("macvlan", "");
    let mut web = bed.container(Podman, "web").networks("pub_net").start().unwrap();
    let had = (bed.leases(), bed.macs());
    let name = format!("side-{}", bed.host.name);
    let mut side = podman(&bed);
    side.args(["run", "--detach", "--name", &name, "--network"]).arg(format!("container:{}", web.id));
    side.arg("--rootfs").arg(format!("{}:O", rootfs().display()));
    finish(side.args(["sleep", "1000"])).unwrap();
    web.restart();
    assert_eq!((bed.leases(), bed.macs()), had);
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    finish(podman::podman(&bed).args(["stop", "--time", "0", &web.id])).unwrap();
    assert_over(&bed);
    finish(podman::podman(&bed).args(["rm", "--force", "--time", "0", &name])).unwrap();
    drop(web);
}

/// A VLAN that underlay has made goes after the link on it, and not under one that is used.
fn vlan() {
    let bed = Watched::new();
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0 -o vlans=100-199 lan");
    let web = bed.container(Bare, "web").networks("lan:vlan=120,ip=10.0.0.9").start().unwrap();
    let path = format!("/proc/{}/ns/net", web.pid).into();
    let log = bed.container(Bare, "log").networks("lan:vlan=120,ip=10.0.0.9").in_netns(path).start().unwrap();
    let joiner = Joiner::new(&web);
    web.stop();
    assert_eq!(joiner.links(), ["eth0"]);
    assert!(bed.host.link("eth0.120").is_some());
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    log.stop();
    assert_eq!(joiner.links(), NONE);
    assert!(bed.host.link("eth0.120").is_none());
    assert_over(&bed);
}

fn host_access() {
    let bed = bed("macvlan", "--host-access");
    let web = bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let path = format!("/proc/{}/ns/net", web.pid).into();
    let log = bed.container(Bare, "log").networks(ASKED).in_netns(path).start().unwrap();
    let joiner = Joiner::new(&web);
    let route = || bed.host.ip("route show 172.16.86.4");
    web.stop();
    assert!(route().contains("ulh-pub_net"), "log is reached still");
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    log.stop();
    assert_eq!((route().as_str(), joiner.links().as_slice()), ("", &[][..]));
    assert_eq!((bed.records().len(), bed.leases().len()), (0, 1), "the host's own address");
    assert_nothing_to_do(&bed);
}

/// Nobody calls poststop: what is there holds its address, until `gc` or the same container takes it back.
fn without_poststop() {
    let bed = bed("macvlan", "");
    let mut web = bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let joiner = Joiner::new(&web);
    let id = web.id.clone();
    web.kill();
    web.forget();
    assert!(bed.outcome("check", "").stdout.contains("process"), "it is dead");
    let refused = bed.container(Bare, "db").networks(ASKED).start().map(drop).unwrap_err();
    assert!(
        refused.contains(&format!("172.16.86.4 of network pub_net is held by container {id}")),
        "{refused}"
    );
    let refused = bed.outcome("network rm pub_net", "");
    assert!(refused.stderr.contains(&format!("is in use by container {id}")), "{refused:?}");
    // The same id may have another namespace.
    let again = || bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let mut web = again();
    assert_eq!(joiner.links(), NONE);
    let other = Joiner::new(&web);
    web.kill();
    web.forget();
    let would = bed.run("gc --dry-run");
    let enter = format!("nsenter --net=/proc/{}/ns/net ip link del", other.0.id());
    assert!(would.contains(&enter), "{would}");
    assert_eq!(bed.gc(), would);
    assert_eq!(other.links(), NONE);
    assert_over(&bed);
    // Of a descriptor no command can be told.
    let mut web = again();
    let kept = File::open(format!("/proc/{}/ns/net", web.pid)).unwrap();
    web.kill();
    web.forget();
    let would = bed.run("gc --dry-run");
    assert!(would.contains("# ip link del eth0, in the network namespace of number"), "{would}");
    assert_eq!(bed.gc(), would);
    assert_over(&bed);
    drop(kept);
}

/// A record that was never confirmed has no number of the namespace.
fn pending() {
    let bed = bed("macvlan", "");
    let web = bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let joiner = Joiner::new(&web);
    edit(&bed, &web.id, |record| {
        record["state"] = "pending".into();
        record.as_object_mut().unwrap().remove("nsid");
        record["attachments"][0].as_object_mut().unwrap().remove("ifindex");
    });
    web.stop();
    assert_eq!(joiner.links(), NONE);
    assert_over(&bed);
}

/// Version 1 knew no number, and passed links on without a word of whose they had been.
fn version_1() {
    let bed = bed("macvlan", "");
    let web = bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let joiner = Joiner::new(&web);
    edit(&bed, &web.id, |record| {
        record["version"] = 1.into();
        record.as_object_mut().unwrap().remove("nsid");
    });
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    web.stop();
    assert_eq!(joiner.links(), NONE);
    assert_over(&bed);
}

/// Version 1 left the links with the record of the owner, and gave that the process of one that shares them.
fn handed_over_by_version_1() {
    let bed = bed("macvlan", "");
    let pod = Netns::new("pod");
    let start = |id| bed.container(Bare, id).networks(ASKED).in_netns(pod.path()).start().unwrap();
    let (mut web, log) = (start("web"), start("log"));
    let read = |id: &str| -> serde_json::Value {
        let path = bed.path("run/containers").join(format!("{id}.json"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let (had, has) = (read(&web.id)["holder"].clone(), read(&log.id)["holder"].clone());
    edit(&bed, &web.id, |record| {
        record["version"] = 1.into();
        record["marked_as"] = serde_json::json!([had["pid"], had["start_time"]]);
        record["holder"] = has.clone();
        record.as_object_mut().unwrap().remove("nsid");
    });
    web.kill();
    let told = web.hook("poststop");
    assert_eq!((told.code, &*told.stderr), (0, ""));
    web.forget();
    let [shown] = bed.ps().try_into().unwrap();
    assert_eq!(shown["container"], log.id);
    let web = start("web");
    assert_eq!(bed.leases().len(), 1, "it shares the links again");
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    web.stop();
    assert!(bed.answers("172.16.86.4"));
    log.stop();
    assert!(pod.link("eth0").is_none());
    assert_over(&bed);
}

/// One that takes the links over while its own poststop waits gives them back all the same.
fn both_stop() {
    let bed = bed("macvlan", "");
    let pod = Netns::new("pod");
    let start = |id| bed.container(Bare, id).networks(ASKED).in_netns(pod.path()).start().unwrap();
    let (mut web, mut log) = (start("web"), start("log"));
    web.kill();
    // Its process lives when its poststop begins, and the links become its own meanwhile.
    std::thread::scope(|scope| {
        let stops = scope.spawn(|| {
            let state = log.state_at("poststop");
            bed.outcome("hook poststop", state)
        });
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(web.hook("poststop").code, 0);
        wait(|| bed.ps().len() == 1);
        finish(Command::new("kill").args(["-9", &log.pid.to_string()])).unwrap();
        let stopped = stops.join().unwrap();
        assert_eq!((stopped.code, &*stopped.stderr), (0, ""));
    });
    log.kill();
    web.forget();
    log.forget();
    assert!(pod.link("eth0").is_none());
    assert_over(&bed);
}

/// The number that is asked for is another namespace's, or the container's namespace has one of its own.
fn foreign_number() {
    let bed = bed("macvlan", "");
    for is_its_own in [true, false] {
        let (pod, other) = (Netns::new("pod"), Netns::new("other"));
        let number = std::fs::metadata(pod.path()).unwrap().ino() & 0x7fff_ffff;
        let (netns, number) = if is_its_own { (&pod, 7) } else { (&other, number) };
        bed.host.ip(&format!("netns set {} {number}", netns.name));
        let mut web = bed.container(Bare, "web").networks(ASKED).in_netns(pod.path()).start().unwrap();
        assert_eq!((bed.run("check"), bed.gc()), Default::default());
        // Nothing but the number leads to it.
        let kept = File::open(pod.path()).unwrap();
        drop(pod);
        web.kill();
        assert!(bed.answers("172.16.86.4"));
        web.stop();
        assert!(!bed.answers("172.16.86.4"));
        assert_over(&bed);
        drop(kept);
    }
}

/// A hook that is called in another network namespace than the attach knows no number, and goes by the path.
fn other_host() {
    let bed = bed("macvlan", "");
    let (pod, other) = (Netns::new("pod"), Netns::new("other"));
    let mut web = bed.container(Bare, "web").networks(ASKED).in_netns(pod.path()).start().unwrap();
    web.kill();
    let hook = bed.underlay("hook poststop");
    // The words after `nsenter --net=…` of the host.
    let mut command = other.command(hook.get_args().nth(1).unwrap());
    command.args(hook.get_args().skip(2));
    let stopped = outcome(&mut command, web.state_at("poststop").as_bytes());
    assert_eq!(stopped.code, 0, "{stopped:?}");
    web.forget();
    assert!(pod.link("eth0").is_none());
    assert_over(&bed);
}

/// A process in the container has written another alias, so the link is left alone; then it is a host of the LAN like any
/// other, whose address no container gets.
fn other_alias() {
    let bed = bed("macvlan", "");
    let web = bed.container(Bare, "web").networks(ASKED).start().unwrap();
    let joiner = Joiner::new(&web);
    joiner.run("ip", "link set eth0 alias mine");
    web.stop();
    assert_eq!(joiner.links(), ["eth0"]);
    bed.assert_nothing_held();
    let refused = bed.container(Bare, "db").networks(ASKED).start().map(drop).unwrap_err();
    assert!(refused.contains("address 172.16.86.4 of network pub_net is in use on the LAN"), "{refused}");
    drop(joiner);
    assert_over(&bed);
}

/// A poststop comes while the hook still attaches the container: what it has made by then goes, and what it makes after.
fn while_attached() {
    let bed = bed("macvlan", "");
    let mut web = bed.container(Bare, "web").without_hooks().networks(ASKED).start().unwrap();
    let joiner = Joiner::new(&web);
    let create = bed.underlay("hook createRuntime");
    let mut stopped = None;
    let state = web.state_at("createRuntime");
    // The pending record is there when the first frame or message goes out after it; the process is killed then.
    let traced = trace(&create, state.as_bytes(), |call| {
        if stopped.is_none() && call.sent().is_some() && !bed.records().is_empty() {
            web.kill();
            stopped = Some(bed.outcome("hook poststop", web.state_at("poststop")));
        }
        None
    });
    assert_ne!(traced.code(), Some(0), "the container is gone");
    assert_eq!(stopped.unwrap().code, 0);
    web.forget();
    assert_eq!(joiner.links(), NONE);
    bed.gc();
    assert_over(&bed);
}

/// Changes the record of the container `id`.
fn edit(bed: &Bed, id: &str, change: impl Fn(&mut serde_json::Value)) {
    let path = bed.path("run/containers").join(format!("{id}.json"));
    let mut record = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    std::fs::write(&path, record.to_string()).unwrap();
}
