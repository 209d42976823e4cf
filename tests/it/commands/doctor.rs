//! `underlay doctor`: each finding is provoked, and goes away with the command or the edit that it names.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::bed::{Bed, Outcome, binary, outcome, run};
use crate::harness::container::Engine::Bare;
use crate::harness::container::wait;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    use Need::{Installed, Ipvlan, Macvlan, Program, Tool, Wireless};
    let all: [Named; 11] = [
        ("link_types", &[], link_types),
        ("parents", &[Macvlan], parents),
        ("addresses_of_the_host", &[Macvlan], addresses_of_the_host),
        ("filters", &[Macvlan, Tool("sysctl")], filters),
        ("files_that_others_can_write", &[Macvlan], files),
        ("the_ledger", &[Macvlan], the_ledger),
        ("the_ledger_unread", &[Macvlan], the_ledger_unread),
        ("hooks", &[], hooks),
        ("docker", &[], docker),
        ("the_agent", &[Macvlan], agent),
        ("programs_that_others_can_write", &[], programs),
    ];
    let alone: [Named; 2] = [
        ("modules", &[Installed, Ipvlan, Program("modprobe")], modules),
        ("wireless", &[Installed, Wireless], wireless),
    ];
    let named = |(name, needs, run): Named| Test::new(format!("doctor::{name}"), needs, run);
    all.map(named).into_iter().chain(alone.map(|test| named(test).alone())).collect()
}

/// Runs the doctor, with an empty system but for what the test has put below `root`.
fn doctor(bed: &Bed) -> Outcome {
    bed.outcome(&format!("doctor --format json --root {}", bed.path("root").display()), "")
}

