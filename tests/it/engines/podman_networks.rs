//! `podman network create -d underlay`, with podman itself: what people type, and what it shows.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::Value;

use crate::engines::pages::{self, Lines};
use crate::harness::agent::Agent;
use crate::harness::bed::{Bed, Watched, binary, finish, write_program};
use crate::harness::container::Engine::Podman;
use crate::harness::container::{Container, wait};
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::need::Need;
use crate::harness::place::Debian;
use crate::harness::podman::{import, podman};
use crate::harness::rootfs::rootfs;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    const PODMAN: &[Need] = &[Need::Macvlan, Need::Engine(Podman)];
    const KEA: &[Need] = &[Need::Macvlan, Need::Engine(Podman), Kind::Kea.need()];
    const VLAN: &[Need] = &[Need::Macvlan, Need::Vlan, Need::Engine(Podman)];
    const IPVLAN: &[Need] = &[Need::Ipvlan, Need::Dummy, Need::Engine(Podman)];
    let all: [Named; 16] = [
        ("lines_of_dockers_pages", PODMAN, lines),
        ("of_dockers_pages", PODMAN, || pages(Lines::MacvlanOnEth0)),
        ("of_dockers_pages_with_vlans", VLAN, || pages(Lines::Macvlan)),
        ("of_dockers_pages_ipvlan", IPVLAN, || pages(Lines::Ipvlan)),
        ("a_vlan_and_another_network", VLAN, vlan),
        ("restarts", PODMAN, restarts),
        ("connect_and_disconnect", PODMAN, connect),
        ("pods", PODMAN, pods),
        ("both_families", PODMAN, both_families),
        ("user_namespace", PODMAN, user_namespace),
        ("what_podman_shows_of_errors", PODMAN, errors),
        ("the_default_route_of_two", PODMAN, default_route),
        ("beside_a_bridge", PODMAN, beside_a_bridge),
        ("again_and_again", PODMAN, again_and_again),
        ("name_servers_of_dhcp", KEA, name_servers),
        ("quadlet", &[Need::Installed, Need::Engine(Podman)], quadlet),
    ];
    // Debian 12's netavark knows no plugins.
    let test = |(name, needs, run): Named| {
        let test = Test::new(format!("podman_networks::{name}"), needs, run).of(&Debian::SINCE_13);
        // They remove networks, whose names other tests have too. podman asks all containers of the machine.
        if name.starts_with("of_dockers_pages") { test.alone() } else { test }
    };
    all.map(test).into()
}

/// podman with networks of its own in `bed`, where the plugin works with the files of the bed.
struct Networks<'a> {
    bed: &'a Bed,
    /// Names of containers begin with it, for podman's are those of the machine.
    prefix: String,
}

impl<'a> Networks<'a> {
    fn new(bed: &'a Bed) -> Self {
        let plugins = bed.path("netavark");
        fs::create_dir(&plugins).unwrap();
        let words = [&[binary().display().to_string()][..], &bed.dirs()].concat();
        write_program(
            &plugins.join("underlay"),
            &format!("#!/bin/sh\nexec {} netavark \"$@\"\n", words.join(" ")),
        );
        let config = format!("[network]\nnetavark_plugin_dirs = [{:?}]\n", plugins);
        fs::write(bed.path("containers.conf"), config).unwrap();
        Self { bed, prefix: bed.host.name.clone() }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = podman(self.bed);
        command.env("CONTAINERS_CONF_OVERRIDE", self.bed.path("containers.conf"));
        command.arg("--network-config-dir").arg(self.bed.path("podman-networks"));
        command.args(words.split_whitespace().map(|word| word.replace('%', &self.prefix)));
        command
    }

    /// Runs podman with `words`, in which `%` is the prefix.
    fn try_run(&self, words: &str) -> Result<String, String> {
        finish(&mut self.command(words))
    }

    #[track_caller]
    fn run(&self, words: &str) -> String {
        self.try_run(words).unwrap()
    }

    /// Starts the container `name`, which sleeps.
    fn try_start(&self, name: &str, words: &str) -> Result<String, String> {
        let mut command = self.command(&format!("run --detach --name %{name} {words} --rootfs"));
        finish(command.arg(format!("{}:O", rootfs().display())).args(["sleep", "1000"]))
    }

    #[track_caller]
    fn start(&self, name: &str, words: &str) {
        self.try_start(name, words).unwrap();
    }

    /// What podman shows of the container's networks.
    fn shown(&self, name: &str) -> Value {
        let shown: Value = serde_json::from_str(&self.run(&format!("inspect %{name}"))).unwrap();
        shown[0]["NetworkSettings"]["Networks"].clone()
    }

    #[track_caller]
    fn exec(&self, name: &str, words: &str) -> String {
        self.run(&format!("exec %{name} {words}"))
    }

