//! Networks of Docker's own with driver `underlay`: `docker network create`, `docker run --network`, Compose.

use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use serde_json::{Value, json};

use crate::engines::pages::{self, Lines};
use crate::harness::bed::{Bed, finish};
use crate::harness::container::{Container, repository, wait};
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::dockerd::Docker;
use crate::harness::fake_docker::{Plugin, SOCKET};
use crate::harness::need::Need;
use crate::harness::place::Debian;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    use Need::{Dummy, Installed, Ipvlan, Macvlan, Program, Vlan};
    // Debian 12 has no Compose that knows these files.
    let of_compose: [Named; 3] = [
        ("of_compose", &[Macvlan, Program("dockerd"), Installed], compose),
        ("of_a_home_lab", &[Macvlan, Program("dockerd"), Program("dnsmasq"), Installed], || home_lab(false)),
        (
            "of_a_home_lab_with_vlans",
            &[Macvlan, Vlan, Program("dockerd"), Program("dnsmasq"), Installed],
            || home_lab(true),
        ),
    ];
    let of_compose = of_compose.map(|(name, needs, run)| {
        Test::new(format!("docker_networks::{name}"), needs, run).alone().of(&Debian::SINCE_13)
    });
    let all: [Named; 7] = [
        ("of_containers", &[Macvlan, Program("dockerd"), Installed], containers),
        ("over_starts_of_docker", &[Macvlan, Program("dockerd"), Installed], starts),
        ("docker_starts_as_fast", &[Macvlan, Program("dockerd"), Installed], starts_as_fast),
        ("by_dhcp", &[Macvlan, Program("dockerd"), Program("kea-dhcp4"), Installed], by_dhcp),
        ("of_dockers_pages", &[Macvlan, Program("dockerd"), Installed], || pages(Lines::MacvlanOnEth0)),
        ("of_dockers_pages_with_vlans", &[Macvlan, Vlan, Program("dockerd"), Installed], || {
            pages(Lines::Macvlan)
        }),
        ("of_dockers_pages_ipvlan", &[Ipvlan, Dummy, Program("dockerd"), Installed], || pages(Lines::Ipvlan)),
    ];
    // The plugin has the one place where Docker looks for it.
    let all = all.map(|(name, needs, run)| Test::new(format!("docker_networks::{name}"), needs, run).alone());
    all.into_iter().chain(of_compose).collect()
}

const NETWORK: &str = "network create -d underlay --ipam-driver underlay --subnet 172.16.86.0/24 \
                       --gateway 172.16.86.1 -o parent=eth0";

/// Starts a container that sleeps.
#[track_caller]
fn start<'a>(docker: &Docker<'a>, name: &str, options: &str) -> Container<'a> {
    docker.run(&format!("run --detach --name {name} {options} box sleep 1000")).unwrap();
    docker.container(name)
}

/// The link of a name that the container has, with its addresses.
fn links(container: &Container<'_>) -> Vec<(String, Vec<String>)> {
    container.links().into_iter().map(|link| (link.clone(), container.addresses(&link))).collect()
}

fn link(name: &str, address: &str) -> (String, Vec<String>) {
    (name.to_owned(), vec![address.to_owned()])
}

