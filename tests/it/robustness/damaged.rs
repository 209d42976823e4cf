//! A damaged ledger: the others go on, the file is named, and `underlay gc` writes anew what the kernel still tells.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Container, Engine::Bare};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

type Damage = fn(&Path);

/// What can happen to a file.
const DAMAGES: [(&str, Damage); 10] = [
    ("truncated", |path| {
        let text = fs::read(path).unwrap();
        fs::write(path, &text[..text.len() / 2]).unwrap();
    }),
    ("emptied", |path| fs::write(path, "").unwrap()),
    ("garbage", |path| fs::write(path, b"\0\xff{[\"garbage").unwrap()),
    ("a_folder", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("deleted", |path| fs::remove_file(path).unwrap()),
    ("a_link", |path| {
        fs::remove_file(path).unwrap();
        symlink("/etc/passwd", path).unwrap();
    }),
    ("a_loop", |path| {
        fs::remove_file(path).unwrap();
        symlink(path, path).unwrap();
    }),
    ("newer", |path| {
        let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        value["version"] = 4.into();
        value["more"] = "of it".into();
        fs::write(path, value.to_string()).unwrap();
    }),
    ("writable", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap()),
    ("a_users", |path| chown(path, Some(1000), None).unwrap()),
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (name, damage) in DAMAGES {
        let mut add = |what: &str, needs: &[Need], run: fn(&str, Damage)| {
            tests.push(Test::new(format!("damaged::{what}::{name}"), needs, move || run(name, damage)));
        };
        add("record", &[Need::Macvlan], record);
        add("segment", &[Need::Macvlan], segment);
        add("parent", &[Need::Macvlan, Need::Vlan, Need::Dummy], parent);
        // A lease is a symbolic link, with nothing in it.
        if ["a_folder", "deleted", "a_link", "a_loop"].contains(&name) {
            add("lease", &[Need::Macvlan], lease);
        }
    }
    let all: [Named; 7] = [
        ("the_whole_ledger", &[Need::Macvlan], whole),
        ("restart", &[Need::Macvlan], restart),
        ("poststop", &[Need::Macvlan], poststop),
        ("a_pinned_namespace", &[Need::Macvlan], pinned),
        ("network_rm", &[Need::Macvlan], network_rm),
        ("no_room", &[Need::Macvlan], no_room),
        ("others_can_write", &[Need::Macvlan], others_can_write),
    ];
    tests.extend(all.map(|(name, needs, run)| Test::new(format!("damaged::{name}"), needs, run)));
    tests
}

/// Two containers, and what the ledger says of them.
struct Two<'a> {
    bed: &'a Bed,
    victim: Container<'a>,
    other: Container<'a>,
    known: Vec<Value>,
    leases: Vec<String>,
}

impl<'a> Two<'a> {
    fn new(bed: &'a Bed, networks: &str) -> Self {
        let start = |id| bed.container(Bare, id).networks(networks).start().unwrap();
        let (victim, other) = (start("victim"), start("other"));
        Self { bed, victim, other, known: bed.rebuildable(), leases: bed.leases() }
    }

    fn record(&self) -> PathBuf {
        self.bed.path("run/containers").join(format!("{}.json", self.victim.id))
    }

    /// The folder of the only segment.
    fn segment(&self) -> PathBuf {
        self.bed.path("run/segments").join(self.leases[0].split('/').next().unwrap())
    }

    /// Another container comes and goes, with an address that is nobody's.
    #[track_caller]
    fn others_go_on(&self, networks: &str) {
        let mut third = self.bed.container(Bare, "third").networks(networks).start().unwrap();
        for address in third.addresses("eth0") {
            assert!(!self.victim.addresses("eth0").contains(&address), "{address}");
            assert!(!self.other.addresses("eth0").contains(&address), "{address}");
        }
        third.kill();
        // It may be warned of what is left alone.
        let told = third.hook("poststop");
        assert_eq!(told.code, 0, "{told:?}");
        third.forget();
    }

    /// The ledger is what it was, and there is nothing more to do.
    #[track_caller]
    fn assert_mended(&self) {
        let plan = self.bed.run("gc --dry-run");
        assert_ne!(plan, "");
        assert_eq!(self.bed.gc(), plan);
        assert_eq!(self.bed.gc(), "", "a second finds nothing");
        assert_eq!(self.bed.leases(), self.leases);
        assert_eq!(self.bed.rebuildable(), self.known);
    }

    /// And all goes as it always does.
    fn stop(self) {
        let bed = self.bed;
        self.victim.stop();
        self.other.stop();
        bed.assert_nothing_held();
        assert_eq!(bed.gc(), "");
    }
}

