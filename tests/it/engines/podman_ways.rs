//! The ways in which podman starts containers: pods, user namespaces, beside its own networks, quadlets, from
//! checkpoints; and why not rootless.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::Value;

use crate::harness::agent::Agent;
use crate::harness::bed::{Bed, Watched, finish, outcome, run};
use crate::harness::container::Engine::{Bare, Podman};
use crate::harness::container::{repository, wait};
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::need::Need;
use crate::harness::place::Debian;
use crate::harness::podman::{self, podman};
use crate::harness::rootfs::rootfs;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    const PODMAN: [Need; 2] = [Need::Macvlan, Need::Engine(Podman)];
    let all: [Named; 3] = [
        ("network_of_another_container", &PODMAN, network_of_another),
        ("bridge_beside", &PODMAN, bridge_beside),
        ("rootless", &[Need::Macvlan], rootless),
    ];
    let mut tests =
        Vec::from(all.map(|(name, needs, run)| Test::new(format!("podman_ways::{name}"), needs, run)));
    let kea = [Need::Macvlan, Need::Engine(Podman), Kind::Kea.need()];
    tests.push(Test::new("podman_ways::name_servers", &kea, name_servers));
    let installed = [Need::Installed, Need::Engine(Podman)];
    let criu = [Need::Installed, Need::Engine(Podman), Need::Criu];
    tests.extend([
        // It writes /etc/subuid. And podman 4.3 waits for itself for ever where others run beside one that takes ids.
        Test::new("podman_ways::user_namespace", &installed, user_namespace).alone(),
        // Debian 12's wants controllers for pods that its cgroups here have not.
        Test::new("podman_ways::kube_play", &PODMAN, kube_play).of(&Debian::SINCE_13),
        // It takes the folders of an installation for itself.
        Test::new("podman_ways::rootless_podman", &installed, rootless_podman).alone(),
        Test::new("podman_ways::quadlet", &installed, quadlet).of(&Debian::SINCE_13),
        // Debian 13 has no CRIU.
        Test::new("podman_ways::checkpoint", &criu, checkpoint).of(&[Debian::Bookworm, Debian::Forky]),
    ]);
    tests
}

const CREATE: &str = "--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net";
const ASKED: &str = "io.underlay.networks=pub_net:ip=172.16.86.10";

/// podman with the hooks of `bed`.
fn hooked(bed: &Bed) -> Command {
    let bundle = bed.path("hooked");
    podman::write_hooks(bed, &bundle);
    podman::with_hooks(bed, &bundle)
}

/// The process of the container `name`.
fn pid(bed: &Bed, name: &str) -> String {
    let pid = finish(podman(bed).args(["inspect", "--format", "{{.State.Pid}}", name])).unwrap();
    pid.trim().to_owned()
}

/// The names of the links in the container `name`, but for `lo`.
fn links(bed: &Bed, name: &str) -> Vec<String> {
    let mut ip = Command::new("nsenter");
    ip.args(["--target", &pid(bed, name), "--net", "ip", "-json", "link"]);
    let shown: Vec<Value> = serde_json::from_str(&finish(&mut ip).unwrap()).unwrap();
    shown.iter().skip(1).map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

/// An image of the tests' root file system, which a pod wants instead of a folder.
fn image(bed: &Bed) -> String {
    let name = format!("localhost/{}", bed.host.name);
    podman::import(bed, &name);
    name
}

/// The annotations of a pod are those of each of its containers: attached once, detached with the last.
fn kube_play() {
    let bed = Watched::new();
    bed.create(CREATE);
    let pod = bed.host.name.clone();
    let image = image(&bed);
    let example = fs::read_to_string(repository().join("packaging/examples/lan-pod.yaml")).unwrap();
    let mut yaml = String::new();
    for line in example.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        match line.trim_start() {
            "name: lan-pod" => yaml.push_str(&format!("{indent}name: {pod}")),
            "spec:" => yaml.push_str("spec:\n  terminationGracePeriodSeconds: 0"),
            key if key.starts_with("image:") => {
                yaml.push_str(&format!("{indent}image: {image}\n{indent}command: [sleep, '1000']"));
            }
            _ => yaml.push_str(&line.replace("lan:ip=192.168.1.211", "pub_net:ip=172.16.86.10")),
        }
        yaml.push('\n');
    }
    let file = bed.path("pod.yaml");
    fs::write(&file, yaml).unwrap();
    let play = |words: &[&str]| finish(hooked(&bed).arg("kube").args(words).arg(&file));
    let played = play(&["play", "--network", "none"]);
    assert!(played.is_ok(), "{played:?}\n{}", bed.log());
    let [web, exporter] = [format!("{pod}-web"), format!("{pod}-exporter")];
    assert_eq!(links(&bed, &web), ["eth0"]);
    assert_eq!((bed.leases().len(), bed.records().len()), (1, 2));
    finish(podman(&bed).args(["stop", "--time", "0", &web])).unwrap();
    assert!(bed.answers("172.16.86.10"), "the other one is still there");
    assert_eq!(links(&bed, &exporter), ["eth0"]);
    finish(hooked(&bed).args(["start", &web])).unwrap();
    assert_eq!((links(&bed, &web), bed.leases().len()), (vec!["eth0".to_owned()], 1));
    assert_eq!(bed.run("check"), "");
    play(&["down"]).unwrap();
    bed.assert_nothing_held();
    finish(podman(&bed).args(["rmi", &image])).unwrap();
}