fn containers() {
    let bed = Bed::new();
    let plugin = Plugin::of_docker(&bed);
    let docker = Docker::start(&bed);
    docker.run(&format!("{NETWORK} --aux-address nas=172.16.86.3 pub_net")).unwrap();
    let first = start(&docker, "first", "--network pub_net --ip 172.16.86.10");
    let second = start(&docker, "second", "--network pub_net");
    assert_eq!(links(&first), [link("eth0", "172.16.86.10/24")]);
    assert_eq!(links(&second), [link("eth0", "172.16.86.2/24")]);
    assert_eq!(second.routes("-4")[0], "default via 172.16.86.1 dev eth0");
    assert!(second.reaches("172.16.86.10") && second.reaches("172.16.86.1"));
    docker.run("exec second ping -c 1 -W 5 first").unwrap();
    let shown: Value = serde_json::from_str(&docker.run("inspect second").unwrap()).unwrap();
    let shown = &shown[0]["NetworkSettings"]["Networks"]["pub_net"];
    assert_eq!((&shown["IPAddress"], &shown["Gateway"]), (&json!("172.16.86.2"), &json!("172.16.86.1")));
    assert_eq!(shown["MacAddress"], second.link("eth0")["address"]);
    assert_eq!((bed.gc(), bed.run("check")), Default::default());
    let settings = json!({"data-root": bed.path("docker/data")});
    fs::create_dir_all("/etc/docker").unwrap();
    fs::write("/etc/docker/daemon.json", settings.to_string()).unwrap();
    let shown = bed.run("ps");
    assert!(
        shown.contains("  docker first   attached") && shown.contains("  docker second  attached"),
        "{shown}"
    );
    let refused =
        |options: &str| docker.run(&format!("run --rm --network pub_net {options} box sleep 0")).unwrap_err();
    assert!(
        refused("--ip 172.16.86.10").contains("172.16.86.10 of network docker-"),
        "{}",
        refused("--ip 172.16.86.10")
    );
    assert!(refused("--ip 172.16.86.3").contains("is an aux address of subnet"));
    assert!(first.reaches("172.16.86.2"), "nothing of theirs is given back");

    docker
        .run("network create -d underlay --ipam-driver underlay --subnet 10.7.0.0/24 -o parent=eth0 other")
        .unwrap();
    docker.run("network connect --ip 10.7.0.33 other first").unwrap();
    assert_eq!(links(&first), [link("eth0", "172.16.86.10/24"), link("eth1", "10.7.0.33/24")]);
    docker.run("network disconnect pub_net first").unwrap();
    assert_eq!(links(&first), [link("eth1", "10.7.0.33/24")]);
    assert_eq!(bed.records().len(), 2);
    // The same address has the same MAC address again.
    let mac = second.link("eth0")["address"].clone();
    docker.run("rm --force second").unwrap();
    let second = start(&docker, "second", "--network pub_net --ip 172.16.86.2");
    assert_eq!(second.link("eth0")["address"], mac);
    docker.run("restart --time 0 second").unwrap();
    assert_eq!(docker.container("second").addresses("eth0"), ["172.16.86.2/24"]);
    for _ in 0..5 {
        plugin.kill();
        docker.run("run --rm --network pub_net box sleep 0").unwrap();
    }
    for (options, said) in [
        ("--subnet 10.8.0.0/24 -o parrent=eth0", "option \"parrent\" is not known"),
        ("-o parent=eth0", "the network needs a subnet: give --subnet"),
        ("--subnet 10.8.0.0/24 -o parent=eth7", "parent eth7 does not exist"),
    ] {
        let create = format!("network create -d underlay --ipam-driver underlay {options} bad");
        let error = docker.run(&create).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let error = docker.run("network create -d underlay --subnet 10.8.0.0/24 -o parent=eth0 bad").unwrap_err();
    assert!(error.contains("create the network with --ipam-driver underlay"), "{error}");
    docker.run("rm --force first second").unwrap();
    docker.run("network rm pub_net other").unwrap();
    bed.assert_nothing_held();
    assert_eq!(bed.host.ip("-o link").lines().count(), 2, "lo and eth0");
}

/// The daemon is killed while containers run: they end with it, or they go on (live-restore).
fn starts() {
    for live in [false, true] {
        let bed = Bed::new();
        let plugin = Plugin::of_docker(&bed);
        let mut docker = Docker::with(&bed, json!({"live-restore": live}));
        docker.run(&format!("{NETWORK} pub_net")).unwrap();
        let before = start(&docker, "first", "--network pub_net --ip 172.16.86.10");
        let other = start(&docker, "second", "--network pub_net");
        docker.kill();
        plugin.kill();
        if live {
            assert_eq!(docker.container("first").pid, before.pid);
            assert_eq!(links(&other), [link("eth0", "172.16.86.2/24")]);
            assert_eq!((bed.gc(), bed.run("check")), Default::default());
            assert_eq!(bed.records().len(), 2);
        } else {
            bed.assert_nothing_held();
            docker.run("start first second").unwrap();
        }
        let first = docker.container("first");
        assert_eq!(links(&first), [link("eth0", "172.16.86.10/24")]);
        let error = docker.run("run --rm --network pub_net --ip 172.16.86.10 box sleep 0").unwrap_err();
        assert!(error.contains("172.16.86.10 of network docker-"), "{error}");
        docker.run("rm --force first second").unwrap();
        docker.run("network rm pub_net").unwrap();
        bed.assert_nothing_held();
    }
}

/// The compose file number `index` of the guide.
fn of_page(index: usize) -> String {
    let page = fs::read_to_string(repository().join("docs/guides/docker.md")).unwrap();
    let yaml = page.split("```yaml\n").nth(index).and_then(|rest| rest.split("```").next()).unwrap();
    yaml.replace("alpine", "box")
}

/// `docker compose WORDS` with the file `yaml`.
#[track_caller]
fn composed(bed: &Bed, docker: &Docker<'_>, yaml: &str, words: &str) -> String {
    let file = bed.path("compose.yaml");
    fs::write(&file, yaml).unwrap();
    let mut command = docker.command();
    finish(command.arg("compose").arg("--file").arg(&file).args(words.split_whitespace())).unwrap()
}

/// Docker has the address that a server on the LAN has given.
fn by_dhcp() {
    let bed = Bed::new();
    let plugin = Plugin::of_docker(&bed);
    let server = Server::start(&bed, Kind::Kea, Options::default());
    let mut docker = Docker::with(&bed, json!({"live-restore": true}));
    docker.run("network create -d underlay --ipam-driver null -o dhcp=true -o parent=eth0 house").unwrap();
    let first = start(&docker, "first", "--network name=house,driver-opt=identity=first");
    let second = start(&docker, "second", "--network house --mac-address 02:00:00:00:00:22");
    let address = |name: &str| {
        let shown: Value = serde_json::from_str(&docker.run(&format!("inspect {name}")).unwrap()).unwrap();
        shown[0]["NetworkSettings"]["Networks"]["house"]["IPAddress"].as_str().unwrap().to_owned()
    };
    let had = address("first");
    assert_eq!(links(&first), [link("eth0", &format!("{had}/24"))]);
    assert_eq!(first.routes("-4")[0], "default via 10.77.0.1 dev eth0");
    assert_eq!(second.link("eth0")["address"], "02:00:00:00:00:22");
    assert!(second.reaches(&had) && second.reaches("10.77.0.1"));
    docker.run("exec second ping -c 1 -W 5 first").unwrap();
    assert!(server.leases().iter().any(|lease| lease.host_name.as_deref() == Some("first")));
    assert_eq!((bed.gc(), bed.records().len()), (String::new(), 2));
    docker.run("restart --time 0 first").unwrap();
    assert_eq!(address("first"), had);
    docker.kill();
    plugin.kill();
    assert_eq!(links(&docker.container("first")), [link("eth0", &format!("{had}/24"))]);
    assert!(docker.container("second").reaches(&had));
    docker.run("rm --force first second").unwrap();
    docker.run("network rm house").unwrap();
    bed.assert_nothing_held();
    assert!(server.leases().is_empty());
    for (options, said) in [
        ("--ipam-driver null -o parent=eth0", "-o dhcp=true"),
        ("--ipam-driver underlay -o dhcp=true -o parent=eth0", "--ipam-driver null"),
    ] {
        let error = docker.run(&format!("network create -d underlay {options} bad")).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

/// The second compose file of the guide goes up, is changed, and is there again after restarts and a reboot.
fn home_lab(vlans: bool) {
    let bed = Bed::new();
    let _plugin = Plugin::of_docker(&bed);
    let server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    let mut docker = Docker::start(&bed);
    let before = bed.host_state();
    let mut yaml = of_page(2);
    if !vlans {
        yaml = yaml.replace("      vlan: \"20\"\n", "");
    }
    let address = |docker: &Docker<'_>, service: &str, address: &str| -> String {
        let id = composed(&bed, docker, &yaml, &format!("ps --quiet {service}"));
        let all: Vec<_> = links(&docker.container(id.trim())).into_iter().flat_map(|(_, all)| all).collect();
        let found: Vec<_> = all.iter().filter(|found| found.starts_with(address)).collect();
        assert_eq!(found.len(), 1, "{service} has {all:?}, and not {address}");
        found[0].clone()
    };
    let assert_all = |docker: &Docker<'_>, proxy: &str| {
        address(docker, "proxy", proxy);
        address(docker, "camera", "192.168.20.");
        let media = address(docker, "media", "10.77.0.");
        let leased: Vec<_> = server.leases().iter().map(|lease| format!("{}/24", lease.address)).collect();
        assert_eq!(leased, [media]);
        composed(&bed, docker, &yaml, "exec -T proxy ping -c 1 -W 5 app");
        composed(&bed, docker, &yaml, "exec -T proxy ping -c 1 -W 5 172.16.86.1");
        composed(&bed, docker, &yaml, "exec -T media ping -c 1 -W 5 10.77.0.1");
        assert_eq!((bed.gc(), bed.records().len()), (String::new(), 3));
        let has: Vec<_> =
            bed.ps().iter().map(|record| record["attachments"][0]["addresses"].to_string()).collect();
        assert_eq!(has.iter().collect::<BTreeSet<_>>().len(), 3, "{has:?}");
    };
    composed(&bed, &docker, &yaml, "up --detach");
    assert_all(&docker, "172.16.86.20/");
    composed(&bed, &docker, &yaml, "restart --timeout 0");
    assert_all(&docker, "172.16.86.20/");
    if vlans {
        bed.host.ip("link del eth0.20");
    }
    docker.reboot();
    wait(|| bed.records().len() == 3);
    assert_all(&docker, "172.16.86.20/");
    let changed = yaml.replace("172.16.86.20", "172.16.86.21");
    composed(&bed, &docker, &changed, "up --detach --timeout 0");
    assert_all(&docker, "172.16.86.21/");
    composed(&bed, &docker, &changed, "down --timeout 0");
    bed.assert_nothing_held();
    assert!(server.leases().is_empty());
    assert_eq!(bed.host_state(), before);
}

/// The time that Docker takes to start: without the plugin; with its socket; and with a network of the plugin, too. Docker does not
/// call a plugin that no network needs: where systemd listens, no process of underlay is started.
fn starts_as_fast() {
    const MORE: Duration = Duration::from_secs(1);
    let bed = Bed::new();
    let mut docker = Docker::with(&bed, json!({}));
    fs::create_dir_all(Path::new(SOCKET).parent().unwrap()).unwrap();
    let (mut without, mut unused, mut used) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let _ = fs::remove_file(SOCKET);
        without.push(docker.restart());
        let socket = UnixListener::bind(SOCKET).unwrap();
        socket.set_nonblocking(true).unwrap();
        unused.push(docker.restart());
        docker.run("info").unwrap();
        assert_eq!(socket.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "Docker has called");
        drop(socket);
        let _plugin = Plugin::of_docker(&bed);
        docker.run(&format!("{NETWORK} pub_net")).unwrap();
        used.push(docker.restart());
        assert!(start(&docker, "first", "--network pub_net").reaches("172.16.86.1"));
        docker.run("rm --force first").unwrap();
        docker.run("network rm pub_net").unwrap();
    }
    for times in [&mut without, &mut unused, &mut used] {
        times.sort_unstable();
    }
    eprintln!("Docker starts in {without:?}, with the socket {unused:?}, with a network {used:?}");
    let limit = without[1] + MORE;
    assert!(unused[1] < limit && used[1] < limit, "{without:?} {unused:?} {used:?}");
    bed.assert_nothing_held();
}

