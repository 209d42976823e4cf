//! Docker and containerd: by CDI and by `underlay-runtime`. What an older Docker does not know it refuses, and that is
//! looked at too.

use std::fs;
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::harness::bed::{Bed, finish};
use crate::harness::container::{repository, wait};
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::dockerd::{Docker, knows_cdi};
use crate::harness::need::Need;
use crate::harness::place::Debian;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    use Need::{Installed, Macvlan, Program};
    let cdi = Test::new("docker::by_cdi", &[Macvlan, Program("dockerd"), Installed], by_cdi);
    let no_cdi = Test::new("docker::without_cdi", &[Macvlan, Program("dockerd"), Installed], without_cdi);
    let all: [Named; 2] = [
        ("by_wrapper", &[Macvlan, Program("dockerd"), Installed], by_wrapper),
        ("by_ctr", &[Macvlan, Program("dockerd"), Program("ctr"), Installed], by_ctr),
    ];
    let all = all.map(|(name, needs, run)| Test::new(format!("docker::{name}"), needs, run));
    let dns = [Macvlan, Program("dockerd"), Kind::Dnsmasq.need(), Installed];
    let dns = Test::new("docker::name_servers", &dns, name_servers);
    let needs = [Macvlan, Program("dockerd"), Program("ctr"), Installed];
    let ctr_cdi = Test::new("docker::ctr_by_cdi", &needs, ctr_by_cdi).alone();
    let ctr_no_cdi = Test::new("docker::ctr_without_cdi", &needs, ctr_without_cdi);
    [
        cdi.of(&Debian::SINCE_13),
        dns.of(&Debian::SINCE_13),
        no_cdi.of(&[Debian::Bookworm]),
        ctr_cdi.of(&[Debian::Forky]),
        ctr_no_cdi.of(&[Debian::Bookworm, Debian::Trixie]),
    ]
    .into_iter()
    .chain(all)
    .collect()
}

const DEVICE: &str = "--device underlay.io/net=pub_net";

/// A bed with networks `pub_net` and `san`.
fn bed() -> Bed {
    let bed = Bed::new();
    create_networks(&bed);
    bed
}

fn create_networks(bed: &Bed) {
    bed.create("--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net");
    bed.create("--subnet=10.1.0.0/24 -o parent=eth0 san");
}

/// Devices, an annotation that refines, and every way of a container to its end and back.
fn by_cdi() {
    let bed = Bed::new();
    let docker = Docker::start(&bed);
    // The daemon runs already when the first network is made, and sees the file, whose folder was not there.
    create_networks(&bed);
    let asked = "--annotation io.underlay.networks=pub_net:ip=172.16.86.10";
    let first = docker.start_container("first", &format!("{DEVICE} {asked}")).unwrap();
    let devices = format!("--device underlay.io/net=san {DEVICE}");
    let second = docker.start_container("second", &devices).unwrap();
    assert_eq!(
        (first.links(), first.addresses("eth0")),
        (vec!["eth0".into()], vec!["172.16.86.10/24".into()])
    );
    assert_eq!(second.addresses("eth0"), ["10.1.0.1/24"]);
    assert_eq!(second.addresses("eth1"), ["172.16.86.2/24"]);
    assert_eq!(second.routes("-4")[0], "default via 172.16.86.1 dev eth1");
    assert!(second.reaches("172.16.86.10") && second.reaches("172.16.86.1"));
    let said = docker.run("exec second ip -4 addr show eth1").unwrap();
    assert!(said.contains("172.16.86.2/24"), "as seen from inside: {said}");

    docker.run("restart --time 0 first").unwrap();
    let again = docker.container("first");
    assert_ne!(again.pid, first.pid);
    assert_eq!(again.addresses("eth0"), ["172.16.86.10/24"]);
    docker.run("stop --time 0 second").unwrap();
    assert_eq!(bed.records(), [format!("{}.json", first.id)]);
    docker.run("start second").unwrap();
    assert_eq!(docker.container("second").addresses("eth1"), ["172.16.86.2/24"], "the address of before");
    docker.run("kill second").unwrap();
    // Docker has answered when the process is gone; poststop follows.
    wait(|| bed.records() == [format!("{}.json", first.id)]);
    docker.run("rm --force first second").unwrap();
    bed.assert_nothing_held();

    // What the hook says gets through to whoever typed.
    let error = docker.start_container("wrong", &format!("{DEVICE} --annotation io.underlay.networks=none"));
    let error = error.map(drop).unwrap_err();
    assert!(error.contains("network none does not exist"), "{error}");
    bed.assert_nothing_held();
    compose(&bed, &docker);
}

