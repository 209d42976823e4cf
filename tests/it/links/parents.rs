//! Parents that underlay makes: VLAN sub-interfaces and dummy links, from the first that needs them to the last.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::bed::{Bed, Watched, binary, outcome, run};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 17] = [
        ("a_vlan_lives_as_long_as_its_networks", &[Need::Vlan, Need::Ipvlan], lifetime),
        ("after_a_reboot", &[Need::Vlan, Need::Dummy], reboot),
        ("stacked", &[Need::Vlan], stacked),
        ("what_is_there_is_verified_and_used_untouched", &[Need::Vlan], verified),
        ("made_by_hand_under_the_same_name", &[Need::Vlan], by_hand),
        ("half_made", &[Need::Vlan], half_made),
        ("half_made_and_needed", &[Need::Vlan], half_made_and_needed),
        ("half_made_dummy", &[Need::Dummy], half_made_dummy),
        ("a_base_that_is_down", &[Need::Vlan], base_down),
        ("inline_networks_count", &[Need::Vlan], inline),
        ("an_emptied_state_folder", &[Need::Vlan], forgotten),
        ("forty_make_one", &[Need::Vlan], forty),
        ("stacked_too_high", &[Need::Vlan], too_high),
        ("no_parent", &[Need::Dummy], no_parent),
        ("of_every_kind", &[Need::Vlan, Need::Bond, Need::Team, Need::Tap], of_every_kind),
        ("ports_are_none", &[Need::Bond, Need::Team], ports_are_none),
        ("wireless", &[Need::Installed, Need::Wireless], wireless),
    ];
    all.map(|(name, needs, run)| Test::new(format!("parents::{name}"), needs, run)).into()
}

const VLAN50: &str = "--subnet=192.168.50.0/24 --gateway=192.168.50.1 -o parent=eth0.50";

fn lifetime() {
    let bed = Watched::new();
    bed.create(&format!("-d macvlan {VLAN50} macvlan50"));
    let shown = bed.host.ip("-d link show eth0.50");
    assert!(shown.contains("eth0.50@eth0") && shown.contains("vlan protocol 802.1Q id 50"), "{shown}");
    assert!(shown.contains("UP") && shown.contains("alias underlay:parent"), "{shown}");
    assert_eq!(made(&bed), ["eth0.50.json"]);
    // Another driver counts too.
    bed.create("-d ipvlan --subnet=192.168.51.0/24 -o parent=eth0.50 ipvlan50");
    bed.run("network rm macvlan50");
    assert!(bed.host.link("eth0.50").is_some());
    let container = bed.container(Bare, "web").networks("ipvlan50").start().unwrap();
    assert_eq!(container.addresses("eth0"), ["192.168.51.1/24"]);
    container.stop();
    bed.run("network rm ipvlan50");
    assert!(bed.host.link("eth0.50").is_none() && bed.host.link("eth0").is_some());
    assert!(made(&bed).is_empty());
}

/// Links and state are gone, definitions are not: the next container needs no command.
fn reboot() {
    let bed = Watched::new();
    bed.create(&format!("{VLAN50} macvlan50"));
    bed.create("--subnet=10.5.0.0/24 local");
    fs::remove_dir_all(bed.path("run")).unwrap();
    bed.host.ip("link del eth0.50");
    bed.host.ip("link del ul-local");
    let container = bed.container(Bare, "web").networks("macvlan50;local").start().unwrap();
    assert_eq!(container.addresses("eth0"), ["192.168.50.2/24"]);
    assert_eq!(container.addresses("eth1"), ["10.5.0.1/24"]);
    let error = bed.outcome("network rm macvlan50", "");
    assert!(error.stderr.contains("in use by container"), "{error:?}");
    container.stop();
    assert!(bed.host.link("eth0.50").is_some(), "its network is still there");
    bed.run("network rm macvlan50 local");
    assert!(bed.host.link("eth0.50").is_none() && bed.host.link("ul-local").is_none());
}

fn stacked() {
    let bed = Watched::new();
    bed.create("--subnet=10.20.0.0/24 -o parent=eth0.10.20 qinq");
    assert!(bed.host.ip("-d link show eth0.10.20").contains("vlan protocol 802.1Q id 20"));
    bed.create("--subnet=10.10.0.0/24 -o parent=eth0.10 outer");
    bed.run("network rm qinq");
    assert!(bed.host.link("eth0.10.20").is_none() && bed.host.link("eth0.10").is_some(), "outer needs it");
    bed.create("--subnet=10.20.0.0/24 -o parent=eth0.10.20 qinq");
    bed.run("network rm outer");
    assert!(bed.host.link("eth0.10").is_some(), "the inner one stands on it");
    bed.run("network rm qinq");
    assert!(bed.host.link("eth0.10").is_none());
    assert!(made(&bed).is_empty());
}

