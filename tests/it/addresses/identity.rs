//! The same container, the same address and MAC: over stops, re-creations and reboots, as long as they are free.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::addresses::reserved;
use crate::harness::bed::{Bed, Netns, finish, outcome};
use crate::harness::container::{
    Container,
    Engine::{self, Bare},
    wait,
};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub const IDENTITY: &str = "io.underlay.identity";

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for engine in [Bare, Engine::Podman] {
        let needs = [Need::Macvlan, Need::Engine(engine)];
        let name = |what: &str| format!("identity::{what}::{engine}");
        tests.push(Test::new(name("re_creation"), &needs, move || re_creation(engine)));
        tests.push(Test::new(name("reservation"), &needs, move || reserved::reservation(engine)));
    }
    for (name, damage) in DAMAGES {
        let test = move || damaged(name, damage);
        tests.push(Test::new(format!("identity::hint::{name}"), &[Need::Macvlan], test));
    }
    for driver in ["macvlan", "ipvlan"] {
        let needs = if driver == "macvlan" { [Need::Macvlan] } else { [Need::Ipvlan] };
        tests.push(Test::new(format!("identity::reboot::{driver}"), &needs, move || reboot(driver)));
    }
    let all: [Named; 15] = [
        ("podman_restart", &[Need::Macvlan, Need::Engine(Engine::Podman)], podman_restart),
        ("the_id_without_an_annotation", &[Need::Macvlan], by_id),
        ("taken_meanwhile", &[Need::Macvlan], taken_meanwhile),
        ("two_at_a_time", &[Need::Macvlan], two_at_a_time),
        ("a_request_wins_and_is_remembered", &[Need::Macvlan], requested),
        ("outside_of_the_range_by_now", &[Need::Macvlan], out_of_range),
        ("a_death_without_poststop", &[Need::Macvlan], death),
        ("in_use_behind_the_ledgers_back", &[Need::Macvlan], behind_the_back),
        ("macs_are_derived", &[Need::Macvlan], derived),
        ("a_cloned_image", &[Need::Macvlan], cloned_image),
        ("macs_that_clash", &[Need::Macvlan], clashes),
        ("reserved_for_others", &[Need::Macvlan], reserved::reserved_for_others),
        ("reserved_and_in_use", &[Need::Macvlan], reserved::reserved_in_use),
        ("reservations_that_are_refused", &[Need::Macvlan], reserved::refused),
        ("annotation", &[Need::Macvlan], annotation),
    ];
    tests.extend(all.map(|(name, needs, run)| Test::new(format!("identity::{name}"), needs, run)));
    tests
}

pub fn start<'a>(bed: &'a Bed, id: &str, identity: &str, networks: &str) -> Container<'a> {
    bed.container(Bare, id).annotation(IDENTITY, identity).networks(networks).start().unwrap()
}

fn mac(container: &Container<'_>) -> String {
    container.link("eth0")["address"].as_str().unwrap().to_owned()
}

/// Addresses and MAC of `eth0`.
pub fn have(container: &Container<'_>) -> (Vec<String>, String) {
    (container.addresses("eth0"), mac(container))
}

/// The only hint there is.
fn hint(bed: &Bed) -> PathBuf {
    let path = ["identities", "containers"].map(|name| bed.path("data").join(name));
    let mut path = path.into_iter().find(|path| path.is_dir()).unwrap();
    while path.is_dir() {
        path = fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    }
    path
}

/// What a reboot leaves: files that are not on tmpfs.
fn after_a_reboot(bed: &Bed) {
    fs::remove_dir_all(bed.path("run")).unwrap();
}

fn re_creation(engine: Engine) {
    let bed = Bed::with_pub_net("macvlan", "--subnet=2001:db8:abc8::/64");
    let start = |id: &str, identity: &str| {
        let container = bed.container(engine, id).annotation(IDENTITY, identity).networks("pub_net");
        container.start().unwrap()
    };
    let first = start("first", "db");
    let had = have(&first);
    let _other = start("other", "web");
    assert_eq!(bed.macs().len(), 2);
    first.stop();
    let between = start("between", "cache");
    assert_ne!(between.addresses("eth0"), had.0, "what was just given up comes round last");
    // Another id, the same identity.
    let second = start("second", "db");
    assert_eq!(have(&second), had);
    assert!(second.reaches("172.16.86.1"));
    assert_eq!(bed.run("check"), "");
}

