//! podman's networks of driver `underlay`: the calls of netavark's plugin API, as netavark makes them.

use std::fs;
use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::addresses::dhcp::lan;
use crate::addresses::dhcp_renewal::events;
use crate::harness::agent::Agent;
use crate::harness::bed::{Bed, Netns, Outcome, Watched, outcome, run};
use crate::harness::container::Engine::Bare;
use crate::harness::container::wait;
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    const MACVLAN: &[Need] = &[Need::Macvlan];
    const KEA: &[Need] = &[Need::Macvlan, Kind::Kea.need()];
    let all: [Named; 19] = [
        ("set_up_and_torn_down", MACVLAN, set_up_and_torn_down),
        ("what_is_asked_for", MACVLAN, asked_for),
        ("what_is_refused", MACVLAN, refused),
        ("what_is_created", MACVLAN, created),
        ("what_is_not_created", MACVLAN, not_created),
        ("names_of_both", MACVLAN, names_of_both),
        ("several_networks", MACVLAN, several_networks),
        ("a_name_keeps_its_address", MACVLAN, same_name),
        ("beside_the_hook", MACVLAN, beside_the_hook),
        ("a_network_of_ours", MACVLAN, network_of_ours),
        ("a_path_that_is_left", MACVLAN, path_that_is_left),
        ("a_late_teardown", MACVLAN, late_teardown),
        ("a_path_that_has_gone", MACVLAN, path_that_has_gone),
        ("the_host", MACVLAN, the_host),
        ("a_lost_ledger", MACVLAN, lost_ledger),
        ("a_damaged_record", MACVLAN, damaged_record),
        ("vlans", &[Need::Macvlan, Need::Vlan], vlans),
        ("dhcp", KEA, dhcp),
        ("in_podmans_folder", &[], in_podmans_folder),
    ];
    all.map(|(name, needs, run)| Test::new(format!("netavark::{name}"), needs, run)).into()
}

/// A container of podman's in one network.
#[derive(Clone)]
pub struct Call {
    id: &'static str,
    name: &'static str,
    ifname: &'static str,
    network: Value,
    options: Value,
}

impl Call {
    pub fn text(&self) -> String {
        let mut options = json!({
            "aliases": [&self.id[..12]], "interface_name": self.ifname, "static_ips": null, "static_mac": null,
            "options": null,
        });
        options.as_object_mut().unwrap().extend(self.options.as_object().unwrap().clone());
        json!({
            "container_id": self.id, "container_name": self.name, "port_mappings": null, "network": self.network,
            "network_options": options,
        })
        .to_string()
    }

    pub fn call(&self, bed: &Bed, what: &str, netns: &Netns) -> Outcome {
        bed.outcome(&format!("netavark {what} {}", netns.path().display()), self.text())
    }

    /// What podman is told, which must be a status block.
    #[track_caller]
    pub fn set_up(&self, bed: &Bed, netns: &Netns) -> Value {
        let done = self.call(bed, "setup", netns);
        assert_eq!((done.code, &*done.stderr), (0, ""), "{}", done.stdout);
        serde_json::from_str(&done.stdout).unwrap()
    }

    #[track_caller]
    pub fn tear_down(&self, bed: &Bed, netns: &Netns) {
        let done = self.call(bed, "teardown", netns);
        assert_eq!((done.code, &*done.stdout, &*done.stderr), (0, "", ""));
    }

    /// The error that podman is told.
    #[track_caller]
    fn refused(&self, bed: &Bed, netns: &Netns) -> String {
        error(&self.call(bed, "setup", netns))
    }
}

/// The error that podman is told.
#[track_caller]
pub fn error(done: &Outcome) -> String {
    assert!(done.code != 0 && done.stderr.is_empty(), "{done:?}");
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    told["error"].as_str().unwrap().to_owned()
}