    #[track_caller]
    fn remove(&self, name: &str) {
        self.run(&format!("rm --force --time 0 %{name}"));
    }
}

impl pages::Networks for Networks<'_> {
    fn create(&self, words: &str) {
        let words = WITHOUT_AUX_ADDRESS
            .iter()
            .fold(words.to_owned(), |words, (of_docker, of_podman)| words.replace(of_docker, of_podman));
        self.run(&format!("network create {words}"));
    }

    fn start(&self, name: &str, network: &str, ip: Option<&str>) -> Container<'_> {
        let ip = ip.map(|ip| format!(":ip={ip}")).unwrap_or_default();
        self.start(name, &format!("--network {network}{ip}"));
        let shown = self.run(&format!("inspect --format {{{{.Id}}}}/{{{{.State.Pid}}}} %{name}"));
        let (id, pid) = shown.trim().split_once('/').unwrap();
        Container::of_another(self.bed, id.to_owned(), pid.parse().unwrap())
    }

    fn remove(&self, names: &[String], network: &str) {
        names.iter().for_each(|name| self.remove(name));
        self.run(&format!("network rm {network}"));
    }
}

/// podman has no `--aux-address`: its `--ip-range` leaves that address out.
const WITHOUT_AUX_ADDRESS: [(&str, &str); 2] = [
    ("--aux-address=exclude_host=172.16.86.250", "--ip-range=172.16.86.1-172.16.86.249"),
    (
        "--ip-range=192.168.32.128/25 --gateway=192.168.32.254 --aux-address=my-router=192.168.32.129",
        "--ip-range=192.168.32.130-192.168.32.254 --gateway=192.168.32.254",
    ),
];

/// The networks of the pages, with podman as it is.
fn pages(lines: Lines) {
    let bed = Watched::new();
    pages::run(&bed, &Networks::new(&bed), lines);
}

const PUB_NET: &str = "--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net";

/// The first examples of Docker's pages, with another driver.
fn lines() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    assert_eq!(podman.run(&format!("network create -d underlay {PUB_NET}")), "pub_net\n");
    podman.start("web", "--network pub_net:ip=172.16.86.10,mac=02:00:00:00:00:10");
    podman.start("other", "--network pub_net");
    let shown = &podman.shown("web")["pub_net"];
    assert_eq!((&shown["IPAddress"], &shown["Gateway"]), (&"172.16.86.10".into(), &"172.16.86.1".into()));
    assert_eq!(shown["MacAddress"], "02:00:00:00:00:10");
    assert_eq!(podman.shown("other")["pub_net"]["IPAddress"], "172.16.86.2");
    assert!(bed.answers("172.16.86.10") && bed.answers("172.16.86.2"));
    assert!(podman.exec("web", "ip route").contains("default via 172.16.86.1 dev eth0"));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    let identities: Vec<_> = bed.ps().iter().map(|shown| shown["identity"].to_string()).collect();
    assert!(identities.contains(&format!("\"{}web\"", podman.prefix)), "{identities:?}");
    let said = podman.try_start("taken", "--network pub_net:ip=172.16.86.10").unwrap_err();
    assert!(said.contains("172.16.86.10"), "{said}");
    let _ = podman.try_run("rm --force %taken");
    podman.remove("web");
    podman.remove("other");
    bed.assert_nothing_held();
    // One that no other test has containers in: those are of the whole machine.
    podman.run("network create -d underlay --subnet 10.9.0.0/24 -o parent=eth0 %");
    assert_eq!(podman.run("network rm %").trim(), podman.prefix);
}

/// The second example of the page, and a container that prefers the gateway of its second network.
fn vlan() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    podman.run(&format!("network create -d underlay {PUB_NET}"));
    podman.run("network create -d underlay -o driver=macvlan -o macvlan_mode=private --subnet=192.168.32.0/24 -o parent=eth0.50 macvlan50");
    podman.start(
        "vlan",
        "--network macvlan50:ip=192.168.32.9 --network pub_net:interface_name=lan0,gw-priority=1",
    );
    assert_eq!(podman.shown("vlan")["macvlan50"]["IPAddress"], "192.168.32.9");
    assert!(bed.host.link("eth0.50").is_some());
    let routes = podman.exec("vlan", "ip route");
    assert!(routes.starts_with("default via 172.16.86.1 dev lan0"), "{routes}");
    podman.remove("vlan");
    bed.assert_nothing_held();
    assert!(bed.host.link("eth0.50").is_none());
}