fn record(name: &str, damage: Damage) {
    let bed = Bed::with_pub_net(
        "macvlan",
        "--ipv6 --subnet 2001:db8:abc8::/64 --gateway 2001:db8:abc8::10 --route 10.9.0.0/16,172.16.86.9,7",
    );
    let two = Two::new(&bed, "pub_net");
    let path = two.record();
    damage(&path);
    let shown = bed.outcome("ps", "");
    assert_eq!(shown.code, 0);
    assert!(shown.stdout.contains(&two.other.id) && !shown.stdout.contains(&two.victim.id));
    assert_eq!(shown.stderr.contains(&path.display().to_string()), name != "deleted", "{shown:?}");
    two.others_go_on("pub_net");
    if name == "newer" {
        // It is left to who understands it.
        let text = fs::read(&path).unwrap();
        assert_eq!(bed.gc(), "");
        assert_eq!((fs::read(&path).unwrap(), bed.leases()), (text, two.leases.clone()));
        let stopped = two.victim.hook("poststop");
        assert!(stopped.stderr.contains("is of version 4: a newer underlay has written it"), "{stopped:?}");
        return;
    }
    two.assert_mended();
    two.stop();
}

fn segment(name: &str, damage: Damage) {
    let bed = Bed::with_pub_net("macvlan", "");
    let two = Two::new(&bed, "pub_net");
    let path = two.segment().join("segment.json");
    damage(&path);
    // Only hints stand in it.
    let third = two.bed.container(Bare, "third").networks("pub_net").start().unwrap();
    assert_eq!(third.addresses("eth0"), ["172.16.86.4/24"], "{name}");
    third.stop();
    assert_eq!(bed.gc(), "");
    two.stop();
}

fn lease(_: &str, damage: Damage) {
    let bed = Bed::with_pub_net("macvlan", "");
    let two = Two::new(&bed, "pub_net");
    damage(&two.segment().join("172.16.86.2"));
    two.others_go_on("pub_net");
    two.assert_mended();
    two.stop();
}

fn parent(name: &str, damage: Damage) {
    let bed = Bed::new();
    let before = bed.host_state();
    bed.create("--subnet 10.50.0.0/24 -o parent=eth0.50 tagged");
    bed.create("--subnet 10.51.0.0/24 local");
    let two = Two::new(&bed, "tagged;local");
    let paths = ["eth0.50", "ul-local"].map(|name| bed.path("run/parents").join(format!("{name}.json")));
    paths.iter().for_each(|path| damage(path));
    two.others_go_on("tagged;local");
    if name == "newer" {
        for path in paths {
            let left: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!((&left["version"], &left["more"]), (&4.into(), &"of it".into()), "it is left alone");
            fs::remove_file(path).unwrap();
        }
    }
    let plan = bed.run("gc --dry-run");
    assert_eq!(bed.gc(), plan);
    assert_eq!(bed.gc(), "", "a second finds nothing");
    two.stop();
    bed.run("network rm tagged local");
    assert_eq!(bed.host_state(), before);
}

/// The state folder is gone while containers live: the next attach knows them all the same.
fn whole() {
    let bed = Bed::with_pub_net("macvlan", "");
    let two = Two::new(&bed, "pub_net");
    fs::remove_dir_all(bed.path("run")).unwrap();
    let third = bed.container(Bare, "third").networks("pub_net").start().unwrap();
    let taken = [two.victim.addresses("eth0"), two.other.addresses("eth0")].concat();
    assert!(!taken.contains(&third.addresses("eth0")[0]), "{taken:?} {:?}", third.addresses("eth0"));
    assert_eq!(bed.records().len(), 3);
    third.stop();
    assert_eq!((bed.rebuildable(), bed.leases()), (two.known.clone(), two.leases.clone()));
    assert_eq!(bed.gc(), "");

    for folder in ["containers", "segments"] {
        fs::remove_dir_all(bed.path("run").join(folder)).unwrap();
        two.assert_mended();
    }
    two.stop();
}

/// A container whose record is damaged is started again by the same name.
fn restart() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    fs::write(bed.path("run/containers").join(format!("{}.json", web.id)), "{").unwrap();
    web.kill();
    let again = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!((bed.records().len(), bed.leases().len()), (1, 1));
    again.stop();
    bed.assert_nothing_held();
}

fn poststop() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let other = bed.container(Bare, "other").networks("pub_net").start().unwrap();
    fs::write(bed.path("run/containers").join(format!("{}.json", web.id)), "{").unwrap();
    web.kill();
    let stopped = web.hook("poststop");
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(bed.records(), [format!("{}.json", other.id)]);
    assert_eq!(bed.leases().len(), 1);
}