const WEB: &str = "3b5f1e0a9c7d3b5f1e0a9c7d3b5f1e0a9c7d3b5f1e0a9c7d3b5f1e0a9c7d3b5f";
const OTHER: &str = "00ff1e0a9c7d3b5f1e0a9c7d3b5f1e0a9c7d3b5f1e0a9c7d3b5f1e0a9c7d3b5f";

/// What podman passes to `create`, with `more` of its keys.
fn given(name: &str, more: Value) -> Value {
    let mut network = json!({
        "name": name, "id": WEB, "driver": "underlay", "created": "0001-01-01T00:00:00Z", "ipv6_enabled": false,
        "internal": false, "dns_enabled": true, "options": {"parent": "eth0"}, "ipam_options": {},
    });
    network.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    network
}

/// What podman keeps of it.
#[track_caller]
fn create(bed: &Bed, network: Value) -> Value {
    let done = bed.outcome("netavark create", network.to_string());
    assert_eq!((done.code, &*done.stderr), (0, ""), "{}", done.stdout);
    serde_json::from_str(&done.stdout).unwrap()
}

fn subnets() -> Value {
    json!({"subnets": [
        {"subnet": "172.16.86.0/24", "gateway": "172.16.86.1"},
        {"subnet": "2001:db8:abc8::/64", "gateway": "2001:db8:abc8::10"},
    ], "ipv6_enabled": true})
}

/// The container `web` in a network with both families.
pub fn web(bed: &Bed) -> Call {
    let network = create(bed, given("pub_net", subnets()));
    Call { id: WEB, name: "web", ifname: "eth0", network, options: json!({}) }
}

