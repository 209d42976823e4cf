//! Every engine at home: from the package, with nothing configured but what its page says, all at once in one network.

use std::path::PathBuf;

use crate::engines::systemd::{Systemd, example};
use crate::harness::bed::{Bed, run};
use crate::harness::container::Engine::{Crun, Podman, Runc};
use crate::harness::container::{Builder, Container, wait};
use crate::harness::dockerd::{Docker, knows_cdi};
use crate::harness::need::Need;
use crate::harness::podman;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    use Need::{Installed, Macvlan, Program};
    let needs = [
        Macvlan,
        Installed,
        Program("dockerd"),
        Program("ctr"),
        Program("systemctl"),
        Need::Engine(Podman),
        Need::Engine(Crun),
        Need::Engine(Runc),
    ];
    vec![Test::new("all_engines::on_one_network", &needs, on_one_network).alone()]
}

/// A container that somebody has started.
struct Started<'a> {
    by: &'static str,
    netns: PathBuf,
    stop: Box<dyn FnOnce() + 'a>,
}

impl Started<'_> {
    fn addresses(&self) -> Vec<String> {
        let shown = self.run("ip -oneline -4 addr show dev eth0").unwrap();
        shown.lines().filter_map(|line| Some(line.split_whitespace().nth(3)?.to_owned())).collect()
    }

    fn run(&self, words: &str) -> Result<String, String> {
        let netns = format!("--net={}", self.netns.display());
        run("nsenter", &[netns.as_str()].into_iter().chain(words.split(' ')).collect::<Vec<_>>())
    }
}

/// What starts containers.
struct Engines<'a> {
    bed: &'a Bed,
    docker: &'a Docker<'a>,
    systemd: &'a Systemd,
}

/// Starts a container of this name, by an annotation with this value if it may have one.
type Way = for<'a> fn(&Engines<'a>, &str, &str) -> Started<'a>;

/// All there are; older engines know fewer, as other tests have it.
fn ways() -> Vec<Way> {
    let mut ways: Vec<Way> = vec![by_runtime, by_ctr, by_hooks, by_cdi_of_podman, by_crun, by_runc];
    if knows_cdi() {
        ways.push(by_cdi_of_docker);
    }
    if !podman::splits_annotations() {
        ways.push(by_quadlet);
    }
    ways
}

const BY_RUNTIME: &str = "Docker and underlay-runtime";

fn by_runtime<'a>(engines: &Engines<'a>, name: &str, asked: &str) -> Started<'a> {
    let options = match knows_cdi() {
        true => format!("--runtime underlay --annotation io.underlay.networks={asked}"),
        false => "--runtime lan".to_owned(),
    };
    of_docker(BY_RUNTIME, engines, name, &options)
}

fn by_cdi_of_docker<'a>(engines: &Engines<'a>, name: &str, asked: &str) -> Started<'a> {
    let options = format!("--device underlay.io/net=pub_net --annotation io.underlay.networks={asked}");
    of_docker("Docker and CDI", engines, name, &options)
}

fn of_docker<'a>(by: &'static str, engines: &Engines<'a>, name: &str, options: &str) -> Started<'a> {
    let docker = engines.docker;
    let started = docker.start_container(name, options).unwrap_or_else(|error| panic!("{by}: {error}"));
    let name = name.to_owned();
    Started {
        by,
        netns: netns(&started),
        stop: Box::new(move || drop(docker.run(&format!("rm --force {name}")).unwrap())),
    }
}

fn by_ctr<'a>(engines: &Engines<'a>, name: &str, asked: &str) -> Started<'a> {
    let docker = engines.docker;
    let options =
        format!("--runc-binary /usr/bin/underlay-runtime --annotation io.underlay.networks={asked}");
    let started = docker.start_by_ctr(name, &options).unwrap();
    let id = name.to_owned();
    let stop = move || {
        docker.ctr(&format!("task kill --signal 9 {id}")).unwrap();
        // The container is there until its task has stopped.
        wait(|| docker.ctr(&format!("container rm {id}")).is_ok());
    };
    Started { by: "ctr and underlay-runtime", netns: netns(&started), stop: Box::new(stop) }
}

