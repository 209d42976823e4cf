//! The ledger on a disk of its own: what is leased to whom, given back by whom, and what is still needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::reserve::{Present, Subject};
use crate::config::network::Network;
use crate::error::{Kind, Result};
use crate::ipam::assign::Wanted;
use crate::ipam::previous::Hint;
use crate::ledger::lease_link::lease_target;
use crate::ledger::record::Holder;
use crate::ledger::record::{Record, VERSION};
use crate::ledger::{Holding, Locked, Store};
use crate::net::lease_key::LeaseKey;
use crate::net::link::{Link, eth0};
use crate::net::name::ContainerId;
use crate::net::name::IfName;
use crate::net::parent::{MadeParent, ParentSpec};
use crate::oci::annotations::short_form;

/// A store in a folder that goes with it.
struct Disk {
    folder: tempfile::TempDir,
    store: Store,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [etc, run, data, cdi] = ["etc", "run", "data", "cdi"].map(|name| folder.path().join(name));
        fs::create_dir_all(etc.join("networks")).unwrap();
        Self { store: Store::new(etc, run, data, cdi), folder }
    }

    /// Writes a file below the folder.
    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn lock(&self) -> Locked<'_> {
        self.store.lock(Duration::from_secs(5)).unwrap()
    }

    /// Attaches the container `id`, whose process is `pid`, as far as the ledger is concerned; `lives` tells of others.
    fn attach(&self, id: &str, pid: i32, wanted: &Wanted, lives: bool) -> Result<Record> {
        let (container, holder, present) = (id.parse().unwrap(), holder(pid), Present::default());
        let subject = Subject {
            container: &container,
            identity: None,
            holder: &holder,
            nsid: None,
            avoid_previous: false,
        };
        self.lock().reserve(subject, std::slice::from_ref(wanted), &present, |_| lives)
    }

    /// The leases there are, in order, with the id of the container they name.
    fn leases(&self) -> Vec<String> {
        let mut all = Vec::new();
        for segment in self.store.segments().unwrap() {
            for claim in self.store.held(segment).unwrap() {
                let id = self.store.leased_to(segment, claim).unwrap();
                all.push(format!("{segment}/{claim} {}", id.as_ref().map_or("-", ContainerId::as_str)));
            }
        }
        all.sort();
        all
    }
}

fn holder(pid: i32) -> Holder {
    serde_json::from_value(serde_json::json!({
        "pid": pid, "start_time": 8, "netns": {"device": 4, "inode": pid},
    }))
    .unwrap()
}

/// The network that is called as the first word of the annotation `text` says, as that asks for it: of `keys`, on the
/// parent number `ifindex`.
fn wanted(text: &str, keys: &str, ifindex: u32) -> Wanted {
    let request = short_form(text).unwrap().remove(0);
    let definition = format!(
        r#"{{"version": 1, "parent": "eth{ifindex}", "subnets": [{{"subnet": "10.0.0.0/24"}}], {keys}}}"#
    );
    let network = Network::from_json(&request.network, definition.as_bytes()).unwrap();
    let parent = Link { ifindex, name: format!("eth{ifindex}"), ..eth0() };
    Wanted { request, network, parent, ifname: IfName::eth(0), hint: Hint::default() }
}

const MACVLAN: &str = r#""driver": "macvlan""#;

/// The kernel would refuse it each time, and the container would never start again.
#[test]
fn a_mac_that_is_remembered_and_no_links() {
    for (remembered, kept) in [
        ("02:00:00:00:00:09", true),
        ("01:00:5e:00:00:01", false),
        ("03:00:00:00:00:09", false),
        ("ff:ff:ff:ff:ff:ff", false),
        ("00:00:00:00:00:00", false),
    ] {
        let disk = Disk::new();
        let remembered = remembered.parse().unwrap();
        let hint = Hint { addresses: Vec::new(), mac: Some(remembered) };
        let record = disk.attach("web", 7, &Wanted { hint, ..wanted("lan", MACVLAN, 2) }, true).unwrap();
        let mac = record.attachments()[0].mac.unwrap();
        assert_eq!(mac == remembered, kept, "{remembered}: {mac}");
        assert!(mac.is_unicast() && disk.leases().contains(&format!("2/{mac} web")), "{:?}", disk.leases());
    }
}

