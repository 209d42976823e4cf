//! The ledger on a disk of its own: what a release leaves alone, who holds a lease, and what is still needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::holder::{Holder, NetnsHolder, ProcessHolder};
use super::lease_link::lease_target;
use super::record::{Record, VERSION};
use super::{Holding, Locked, Store};
use crate::net::lease_key::LeaseKey;
use crate::net::name::{ContainerId, IfName};
use crate::net::parent::{MadeParent, ParentSpec};

/// A store in a folder that goes with it.
pub(crate) struct Disk {
    pub folder: tempfile::TempDir,
    pub store: Store,
}

impl Disk {
    pub(crate) fn new() -> Self {
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

    /// Writes the record of the container `id`, whose process is `pid`, and leases what it lists on segment 2.
    fn attach(&self, id: &str, pid: i32, address: &str, mac: Option<&str>) -> Record {
        let record: Record = serde_json::from_value(serde_json::json!({
            "version": 2, "container": id, "state": "attached", "holder": holder(pid),
            "attachments": [{"network": "lan", "driver": {"kind": "macvlan", "mode": "bridge"},
                "parent": "eth2", "parent_index": 2, "segment": 2, "ifname": "eth0", "mac": mac,
                "addresses": [format!("{address}/24")], "routes": []}],
        }))
        .unwrap();
        let locked = self.lock();
        locked.make_segment(2).unwrap();
        for claim in record.attachments()[0].claims() {
            assert!(locked.lease(2, claim, &lease_target(&record.container)).unwrap(), "{claim} is held");
        }
        locked.write(&record).unwrap();
        record
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

/// A release that was cut short has given some back: they may be somebody else's by the time it is done again.
#[test]
fn a_release_leaves_what_is_anothers_by_now() {
    let disk = Disk::new();
    let old = disk.attach("old", 7, "10.0.0.9", Some("02:00:00:00:00:09"));
    for claim in ["10.0.0.9", "02:00:00:00:00:09"].map(|text| text.parse::<LeaseKey>().unwrap()) {
        fs::remove_file(disk.store.lease_path(2, claim)).unwrap();
    }
    disk.attach("new", 8, "10.0.0.9", Some("02:00:00:00:00:09"));
    let held = disk.leases();
    assert_eq!(held, ["2/02:00:00:00:00:09 new", "2/10.0.0.9 new"]);
    disk.lock().release(&old, false, false).unwrap();
    assert_eq!(disk.leases(), held);
    assert!(disk.store.record(&old.container).unwrap().is_none(), "its record goes");
    // What is no lease of ours is left alone as well.
    let web = disk.attach("web", 9, "10.0.0.7", None);
    let path = disk.store.lease_path(2, "10.0.0.7".parse().unwrap());
    fs::remove_file(&path).unwrap();
    symlink("../../elsewhere/web.json", &path).unwrap();
    disk.lock().release(&web, false, false).unwrap();
    assert!(disk.leases().contains(&"2/10.0.0.7 -".to_owned()), "{:?}", disk.leases());
}

/// Whoever has read the record of the dead comes late: the id is used again.
#[test]
fn a_release_leaves_what_a_successor_has() {
    let disk = Disk::new();
    let old = disk.attach("web", 7, "10.0.0.9", Some("02:00:00:00:00:09"));
    disk.lock().release(&old, false, false).unwrap();
    assert_eq!(disk.leases(), Vec::<String>::new());
    let new = disk.attach("web", 8, "10.0.0.9", Some("02:00:00:00:00:09"));
    let held = disk.leases();
    disk.lock().release(&old, false, false).unwrap();
    assert_eq!(disk.leases(), held);
    assert_eq!(disk.store.record(&new.container).unwrap(), Some(new.clone()));
    // The same pid at another time, or in another namespace, is another one too.
    let process = new.holder.process().unwrap();
    for other in [
        ProcessHolder { start_time: 9, ..process.clone() },
        ProcessHolder { pid_namespace: Some(1), ..process.clone() },
        ProcessHolder { netns: holder(1).netns().clone(), ..process.clone() },
    ] {
        let holder = Holder::Process(other);
        disk.lock().release(&Record { holder, ..new.clone() }, false, false).unwrap();
        assert_eq!(disk.leases(), held);
    }
    disk.lock().release(&new, false, false).unwrap();
    assert_eq!((disk.leases(), disk.store.record(&new.container).unwrap()), (vec![], None));
}

/// A program that knows no such holders reads version 2 at most: it leaves the record and its leases alone.
#[test]
fn a_record_of_a_namespace() {
    let disk = Disk::new();
    let web = disk.attach("web", 7, "10.0.0.9", None);
    let holder: Holder = serde_json::from_value(serde_json::json!({
        "netns": {"device": 4, "inode": 5, "path": "/run/netns/web"}, "made": 6, "mount_namespace": 7,
    }))
    .unwrap();
    let version = || {
        let text = fs::read(disk.store.record_path(&web.container)).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["version"].clone()
    };
    assert_eq!(version(), 2);
    let kept = Record { holder: holder.clone(), ..web.clone() };
    disk.lock().write(&kept).unwrap();
    assert_eq!(version(), 3);
    assert_eq!(disk.store.record(&web.container).unwrap(), Some(kept.clone()));
    assert_eq!(disk.store.records_in(holder.netns()).unwrap(), std::slice::from_ref(&kept));
    assert_eq!(kept.marked().next().unwrap().0.to_string(), "underlay:web:0:0:6:lan");
    // Another namespace at the path has the same inode.
    let again = Record { holder: Holder::Netns(made_at(&holder, 8)), ..kept.clone() };
    disk.lock().release(&again, false, false).unwrap();
    assert_eq!(disk.leases(), ["2/10.0.0.9 web"]);
    disk.lock().release(&kept, false, false).unwrap();
    assert_eq!((disk.leases(), disk.store.records_in(holder.netns()).unwrap()), (vec![], vec![]));
}

fn made_at(holder: &Holder, made: u64) -> NetnsHolder {
    let Holder::Netns(kept) = holder else { panic!("{holder}") };
    NetnsHolder { made, ..kept.clone() }
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
    let web = disk.attach("web", 7, "10.0.0.9", None);
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