/// The name servers of a lease, as the container sees them, unless it has its own.
fn name_servers() {
    let bed = Bed::new();
    bed.create("--ipam-driver dhcp -o parent=eth0 lan");
    bed.configure("underlay.json", r#"{"version": 1, "dhcp_resolv_conf": "docker"}"#);
    let options = Options { dns: vec![Ipv4Addr::new(10, 77, 0, 2)], ..Options::default() };
    let mut server = Server::start(&bed, Kind::Dnsmasq, options);
    let docker = Docker::start(&bed);
    let servers = |name: &str| {
        let text = docker.run(&format!("exec {name} cat /etc/resolv.conf")).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let asks = "--runtime underlay --annotation io.underlay.networks=lan";
    docker.start_container("first", asks).unwrap();
    docker.start_container("second", &format!("--dns 9.9.9.9 {asks}")).unwrap();
    assert_eq!((servers("first"), servers("second")), (vec!["10.77.0.2".into()], vec!["9.9.9.9".into()]));
    server.change(|options| options.dns = vec![Ipv4Addr::new(10, 77, 0, 3)]);
    docker.run("restart --time 0 first").unwrap();
    assert_eq!(servers("first"), ["10.77.0.3"]);
    docker.run("rm --force first second").unwrap();
    bed.assert_nothing_held();
    let compose = composed(&bed, &docker, "docs/guides/dhcp.md");
    compose("up --detach").unwrap();
    let api = compose("ps --quiet api").unwrap();
    assert_eq!(servers(api.trim()), ["10.77.0.3"]);
    compose("down --timeout 0").unwrap();
    bed.assert_nothing_held();
}

/// `docker compose` with the last compose file of a page.
fn composed<'a>(
    bed: &Bed,
    docker: &'a Docker<'_>,
    page: &str,
) -> impl Fn(&str) -> Result<String, String> + use<'a> {
    let page = fs::read_to_string(repository().join(page)).unwrap();
    let yaml = page.split("```yaml\n").last().and_then(|rest| rest.split("```").next()).unwrap();
    let file = bed.path("compose.yaml");
    fs::write(&file, yaml.replace("alpine", "box")).unwrap();
    move |words: &str| {
        let mut command = docker.command();
        finish(command.arg("compose").arg("--file").arg(&file).args(words.split_whitespace()))
    }
}

fn compose(bed: &Bed, docker: &Docker<'_>) {
    let compose = composed(bed, docker, "docs/guides/docker.md");
    compose("up --detach").unwrap();
    let id = |service: &str| compose(&format!("ps --quiet {service}")).unwrap().trim().to_owned();
    let [web, db] = ["web", "db"].map(|service| docker.container(&id(service)));
    assert_eq!(web.addresses("eth0"), ["172.16.86.20/24"]);
    assert_eq!(db.links(), ["eth0", "eth1"]);
    assert!(db.reaches("172.16.86.20"));
    compose("down --timeout 0").unwrap();
    bed.assert_nothing_held();
}

/// Docker before 25 says which device it does not know.
fn without_cdi() {
    let bed = bed();
    let docker = Docker::start(&bed);
    let error = docker.start_container("first", DEVICE).map(drop).unwrap_err();
    assert!(error.contains("underlay.io/net=pub_net"), "{error}");
    bed.assert_nothing_held();
}

/// Where CDI is off or not known.
fn by_wrapper() {
    let bed = bed();
    let docker = Docker::start(&bed);
    // One runtime for a network: that is all that Docker before 24 can pass on.
    let first = docker.start_container("first", "--runtime lan").unwrap();
    assert_eq!(
        (first.links(), first.addresses("eth0")),
        (vec!["eth0".into()], vec!["172.16.86.2/24".into()])
    );
    assert!(first.reaches("172.16.86.1"));
    let annotation = "--annotation io.underlay.networks=san;pub_net:ip=172.16.86.10";
    match docker.start_container("second", &format!("--runtime underlay {annotation}")) {
        Ok(second) => {
            assert_eq!(second.addresses("eth0"), ["10.1.0.1/24"]);
            assert_eq!(second.addresses("eth1"), ["172.16.86.10/24"]);
            assert!(second.reaches("172.16.86.2"));
        }
        Err(error) => {
            assert!(!knows_cdi() && error.contains("unknown flag: --annotation"), "{error}");
        }
    }
    let _ = docker.run("rm --force second");
    docker.run("stop --time 0 first").unwrap();
    bed.assert_nothing_held();
    bed.run("network rm pub_net");
    let error = docker.run("start first").unwrap_err();
    assert!(error.contains("network pub_net does not exist"), "{error}");
    bed.assert_nothing_held();
}

/// containerd alone.
fn by_ctr() {
    let bed = bed();
    let docker = Docker::start(&bed);
    let wrapper = bed.wrapper_script();
    let asks = "--annotation io.underlay.networks=pub_net:ip=172.16.86.10";
    let started = docker.start_by_ctr("ctr", &format!("--runc-binary {} {asks}", wrapper.display())).unwrap();
    assert_eq!(started.addresses("eth0"), ["172.16.86.10/24"]);
    assert!(started.reaches("172.16.86.1"));

    // A task that was killed is there until its container is removed, and so is its record, but its process is not.
    docker.ctr("task kill --signal 9 ctr").unwrap();
    wait(|| docker.ctr("task ls").is_ok_and(|tasks| tasks.contains("STOPPED")));
    let records: Vec<Value> = bed.ps();
    let ctr = records.iter().find(|record| record["container"] == "ctr").unwrap();
    assert_eq!(ctr["alive"], false);
    docker.ctr("container rm ctr").unwrap();
    bed.assert_nothing_held();
}

/// Before containerd 2 ctr takes the name of a CDI device for a path.
fn ctr_without_cdi() {
    let bed = bed();
    let docker = Docker::start(&bed);
    let error = docker.start_by_ctr("device", DEVICE).map(drop).unwrap_err();
    assert!(error.contains("stat underlay.io/net=pub_net"), "{error}");
    let _ = docker.ctr("container rm device");
    bed.assert_nothing_held();
}

/// ctr looks for devices in /etc/cdi alone.
fn ctr_by_cdi() {
    let bed = Bed::installed();
    create_networks(&bed);
    let docker = Docker::start(&bed);
    let started = docker.start_by_ctr("device", DEVICE).unwrap();
    // The next one of an installation that other tests have used.
    let addresses = started.addresses("eth0");
    assert!(addresses.len() == 1 && addresses[0].starts_with("172.16.86."), "{addresses:?}");
    assert!(started.reaches("172.16.86.1"));
    docker.ctr("task kill --signal 9 device").unwrap();
    wait(|| docker.ctr("container rm device").is_ok());
    bed.assert_nothing_held();
    bed.run("network rm pub_net san");
}