/// The compose file of the guide.
fn compose() {
    let bed = Bed::new();
    let _plugin = Plugin::of_docker(&bed);
    let docker = Docker::start(&bed);
    let yaml = of_page(1);
    let compose = |words: &str| composed(&bed, &docker, &yaml, words);
    for _ in 0..2 {
        compose("up --detach");
        let id = |service: &str| compose(&format!("ps --quiet {service}")).trim().to_owned();
        let [web, db] = ["web", "db"].map(|service| docker.container(&id(service)));
        let has = |container: &Container<'_>, address: &str| {
            links(container).iter().any(|(_, addresses)| addresses.iter().any(|found| found == address))
        };
        assert!(has(&web, "172.16.86.20/24") && has(&web, "10.1.0.20/24"), "{:?}", links(&web));
        assert!(has(&db, "172.16.86.21/24"), "{:?}", links(&db));
        assert!(db.reaches("172.16.86.20"));
        compose("exec -T db ping -c 1 -W 5 web");
        compose("down --timeout 0");
        bed.assert_nothing_held();
    }
}

impl pages::Networks for Docker<'_> {
    fn create(&self, words: &str) {
        let words = words.replacen("-d underlay ", "-d underlay --ipam-driver underlay ", 1);
        self.run(&format!("network create {words}")).unwrap();
    }

    fn start(&self, name: &str, network: &str, ip: Option<&str>) -> Container<'_> {
        let ip = ip.map(|ip| format!("--ip={ip}")).unwrap_or_default();
        start(self, name, &format!("--net={network} {ip}"))
    }

    fn remove(&self, names: &[String], network: &str) {
        self.run(&format!("rm --force {}", names.join(" "))).unwrap();
        self.run(&format!("network rm {network}")).unwrap();
    }
}

/// The networks of the pages, with Docker as it is.
fn pages(lines: Lines) {
    let bed = Bed::new();
    let _plugin = Plugin::of_docker(&bed);
    let docker = Docker::start(&bed);
    pages::run(&bed, &docker, lines);
}