/// What is found; that a bed's folders are on a disk, or not, is no matter.
fn findings(bed: &Bed) -> Vec<Value> {
    let Outcome { code, stdout, stderr } = doctor(bed);
    let all: Vec<Value> = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    let bad = all.iter().any(|finding| finding["severity"] != "note");
    assert_eq!(code, i32::from(bad), "{stdout}{stderr}");
    for finding in &all {
        let is_text = |key: &str| finding[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(is_text("what") && is_text("why"), "{finding}");
        assert!(is_text("command") != is_text("advice"), "{finding}");
    }
    all.into_iter().filter(|finding| finding["id"] != "state-dir").collect()
}

fn ids(bed: &Bed) -> Vec<String> {
    ids_of(&findings(bed))
}

/// Not every machine has all types of links, which is no matter either.
fn ids_of(findings: &[Value]) -> Vec<String> {
    let ids = findings.iter().map(|finding| finding["id"].as_str().unwrap().to_owned());
    ids.filter(|id| id != "kernel-module").collect()
}

/// Runs a command of the doctor's as its reader would: in a shell on the host, `underlay` being this one.
#[track_caller]
fn fix(bed: &Bed, command: &str) {
    let bin = bed.path("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        symlink(binary(), bin.join("underlay")).unwrap();
    }
    let mut shell = bed.host.command("sh");
    shell.args(["-ec", command]).env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    for (variable, name) in [("CONFIG", "etc"), ("STATE", "run"), ("DATA", "data"), ("CDI", "cdi")] {
        shell.env(format!("UNDERLAY_{variable}_DIR"), bed.path(name));
    }
    let done = outcome(&mut shell, b"");
    assert_eq!(done.code, 0, "{command}: {done:?}");
}

/// Asserts that exactly `expected` is found, and that the named commands fix it all; returns the first sentence.
#[track_caller]
fn found_and_fixed(bed: &Bed, expected: &[&str]) -> String {
    let found = findings(bed);
    assert_eq!(ids_of(&found), expected, "{found:#?}");
    let mine = found.iter().filter(|finding| finding["id"] != "kernel-module");
    for command in mine.clone().map(|finding| finding["command"].as_str()) {
        fix(bed, command.unwrap_or_else(|| panic!("{found:#?} has no command")));
    }
    assert_eq!(ids(bed), [""; 0], "after {found:#?}");
    mine.clone().next().unwrap()["what"].as_str().unwrap().to_owned()
}

/// Asserts that `id` alone is found, that the advice begins with `advice`, and that nothing is found after `edit`; returns
/// the first sentence.
#[track_caller]
fn found_and_edited(bed: &Bed, id: &str, advice: &str, edit: impl FnOnce()) -> String {
    let found = findings(bed);
    assert_eq!(ids_of(&found), [id], "{found:#?}");
    let finding = found.iter().find(|finding| finding["id"] == id).unwrap();
    let said = finding["advice"].as_str().unwrap_or_else(|| panic!("{found:#?} has no advice"));
    assert!(said.starts_with(advice), "{said}");
    edit();
    assert_eq!(ids(bed), [""; 0], "after {found:#?}");
    finding["what"].as_str().unwrap().to_owned()
}

fn define(bed: &Bed, name: &str, more: &str) {
    bed.configure(&format!("networks/{name}.json"), &format!("{{\"version\": 1, {more}}}\n"));
}

/// Replaces text in the file of a network.
fn edit(bed: &Bed, name: &str, from: &str, to: &str) {
    let path = bed.path(&format!("etc/networks/{name}.json"));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// What the kernel is asked is what `ip link add` comes to.
fn link_types() {
    let bed = Bed::new();
    define(&bed, "a", r#""driver": "macvlan", "parent": "eth0""#);
    define(&bed, "b", r#""driver": "ipvlan", "parent": "eth0.5""#);
    define(&bed, "c", r#""driver": "macvlan""#);
    let found = findings(&bed);
    for (need, kind) in
        [(Need::Macvlan, "macvlan"), (Need::Ipvlan, "ipvlan"), (Need::Vlan, "vlan"), (Need::Dummy, "dummy")]
    {
        let is_missing = |finding: &Value| {
            finding["id"] == "kernel-module"
                && finding["what"].as_str().unwrap().ends_with(&format!(" has no {kind} links"))
        };
        assert_eq!(found.iter().any(is_missing), need.missing().is_some(), "{kind}: {found:#?}");
    }
}

fn parents() {
    let bed = Bed::new();
    assert_eq!(ids(&bed), ["no-network"]);
    fix(&bed, "underlay network create --subnet 172.16.86.0/24 -o parent=eth0 -o mtu=1400 lan");
    assert_eq!(ids(&bed), [""; 0]);
    bed.host.ip("link set eth0 down");
    assert_eq!(found_and_fixed(&bed, &["parent-down"]), "parent link eth0 is down");
    bed.host.ip("link set eth0 mtu 1300");
    let file = format!("change {}: ", bed.path("etc/networks/lan.json").display());
    let raise = format!("{file}use at most 1300, or raise it with `ip link set eth0 mtu 1400`");
    let raised = || drop(bed.host.ip("link set eth0 mtu 1400"));
    assert_eq!(
        found_and_edited(&bed, "parent-unfit", &raise, raised),
        "mtu 1400 of network lan is above the 1300 of parent eth0"
    );

    // No command plugs in a cable.
    bed.lan.ip("link set lan0 down");
    wait(|| ids(&bed) == ["parent-no-carrier"]);
    assert_eq!(findings(&bed).pop().unwrap()["command"], Value::Null);
    bed.lan.ip("link set lan0 up");
    wait(|| ids(&bed).is_empty());

    for change in ["link set eth0 down", "link set eth0 name lan9", "link set lan9 up"] {
        bed.host.ip(change);
    }
    let what = found_and_edited(&bed, "parent-missing", &file, || edit(&bed, "lan", "eth0", "lan9"));
    assert_eq!(what, "network lan: parent eth0 does not exist on this host");
    assert!(bed.run("network ls").contains("lan9"), "{}", bed.run("network ls"));

    bed.host.ip_batch(&["link add br0 type bridge", "link set lan9 master br0", "link set br0 up"]);
    wait(|| !ids(&bed).contains(&"parent-no-carrier".to_owned()));
    let bridge = format!("{file}use the bridge itself as parent");
    let what = found_and_edited(&bed, "parent-unfit", &bridge, || edit(&bed, "lan", "lan9", "br0"));
    assert_eq!(what, "parent lan9 is a port of a bridge");
    bed.run("network rm lan");
    define(&bed, "loop", r#""driver": "macvlan", "parent": "lo""#);
    let what = found_and_edited(&bed, "parent-unfit", "change ", || edit(&bed, "loop", "\"lo\"", "\"br0\""));
    assert_eq!(what, "parent lo is a loopback link");
    let page = bed.outcome(&format!("doctor --root {}", bed.path("root").display()), "").stdout;
    assert!(page.contains("\nparents: all is well\n"), "{page}");
}

fn addresses_of_the_host() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=off");
    let web = bed.container(Bare, "web").networks("pub_net:ip=172.16.86.10,mac=02:00:00:00:00:09");
    let web = web.start().unwrap();
    assert_eq!(ids(&bed), [""; 0]);
    bed.host.ip("addr add 172.16.86.10/24 dev eth0");
    let what = found_and_fixed(&bed, &["duplicate-address"]);
    assert_eq!(what, format!("address 172.16.86.10 of container {} is the host's too, on eth0", web.id));
    assert!(bed.host.ip("addr show dev eth0").contains("172.16.86.250/24"));
    bed.host.ip("link add twin address 02:00:00:00:00:09 type veth peer name far");
    let what = found_and_fixed(&bed, &["duplicate-mac"]);
    assert_eq!(
        what,
        format!("MAC address 02:00:00:00:00:09 of container {} is that of the host's twin, too", web.id)
    );

    // What somebody has done in the container, a restart undoes.
    web.run("ip", "addr add 172.16.86.78/24 dev eth0");
    let found = findings(&bed);
    assert_eq!(ids_of(&found), ["differs"], "{found:#?}");
    let what = "network pub_net, link eth0: address is 172.16.86.78/24, and should be nothing";
    assert_eq!(found.last().unwrap()["what"], format!("container {}, {what}", web.id));
    web.run("ip", "addr del 172.16.86.78/24 dev eth0");
    assert_eq!(ids(&bed), [""; 0]);
}

fn filters() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=off --host-access");
    bed.host.ip_batch(&["link add eth1 type veth peer name lan1", "link set lan1 up", "link set eth1 up"]);
    bed.create("--subnet 10.9.0.0/24 -o parent=eth1 -o conflict_detection=off san");
    wait(|| ids(&bed).is_empty());
    let web = bed.container(Bare, "web").networks("pub_net;san").start().unwrap();
    let all = |value: u8, key: &str| format!("-qw net.ipv4.conf.all.{key}={value}");
    web.run("sysctl", &all(0, "rp_filter"));
    web.run("sysctl", "-qw net.ipv4.conf.eth1.rp_filter=1");
    let what = found_and_fixed(&bed, &["rp-filter"]);
    assert!(what.starts_with(&format!("link eth1 of container {} drops", web.id)), "{what}");
    web.run("sysctl", &all(1, "rp_filter"));
    assert_eq!(ids(&bed), [""; 0], "the greater counts");
    web.run("sysctl", "-qw net.ipv4.conf.eth1.rp_filter=0");
    found_and_fixed(&bed, &["rp-filter"]);
    let twice = bed.container(Bare, "twice").networks("pub_net;pub_net").start().unwrap();
    let what = found_and_fixed(&bed, &["arp-flux"]);
    assert!(what.starts_with(&format!("links eth0 and eth1 of container {} are", twice.id)), "{what}");

    bed.host.try_run("sysctl", &all(1, "arp_ignore")).unwrap();
    let what = found_and_fixed(&bed, &["host-arp-ignore"]);
    assert!(what.ends_with("(arp_ignore 1)"), "{what}");
}

fn files() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.configure("underlay.json", "{\"version\": 1}\n");
    drop(bed.container(Bare, "web").networks("pub_net").start().unwrap());
    assert_eq!(ids(&bed), [""; 0]);
    for name in ["etc", "etc/networks", "etc/networks/pub_net.json", "etc/underlay.json", "run"] {
        let path = bed.path(name);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(before.mode() | 0o022)).unwrap();
        chown(&path, Some(1000), None).unwrap();
        let what = found_and_fixed(&bed, &["owner", "mode"]);
        assert_eq!(what, format!("{} belongs to user 1000, not to root", path.display()));
        assert_eq!(fs::metadata(&path).unwrap().permissions(), before);
    }
    // What stands in a file is fixed in an editor.
    define(&bed, "bad", r#""driver": "macvlan", "mtuu": 5"#);
    bed.configure("underlay.json", "{");
    let found = findings(&bed);
    assert_eq!(ids_of(&found)[..2], ["settings", "network-file"], "{found:#?}");
    assert!(found[1]["what"].as_str().unwrap().contains("bad.json: mtuu: unknown field"), "{found:#?}");
    define(&bed, "bad", r#""driver": "macvlan", "parent": "eth0""#);
    bed.configure("underlay.json", "{\"version\": 1}\n");
    assert_eq!(ids(&bed), [""; 0]);
}

/// Of a system that is mounted there, what its next boot starts counts.
fn agent() {
    let bed = Bed::with_pub_net("macvlan", "");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(ids(&bed), [""; 0], "an agent may take its time");
    // As if it had been attached just after the boot.
    let task = bed.path("run/agent/1-1");
    symlink(format!("../containers/{}.json", web.id), &task).unwrap();
    let what = || findings(&bed).pop().unwrap()["what"].as_str().unwrap().to_owned();
    assert_eq!(what(), "one container waits for the agent, which does not come");
    found_and_fixed(&bed, &["agent"]);
    assert!(!task.exists());
    write(&bed, "usr/lib/systemd/system/underlay-agent.path", "[Path]\n");
    assert_eq!(what(), "underlay-agent.path is not active: nothing starts the agent");
    symlink(format!("../containers/{}.json", web.id), &task).unwrap();
    assert_eq!(what(), "underlay-agent.path is not active, and one container waits for the agent");
    let wants = bed.path("root/etc/systemd/system/paths.target.wants");
    fs::create_dir_all(&wants).unwrap();
    symlink("/usr/lib/systemd/system/underlay-agent.path", wants.join("underlay-agent.path")).unwrap();
    assert_eq!(findings(&bed).pop().unwrap()["command"], "underlay agent --once", "systemd does not run");
    fs::create_dir_all(bed.path("root/run/systemd/system")).unwrap();
    let found = findings(&bed).pop().unwrap();
    assert!(found["advice"].as_str().unwrap().contains("journalctl -u underlay-agent"), "{found}");
    // Of a container that has been released, nothing is due.
    web.stop();
    assert!(task.symlink_metadata().is_ok());
    assert_eq!(ids(&bed), [""; 0]);
    bed.gc();
    assert_eq!(fs::read_dir(bed.path("run/agent")).unwrap().count(), 0);
}

fn the_ledger() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(ids(&bed), [""; 0]);
    web.kill();
    let before = (bed.leases(), bed.records());
    let what = findings(&bed).pop().unwrap()["what"].to_string();
    assert!(what.contains("garbage collection is due: rm ") && what.contains(", and 2 more"), "{what}");
    assert_eq!((bed.leases(), bed.records()), before, "nothing was changed");
    found_and_fixed(&bed, &["left-over"]);
    bed.assert_nothing_held();

    // On a disk, and on a tmpfs that is there for this one shell.
    let disk = tempfile::tempdir_in("/var/tmp").unwrap();
    let state = disk.path().join("run");
    let doctor = format!(
        "{} --config-dir {} --state-dir {} doctor --root {}",
        binary().display(),
        bed.path("etc").display(),
        state.display(),
        bed.path("root").display()
    );
    let found = outcome(bed.host.command("sh").args(["-c", &format!("{doctor} --format json")]), b"");
    let found: Vec<Value> = serde_json::from_str(&found.stdout).unwrap();
    let finding = found.iter().find(|finding| finding["id"] == "state-dir").unwrap();
    assert!(!state.exists(), "looking makes nothing");
    let command = finding["command"].as_str().unwrap();
    let fixed = format!("{command} && {doctor}");
    let page = outcome(bed.host.command("unshare").args(["--mount", "sh", "-c", &fixed]), b"");
    let well = ["kernel", "networks", "parents", "containers", "hooks", "docker", "agent", "state"];
    let well: String = well.map(|subject| format!("{subject}: all is well\n")).concat();
    assert_eq!((page.code, page.stdout, page.stderr), (0, well, String::new()));
}

/// A finding that no command fixes ends with its cause.
fn the_ledger_unread() {
    let bed = Bed::with_pub_net("macvlan", "");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let path = bed.path(&format!("run/containers/{}.json", web.id));
    let record = fs::read_to_string(&path).unwrap();
    fs::write(&path, record.replacen("\"version\": 2", "\"version\": 9", 1)).unwrap();
    assert_unread(
        &findings(&bed),
        &format!("{} is of version 9: a newer underlay has written it", path.display()),
    );
    fs::write(&path, record).unwrap();
    assert_eq!(ids(&bed), [""; 0]);
    bed.configure("underlay.json", r#"{"version": 1, "lock_timeout_ms": 100}"#);
    let held = bed.lock();
    let found = findings(&bed);
    drop(held);
    let locked = format!("{} was locked by pid {} (", bed.path("run").display(), std::process::id());
    assert_unread(&found, &locked);
    assert_eq!(ids(&bed), [""; 0]);
}

/// Asserts that the ledger cannot be read, for a reason that begins so, and that there is no command for it.
#[track_caller]
fn assert_unread(found: &[Value], reason: &str) {
    assert_eq!(ids_of(found), ["ledger"], "{found:#?}");
    let what = found.last().unwrap()["what"].as_str().unwrap();
    assert!(what.starts_with(reason), "{what}");
    assert_eq!(found.last().unwrap()["command"], Value::Null);
}

/// Makes a program below the root of `bed`.
fn program(bed: &Bed, path: &str, text: &str) {
    write(bed, path, text);
    fs::set_permissions(bed.path("root").join(path), Permissions::from_mode(0o755)).unwrap();
}

fn write(bed: &Bed, path: &str, text: &str) {
    let path = bed.path("root").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn hooks() {
    let bed = Bed::new();
    define(&bed, "lan", r#""driver": "macvlan", "parent": "eth0""#);
    assert_eq!(ids(&bed), [""; 0], "no engine, no hooks");
    program(&bed, "usr/bin/underlay", "");
    program(&bed, "usr/bin/podman", "");
    let default = bed.path("root/usr/share/containers/oci/hooks.d");
    let what = found_and_fixed(&bed, &["hook-missing", "hook-missing"]);
    assert_eq!(what, format!("podman has no hook for createRuntime in {}", default.display()));
    // What was written is what is shipped.
    for name in ["underlay-createRuntime.json", "underlay-poststop.json"] {
        let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        let shipped = crate::harness::container::repository().join("hooks.d").join(name);
        assert_eq!(read(&default.join(name)), read(&shipped));
    }

    // Which folders settings name is not read.
    program(&bed, "usr/bin/crio", "");
    assert_eq!(ids(&bed), [""; 0], "both engines read the same folder");
    let conf = "etc/crio/crio.conf.d/10-hooks.conf";
    write(&bed, conf, "[crio.runtime]\nhooks_dir = [\"/etc/hooks\"]\n");
    let found = findings(&bed);
    assert_eq!(ids_of(&found), ["hook-folders"]);
    let finding = found.last().unwrap();
    assert_eq!(finding["severity"], "note");
    let what = finding["what"].as_str().unwrap();
    let conf = bed.path("root").join(conf);
    assert_eq!(
        what,
        format!("CRI-O reads hook files from the folders that hooks_dir in {} names", conf.display())
    );
    fs::remove_file(bed.path("root/usr/bin/crio")).unwrap();

    let file = default.join("underlay-poststop.json");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, "{").unwrap();
    found_and_fixed(&bed, &["hook-missing"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), good);
    fs::write(&file, good.replace("/usr/bin", "/opt")).unwrap();
    let what = found_and_fixed(&bed, &["hook-program"]);
    assert!(what.starts_with(&format!("there is no {}", bed.path("root/opt/underlay").display())), "{what}");
    fs::set_permissions(bed.path("root/usr/bin/underlay"), Permissions::from_mode(0o644)).unwrap();
    found_and_fixed(&bed, &["hook-program", "hook-program"]);
}

/// Of another system nothing is run: it is looked at, and no more.
fn docker() {
    let bed = Bed::new();
    define(&bed, "lan", r#""driver": "macvlan", "parent": "eth0""#);
    write(&bed, "etc/docker/daemon.json", r#"{"features": {"cdi": false}}"#);
    write(&bed, "etc/cdi/underlay.json", "{}");
    let ran = bed.path("ran");
    let text = format!("#!/bin/sh\ntouch {}\necho Docker version 20.10.24\n", ran.display());
    for path in ["usr/bin/dockerd", "usr/bin/underlay"] {
        program(&bed, path, &text);
    }
    let file = bed.path("root/etc/docker/daemon.json");
    let advice = "set features.cdi there to true";
    let on = || write(&bed, "etc/docker/daemon.json", r#"{"features": {"cdi": true}}"#);
    let what = found_and_edited(&bed, "docker-cdi", advice, on);
    assert!(what.ends_with(&format!(" by {}", file.display())), "{what}");
    write(&bed, "etc/docker/daemon.json", "{}");
    assert_eq!(ids(&bed), [""; 0]);
    assert!(!ran.exists());
    // Its own networks want the plugin, and none of the rest.
    fs::remove_file(&file).unwrap();
    let folder = bed.path("data/docker/networks");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(bed.path("data"), Permissions::from_mode(0o700)).unwrap();
    let definition =
        json!({"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10.0.0.0/24"}]});
    let network =
        json!({"version": 1, "id": "0123456789abcdef", "definition": definition, "pools": ["10.0.0.0/24"]});
    fs::write(folder.join("docker-0123456789ab.json"), network.to_string()).unwrap();
    assert_eq!(ids(&bed), ["docker-plugin"]);
    write(&bed, "run/docker/plugins/underlay.sock", "");
    assert_eq!(ids(&bed), [""; 0]);
}

/// A program that others than root can change, which the hook files and the CDI file call.
fn programs() {
    let bed = Bed::new();
    define(&bed, "lan", r#""driver": "macvlan", "parent": "eth0""#);
    program(&bed, "usr/bin/underlay", "");
    program(&bed, "usr/bin/podman", "");
    found_and_fixed(&bed, &["hook-missing", "hook-missing"]);
    fs::set_permissions(bed.path("root/usr/bin/underlay"), Permissions::from_mode(0o775)).unwrap();
    let what = found_and_fixed(&bed, &["program-of-others", "program-of-others"]);
    assert!(
        what.contains("/usr/bin/underlay can be written by others than root (mode 0775), and "),
        "{what}"
    );
    // A folder above it is as good.
    chown(bed.path("root/usr"), Some(1000), None).unwrap();
    let what = found_and_fixed(&bed, &["program-of-others", "program-of-others"]);
    assert!(what.contains("root/usr belongs to user 1000, not to root, and "), "{what}");
    let device = r#"{"devices": [{"containerEdits": {"hooks": [{"path": "/home/u/underlay"}]}}]}"#;
    write(&bed, "etc/cdi/underlay.json", device);
    assert_eq!(ids(&bed), ["hook-program"]);
    program(&bed, "home/u/underlay", "");
    chown(bed.path("root/home/u"), Some(1000), None).unwrap();
    assert_eq!(ids(&bed), ["program-of-others"]);
}

/// A module that is not loaded, and that the kernel cannot load by itself (proc_sys_kernel(5), modprobe).
fn modules() {
    let bed = Bed::new();
    let release = run("uname", &["-r"]).unwrap();
    define(&bed, "lan", r#""driver": "ipvlan", "parent": "eth0""#);
    // Namespaces of other tests, with their links, end by and by.
    wait(|| run("modprobe", &["--remove", "ipvlan"]).is_ok());
    let helper = "/proc/sys/kernel/modprobe";
    let before = fs::read_to_string(helper).unwrap();
    fs::write(helper, "/bin/false").unwrap();
    let found = findings(&bed);
    fs::write(helper, before.trim()).unwrap();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["what"], format!("kernel {} has no ipvlan links", release.trim()));
    fix(&bed, found[0]["command"].as_str().unwrap());
    assert_eq!(findings(&bed), [Value::Null; 0]);
}

/// On the machine's own network: sysfs shows no other.
fn wireless() {
    let bed = Bed::new();
    define(&bed, "air", r#""driver": "macvlan", "parent": "wlan0""#);
    run("modprobe", &["mac80211_hwsim", "radios=1"]).unwrap();
    let doctor = || {
        let mut command = Command::new(binary());
        command.args(bed.dirs()).args(["doctor", "--format", "json", "--root"]).arg(bed.path("root"));
        serde_json::from_str::<Vec<Value>>(&outcome(&mut command, b"").stdout).unwrap()
    };
    let before = doctor();
    edit(&bed, "air", "macvlan", "ipvlan");
    let after = doctor();
    run("modprobe", &["--remove", "mac80211_hwsim"]).unwrap();
    let is = |finding: &&Value| finding["what"] == "parent wlan0 is a wireless link";
    let count = |all: &[Value]| all.iter().filter(is).count();
    assert_eq!((count(&before), count(&after)), (1, 0), "{before:#?} {after:#?}");
}