/// A container mounts the file of its identity, and sees what the agent writes into it.
fn name_servers() {
    let bed = Watched::new();
    bed.create("--ipam-driver dhcp -o parent=eth0 lan");
    let of = |last| vec![Ipv4Addr::new(10, 77, 0, last)];
    let mut server = Server::start(&bed, Kind::Kea, Options { dns: of(2), ..Options::short() });
    let _agent = Agent::start(&bed);
    let name = bed.host.name.clone();
    let path = bed.run(&format!("resolv-conf {name}"));
    let mut run = hooked(&bed);
    run.args([
        "run",
        "--detach",
        "--name",
        &name,
        "--network",
        "none",
        "--annotation",
        "io.underlay.networks=lan",
    ]);
    run.args(["--annotation", &format!("io.underlay.identity={name}")]);
    run.args(["--volume", &format!("{}:/etc/resolv.conf:ro", path.trim()), "--rootfs"]);
    let started = finish(run.arg(format!("{}:O", rootfs().display())).args(["sleep", "1000"]));
    assert!(started.is_ok(), "{started:?}\n{}", bed.log());
    let seen = || finish(podman(&bed).args(["exec", &name, "cat", "/etc/resolv.conf"])).unwrap();
    assert!(seen().contains("\nnameserver 10.77.0.2"), "{}", seen());
    server.change(|options| options.dns = of(3));
    wait(|| seen().ends_with("\nnameserver 10.77.0.3\n"));
    finish(podman(&bed).args(["rm", "--force", "--time", "0", &name])).unwrap();
    bed.assert_nothing_held();
}

fn network_of_another() {
    let bed = Watched::new();
    bed.create(CREATE);
    let first = bed.container(Podman, "first").networks("pub_net:ip=172.16.86.10").start().unwrap();
    let name = format!("second-{}", bed.host.name);
    let mut second = hooked(&bed);
    second.args(["run", "--detach", "--name", &name, "--network"]).arg(format!("container:{}", first.id));
    second.args(["--annotation", ASKED, "--rootfs"]).arg(format!("{}:O", rootfs().display()));
    finish(second.args(["sleep", "1000"])).unwrap();
    assert_eq!(first.links(), ["eth0"]);
    assert_eq!((bed.leases().len(), bed.records().len()), (1, 2));
    finish(podman(&bed).args(["rm", "--force", "--time", "0", &name])).unwrap();
    assert!(bed.answers("172.16.86.10"), "the first one has it still");
    first.stop();
    bed.assert_nothing_held();
}

/// podman's own bridge has come first, and keeps name and default route.
fn bridge_beside() {
    let bed = Bed::new();
    bed.create(CREATE);
    let beside = bed.container(Podman, "beside").networks("pub_net:ip=172.16.86.10").podman_network("bridge");
    let beside = beside.start().unwrap();
    assert_eq!(beside.links(), ["eth0", "eth1"]);
    assert_eq!(beside.addresses("eth1"), ["172.16.86.10/24"]);
    let routes = beside.routes("-4");
    assert!(routes[0].starts_with("default via 10.88.0.1 dev eth0"), "{routes:?}");
    assert!(bed.answers("172.16.86.10"));
    beside.stop();
    bed.assert_nothing_held();
}