fn podman_restart() {
    let bed = Bed::with_pub_net("macvlan", "--subnet=2001:db8:abc8::/64");
    let mut container = bed.container(Engine::Podman, "web").networks("pub_net").start().unwrap();
    let had = have(&container);
    for _ in 0..3 {
        container.restart();
        assert_eq!(have(&container), had);
    }
    container.stop();
    bed.assert_nothing_held();
}

fn by_id() {
    let bed = Bed::with_pub_net("macvlan", "");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let had = have(&web);
    let text = format!("pub_net:ip=172.16.86.2,mac={}", had.1);
    assert_eq!(fs::read_link(hint(&bed)).unwrap(), Path::new(&text));
    assert_eq!(hint(&bed).file_name().unwrap().to_str(), Some(web.id.as_str()));
    web.stop();
    assert_eq!(have(&bed.container(Bare, "web").networks("pub_net").start().unwrap()), had);
    // What the container says it is is another thing.
    let _claims = start(&bed, "web2", "web", "pub_net");
    assert_eq!(bed.ps()[0]["attachments"][0]["addresses"], serde_json::json!(["172.16.86.3/24"]));
}

fn reboot(driver: &str) {
    let bed = Bed::new();
    // After this reboot, unlike a real one, links that the kernel still takes apart may answer to probes.
    let options = format!("-d {driver} -o parent=eth0 -o conflict_detection=off");
    bed.create(&format!(
        "{options} --subnet 10.0.0.0/24 --subnet 2001:db8:1::/64 --ip-range 10.0.0.16/28 lan"
    ));
    bed.create(&format!("{options} --subnet 10.1.0.0/24 wan"));
    let first = start(&bed, "first", "db", "lan;wan;lan");
    let had = (have(&first), first.addresses("eth1"), first.addresses("eth2"));
    let macs = bed.macs();
    assert_eq!(macs.len(), if driver == "macvlan" { 3 } else { 0 });
    first.stop();
    after_a_reboot(&bed);
    let next = start(&bed, "next", "web", "lan");
    assert_eq!(
        next.addresses("eth0"),
        ["10.0.0.16/24", "2001:db8:1::1/64"],
        "who comes first is served first"
    );
    next.stop();
    after_a_reboot(&bed);
    // In another order, and with one less.
    let again = start(&bed, "again", "db", "wan;lan");
    assert_eq!((again.addresses("eth1"), again.addresses("eth0")), (had.0.0.clone(), had.1.clone()));
    again.stop();
    after_a_reboot(&bed);
    let last = start(&bed, "last", "db", "lan;wan");
    assert_eq!((have(&last), last.addresses("eth1")), (had.0, had.1));
    assert_eq!(bed.run("check"), "");
}

/// Whoever has the address now keeps it.
fn taken_meanwhile() {
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/29 --ip-range 10.0.0.2-10.0.0.3 -o parent=eth0 lan");
    let db = start(&bed, "a", "db", "lan");
    let had = have(&db);
    db.stop();
    let web = start(&bed, "b", "web", "lan:ip=10.0.0.2");
    let db = start(&bed, "c", "db", "lan");
    assert_eq!(have(&db), (vec!["10.0.0.3/29".to_owned()], had.1), "the MAC address was free");
    db.stop();
    web.stop();
    let db = start(&bed, "d", "db", "lan");
    assert_eq!(db.addresses("eth0"), ["10.0.0.3/29"], "what it had last");
    db.stop();
    // The host takes it.
    bed.host.ip("addr add 10.0.0.3/32 dev lo");
    assert_eq!(start(&bed, "e", "db", "lan").addresses("eth0"), ["10.0.0.2/29"]);
}