/// The kernel changes the mode of all ipvlan links of a parent with each new one.
#[test]
fn one_ipvlan_mode_for_a_parent() {
    let ipvlan = |mode: &str, flag: &str| {
        format!(r#""driver": "ipvlan", "ipvlan_mode": "{mode}", "ipvlan_flag": "{flag}""#)
    };
    let disk = Disk::new();
    disk.attach("web", 7, &wanted("two", &ipvlan("l2", "bridge"), 2), true).unwrap();
    let before = disk.leases();
    // However often it is tried.
    for (mode, flag) in
        [("l3", "bridge"), ("l3", "bridge"), ("l3s", "bridge"), ("l2", "private"), ("l2", "vepa")]
    {
        let error = disk.attach("next", 8, &wanted("three", &ipvlan(mode, flag), 2), true).unwrap_err();
        let text =
            "parent eth2 carries ipvlan mode l2 bridge links (container web), so network three cannot have";
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::Taken, format!("{text} ipvlan mode {mode} {flag}"))
        );
        assert_eq!((disk.leases(), disk.store.records().unwrap().sound.len()), (before.clone(), 1));
    }
    disk.attach("same", 9, &wanted("two", &ipvlan("l2", "bridge"), 2), true).unwrap();
    // Another parent, or another driver, which is the kernel's to judge.
    disk.attach("elsewhere", 10, &wanted("three", &ipvlan("l3", "bridge"), 3), true).unwrap();
    disk.attach("mac", 11, &wanted("lan", MACVLAN, 2), true).unwrap();
    // The dead have no link any more.
    disk.attach("after", 12, &wanted("three", &ipvlan("l3", "bridge"), 2), false).unwrap();
    // The first of them, on a parent that macvlan links have: nothing to agree on.
    let mixed = Disk::new();
    mixed.attach("mac", 7, &wanted("lan", MACVLAN, 2), true).unwrap();
    mixed.attach("web", 8, &wanted("two", &ipvlan("l2", "bridge"), 2), true).unwrap();
    // Nor do the containers of another parent count.
    let alone = Disk::new();
    alone.attach("elsewhere", 7, &wanted("three", &ipvlan("l3", "bridge"), 3), true).unwrap();
    alone.attach("web", 8, &wanted("two", &ipvlan("l2", "bridge"), 2), true).unwrap();
}

/// A release that was cut short has given some back: they may be somebody else's by the time it is done again.
#[test]
fn a_release_leaves_what_is_anothers_by_now() {
    let disk = Disk::new();
    let old =
        disk.attach("old", 7, &wanted("lan:ip=10.0.0.9,mac=02:00:00:00:00:09", MACVLAN, 2), true).unwrap();
    for claim in ["10.0.0.9", "02:00:00:00:00:09"].map(|text| text.parse::<LeaseKey>().unwrap()) {
        fs::remove_file(disk.store.lease_path(2, claim)).unwrap();
    }
    disk.attach("new", 8, &wanted("lan:ip=10.0.0.9,mac=02:00:00:00:00:09", MACVLAN, 2), true).unwrap();
    let held = disk.leases();
    assert_eq!(held, ["2/02:00:00:00:00:09 new", "2/10.0.0.9 new"]);
    disk.lock().release(&old, false).unwrap();
    assert_eq!(disk.leases(), held);
    assert!(disk.store.record(&old.container).unwrap().is_none(), "its record goes");
    // What is no lease of ours is left alone as well.
    let web = disk.attach("web", 9, &wanted("lan:ip=10.0.0.7", MACVLAN, 2), true).unwrap();
    let path = disk.store.lease_path(2, "10.0.0.7".parse().unwrap());
    fs::remove_file(&path).unwrap();
    symlink("../../elsewhere/web.json", &path).unwrap();
    disk.lock().release(&web, false).unwrap();
    assert!(disk.leases().contains(&"2/10.0.0.7 -".to_owned()), "{:?}", disk.leases());
}