/// The container's root is nobody on the host; the hook is root there all the same.
fn user_namespace() {
    let bed = Watched::new();
    bed.create(CREATE);
    // Where the user of that name is there already, that is fine too.
    let _ = run("useradd", &["--system", "containers"]);
    for file in ["/etc/subuid", "/etc/subgid"] {
        fs::write(file, "containers:2147483647:2147483648\n").unwrap();
    }
    let (image, name) = (image(&bed), format!("mapped-{}", bed.host.name));
    let mut start = hooked(&bed);
    start.args([
        "run",
        "--detach",
        "--userns=auto",
        "--network=none",
        "--name",
        &name,
        "--annotation",
        ASKED,
    ]);
    let started = finish(start.args([&image, "sleep", "1000"]));
    assert!(started.is_ok(), "{started:?}\n{}", bed.log());
    let map = fs::read_to_string(format!("/proc/{}/uid_map", pid(&bed, &name))).unwrap();
    assert_ne!(map.split_whitespace().nth(1), Some("0"), "{map}");
    assert_eq!(links(&bed, &name), ["eth0"]);
    assert!(bed.answers("172.16.86.10"));
    finish(podman(&bed).args(["rm", "--force", "--time", "0", &name])).unwrap();
    bed.assert_nothing_held();
    finish(podman(&bed).args(["rmi", &image])).unwrap();
}

/// What podman's generator makes of the example: a service that asks for the network, and waits for what
/// `underlay-boot.service` comes before.
fn quadlet() {
    let generator = "/usr/lib/systemd/system-generators/podman-system-generator";
    let mut command = Command::new(generator);
    command.arg("--dryrun").env("QUADLET_UNIT_DIRS", repository().join("packaging/examples"));
    let made = finish(&mut command).unwrap();
    for said in [
        "---lan-web.service---",
        "After=network-online.target",
        "--network none",
        "--annotation io.underlay.networks=lan:ip=192.168.1.210",
        "--annotation io.underlay.identity=lan-web",
    ] {
        assert!(made.contains(said), "{said:?} is not in\n{made}");
    }
    let unit = fs::read_to_string("/usr/lib/systemd/system/underlay-boot.service").unwrap();
    assert!(unit.lines().any(|line| line == "Before=network-online.target"), "{unit}");
}

/// CRIU leaves the link behind: the hook detaches, and on restore attaches as before, ahead of sockets that are bound
/// to the address.
fn checkpoint() {
    let bed = Watched::new();
    bed.create(CREATE);
    let (image, name) = (image(&bed), format!("frozen-{}", bed.host.name));
    let (name, archive) = (name.as_str(), bed.path("checkpoint.tar.gz").display().to_string());
    let podman = |words: &[&str]| finish(hooked(&bed).args(["--runtime", "runc"]).args(words));
    let run =
        ["run", "--detach", "--network=none", "--name", name, "--annotation", "io.underlay.networks=pub_net"];
    let server = [&image, "busybox", "httpd", "-f", "-p", "172.16.86.2:80"];
    podman(&[&run[..], &server[..]].concat()).unwrap();
    let serves = || {
        let mut client = bed.lan.command("busybox");
        outcome(client.args(["nc", "-w", "5", "172.16.86.2", "80"]), b"GET / HTTP/1.0\r\n\r\n")
            .stdout
            .starts_with("HTTP/1.")
    };
    wait(serves);
    let attached = || ["container", "addresses", "mac", "ifname"].map(|key| bed.ps()[0][key].clone());
    let before = attached();

    podman(&["container", "checkpoint", "--leave-running", name]).unwrap();
    assert!(serves() && attached() == before, "nothing changes");

    podman(&["container", "checkpoint", name]).unwrap();
    bed.assert_nothing_held();
    let other = bed.container(Bare, "other").networks("pub_net").start().unwrap();
    assert_eq!(other.addresses("eth0"), ["172.16.86.3/24"], "what it had is kept for it");
    other.stop();
    bed.run("network rm pub_net");
    let error = podman(&["container", "restore", name]).unwrap_err();
    assert!(error.contains("network pub_net does not exist"), "{error}");
    bed.create(CREATE);
    podman(&["container", "restore", name]).unwrap();
    assert_eq!(attached(), before);
    assert!(serves());
    assert_eq!(bed.run("check"), "");

    podman(&["container", "checkpoint", "--export", &archive, name]).unwrap();
    podman(&["rm", name]).unwrap();
    podman(&["container", "restore", "--import", &archive]).unwrap();
    assert_eq!(attached(), before);
    assert!(serves());
    // Not ours: runc brings no loopback link up on restore.
    let lo = ["--target", &pid(&bed, name), "--net", "ip", "link", "show", "lo"];
    let lo = finish(Command::new("nsenter").args(lo)).unwrap();
    assert!(lo.contains(" <LOOPBACK> "), "{lo}");
    // Nor this: podman calls no poststop for what it has imported.
    podman(&["rm", "--force", "--time", "0", name]).unwrap();
    assert_eq!(bed.ps()[0]["alive"], false);
    bed.gc();
    bed.assert_nothing_held();

    // Debian 12's crun is built without; Debian 14's wants a library that comes with nothing it depends on.
    let crun = bed.container(Podman, "crun").networks("pub_net").start().unwrap();
    let error = finish(podman::podman(&bed).args(["container", "checkpoint", &crun.id])).unwrap_err();
    let why = ["configured runtime does not support checkpoint/restore", "libcriu.so.2"];
    assert!(why.iter().any(|why| error.contains(why)), "{error}");
    crun.stop();
    finish(podman::podman(&bed).args(["rmi", &image])).unwrap();
}