/// The container is dead and its record garbage, but its namespace, and so its link, is kept.
fn pinned() {
    let bed = Bed::with_pub_net("macvlan", "");
    let netns = Netns::new("pinned");
    let mut web = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    fs::write(bed.path("run/containers").join(format!("{}.json", web.id)), "garbage").unwrap();
    web.kill();
    let plan = bed.run("gc --dry-run");
    assert!(plan.contains(&format!("nsenter --net={} ip link del eth0\n", netns.path().display())), "{plan}");
    assert_eq!(bed.gc(), plan);
    bed.assert_nothing_held();
    assert!(netns.link("eth0").is_none());
    assert_eq!(bed.gc(), "");
}

/// A network that a container may use whose record cannot be read stays.
fn network_rm() {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let path = bed.path("run/containers").join(format!("{}.json", web.id));
    let sound = fs::read_to_string(&path).unwrap();
    for (record, hint) in [
        (sound.replace("\"version\": 2", "\"version\": 4"), "a newer underlay has written it"),
        ("{".to_owned(), "`underlay gc` repairs it"),
    ] {
        fs::write(&path, record).unwrap();
        for network in ["pub_net", "other"] {
            if network == "other" {
                bed.create("--subnet 10.7.0.0/24 -o parent=eth0 other");
            }
            let refused = bed.outcome(&format!("network rm {network}"), "");
            let said = format!(
                "network {network} may be in use by container {}, whose record cannot be read\nhint: {hint}",
                web.id
            );
            assert!(refused.code == 1 && refused.stderr.contains(&said), "{refused:?}");
        }
        assert!(bed.host.link("ulh-pub_net").is_some());
        fs::write(&path, &sound).unwrap();
        bed.run("network rm other");
    }
    let refused = bed.outcome("network rm pub_net", "");
    assert!(refused.stderr.contains("is in use by container"), "{refused:?}");
    web.stop();
    bed.run("network rm pub_net");
}

/// A state folder that is full or read-only: a clear error, and nothing half made.
fn no_room() {
    let bed = Bed::with_pub_net("macvlan", "");
    let run = bed.path("run");
    fs::create_dir_all(&run).unwrap();
    let web = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    for (options, script, said) in [
        ("size=4k", "", "No space left on device"),
        ("nr_inodes=2", "", "No space left on device"),
        ("nr_inodes=5", "", "No space left on device"),
        ("size=1m", "mount -o remount,ro \"$1\";", "Read-only file system"),
    ] {
        let mut command = bed.host.command("unshare");
        command.args(["--mount", "sh", "-c"]).arg(format!(
            "mount -t tmpfs -o {options} none \"$1\" && chmod 700 \"$1\"; {script} shift; \"$@\"; code=$?; \
             find \"$0\" -mindepth 1 ! -type d ! -name events ! -name segment.json ! -name lock; exit $code"
        ));
        command
            .arg(&run)
            .arg(&run)
            .arg(crate::harness::bed::binary())
            .args(bed.dirs())
            .args(["hook", "createRuntime"]);
        let outcome = crate::harness::bed::outcome(&mut command, web.state_at("createRuntime").as_bytes());
        assert_eq!(outcome.code, 1, "{options}: {outcome:?}");
        assert!(outcome.stderr.contains(said) && outcome.stderr.contains("/run"), "{options}: {outcome:?}");
        assert_eq!(outcome.stdout, "", "{options}: files that are left");
        assert_eq!(web.links(), [""; 0], "{options}");
    }
    assert_eq!(web.hook("createRuntime").code, 0, "with room again");
}

fn others_can_write() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.configure("underlay.json", "{}");
    let web = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    fs::create_dir_all(bed.path("run")).unwrap();
    for name in ["etc", "etc/underlay.json", "etc/networks", "etc/networks/pub_net.json", "run"] {
        let path = bed.path(name);
        let before = fs::metadata(&path).unwrap().permissions();
        for (mode, owner, said) in [
            (Some(0o777), None, "can be written by others than root (mode 0777)"),
            (Some(0o770), None, "can be written by others than root (mode 0770)"),
            (None, Some(1000), "belongs to user 1000, not to root"),
        ] {
            chown(&path, Some(owner.unwrap_or(0)), None).unwrap();
            let mode = mode.map_or(before.clone(), fs::Permissions::from_mode);
            fs::set_permissions(&path, mode).unwrap();
            let outcome = web.hook("createRuntime");
            assert_eq!(outcome.code, 1, "{name}");
            assert!(
                outcome.stderr.contains(&format!("{} {said}\nhint: ", path.display())),
                "{name}: {outcome:?}"
            );
            bed.assert_nothing_held();
        }
        chown(&path, Some(0), None).unwrap();
        fs::set_permissions(&path, before).unwrap();
    }
    assert_eq!(web.hook("createRuntime").code, 0);
}