/// The second of two that live under one identity gets what is free, and the first keeps its place.
fn two_at_a_time() {
    let bed = Bed::with_pub_net("macvlan", "");
    let first = start(&bed, "first", "db", "pub_net");
    let second = start(&bed, "second", "db", "pub_net");
    let third = start(&bed, "third", "db", "pub_net:ip=172.16.86.99");
    let had = have(&first);
    let all = [mac(&first), mac(&second), mac(&third)];
    assert_eq!(bed.macs().len(), 3, "{all:?}");
    assert_eq!(second.addresses("eth0"), ["172.16.86.3/24"]);
    assert!(second.reaches("172.16.86.2") && third.reaches("172.16.86.2"));
    // Whatever the order in which they stop.
    first.stop();
    third.stop();
    second.stop();
    assert_eq!(have(&start(&bed, "first", "db", "pub_net")), had);
}

fn requested() {
    let bed = Bed::with_pub_net("macvlan", "");
    start(&bed, "a", "db", "pub_net").stop();
    let asked = start(&bed, "b", "db", "pub_net:ip=172.16.86.77,mac=02:00:00:00:00:77");
    let had = have(&asked);
    assert_eq!(had, (vec!["172.16.86.77/24".to_owned()], "02:00:00:00:00:77".to_owned()));
    asked.stop();
    let again = start(&bed, "c", "db", "pub_net");
    assert_eq!(have(&again), had);
    again.stop();
    // Of two that were asked for one is enough.
    start(&bed, "d", "db", "pub_net:ip=172.16.86.78,ip=172.16.86.79").stop();
    assert_eq!(start(&bed, "e", "db", "pub_net").addresses("eth0"), ["172.16.86.78/24"]);
}