/// In a user namespace other than the host's there is nothing to be had, and that is what is said.
fn rootless() {
    let bed = Watched::new();
    bed.create(CREATE);
    let container = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    let mut hook = bed.host.command("unshare");
    hook.args(["--user", "--map-root-user"]).arg(crate::harness::bed::binary()).args(bed.dirs());
    let refused =
        outcome(hook.args(["hook", "createRuntime"]), container.state_at("createRuntime").as_bytes());
    assert_eq!(refused.code, 1, "{refused:?}");
    for said in ["the engine is rootless", "has no rights to the host's links", "start the container as root"]
    {
        assert!(refused.stderr.contains(said), "{said:?} is not in {}", refused.stderr);
    }
    bed.assert_nothing_held();
    // Who runs as root is not told so.
    let error = bed.container(Bare, "typo").networks("pubnet").start().map(drop).unwrap_err();
    assert!(!error.contains("rootless"), "{error}");
}

/// A user's own podman finds the same hook files, and starts nothing that asks for a network. Who runs runc sees why.
fn rootless_podman() {
    let bed = Watched::new();
    let underlay = |arguments: &str| bed.host.try_run("underlay", arguments).unwrap();
    underlay(&format!("network create {CREATE}"));
    let home = "/home/rootless";
    finish(Command::new("useradd").args(["--create-home", "--home-dir", home, "rootless"])).unwrap();
    // What runs in it is to be the user's: podman writes there.
    finish(Command::new("cp").arg("-R").arg(rootfs()).arg(format!("{home}/rootfs"))).unwrap();
    finish(Command::new("chown").args(["--recursive", "rootless:", home])).unwrap();
    let rootless = || {
        let mut command = bed.host.command("setpriv");
        command.args(["--reuid=rootless", "--regid=rootless", "--init-groups", "--reset-env", "env"]);
        command.arg(format!("XDG_RUNTIME_DIR={home}")).arg("podman").current_dir("/");
        command
    };
    let run = |runtime: &str, more: &[&str]| {
        let mut run = rootless();
        run.args(["--runtime", runtime, "run", "--rm", "--network=none"]).args(more);
        finish(run.arg("--rootfs").arg(format!("{home}/rootfs")).args(["cat", "/proc/self/uid_map"]))
    };
    let why = format!("{home}/why");
    let kept = format!("run.oci.hooks.stderr={why}");
    for runtime in ["crun", "runc"] {
        let map = run(runtime, &[]).unwrap();
        assert_ne!(map.split_whitespace().nth(1), Some("0"), "{map}");
        let error = run(runtime, &["--annotation", ASKED, "--annotation", &kept]).unwrap_err();
        assert!(error.contains("exit status: 126"), "{error}");
        let said = match runtime {
            "crun" => fs::read_to_string(&why).unwrap(),
            _ => error,
        };
        for words in ["the engine is rootless", "start the container as root (sudo podman run"] {
            assert!(said.contains(words), "{words:?} is not in {said}");
        }
    }
    assert_eq!(finish(rootless().args(["ps", "--all", "--quiet"])).unwrap(), "");
    assert_eq!(underlay("ps --format json"), "[]\n");
    // Its namespace is held by a process of podman's.
    finish(rootless().args(["system", "migrate"])).unwrap();
    // podman ends its last process by and by.
    wait(|| finish(Command::new("userdel").args(["--remove", "rootless"])).is_ok());
    underlay("network rm pub_net");
}