/// A container keeps its address when it is restarted, killed, and created again.
fn restarts() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    podman.run(&format!("network create -d underlay {PUB_NET}"));
    podman.start("first", "--network pub_net");
    podman.start("web", "--network pub_net");
    let had = |podman: &Networks<'_>| {
        let shown = &podman.shown("web")["pub_net"];
        (shown["IPAddress"].clone(), shown["MacAddress"].clone())
    };
    let before = had(&podman);
    podman.remove("first");
    podman.run("restart --time 0 %web");
    assert_eq!(had(&podman), before);
    podman.run("kill %web");
    wait(|| podman.run("inspect --format {{.State.Status}} %web") == "exited\n");
    wait(|| bed.ps().is_empty());
    bed.assert_nothing_held();
    podman.run("start %web");
    assert_eq!(had(&podman), before);
    podman.remove("web");
    podman.start("web", "--network pub_net");
    assert_eq!(had(&podman), before);
    podman.remove("web");
    bed.assert_nothing_held();
}

fn connect() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    podman.run(&format!("network create -d underlay {PUB_NET}"));
    podman.run("network create -d underlay --internal --subnet 10.9.0.0/24 -o parent=eth0 dmz");
    podman.start("web", "--network pub_net");
    podman.run("network connect --ip 10.9.0.9 dmz %web");
    assert!(podman.exec("web", "ip addr show dev eth1").contains("10.9.0.9/24"));
    assert_eq!(podman.shown("web")["dmz"]["IPAddress"], "10.9.0.9");
    assert_eq!((bed.ps().len(), bed.run("check")), (2, String::new()));
    podman.run("network disconnect pub_net %web");
    assert_eq!(bed.ps().len(), 1);
    assert!(!podman.exec("web", "ip link").contains("eth0"));
    podman.run("network connect pub_net %web");
    assert!(podman.exec("web", "ip route").contains("default via 172.16.86.1"));
    podman.remove("web");
    bed.assert_nothing_held();
}

/// podman's other words for addresses.
fn both_families() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    podman.run(
        "network create -d underlay --subnet=172.16.86.0/24 --gateway=172.16.86.1 --subnet 2001:db8:abc8::/64 \
         -o parent=eth0 pub_net",
    );
    podman.start(
        "web",
        "--network pub_net --ip 172.16.86.10 --ip6 2001:db8:abc8::9 --mac-address 02:00:00:00:00:10",
    );
    let shown = podman.exec("web", "ip addr show dev eth0");
    for said in ["172.16.86.10/24", "2001:db8:abc8::9/64", "02:00:00:00:00:10"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert_eq!(podman.shown("web")["pub_net"]["GlobalIPv6Address"], "2001:db8:abc8::9");
    podman.run("network reload %web");
    assert_eq!(podman.exec("web", "ip addr show dev eth0").matches("172.16.86.10/24").count(), 1);
    assert!(bed.answers("172.16.86.10"));
    podman.remove("web");
    bed.assert_nothing_held();
}

/// podman mounts the namespace of such a container after the runtime has made it.
fn user_namespace() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    podman.run(&format!("network create -d underlay {PUB_NET}"));
    let image = format!("localhost/{}", bed.host.name);
    import(&bed, &image);
    podman.run(&format!(
        "run --detach --name %web --uidmap 0:200000:65536 --network pub_net:ip=172.16.86.10 {image} sleep 1000"
    ));
    assert!(bed.answers("172.16.86.10"));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    podman.remove("web");
    bed.assert_nothing_held();
    podman.run(&format!("rmi {image}"));
}

/// The network is the pod's: each container has it, and the last one ends it.
fn pods() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    podman.run(&format!("network create -d underlay {PUB_NET}"));
    podman.run("pod create --name %pod --network pub_net:ip=172.16.86.10");
    podman.start("a", "--pod %pod");
    podman.start("b", "--pod %pod");
    assert!(bed.answers("172.16.86.10"));
    for name in ["a", "b"] {
        assert!(podman.exec(name, "ip addr show dev eth0").contains("172.16.86.10/24"));
    }
    assert_eq!(bed.ps().len(), 1);
    podman.run("pod restart %pod");
    assert!(bed.answers("172.16.86.10"));
    podman.run("pod rm --force --time 0 %pod");
    bed.assert_nothing_held();
}

fn errors() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    let said = podman.try_run("network create -d underlay -o isolate=true -o parent=eth0 lan").unwrap_err();
    assert!(
        said.contains("network lan: option \"isolate\" is not known (hint: use driver, network, parent"),
        "{said}"
    );
    let said = podman.try_run("network create -d underlay -o parent=gone0 lan").unwrap_err();
    assert!(said.contains("gone0"), "{said}");
    let networks = podman.run("network ls --quiet --filter driver=underlay");
    assert_eq!(networks, "");
    podman.run(&format!("network create -d underlay {PUB_NET}"));
    let said = podman.try_start("web", "--network pub_net:zork=1").unwrap_err();
    assert!(said.contains("option zork of network pub_net: is not known"), "{said}");
    let _ = podman.try_run("rm --force %web");
    // The second network fails: podman takes the first back.
    let said = podman.try_start("web", "--network pub_net --network pub_net2").unwrap_err();
    assert!(said.contains("pub_net2"), "{said}");
    let _ = podman.try_run("rm --force %web");
    podman.run("network create -d underlay --subnet 10.9.0.0/30 -o parent=eth0 small");
    podman.start("only", "--network small");
    let said = podman.try_start("web", "--network pub_net --network small").unwrap_err();
    assert!(said.contains("network small"), "{said}");
    let _ = podman.try_run("rm --force %web");
    assert_eq!(bed.ps().len(), 1);
    podman.remove("only");
    bed.assert_nothing_held();
}