fn out_of_range() {
    let bed = Bed::new();
    let file = |more: &str| {
        let text = format!(
            r#"{{"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{{"subnet": "10.0.0.0/24" {more}}}]}}"#
        );
        bed.configure("networks/lan.json", &text);
    };
    let again = || {
        let container = start(&bed, "x", "db", "lan");
        let addresses = container.addresses("eth0");
        container.stop();
        addresses
    };
    file(r#", "ip_range": "10.0.0.32/28""#);
    assert_eq!(again(), ["10.0.0.32/24"]);
    file(r#", "ip_range": "10.0.0.64/28""#);
    assert_eq!(again(), ["10.0.0.64/24"]);
    file(r#", "gateway": "10.0.0.64""#);
    assert_eq!(again(), ["10.0.0.1/24"]);
    file(r#", "aux_addresses": {"nas": "10.0.0.1"}"#);
    assert_eq!(again(), ["10.0.0.2/24"]);
    bed.configure(
        "networks/lan.json",
        r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10.9.0.0/24"}]}"#,
    );
    assert_eq!(again(), ["10.9.0.1/24"]);
}

/// What a dead container of this identity still holds is free.
fn death() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut dies = start(&bed, "dies", "db", "pub_net");
    let had = have(&dies);
    dies.kill();
    dies.forget();
    let again = start(&bed, "again", "db", "pub_net");
    assert_eq!(have(&again), had);
    assert_eq!((bed.records().len(), bed.leases().len(), bed.macs().len()), (1, 1, 1));
    again.stop();
    // In a namespace that somebody keeps its link still is there.
    let pinned = Netns::new("pinned");
    let pinning = bed.container(Bare, "pinned").annotation(IDENTITY, "db").networks("pub_net");
    let mut pinning = pinning.in_netns(pinned.path()).start().unwrap();
    assert_eq!(have(&pinning), had);
    pinning.kill();
    let other = start(&bed, "other", "db", "pub_net");
    assert_ne!(other.addresses("eth0"), had.0);
    assert_ne!(mac(&other), had.1);
    pinning.stop();
}

/// Somebody keeps a link with the MAC address: the container starts, with another.
fn behind_the_back() {
    let bed = Bed::with_pub_net("macvlan", "");
    let first = start(&bed, "first", "db", "pub_net");
    let had = have(&first);
    first.stop();
    let elsewhere = Netns::new("elsewhere");
    let link = format!("link eth0 netns {} address {} type macvlan mode bridge", elsewhere.name, had.1);
    bed.host.ip(&format!("link add hand0 {link}"));
    // The kernel may still be taking the first one's link away.
    wait(|| elsewhere.try_run("ip", "link set hand0 up").is_ok());
    let second = start(&bed, "second", "db", "pub_net");
    assert_ne!(mac(&second), had.1);
    assert!(second.reaches("172.16.86.1"));
    let now = have(&second);
    second.stop();
    assert_eq!(have(&start(&bed, "third", "db", "pub_net")), now, "that is remembered then");
}

/// From identity, network and machine: known before the link is, and each time the same.
fn derived() {
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/24 -o parent=eth0 lan");
    bed.create("--subnet 10.1.0.0/24 -o parent=eth0 wan");
    let first = start(&bed, "first", "db", "lan;wan");
    let macs = ["eth0", "eth1"].map(|name| first.link(name)["address"].as_str().unwrap().to_owned());
    assert_ne!(macs[0], macs[1]);
    for mac in &macs {
        let first = u8::from_str_radix(&mac[..2], 16).unwrap();
        assert_eq!(first & 3, 2, "{mac} is a unicast one, and locally administered");
    }
    first.stop();
    // Without any memory.
    after_a_reboot(&bed);
    fs::remove_dir_all(bed.path("data")).unwrap();
    let again = start(&bed, "again", "db", "lan");
    assert_eq!(mac(&again), macs[0]);
    again.stop();
    fs::remove_dir_all(bed.path("data")).unwrap();
    // Without a machine id it depends on the parent.
    let without = bed.container(Bare, "without").annotation(IDENTITY, "db").networks("lan").without_hooks();
    let without = without.start().unwrap();
    let mut hidden = with_machine_id(&bed, Path::new("/dev/null"), "hook createRuntime");
    let made = outcome(hidden.env("RUST_LOG", "info"), without.state_at("createRuntime").as_bytes());
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.stderr.contains("MAC addresses are derived from the parent's"), "{made:?}");
    assert_ne!(mac(&without), macs[0]);
    assert_eq!(bed.macs(), [mac(&without)]);
}

/// `underlay`, where `file` is /etc/machine-id.
fn with_machine_id(bed: &Bed, file: &Path, arguments: &str) -> Command {
    let command = bed.underlay(arguments);
    let mut hidden = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/machine-id && exec \"$@\"";
    hidden.args(["--mount", "sh", "-c", script]).arg(file);
    hidden.arg(command.get_program()).args(command.get_args());
    hidden
}

/// A machine that was cloned with what underlay remembers, and has a machine id of its own: its containers are not those of
/// the machine it was cloned from.
fn cloned_image() {
    let bed = Bed::with_pub_net("macvlan", "");
    let ids = ["a", "b"].map(|digit| {
        let path = bed.path(&format!("machine-id-{digit}"));
        fs::write(&path, format!("{}\n", digit.repeat(32))).unwrap();
        path
    });
    let run = |id: &Path, arguments: &str| finish(&mut with_machine_id(&bed, id, arguments)).unwrap();
    let text = || fs::read_link(bed.path("data/host")).unwrap().into_os_string().into_string().unwrap();
    let had = || {
        let container = start(&bed, "x", "db", "pub_net");
        let mac = mac(&container);
        container.stop();
        after_a_reboot(&bed);
        mac
    };
    let (own, key) = (had(), text()[..33].to_owned());
    assert_eq!((bed.run("boot"), had()), (String::new(), own.clone()), "the same machine");
    let line = format!(
        "# write {} anew: the machine id has changed: the addresses of identities are forgotten\n",
        bed.path("data/host").display()
    );
    assert_eq!(run(&ids[0], "gc --dry-run"), line);
    assert_eq!(had(), own, "a dry run does nothing");
    // An attach does not look, whoever shows it another file.
    let mut macs = vec![own];
    for (number, words) in ["boot", "gc"].into_iter().enumerate() {
        assert_eq!(run(&ids[number], words), line, "{words}");
        assert_eq!(text(), format!("{key}{}", ["a", "b"][number].repeat(32)), "the same key");
        assert!(!bed.path("data/identities").exists());
        assert_eq!(run(&ids[number], words), "", "once");
        assert_eq!(run(Path::new("/dev/null"), words), "", "that there is none says nothing");
        let mac = had();
        assert!(!macs.contains(&mac), "{words}: {mac} {macs:?}");
        macs.push(mac);
    }
    let create = "network create --subnet 10.0.0.0/24 -o parent=eth0 other";
    let created = outcome(&mut with_machine_id(&bed, &ids[0], create), b"");
    assert!(created.stderr.contains("the machine id has changed"), "{created:?}");
    assert_eq!(had(), macs[1]);
    assert_eq!(bed.run("boot"), line);
    assert_eq!(had(), macs[0]);
}

/// Refused in words before the kernel is asked.
fn clashes() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.create("--subnet 10.0.0.0/24 -o parent=eth0 other");
    let web = start(&bed, "web", "web", "pub_net");
    let refused = |networks: &str| {
        let error = bed.container(Bare, "refused").networks(networks).start().map(drop).unwrap_err();
        assert!(error.contains("hint: ask for another MAC address, or leave it out"), "{error}");
        error
    };
    for network in ["pub_net", "other"] {
        let mac = mac(&web);
        let error = refused(&format!("{network}:mac={mac}"));
        let held = format!("MAC address {mac} of network {network} is held by container {}", web.id);
        assert!(error.contains(&held), "{error}");
    }
    let parent = bed.host.link("eth0").unwrap()["address"].as_str().unwrap().to_owned();
    let error = refused(&format!("pub_net:mac={parent}"));
    assert!(
        error.contains(&format!("MAC address {parent} of network pub_net is held by parent eth0")),
        "{error}"
    );
    let error = refused("pub_net:mac=02:00:00:00:00:07;other:mac=02:00:00:00:00:07");
    assert!(error.contains("is held by this very container"), "{error}");
    assert_eq!((bed.macs(), bed.leases().len()), (vec![mac(&web)], 1));
    // One that underlay did not make, the kernel refuses.
    let elsewhere = Netns::new("elsewhere");
    bed.host.ip(&format!(
        "link add hand0 link eth0 netns {} address 02:00:00:00:00:08 type macvlan mode bridge",
        elsewhere.name
    ));
    // The kernel may still be taking the first one's link away.
    wait(|| elsewhere.try_run("ip", "link set hand0 up").is_ok());
    let error =
        bed.container(Bare, "late").networks("pub_net:mac=02:00:00:00:00:08").start().map(drop).unwrap_err();
    assert!(error.contains("the MAC address of eth0 is in use on the same parent"), "{error}");
    assert_eq!((bed.macs(), bed.leases().len()), (vec![mac(&web)], 1));
    // The kernel ignores one for passthru.
    bed.host.ip("link add eth1 type veth peer name far1");
    bed.create("-o macvlan_mode=passthru -o parent=eth1 alone");
    let error = bed.container(Bare, "alone").networks("alone:mac=02:00:00:00:00:09").start().map(drop);
    assert!(
        error.unwrap_err().contains("has driver macvlan mode passthru, whose links all have the parent's")
    );
}

/// What can be wrong with the data dir or a hint in it.
type Damage = fn(&Bed);

const DAMAGES: [(&str, Damage); 10] = [
    ("garbage", |bed| replaced(bed, "/etc/passwd")),
    ("newer", |bed| replaced(bed, "pub_net:ip=172.16.86.9,vni=7")),
    ("a_file", |bed| {
        let path = hint(bed);
        fs::remove_file(&path).unwrap();
        fs::write(path, "pub_net:ip=172.16.86.9").unwrap();
    }),
    ("a_folder", |bed| {
        let path = hint(bed);
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("full")).unwrap();
    }),
    ("a_file_for_a_bucket", |bed| {
        let bucket = hint(bed).parent().unwrap().to_owned();
        fs::remove_dir_all(&bucket).unwrap();
        fs::write(bucket, "").unwrap();
    }),
    ("a_loop", |bed| {
        let data = bed.path("data");
        fs::remove_dir_all(&data).unwrap();
        symlink(&data, &data).unwrap();
    }),
    ("a_users", |bed| chown(bed.path("data"), Some(1000), None).unwrap()),
    ("writable", |bed| {
        fs::set_permissions(bed.path("data"), fs::Permissions::from_mode(0o777)).unwrap();
    }),
    ("read_only", |bed| {
        let data = bed.path("data");
        crate::harness::bed::run(
            "mount",
            &["--bind", "-o", "ro", data.to_str().unwrap(), data.to_str().unwrap()],
        )
        .unwrap();
        crate::harness::bed::run("mount", &["-o", "remount,bind,ro", data.to_str().unwrap()]).unwrap();
    }),
    ("disk_full", |bed| {
        let data = bed.path("data");
        let data = data.to_str().unwrap();
        crate::harness::bed::run("mount", &["-t", "tmpfs", "-o", "nr_inodes=1,mode=700", "none", data])
            .unwrap();
    }),
];