fn by_hooks<'a>(engines: &Engines<'a>, name: &str, asked: &str) -> Started<'a> {
    of_builder("podman and hooks.d", engines.bed.container(Podman, name).networks(asked))
}

fn by_cdi_of_podman<'a>(engines: &Engines<'a>, name: &str, asked: &str) -> Started<'a> {
    let container = engines.bed.container(Podman, name).without_hooks();
    of_builder("podman and CDI", container.device("pub_net").networks(asked))
}

fn by_crun<'a>(engines: &Engines<'a>, name: &str, asked: &str) -> Started<'a> {
    of_builder("crun", engines.bed.container(Crun, name).networks(asked))
}

fn by_runc<'a>(engines: &Engines<'a>, name: &str, asked: &str) -> Started<'a> {
    of_builder("runc", engines.bed.container(Runc, name).networks(asked))
}

fn of_builder<'a>(by: &'static str, container: Builder<'a>) -> Started<'a> {
    let started = container.start().unwrap_or_else(|error| panic!("{by}: {error}"));
    Started { by, netns: netns(&started), stop: Box::new(|| started.stop()) }
}

fn by_quadlet<'a>(engines: &Engines<'a>, name: &str, asked: &str) -> Started<'a> {
    let systemd = engines.systemd;
    let text = example(engines.bed, asked).replace("lan-web", name);
    systemd.quadlet(&format!("{name}.container"), &text);
    systemd.run("systemctl", &format!("start {name}"));
    let stop = format!("stop {name}");
    Started {
        by: "systemd and quadlet",
        netns: systemd.netns_of(name),
        stop: Box::new(move || drop(systemd.run("systemctl", &stop))),
    }
}

fn netns(container: &Container<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/net", container.pid))
}

/// Docker's first example: a container with an address of its choice, and another, which finds it. Here each finds
/// those of all engines. Then they stop, one after the other, and nothing is left.
fn on_one_network() {
    let bed = Bed::installed();
    let before = bed.host_state();
    bed.create("-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net");
    let (docker, systemd) = (Docker::start(&bed), Systemd::start(&bed));
    let engines = Engines { bed: &bed, docker: &docker, systemd: &systemd };
    let mut addresses = Vec::new();
    let mut all = Vec::new();
    for (index, way) in ways().into_iter().enumerate() {
        // Far from those that are picked: this machine's folders know what others have picked before.
        let asked = format!("172.16.86.{}", 200 + index);
        let first = way(&engines, &format!("first{index}"), &format!("pub_net:ip={asked}"));
        // Where there is no CDI, Docker passes no annotation on.
        if knows_cdi() || first.by != BY_RUNTIME {
            assert_eq!(first.addresses(), [format!("{asked}/24")], "{}", first.by);
        }
        addresses.push(first.addresses().remove(0));
        all.push(way(&engines, &format!("second{index}"), "pub_net"));
        all.push(first);
    }
    for second in all.iter().step_by(2) {
        for address in &addresses {
            let ping = format!("busybox ping -c 1 -W 5 {}", address.trim_end_matches("/24"));
            second.run(&ping).unwrap_or_else(|error| panic!("{}: {error}", second.by));
        }
    }
    assert_eq!(bed.ps().len(), all.len());
    let mut left = all.len();
    for container in all {
        let by = container.by;
        (container.stop)();
        left -= 1;
        // Docker has answered when the process is gone; poststop follows.
        wait(|| bed.ps().len() == left);
        assert_eq!(bed.leases().len(), left, "after one by {by}");
    }
    bed.assert_nothing_held();
    bed.run("network rm pub_net");
    assert_eq!(bed.host_state(), before);
}