/// Whoever has read the record of the dead comes late: the id is used again.
#[test]
fn a_release_leaves_what_a_successor_has() {
    let disk = Disk::new();
    let asked = wanted("lan:ip=10.0.0.9", MACVLAN, 2);
    let old = disk.attach("web", 7, &asked, true).unwrap();
    disk.lock().release(&old, false).unwrap();
    assert_eq!(disk.leases(), Vec::<String>::new());
    let new = disk.attach("web", 8, &asked, true).unwrap();
    let held = disk.leases();
    disk.lock().release(&old, false).unwrap();
    assert_eq!(disk.leases(), held);
    assert_eq!(disk.store.record(&new.container).unwrap(), Some(new.clone()));
    // The same pid at another time, or in another namespace, is another one too.
    for other in [
        Holder { start_time: 9, ..new.holder.clone() },
        Holder { pid_namespace: Some(1), ..new.holder.clone() },
        Holder { netns: holder(1).netns, ..new.holder.clone() },
    ] {
        disk.lock().release(&Record { holder: other, ..new.clone() }, false).unwrap();
        assert_eq!(disk.leases(), held);
    }
    disk.lock().release(&new, false).unwrap();
    assert_eq!((disk.leases(), disk.store.record(&new.container).unwrap()), (vec![], None));
}