/// The bridge of podman's gives the default route, unless the LAN's is preferred.
fn default_route() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    podman
        .run("network create -d underlay -o parent=eth0 --subnet 172.16.86.0/24 --gateway 172.16.86.1 %one");
    podman.run("network create -d underlay -o parent=eth0 --subnet 10.9.0.0/24 --gateway 10.9.0.1 %two");
    let first = |networks: &str| {
        podman.start("web", networks);
        let routes = podman.exec("web", "ip route");
        podman.run("rm --force --time 0 %web");
        routes.lines().next().unwrap_or_default().to_owned()
    };
    // podman before 6 names and sets them up in any order.
    for _ in 0..6 {
        let named = "--network %one:interface_name=eth0 --network %two:interface_name=eth1";
        assert!(first(named).starts_with("default via 172.16.86.1 dev eth0"));
        let named = "--network %one:interface_name=eth1 --network %two:interface_name=eth0";
        assert!(first(named).starts_with("default via 10.9.0.1 dev eth0"));
        assert!(first("--network %one --network %two:gw-priority=1").starts_with("default via 10.9.0.1 "));
    }
    podman.run("network rm %one %two");
    bed.assert_nothing_held();
}

fn beside_a_bridge() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    podman.run(&format!("network create -d underlay {PUB_NET}"));
    podman.run("network create --disable-dns --interface-name ulbr0 --subnet 10.99.77.0/24 bridge2");
    podman.start(
        "web",
        "--network bridge2:interface_name=br0 --network pub_net:interface_name=lan0,gw-priority=1",
    );
    let routes = podman.exec("web", "ip route");
    assert!(routes.starts_with("default via 172.16.86.1 dev lan0"), "{routes}");
    assert!(routes.contains("default via 10.99.77.1 dev br0"), "{routes}");
    assert!(bed.answers("172.16.86.2"));
    podman.remove("web");
    bed.assert_nothing_held();
    // What netavark leaves of its firewall.
    let _ = bed.host.try_run("nft", "delete table inet netavark");
}

/// Nothing is left, however often.
fn again_and_again() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    podman.run(&format!("network create -d underlay {PUB_NET}"));
    for round in 0..20 {
        podman.start("web", "--network pub_net");
        assert_eq!(podman.shown("web")["pub_net"]["IPAddress"], "172.16.86.2", "round {round}");
        podman.remove("web");
    }
    bed.assert_nothing_held();
}

/// podman writes the name servers of the lease into the container's resolv.conf.
fn name_servers() {
    let bed = Watched::new();
    let podman = Networks::new(&bed);
    let dns = vec![Ipv4Addr::new(10, 77, 0, 2)];
    let _server =
        Server::start(&bed, Kind::Kea, Options { dns, domain: Some("b.example"), ..Options::default() });
    let _agent = Agent::start(&bed);
    podman.run("network create -d underlay --ipam-driver dhcp -o parent=eth0 lan");
    podman.start("web", "--network lan --hostname printer");
    let resolv = podman.exec("web", "cat /etc/resolv.conf");
    assert!(resolv.contains("search b.example") && resolv.contains("nameserver 10.77.0.2"), "{resolv}");
    assert!(podman.shown("web")["lan"]["IPAddress"].as_str().unwrap().starts_with("10.77.0."));
    assert!(
        bed.run("inspect %".replace('%', bed.ps()[0]["container"].as_str().unwrap()).as_str())
            .contains("printer")
    );
    podman.remove("web");
    bed.assert_nothing_held();
}

/// What podman's generator makes of the example: the network, and a container in it.
fn quadlet() {
    let generator = "/usr/lib/systemd/system-generators/podman-system-generator";
    let mut command = Command::new(generator);
    let examples = crate::harness::container::repository().join("packaging/examples");
    let made = finish(command.arg("--dryrun").env("QUADLET_UNIT_DIRS", examples)).unwrap();
    for said in [
        "---lan-network.service---",
        "--driver underlay",
        "--opt parent=eth0",
        "---lan-db.service---",
        "--network systemd-lan:ip=192.168.1.220",
    ] {
        assert!(made.contains(said), "{said:?} is not in\n{made}");
    }
    assert!(fs::metadata("/usr/libexec/netavark/underlay").unwrap().is_file());
}