fn replaced(bed: &Bed, text: &str) {
    let path = hint(bed);
    fs::remove_file(&path).unwrap();
    symlink(text, &path).unwrap();
}

/// A memory that is lost, and cannot be made again, stops nobody: there is a warning, and the next free address.
fn damaged(name: &str, damage: Damage) {
    let bed = Bed::with_pub_net("macvlan", "");
    start(&bed, "first", "db", "pub_net").stop();
    damage(&bed);
    let again = bed.container(Bare, "again").annotation(IDENTITY, "db").networks("pub_net").without_hooks();
    let mut again = again.start().unwrap();
    let made = again.hook("createRuntime");
    // Nobody else has had an address meanwhile: one that is remembered would be the first.
    let expected = if name == "read_only" { "172.16.86.2/24" } else { "172.16.86.3/24" };
    let (have, warned) = (again.addresses("eth0"), made.stderr.contains("[WARN ] "));
    again.kill();
    let stopped = again.hook("poststop");
    if ["read_only", "disk_full"].contains(&name) {
        crate::harness::bed::run("umount", &[bed.path("data").to_str().unwrap()]).unwrap();
    }
    assert_eq!((made.code, have), (0, vec![expected.to_owned()]), "{made:?}");
    // What is well remembered is not written again until it stops.
    assert_eq!(warned, name != "read_only", "{made:?}");
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let heals = ["garbage", "newer", "a_file"].contains(&name);
    assert_eq!(stopped.stderr.is_empty(), heals, "{stopped:?}");
    bed.assert_nothing_held();
    assert_eq!(bed.gc(), "");
    if heals {
        let third = start(&bed, "third", "db", "pub_net");
        assert_eq!(third.addresses("eth0"), have_again());
    }
}

fn have_again() -> Vec<String> {
    vec!["172.16.86.3/24".to_owned()]
}

fn annotation() {
    let bed = Bed::with_pub_net("macvlan", "");
    for (identity, message) in [
        ("../db", "annotation io.underlay.identity: identity \"../db\" is not usable"),
        ("", "annotation io.underlay.identity: identity \"\" is not usable"),
    ] {
        let container = bed.container(Bare, "x").annotation(IDENTITY, identity).networks("pub_net");
        let error = container.start().map(drop).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    assert!(!bed.path("data").exists());
    // Without networks it says nothing, so that something is mistyped.
    let alone = bed.container(Bare, "y").annotation(IDENTITY, "db").start().map(drop).unwrap_err();
    assert!(alone.contains("asks for no network"), "{alone}");
    let longest = "i".repeat(200);
    start(&bed, "z", &longest, "pub_net").stop();
    assert_eq!(hint(&bed).file_name().unwrap().to_str(), Some(longest.as_str()));
}