/// The kernel stacks so many links and no more (MAX_NEST_DEV): where the upper one of two cannot be made, the lower
/// one goes again.
fn too_high() {
    let bed = Bed::new();
    let add = |below: &str, name: &str| {
        bed.host.try_run("ip", &format!("link add link {below} name {name} type vlan id 5"))
    };
    let mut stack = vec!["eth0".to_owned()];
    loop {
        let name = format!("stack{}", stack.len());
        if add(stack.last().unwrap(), &name).is_err() {
            break;
        }
        stack.push(name);
        assert!(stack.len() < 100, "it has no end");
    }
    // Room for one more, and not for two.
    bed.host.ip(&format!("link del {}", stack.pop().unwrap()));
    let top = stack.last().unwrap();
    let before = bed.host_state();
    // By the name of the link, by a name that is too long and therefore does not tell, and with one more between.
    for parent in [format!("{top}.10.20"), format!("{top}.1000 -o vlan=2000"), format!("{top}.10.20.30")] {
        let outcome =
            bed.outcome(&format!("network create --subnet=10.20.0.0/24 -o parent={parent} qinq"), "");
        assert!(outcome.code == 1 && outcome.stderr.contains("os error 31"), "{outcome:?}");
        assert_eq!((bed.host_state(), made(&bed)), (before.clone(), vec![]), "{outcome:?}");
    }
    // A network of a container's own is needed by nobody but that.
    bed.configure("underlay.json", r#"{"inline_networks": true}"#);
    for parent in [format!(r#""{top}.10.20""#), format!(r#""{top}.1000", "vlan": 2000"#)] {
        let network = format!(
            r#"{{"version": 1, "driver": "macvlan", "parent": {parent}, "subnets": [{{"subnet": "10.0.0.0/24"}}]}}"#
        );
        let web = bed.container(Bare, "web").networks("lan").annotation("io.underlay.network.lan", &network);
        let refused = web.start().map(drop).unwrap_err();
        assert!(refused.contains("os error 31"), "{refused}");
        assert_eq!((bed.host_state(), made(&bed)), (before.clone(), vec![]), "{refused}");
        bed.assert_nothing_held();
    }
    bed.create(&format!("--subnet=10.20.0.0/24 -o parent={top}.10 outer"));
    assert!(bed.host.link(&format!("{top}.10")).is_some());
}

fn verified() {
    let bed = Bed::new();
    bed.host.ip("link add link eth0 name eth0.50 type vlan id 50");
    bed.host.ip("link add link eth0 name eth0.60 type vlan id 61");
    bed.host.ip("link add eth0.70 type veth peer name veth70");
    let before = bed.host.ip("-d link show eth0.50");
    for (parent, found) in [("eth0.60", "VLAN 61 of link number"), ("eth0.70", "a veth link")] {
        let outcome = bed.outcome(&format!("network create -o parent={parent} wrong"), "");
        let expected = format!("parent {parent} is {found}");
        assert!(outcome.code == 1 && outcome.stderr.contains(&expected), "{outcome:?}");
        assert!(outcome.stderr.contains("hint: rename it, or name another parent"), "{outcome:?}");
    }
    bed.create(&format!("{VLAN50} macvlan50"));
    let container = bed.container(Bare, "web").networks("macvlan50").start().unwrap();
    container.stop();
    bed.run("network rm macvlan50");
    assert_eq!(bed.host.ip("-d link show eth0.50"), before, "not even set up");
    // VLAN 61 of eth0 exists, but under another name.
    let outcome = bed.outcome("network create -o parent=eth0.61 wrong", "");
    assert!(outcome.stderr.contains("VLAN 61 of eth0 exists under another name than eth0.61"), "{outcome:?}");
    assert_eq!(bed.run("network ls -q"), "");
    assert!(made(&bed).is_empty());
}

fn by_hand() {
    let bed = Bed::new();
    bed.create(&format!("{VLAN50} macvlan50"));
    bed.host.ip("link del eth0.50");
    bed.host.ip("link add link eth0 name eth0.50 type vlan id 50");
    bed.run("network rm macvlan50");
    assert!(bed.host.link("eth0.50").is_some(), "an admin's link is the admin's");
    assert!(made(&bed).is_empty());
}

/// A killed process may leave the link under the name it was born with, and the note of it.
fn half_made() {
    let bed = Watched::new();
    fs::create_dir_all(bed.path("run/parents")).unwrap();
    let note = r#"{"version": 1, "name": "eth0.50", "recipe": {"kind": "vlan", "base": "eth0", "id": 50},
                   "born_as": "ul~1"}"#;
    fs::write(bed.path("run/parents/eth0.50.json"), note).unwrap();
    bed.host.ip("link add link eth0 name ul~1 type vlan id 50");
    bed.create(&format!("{VLAN50} macvlan50"));
    assert!(bed.host.link("eth0.50").is_some() && bed.host.link("ul~1").is_none());
    bed.run("network rm macvlan50");
    assert!(bed.host.link("eth0.50").is_none());
}

/// What a killed `network create` leaves when its definition is written: gc deletes it, though the network is there, and
/// says so; the parent is made when it is needed.
fn half_made_and_needed() {
    let bed = Watched::new();
    bed.create(&format!("{VLAN50} macvlan50"));
    let path = bed.path("run/parents/eth0.50.json");
    let mut note: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    note["born_as"] = "ul~208".into();
    note.as_object_mut().unwrap().remove("ifindex");
    bed.host.ip("link del eth0.50");
    for (made, is_left) in [
        ("link add link eth0 name ul~208 type vlan id 50", true),
        ("link add link eth0 name ul~208 type vlan id 51", false),
        ("link add ul~208 type veth peer name far", false),
    ] {
        fs::write(&path, note.to_string()).unwrap();
        bed.host.ip(made);
        let checked = bed.outcome("check --format json", "");
        assert_eq!(
            checked.stdout.contains("`underlay gc` deletes what is left half made"),
            is_left,
            "{checked:?}"
        );
        let plan = bed.run("gc --dry-run");
        assert_eq!(plan, if is_left { "ip link del 'ul~208'\n" } else { "" }, "{made}");
        assert!(bed.host.link("ul~208").is_some(), "a dry run does nothing");
        assert_eq!(bed.gc(), plan, "{made}");
        assert_eq!(bed.host.link("ul~208").is_none(), is_left, "{made}");
        assert_eq!(bed.gc(), "", "{made}");
        let _ = bed.host.try_run("ip", "link del ul~208");
    }
    let web = bed.container(Bare, "web").networks("macvlan50").start().unwrap();
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
    web.stop();
}

fn half_made_dummy() {
    let bed = Watched::new();
    bed.create("--subnet=10.5.0.0/24 local");
    let path = bed.path("run/parents/ul-local.json");
    let mut note: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    note["born_as"] = "ul~208".into();
    note.as_object_mut().unwrap().remove("ifindex");
    fs::write(&path, note.to_string()).unwrap();
    bed.host.ip("link del ul-local");
    bed.host.ip("link add ul~208 type dummy");
    assert_eq!(bed.gc(), "ip link del 'ul~208'\n");
    assert!(bed.host.link("ul~208").is_none());
    assert_eq!(bed.gc(), "");
}

fn base_down() {
    let bed = Bed::new();
    bed.host.ip("link set eth0 down");
    let outcome = bed.outcome(&format!("network create {VLAN50} macvlan50"), "");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("eth0.50 is down until its base is set up"), "{outcome:?}");
    assert!(!bed.host.ip("link show eth0").contains(",UP"), "the base is the admin's");
    let container = bed.container(Bare, "web").networks("macvlan50").start().unwrap();
    bed.host.ip("link set eth0 up");
    assert!(bed.host.ip("link show eth0.50").contains(",UP"), "the kernel sets it up with its base");
    container.stop();
    bed.run("network rm macvlan50");
}