/// What cannot be read may need a parent: it stays, and with it what stands on it.
#[test]
fn who_needs_a_parent() {
    let outer: IfName = "eth0.10".parse().unwrap();
    let needs = |prepare: &dyn Fn(&Disk)| {
        let disk = Disk::new();
        disk.lock();
        prepare(&disk);
        disk.store.needs_parent(&outer, |_| true).unwrap()
    };
    let record = |parent: &str| {
        format!(
            r#"{{"version": 1, "container": "web", "state": "attached",
                "holder": {{"pid": 7, "start_time": 8, "netns": {{"device": 4, "inode": 5}}}},
                "attachments": [{{"network": "gone", "driver": {{"kind": "macvlan", "mode": "bridge"}},
                    "parent": "{parent}", "parent_index": 3, "segment": 3, "ifname": "eth0",
                    "addresses": ["10.0.0.9/24"], "routes": []}}]}}"#
        )
    };
    let network = |keys: &str| format!(r#"{{"version": 1, "driver": "macvlan", {keys}}}"#);
    let (definition, container) = ("etc/networks/lan.json", "run/containers/web.json");
    for (file, text, expected) in [
        (definition, network(r#""parent": "eth0.10""#), true),
        (definition, network(r#""parent": "eth0.10.20""#), true),
        (definition, network(r#""parent": "eth0", "vlan": 10"#), true),
        (definition, network(r#""parent": "eth0.10", "vlan": 20"#), true),
        (definition, network(r#""parent": "eth0.10", "vlans": "20-29""#), true),
        (definition, network(r#""parent": "eth0""#), false),
        (definition, network(r#""parent": "eth0.11""#), false),
        (definition, network(r#""parent": "eth1.10""#), false),
        (definition, network(r#""parent": "eth0.10", "unknown": 1"#), true),
        (definition, "{".to_owned(), true),
        (definition, String::new(), true),
        (definition, r#"{"version": 2}"#.to_owned(), true),
        (container, record("eth0.10"), true),
        (container, record("eth0.10.20"), true),
        (container, record("eth0"), false),
        (container, "{".to_owned(), true),
        (container, String::new(), true),
        (container, r#"{"version": 99}"#.to_owned(), true),
        (container, record("eth0").replace("\"web\"", "\"other\""), true),
        // What bears no name of a network or a container is nobody's.
        ("etc/networks/not a name.json", "{".to_owned(), false),
        ("run/containers/web.json~", "{".to_owned(), false),
    ] {
        assert_eq!(needs(&|disk| disk.write(file, &text)), expected, "{file}: {text}");
    }
    assert!(!needs(&|_| {}));
    // Where the VLAN's name is too long, it does not tell what it stands on: the definition does.
    let disk = Disk::new();
    disk.write(definition, &network(r#""parent": "enp195s0f1n.10", "vlan": 20"#));
    assert!(disk.store.needs_parent(&"enp195s0f1n.10".parse().unwrap(), |_| true).unwrap());
    // A record that does not count: of a container that is about to be taken back.
    let disk = Disk::new();
    disk.write(container, &record("eth0.10"));
    assert!(!disk.store.needs_parent(&outer, |record| record.container.as_str() != "web").unwrap());
}

/// A link stands on what it was made on, whatever its name.
#[test]
fn what_a_parent_stands_on() {
    let disk = Disk::new();
    let name = |text: &str| text.parse::<IfName>().unwrap();
    let made = |link: &str, base: &str| MadeParent {
        version: VERSION,
        name: name(link),
        recipe: ParentSpec::Vlan {
            base: name(base),
            id: 20,
            protocol: crate::net::vlan::VlanProtocol::Dot1q,
        },
        born_as: IfName::temporary(1),
        ifindex: Some(9),
    };
    disk.lock().write_parent(&made("vl-1234567-20", "eth0.10")).unwrap();
    let definition = r#"{"version": 1, "driver": "macvlan", "parent": "vl-1234567-20"}"#;
    disk.write("etc/networks/lan.json", definition);
    let needs = |link: &str| disk.store.needs_parent(&name(link), |_| true).unwrap();
    assert_eq!(
        ["vl-1234567-20", "eth0.10", "eth0", "eth0.20", "eth1"].map(needs),
        [true, true, true, false, false]
    );
    assert_eq!(["vl-1234567-20", "eth0.10", "eth0"].map(|link| disk.store.height(&name(link))), [3, 2, 1]);
    // A circle, as a damaged file may draw it, has an end.
    disk.lock().write_parent(&made("eth0.10", "vl-1234567-20")).unwrap();
    assert!(!needs("eth1") && disk.store.height(&name("eth0.10")) == 8);
}

/// The host's link is needed by whoever uses it, and by whoever cannot be read.
#[test]
fn who_needs_the_hosts_link() {
    let record = |network: &str, more: &str| {
        format!(
            r#"{{"version": 1, "container": "web", "state": "attached",
                "holder": {{"pid": 7, "start_time": 8, "netns": {{"device": 4, "inode": 5}}}},
                "attachments": [{{"network": "{network}", "driver": {{"kind": "macvlan", "mode": "bridge"}},
                    "parent": "eth0", "parent_index": 3, "segment": 3, "ifname": "eth0", {more}
                    "addresses": ["10.0.0.9/24"], "routes": []}}]}}"#
        )
    };
    for (text, expected) in [
        (record("lan", r#""host_link": "ulh-lan","#), true),
        (record("lan", ""), false),
        (record("san", r#""host_link": "ulh-san","#), false),
        ("{".to_owned(), true),
        (r#"{"version": 99}"#.to_owned(), true),
    ] {
        let disk = Disk::new();
        disk.lock();
        disk.write("run/containers/web.json", &text);
        assert_eq!(disk.store.needs_host_link(&"lan".parse().unwrap()).unwrap(), expected, "{text}");
    }
}

/// A lease leads to its holder's record, and says nothing where that says otherwise.
#[test]
fn who_holds_a_lease() {
    let disk = Disk::new();
    let web = disk.attach("web", 7, &wanted("lan:ip=10.0.0.9", MACVLAN, 2), true).unwrap();
    let holding =
        |segment: u32, address: &str| disk.store.holding(segment, address.parse().unwrap()).unwrap();
    assert_eq!(holding(2, "10.0.0.9"), Holding::Container(Box::new(web.clone())));
    let lease = |segment: u32, address: &str, id: &str| {
        let path = disk.store.lease_path(segment, address.parse().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(lease_target(&id.parse().unwrap()), path).unwrap();
    };
    // An address that is not in its record, the same on another segment, and one whose holder has no record.
    lease(2, "10.0.0.8", "web");
    lease(3, "10.0.0.9", "web");
    lease(2, "10.0.0.7", "nobody");
    for (segment, address) in [(2, "10.0.0.8"), (3, "10.0.0.9"), (2, "10.0.0.7")] {
        assert_eq!(holding(segment, address), Holding::Nobody, "{segment} {address}");
    }
    disk.write("run/containers/damaged.json", "{");
    lease(2, "10.0.0.6", "damaged");
    assert_eq!(holding(2, "10.0.0.6"), Holding::Unknown("damaged".parse().unwrap()));
    let leases = disk.store.leases(2).unwrap();
    let orphans: Vec<_> = leases.orphans.iter().map(ToString::to_string).collect();
    assert_eq!(orphans, ["10.0.0.7", "10.0.0.8"]);
    assert_eq!((leases.unknown.len(), leases.holders), (1, vec![web]));
}