/// A process in `netns`.
fn join(netns: &Netns) -> Child {
    let child = netns.command("sleep").arg("1000").spawn().unwrap();
    wait(|| fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "sleep\n");
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn addresses(status: &Value, ifname: &str) -> Vec<String> {
    let subnets = status["interfaces"][ifname]["subnets"].as_array().unwrap();
    subnets.iter().map(|subnet| subnet["ipnet"].as_str().unwrap().to_owned()).collect()
}

/// A network of podman's needs no file of ours, and each call can come twice.
fn set_up_and_torn_down() {
    let bed = Watched::new();
    let (web, pod) = (web(&bed), Netns::new("pod"));
    let status = web.set_up(&bed, &pod);
    assert_eq!(
        status["interfaces"]["eth0"]["subnets"],
        json!([
            {"ipnet": "172.16.86.2/24", "gateway": "172.16.86.1"},
            {"ipnet": "2001:db8:abc8::1/64", "gateway": "2001:db8:abc8::10"},
        ]),
    );
    let link = pod.link("eth0").unwrap();
    assert_eq!(status["interfaces"]["eth0"]["mac_address"], link["address"]);
    assert_eq!(web.set_up(&bed, &pod), status, "once more");
    assert!(bed.answers("172.16.86.2"));
    let [shown] = bed.ps().try_into().unwrap();
    assert_eq!((&shown["identity"], &shown["holder"]["engine"]), (&json!("web"), &json!("podman")));
    assert_eq!((&shown["alive"], &shown["state"]), (&json!(true), &json!("attached")));
    let table = bed.run("ps");
    assert!(table.contains("3b5f1e0a9c7d  pub_net  eth0"), "{table}");
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    let metric = |family: &str| pod.ip(&format!("{family} route show default"));
    assert_eq!(metric("-4"), "default via 172.16.86.1 dev eth0 metric 99 \n");
    assert!(metric("-6").contains("via 2001:db8:abc8::10 dev eth0 metric 99 "));
    web.tear_down(&bed, &pod);
    assert!(pod.link("eth0").is_none());
    bed.assert_nothing_held();
    web.tear_down(&bed, &pod);
    let events = bed.run("events");
    assert_eq!(events.matches(" attached ").count(), 1, "{events}");
    assert_eq!(events.matches(" detached ").count(), 1, "{events}");
}

fn asked_for() {
    let bed = Watched::new();
    let pod = Netns::new("pod");
    let options = json!({
        "static_ips": ["172.16.86.77"], "static_mac": "02:00:00:00:00:77",
        "options": {"route": "10.9.0.0/16@172.16.86.9", "default-route": "no", "identity": "db"},
    });
    let web = Call { ifname: "lan0", options, ..web(&bed) };
    let status = web.set_up(&bed, &pod);
    assert_eq!(addresses(&status, "lan0"), ["172.16.86.77/24", "2001:db8:abc8::1/64"]);
    assert_eq!(status["interfaces"]["lan0"]["mac_address"], "02:00:00:00:00:77");
    assert_eq!(status["interfaces"]["lan0"]["subnets"][0], json!({"ipnet": "172.16.86.77/24"}));
    assert!(pod.ip("route").contains("10.9.0.0/16 via 172.16.86.9 dev lan0"));
    assert!(!pod.ip("route").contains("default"));
    assert_eq!(bed.ps()[0]["identity"], "db");
    // Nobody else gets what it has.
    let other = Call { id: OTHER, name: "other", ..web.clone() };
    let elsewhere = Netns::new("other");
    let said = other.refused(&bed, &elsewhere);
    assert!(said.contains("172.16.86.77") && said.contains(&format!("{WEB}+lan0")), "{said}");
    assert!(elsewhere.link("lan0").is_none());
    other.tear_down(&bed, &elsewhere);
    web.tear_down(&bed, &pod);
    bed.assert_nothing_held();
}

fn refused() {
    let bed = Watched::new();
    let (web, pod) = (web(&bed), Netns::new("pod"));
    for (options, said) in [
        (json!({"static_ips": ["10.9.9.9"]}), "10.9.9.9"),
        (json!({"static_ips": ["172.16.86.250"]}), "172.16.86.250"),
        (json!({"interface_name": "../../x"}), "interface name"),
        (json!({"interface_name": "a;reboot"}), "interface name"),
        (
            json!({"options": {"zork": "1"}}),
            "option zork of network pub_net: is not known (hint: use ip, mac",
        ),
        (json!({"options": {"ip": "172.16.86.9"}}), "option ip of network pub_net"),
        (json!({"options": {"gw-priority": "high"}}), "option gw-priority of network pub_net"),
        (json!({"options": {"identity": "a b"}}), "option identity of network pub_net"),
        (json!({"options": {"vlan": "50"}}), "vlan"),
        (json!({"static_mac": "01:00:00:00:00:01"}), "01:00:00:00:00:01"),
    ] {
        let call = Call { options: options.clone(), ..web.clone() };
        let told = call.refused(&bed, &pod);
        assert!(told.contains(said), "{options}: {told}");
    }
    for (what, network) in [
        ("its name", json!({"name": "../x", "driver": "underlay"})),
        ("no name", json!({"driver": "underlay"})),
        ("no network", json!(null)),
        ("a list", json!([])),
    ] {
        assert!(!Call { network, ..web.clone() }.refused(&bed, &pod).is_empty(), "{what}");
    }
    let path = pod.path();
    let setup = |stdin: &str| bed.outcome(&format!("netavark setup {}", path.display()), stdin);
    for text in ["", "{", "[]", "null", r#"{"container_id": "../../../etc/passwd"}"#] {
        assert!(!error(&setup(text)).is_empty());
    }
    let elsewhere = bed.outcome("netavark setup /run/netns/gone", web.text());
    assert!(error(&elsewhere).contains("no network namespace is mounted at /run/netns/gone"));
    bed.configure("underlay.json", r#"{"allowed_networks": ["dmz"]}"#);
    assert!(web.refused(&bed, &pod).contains("underlay.json: allowed_networks: network pub_net"));
    bed.configure("underlay.json", "{}");
    assert_eq!(pod.ip("-brief link").lines().count(), 1);
    bed.assert_nothing_held();
    web.set_up(&bed, &pod);
    web.tear_down(&bed, &pod);
}

/// podman is not to choose addresses itself, and keeps all else as it is.
fn created() {
    let bed = Watched::new();
    let network = given("pub_net", subnets());
    let kept = create(&bed, network.clone());
    let mut expected = network;
    expected["ipam_options"] = json!({"driver": "none"});
    expected["dns_enabled"] = false.into();
    assert_eq!(kept, expected);
    assert_eq!(create(&bed, kept.clone()), kept);
    let dhcp = create(&bed, given("lan", json!({"ipam_options": {"driver": "dhcp"}})));
    assert_eq!(dhcp["ipam_options"], json!({"driver": "dhcp"}));
    // As with podman's macvlan driver, if nothing says where addresses come from.
    let nothing = |options: Value| {
        create(&bed, given("lan", json!({"options": options})))["ipam_options"]["driver"].clone()
    };
    assert_eq!(nothing(json!({"parent": "eth0"})), "dhcp");
    assert_eq!(nothing(json!({"parent": "eth0", "driver": "ipvlan"})), "none");
    assert_eq!(nothing(json!({"parent": "eth0", "ipv6": "slaac"})), "none");
    // A word that podman's own drivers take.
    create(&bed, given("aside", json!({"options": {"parent": "eth0", "no_default_route": "1"}})));
    assert_eq!(bed.run("network ls -q"), "", "podman has the definition");
    // What a killed call leaves of the copy.
    let left = bed.path("data/podman/networks/#lan.json~1-1");
    fs::write(&left, "{").unwrap();
    assert!(bed.gc().contains("#lan.json~1-1") && !left.exists());
}

fn not_created() {
    let bed = Watched::new();
    bed.create("-o parent=eth0 ours");
    for (name, more, said) in [
        ("lan", json!({"options": {"parent": "gone0"}}), "gone0"),
        (
            "lan",
            json!({"options": {"parent": "eth0", "isolate": "true"}}),
            "network lan: option \"isolate\" is not known",
        ),
        (
            "lan",
            json!({"options": {"parent": "eth0", "driver": "bridge"}}),
            "option driver: unknown driver \"bridge\"",
        ),
        (
            "lan",
            json!({"options": {"parent": "eth0", "bclim": "5", "ipvlan_mode": "l2"}}),
            "bclim: is not an option of driver ipvlan",
        ),
        (
            "lan",
            json!({"network_interface": "eth1"}),
            "--interface-name eth1 and option parent=eth0 are given",
        ),
        ("lan", json!({"ipv6_enabled": true}), "--ipv6 is given, and no IPv6 subnet"),
        ("lan", json!({"ipam_options": {"driver": "none", "x": "y"}}), "IPAM option x=y is not known"),
        ("lan", json!({"subnets": [{"subnet": "10.9.0.0/24", "gateway": "10.8.0.1"}]}), "10.8.0.1"),
        (
            "lan",
            json!({"options": {"network": "ours", "parent": "eth0"}}),
            "option network=ours is given, and more",
        ),
        ("lan", json!({"options": {"network": "gone"}}), "network gone does not exist"),
        (
            "ours",
            json!({}),
            "network ours is defined by `underlay network create` too (hint: give it another name, or make it of that one: -o network=ours",
        ),
    ] {
        let told = error(&bed.outcome("netavark create", given(name, more.clone()).to_string()));
        assert!(told.contains(said), "{more}: {told}");
    }
    assert_eq!(bed.host.ip("-brief link").lines().count(), 2, "only lo and eth0");
}

/// A network of ours that has got the name of one of podman's.
fn names_of_both() {
    let bed = Watched::new();
    let (web, pod) = (web(&bed), Netns::new("pod"));
    bed.create("--subnet 172.16.86.0/24 -o parent=eth0 pub_net");
    assert!(web.refused(&bed, &pod).contains("network pub_net is defined by `underlay network create` too"));
    bed.assert_nothing_held();
}

/// Each network of a container is set up by itself. The default route is that of the highest gw-priority, else of `eth0`.
fn several_networks() {
    let bed = Watched::new();
    let pod = Netns::new("pod");
    let first = web(&bed);
    let second = json!({"subnets": [{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}]});
    let second = Call { ifname: "eth1", network: create(&bed, given("dmz", second)), ..first.clone() };
    let before = [first.set_up(&bed, &pod), second.set_up(&bed, &pod)];
    let defaults = || pod.ip("route show default");
    // In whatever order podman calls, that of the network on `eth0` counts.
    let both = "default via 172.16.86.1 dev eth0 metric 99 \n\
                default via 10.9.0.1 dev eth1 metric 101 \n";
    assert_eq!(defaults(), both);
    assert_eq!(bed.ps().len(), 2);
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    second.tear_down(&bed, &pod);
    let options = json!({"options": {"gw-priority": "5"}});
    let second = Call { options, ..second };
    second.set_up(&bed, &pod);
    let both = "default via 10.9.0.1 dev eth1 metric 94 \n\
                default via 172.16.86.1 dev eth0 metric 99 \n";
    assert_eq!(defaults(), both);
    second.tear_down(&bed, &pod);
    assert_eq!(defaults().lines().count(), 1);
    assert!(pod.link("eth0").is_some());
    first.tear_down(&bed, &pod);
    bed.assert_nothing_held();
    // Both are remembered.
    let other = Call { id: OTHER, name: "other", ..first.clone() };
    let elsewhere = Netns::new("other");
    other.set_up(&bed, &elsewhere);
    let has = |status: Value| {
        ["eth0", "eth1"].map(|name| status["interfaces"][name]["subnets"][0]["ipnet"].clone())
    };
    assert_eq!([&first, &second].map(|call| has(call.set_up(&bed, &pod))), before.map(has));
    for (call, netns) in [(&other, &elsewhere), (&first, &pod), (&second, &pod)] {
        call.tear_down(&bed, netns);
    }
    bed.assert_nothing_held();
}

/// The container is created again: it has another id and another namespace.
fn same_name() {
    let bed = Watched::new();
    let (web, pod) = (web(&bed), Netns::new("pod"));
    let status = web.set_up(&bed, &pod);
    web.tear_down(&bed, &pod);
    let other = Call { id: OTHER, name: "other", ..web.clone() };
    let elsewhere = Netns::new("other");
    assert_ne!(other.set_up(&bed, &elsewhere), status);
    let again = Call { id: "4444444444444444", ..web };
    let pod = Netns::new("again");
    assert_eq!(again.set_up(&bed, &pod), status, "its addresses and its MAC address");
    other.tear_down(&bed, &elsewhere);
    again.tear_down(&bed, &pod);
    bed.assert_nothing_held();
}

/// Containers of hooks are neighbours: no address is given twice.
fn beside_the_hook() {
    let bed = Watched::new();
    bed.create("--subnet 172.16.86.0/24 --gateway 172.16.86.1 -o parent=eth0 lan");
    let hooked = bed.container(Bare, "hooked").networks("lan").start().unwrap();
    let (web, pod) = (web(&bed), Netns::new("pod"));
    let status = web.set_up(&bed, &pod);
    assert_eq!(hooked.addresses("eth0"), ["172.16.86.2/24"]);
    assert_eq!(addresses(&status, "eth0")[0], "172.16.86.3/24");
    let taken = Call { id: OTHER, options: json!({"static_ips": ["172.16.86.2"]}), ..web.clone() };
    assert!(taken.refused(&bed, &Netns::new("taken")).contains("172.16.86.2"));
    web.tear_down(&bed, &pod);
    drop(hooked);
}

fn network_of_ours() {
    let bed = Watched::new();
    bed.create("--subnet 172.16.86.0/24 --reserve web=172.16.86.66 -o parent=eth0 ours");
    let network = create(&bed, given("any", json!({"options": {"network": "ours"}})));
    let pod = Netns::new("pod");
    let web = Call { id: WEB, name: "web", ifname: "eth0", network, options: json!({}) };
    assert_eq!(addresses(&web.set_up(&bed, &pod), "eth0"), ["172.16.86.66/24"]);
    assert!(bed.outcome("network rm ours", "").stderr.contains("in use"));
    web.tear_down(&bed, &pod);
    bed.run("network rm ours");
    assert!(web.refused(&bed, &pod).contains("network ours does not exist"));
    bed.assert_nothing_held();
}

/// podman was killed, and has left the path of the container's namespace. The container starts again all the same, unless
/// a process is in the old one.
fn path_that_is_left() {
    let bed = Watched::new();
    let (web, left) = (web(&bed), Netns::new("left"));
    let status = web.set_up(&bed, &left);
    let doctor = || bed.outcome("doctor", "").stdout;
    let said =
        format!("its network namespace is still mounted at {} [namespace-left]", left.path().display());
    assert!(doctor().contains(&said), "{}", doctor());
    let process = join(&left);
    assert!(!doctor().contains("namespace-left"));
    let pod = Netns::new("pod");
    let said = web.refused(&bed, &pod);
    assert!(said.contains("is attached already") && said.contains(left.path().to_str().unwrap()), "{said}");
    end(process);
    assert_eq!(web.set_up(&bed, &pod), status);
    assert!(left.link("eth0").is_none());
    web.tear_down(&bed, &pod);
    bed.assert_nothing_held();
}

/// A teardown for the namespace of before leaves the container alone that has started again.
fn late_teardown() {
    let bed = Watched::new();
    let (web, before, pod) = (web(&bed), Netns::new("before"), Netns::new("pod"));
    web.set_up(&bed, &before);
    let status = web.set_up(&bed, &pod);
    web.tear_down(&bed, &before);
    assert_eq!(web.set_up(&bed, &pod), status);
    assert!(pod.link("eth0").is_some());
    web.tear_down(&bed, &pod);
    bed.assert_nothing_held();
}

/// Something has unmounted the namespace; what is left of it is deleted all the same, also by gc.
fn path_that_has_gone() {
    for by_gc in [false, true] {
        let bed = Watched::new();
        let (web, pod) = (web(&bed), Netns::new("pod"));
        web.set_up(&bed, &pod);
        run("umount", &["--lazy", pod.path().to_str().unwrap()]).unwrap();
        if by_gc {
            assert!(bed.gc().contains("rm "));
        } else {
            web.tear_down(&bed, &pod);
        }
        bed.assert_nothing_held();
    }
}

fn the_host() {
    let bed = Watched::new();
    let web = web(&bed);
    let said = web.refused(&bed, &bed.host);
    assert!(said.contains("shares the host's network namespace"), "{said}");
    bed.assert_nothing_held();
}

/// The links tell what was lost: the container keeps its addresses, and podman finds it.
fn lost_ledger() {
    let bed = Watched::new();
    let (web, pod) = (web(&bed), Netns::new("pod"));
    let status = web.set_up(&bed, &pod);
    let before = bed.ps();
    for with_process in [false, true] {
        let process = with_process.then(|| join(&pod));
        fs::remove_dir_all(bed.path("run")).unwrap();
        bed.gc();
        let [now] = bed.ps().try_into().unwrap();
        for key in ["container", "alive", "state"] {
            assert_eq!(now[key], before[0][key], "{key}");
        }
        for key in ["network", "ifname", "addresses", "mac", "routes"] {
            assert_eq!(now["attachments"][0][key], before[0]["attachments"][0][key], "{key}");
        }
        for key in ["made", "netns"] {
            assert_eq!(now["holder"][key], before[0]["holder"][key], "{key}");
        }
        assert_eq!((bed.run("check"), bed.gc()), Default::default());
        process.into_iter().for_each(end);
    }
    assert_eq!(web.set_up(&bed, &pod), status);
    web.tear_down(&bed, &pod);
    bed.assert_nothing_held();
}

/// A record that cannot be read keeps nobody from ending, or from starting again.
fn damaged_record() {
    for again in [false, true] {
        let bed = Watched::new();
        let (web, pod) = (web(&bed), Netns::new("pod"));
        web.set_up(&bed, &pod);
        fs::write(bed.path(&format!("run/containers/{WEB}+eth0.json")), "{").unwrap();
        let called = if again {
            let pod = Netns::new("again");
            let called = web.call(&bed, "setup", &pod);
            web.call(&bed, "teardown", &pod);
            called
        } else {
            web.call(&bed, "teardown", &pod)
        };
        assert_eq!(called.code, 0, "{called:?}");
        bed.gc();
        bed.assert_nothing_held();
    }
}

/// The parent is made for the first container, and deleted with the last.
fn vlans() {
    let bed = Watched::new();
    let subnets = json!([{"subnet": "10.9.50.0/24", "gateway": "10.9.50.1"}]);
    let options = json!({"parent": "eth0", "vlans": "50-59"});
    let network = create(&bed, given("lan", json!({"subnets": subnets, "options": options})));
    let pod = Netns::new("pod");
    let options = json!({"options": {"vlan": "50"}});
    let web = Call { id: WEB, name: "web", ifname: "eth0", network, options };
    web.set_up(&bed, &pod);
    assert!(bed.host.link("eth0.50").is_some());
    web.tear_down(&bed, &pod);
    bed.assert_nothing_held();
    assert!(bed.host.link("eth0.50").is_none());
}

/// A lease, with its name servers for podman; the agent renews it without a process of the container's.
fn dhcp() {
    let bed = Bed::new();
    bed.lan.ip("addr add 10.77.0.1/24 dev lan0");
    let options = Options {
        dns: vec![lan(2)],
        domain: Some("b.example"),
        lease: 6,
        t1_t2: Some((2, 4)),
        ..Options::default()
    };
    let server = Server::start(&bed, Kind::Kea, options);
    let _agent = Agent::start(&bed);
    let network = create(&bed, given("lan", json!({"ipam_options": {"driver": "dhcp"}})));
    let pod = Netns::new("pod");
    let web = Call { id: WEB, name: "web", ifname: "eth0", network, options: json!({}) };
    let status = web.set_up(&bed, &pod);
    assert_eq!(
        (&status["dns_server_ips"], &status["dns_search_domains"]),
        (&json!(["10.77.0.2"]), &json!(["b.example"]))
    );
    let [address] = addresses(&status, "eth0").try_into().unwrap();
    assert!(address.starts_with("10.77.0."), "{address}");
    assert_eq!(status["interfaces"]["eth0"]["subnets"][0]["gateway"], "10.77.0.1");
    wait(|| !events(&bed, "renewed").is_empty());
    assert!(pod.ip("-4 addr show dev eth0").contains(&address));
    web.tear_down(&bed, &pod);
    bed.assert_nothing_held();
    drop(server);
}

/// podman finds it in a folder of this name, and calls it without another word.
fn in_podmans_folder() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("netavark/underlay");
    fs::create_dir(plugin.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(crate::harness::bed::binary(), &plugin).unwrap();
    let called = |words: &[&str], stdin: &[u8]| outcome(Command::new(&plugin).args(words), stdin);
    let info = called(&["info"], b"");
    assert_eq!(info.stdout, called(&[], b"").stdout);
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(info["api_version"], "1.0.0");
    assert!(!error(&called(&["create"], b"{")).is_empty());
    assert_eq!(called(&["update"], b"").code, 2);
}