fn inline() {
    let bed = Watched::new();
    bed.configure("underlay.json", r#"{"inline_networks": true}"#);
    let network =
        r#"{"version": 1, "driver": "macvlan", "parent": "eth0.50", "subnets": [{"subnet": "10.0.0.0/24"}]}"#;
    let start = |id| {
        let container =
            bed.container(Bare, id).networks("lan").annotation("io.underlay.network.lan", network);
        container.start().unwrap()
    };
    let (first, second) = (start("first"), start("second"));
    first.stop();
    assert!(bed.host.link("eth0.50").is_some());
    second.stop();
    assert!(bed.host.link("eth0.50").is_none(), "nobody needs it any more");
    // An attach that fails takes away what it made.
    let error = bed
        .container(Bare, "third")
        .networks("lan:ip=10.9.9.9")
        .annotation("io.underlay.network.lan", network)
        .start();
    assert!(error.is_err());
    assert!(bed.host.link("eth0.50").is_none());
    bed.assert_nothing_held();
}

/// The mark tells that a link is ours, even when nothing else does.
fn forgotten() {
    let bed = Watched::new();
    bed.create(&format!("{VLAN50} macvlan50"));
    fs::remove_dir_all(bed.path("run")).unwrap();
    let container = bed.container(Bare, "web").networks("macvlan50").start().unwrap();
    container.stop();
    bed.run("network rm macvlan50");
    assert!(bed.host.link("eth0.50").is_none());
}

fn forty() {
    let bed = Watched::new();
    // They wait for each other, on an emulated processor for long.
    bed.configure("underlay.json", r#"{"version": 1, "lock_timeout_ms": 300000}"#);
    bed.create(&format!("{VLAN50} macvlan50"));
    bed.host.ip("link del eth0.50");
    let start =
        |index: usize| bed.container(Bare, &format!("c{index}")).networks("macvlan50").start().unwrap();
    let containers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..40).map(|index| scope.spawn(move || start(index))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(bed.leases().len(), 40);
    for container in containers {
        container.stop();
    }
    bed.run("network rm macvlan50");
    assert!(bed.host.link("eth0.50").is_none());
}

fn no_parent() {
    let bed = Watched::new();
    bed.create("--subnet=10.5.0.0/24 --gateway=10.5.0.1 local");
    assert!(bed.run("network ls").contains("ul-local"));
    let first = bed.container(Bare, "first").networks("local").start().unwrap();
    let second = bed.container(Bare, "second").networks("local").start().unwrap();
    assert!(second.reaches("10.5.0.2"));
    assert_eq!(
        second.routes("-4"),
        ["10.5.0.0/24 dev eth0 proto kernel scope link src 10.5.0.3"],
        "no way out"
    );
    assert!(!second.reaches("172.16.86.1"), "nor to the LAN");
    first.stop();
    second.stop();
    assert!(bed.host.link("ul-local").is_some(), "it lives as long as its network");
    bed.run("network rm local");
    assert!(bed.host.link("ul-local").is_none());
    // Somebody else's link is not taken for ours.
    bed.host.ip("link add ul-mine type dummy");
    let outcome = bed.outcome("network create mine", "");
    assert!(
        outcome.stderr.contains("parent ul-mine is a dummy link, not underlay's dummy link"),
        "{outcome:?}"
    );
    bed.host.ip("link del ul-mine");
}

/// Bridge, bond, team, VLAN, tap and another macvlan: containers of both drivers hang on them.
fn of_every_kind() {
    let bed = Bed::new();
    for link in [
        "br0 type bridge",
        "bond0 type bond",
        "team0 type team",
        "link eth0 name vlan7 type vlan id 7",
        "link eth0 name shim type macvlan mode bridge",
    ] {
        bed.host.ip(&format!("link add {link}"));
    }
    bed.host.ip("tuntap add tap0 mode tap");
    for parent in ["br0", "bond0", "team0", "vlan7", "tap0", "shim"] {
        bed.create(&format!("--subnet=10.7.0.0/24 -o parent={parent} on_{parent}"));
        let container = bed.container(Bare, "web").networks(&format!("on_{parent}")).start().unwrap();
        assert_eq!(container.addresses("eth0"), ["10.7.0.1/24"], "{parent}");
        container.stop();
        bed.run(&format!("network rm on_{parent}"));
        assert!(bed.host.link(parent).is_some(), "{parent} is not ours");
    }
}

/// A port belongs to its master, which is the parent to name.
fn ports_are_none() {
    let bed = Bed::new();
    for (kind, master) in [("bridge", "br0"), ("bond", "bond0"), ("team", "team0")] {
        let port = format!("{kind}0p");
        bed.host.ip(&format!("link add {master} type {kind}"));
        bed.host.ip(&format!("link add {port} type veth peer name {kind}0q"));
        bed.host.ip(&format!("link set {port} master {master}"));
        let outcome = bed.outcome(&format!("network create -o parent={port} wrong"), "");
        let expected = format!("parent {port} is a port of a {kind}\nhint: use the {kind} itself as parent");
        assert!(outcome.code == 1 && outcome.stderr.contains(&expected), "{outcome:?}");
    }
}

/// On the machine's own network: sysfs shows no other.
fn wireless() {
    let bed = Bed::new();
    run("modprobe", &["mac80211_hwsim", "radios=1"]).unwrap();
    let create = |driver| {
        let mut command = Command::new(binary());
        command.args(bed.dirs()).args(["network", "create", "-d", driver, "-o", "parent=wlan0", driver]);
        outcome(&mut command, b"")
    };
    let (macvlan, ipvlan) = (create("macvlan"), create("ipvlan"));
    run("modprobe", &["--remove", "mac80211_hwsim"]).unwrap();
    assert!(macvlan.stderr.contains("parent wlan0 is a wireless link\nhint: "), "{macvlan:?}");
    assert_eq!(ipvlan.stdout, "ipvlan\n", "{ipvlan:?}");
}

fn made(bed: &Bed) -> Vec<String> {
    let entries = fs::read_dir(bed.path("run/parents")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
