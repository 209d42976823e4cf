//! One bad network namespace, or one bad path to one, spoils itself and nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::libc;
use nix::sys::stat::Mode;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Container, Engine::Bare};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::harness::tracer::trace;
use crate::host_access::host_access;

pub fn tests() -> Vec<Test> {
    let all: [Named; 6] = [
        ("a_path_that_cannot_be_opened", &[Need::Macvlan], too_long),
        ("a_path_that_leads_to_something_else", &[Need::Macvlan], something_else),
        ("many_routes", &[Need::Macvlan], many_routes),
        ("each_list_is_read_once", &[Need::Macvlan], once),
        ("the_ledger_is_not_locked_meanwhile", &[Need::Macvlan], unlocked),
        ("a_failure_is_not_the_end", &[Need::Macvlan], failure),
    ];
    let mut tests: Vec<Test> =
        all.map(|(name, needs, run)| Test::new(format!("namespaces::{name}"), needs, run)).into();
    // What cannot be read here others look into, too, and nothing is swept then.
    for (name, run) in [
        ("too_many_marks", too_many_marks as fn()),
        ("always_changing", always_changing),
        ("more_than_descriptors", more_than_descriptors),
        ("who_is_not_found_stays_reachable", not_found),
    ] {
        tests.push(Test::new(format!("namespaces::{name}"), &[Need::Macvlan], run).alone());
    }
    let needs = [Need::Macvlan, Need::Vlan];
    tests.push(Test::new("namespaces::who_is_not_found_keeps_its_parent", &needs, keeps_its_parent).alone());
    tests
}

/// A LAN with room for five.
fn small() -> Bed {
    Bed::with_pub_net("macvlan", "--ip-range=172.16.86.10-172.16.86.14")
}

fn dead(bed: &Bed, id: &str) {
    let mut dead = bed.container(Bare, id).networks("pub_net").start().unwrap();
    dead.kill();
    dead.forget();
}

/// A container whose process is dead, and whose namespace was kept by `path`.
fn dead_at<'a>(bed: &'a Bed, path: &Path) -> Container<'a> {
    let netns = Netns::new("gone");
    symlink(netns.path(), path).unwrap();
    let mut bad = bed.container(Bare, "bad").networks("pub_net").in_netns(path.to_owned()).start().unwrap();
    bad.kill();
    fs::remove_file(path).unwrap();
    bad
}

fn too_long() {
    let bed = small();
    let path = bed.path("ns");
    let bad = dead_at(&bed, &path);
    // As version 1 has written it: the path alone leads to the namespace, and no number says that it is gone.
    let record = bed.path("run/containers").join(format!("{}.json", bad.id));
    let mut known: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    known.as_object_mut().unwrap().remove("nsid");
    fs::write(&record, known.to_string()).unwrap();
    symlink("a".repeat(256), &path).unwrap();
    for number in 0..4 {
        dead(&bed, &format!("dead{number}"));
    }
    let own = format!("{}.json", bad.id);
    // Its addresses may be in use; those of others are not.
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert!(bed.records().contains(&own), "{:?}", bed.records());
    dead(&bed, "dead");
    for command in ["gc --dry-run", "gc", "boot"] {
        let told = bed.outcome(command, "");
        let why = format!("container {}: cannot open {}: File name too long", bad.id, path.display());
        assert!(told.code == 0 && told.stderr.contains(&why), "{command}: {told:?}");
    }
    assert_eq!(bed.records().len(), 2, "its own and that of the living");
    let told = bed.outcome("check", "");
    assert!(told.stdout.contains("process") && !told.stderr.contains("too long"), "{told:?}");
    assert_eq!(bed.outcome("doctor --format json", "").code, 1);
    // As soon as the path leads nowhere, nobody is there.
    fs::remove_file(&path).unwrap();
    bed.gc();
    assert_eq!(bed.records(), [format!("{}.json", web.id)]);
    bad.forget();
}

fn something_else() {
    let bed = small();
    let path = bed.path("ns");
    for what in ["a pipe", "a file", "a folder", "another namespace"] {
        let bad = dead_at(&bed, &path);
        let opened = Arc::<AtomicBool>::default();
        let mut writer = None;
        match what {
            "a pipe" => {
                nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
                let (path, opened) = (path.clone(), Arc::clone(&opened));
                // It goes on when somebody opens the other end.
                writer = Some(thread::spawn(move || {
                    fs::File::create(path).unwrap();
                    opened.store(true, Ordering::SeqCst);
                }));
            }
            "a file" => fs::write(&path, "").unwrap(),
            "a folder" => fs::create_dir(&path).unwrap(),
            _ => symlink("/proc/self/ns/mnt", &path).unwrap(),
        }
        let told = bed.outcome("gc", "");
        assert_eq!((told.code, &*told.stderr), (0, ""), "{what}");
        bed.assert_nothing_held();
        assert!(!opened.load(Ordering::SeqCst), "{what} was opened");
        if let Some(writer) = writer {
            fs::File::open(&path).unwrap();
            writer.join().unwrap();
        }
        if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) }.unwrap();
        bad.forget();
    }
}

/// What a container has more than an attach can make does not go into a record.
fn many_routes() {
    let bed = small();
    let netns = Netns::new("many");
    let many = bed.container(Bare, "many").networks("pub_net").in_netns(netns.path()).start().unwrap();
    dead(&bed, "dead");
    let routes: Vec<_> = (0..45_000)
        .map(|n| format!("route add 10.{}.{}.{}/32 dev eth0", n >> 14, (n >> 6) & 255, n & 63))
        .collect();
    netns.ip_batch(&routes.iter().map(String::as_str).collect::<Vec<_>>());
    let record = bed.path("run/containers").join(format!("{}.json", many.id));
    for command in ["gc", "boot"] {
        fs::write(&record, "{").unwrap();
        let told = bed.outcome(command, "");
        assert_eq!(told.code, 0, "{command}: {told:?}");
        assert_eq!(bed.records().len(), 1, "the dead one is gone");
        assert!(fs::metadata(&record).unwrap().len() < 100_000);
        assert_eq!(bed.ps()[0]["attachments"][0]["addresses"][0], "172.16.86.10/24");
    }
    fs::remove_dir_all(bed.path("run")).unwrap();
    let next = bed.container(Bare, "next").networks("pub_net").start().unwrap();
    assert_eq!(next.addresses("eth0"), ["172.16.86.11/24"]);
}

/// However many links of ours there are in a namespace, its lists are asked for once; the parent of each is looked up.
fn once() {
    let asked = |links: usize| {
        let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=off -o announcements=0");
        let networks = vec!["pub_net"; links].join(";");
        let web = bed.container(Bare, "web").networks(&networks).start().unwrap();
        let mut count = 0;
        let traced = trace(&bed.underlay(&format!("check {}", web.id)), b"", |call| {
            count += usize::from(call.number == libc::SYS_sendto);
            None
        });
        assert_eq!(traced.code(), Some(0), "{traced:?}");
        count
    };
    assert_eq!(asked(9), asked(1) + 8);
}

/// The namespaces are looked into before the lock is taken, be the ledger lost or not.
fn unlocked() {
    let bed = small();
    let netns = Netns::new("other");
    netns.ip("link add v0 type veth peer name w0");
    let web = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    dead(&bed, "dead");
    fs::remove_dir_all(bed.path("run")).unwrap();
    let mut calls = Vec::new();
    let hook = bed.underlay("hook createRuntime");
    let traced = trace(&hook, web.state_at("createRuntime").as_bytes(), |call| {
        calls.push(call.number);
        None
    });
    assert_eq!(traced.code(), Some(0), "{traced:?}");
    let locked = calls.iter().position(|&call| call == libc::SYS_flock).unwrap();
    let looked = calls[..locked].iter().filter(|&&call| call == libc::SYS_setns).count();
    assert!(looked > 1, "{looked} namespaces were looked into before");
    let after: Vec<_> = calls[locked..].iter().filter(|&&call| call == libc::SYS_setns).collect();
    assert!(after.len() <= 2, "its own is entered, and the host's to announce: {after:?}");
}

/// What cannot be removed is told, and the rest is done.
fn failure() {
    let bed = small();
    let folder = bed.path("run/containers");
    dead(&bed, "dead");
    fs::create_dir_all(folder.join("broken.json/full")).unwrap();
    let told = bed.outcome("gc", "");
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("cannot remove") && told.stderr.contains("1 failure"), "{told:?}");
    assert!(told.stdout.contains("dead") && !told.stdout.contains("broken"), "{told:?}");
    assert_eq!(bed.records(), ["broken.json"]);
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    web.stop();
}

/// Makes so many links with marks that nobody reads them.
fn overfill(netns: &Netns, container: &Container<'_>) {
    let alias = container.link("eth0")["ifalias"].as_str().unwrap().to_owned();
    let lines: Vec<_> = (0..260)
        .flat_map(|n| {
            let mark = alias.replace(":0:", &format!(":{}:", n + 1));
            [format!("link add link eth0 name x{n} type macvlan"), format!("link set x{n} alias {mark}")]
        })
        .collect();
    netns.ip_batch(&lines.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Undoes [`overfill`].
fn make_readable(netns: &Netns) {
    (0..5).for_each(|n| drop(netns.ip(&format!("link del x{n}"))));
}

/// The ledger is lost, and one container cannot be found for now: whoever comes and goes meanwhile, the host still
/// reaches it, and it gets back all it had.
fn not_found() {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let netns = Netns::new("hidden");
    let hidden = bed.container(Bare, "hidden").networks("pub_net").in_netns(netns.path()).start().unwrap();
    let seen = bed.container(Bare, "seen").networks("pub_net").start().unwrap();
    overfill(&netns, &hidden);
    let (routes, link) = (host_access::routes(&bed), bed.host.link("ulh-pub_net"));
    for first in ["gc", "boot", "network rm pub_net", "network create -o parent=eth0 lan", "hook"] {
        fs::remove_dir_all(bed.path("run")).unwrap();
        let next = match first {
            "hook" => Some(bed.container(Bare, "next").networks("pub_net").start().unwrap()),
            command => {
                let told = bed.outcome(command, "");
                assert_eq!(told.code == 0, !command.contains("rm"), "{command}: {told:?}");
                None
            }
        };
        let (link_now, mut routes_now) = (bed.host.link("ulh-pub_net"), host_access::routes(&bed));
        if let Some(next) = next {
            assert_eq!(routes_now.len(), 3);
            next.stop();
            routes_now.retain(|route| routes.contains(route));
        }
        assert_eq!((&link_now, &routes_now), (&link, &routes), "{first}");
        bed.gc();
        assert_eq!(bed.gc(), "", "{first}");
    }
    seen.stop();
    let own = &hidden.addresses("eth0")[0].replace("/24", " ");
    let reached = || host_access::routes(&bed).iter().filter(|route| route.starts_with(own)).count();
    assert_eq!(reached(), 1);
    make_readable(&netns);
    bed.gc();
    assert_eq!((bed.gc(), bed.run("boot"), bed.run("check")), Default::default());
    assert_eq!(bed.records(), [format!("{}.json", hidden.id)]);
    assert_eq!((bed.host.link("ulh-pub_net"), reached(), host_access::routes(&bed).len()), (link, 1, 1));
    hidden.stop();
    assert_eq!(bed.host.link("ulh-pub_net"), None, "the last one has gone");
}

/// The same of a parent that nobody else needs, and whose network is gone.
fn keeps_its_parent() {
    let bed = Bed::new();
    bed.create("--subnet=10.9.0.0/24 -o parent=eth0.50 lan");
    let netns = Netns::new("hidden");
    let hidden = bed.container(Bare, "hidden").networks("lan").in_netns(netns.path()).start().unwrap();
    overfill(&netns, &hidden);
    let before = hidden.ip("addr");
    for command in ["gc", "boot"] {
        fs::remove_dir_all(bed.path("run")).unwrap();
        let _ = fs::remove_file(bed.path("etc/networks/lan.json"));
        bed.run(command);
        assert_eq!((bed.gc(), hidden.ip("addr") == before), (String::new(), true), "{command}");
    }
    make_readable(&netns);
    bed.gc();
    assert_eq!((bed.gc(), bed.records()), (String::new(), vec![format!("{}.json", hidden.id)]));
    hidden.stop();
    assert_eq!(bed.host.link("eth0.50"), None, "the last one has gone");
}

/// A container that makes more marked links than an attach can: nothing of it is believed, and nothing taken from it.
fn too_many_marks() {
    let bed = small();
    let netns = Netns::new("marks");
    let evil = bed.container(Bare, "evil").networks("pub_net").in_netns(netns.path()).start().unwrap();
    overfill(&netns, &evil);
    let record = bed.path("run/containers").join(format!("{}.json", evil.id));
    fs::write(&record, "{").unwrap();
    dead(&bed, "dead");
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(netns.path()).unwrap());
    let left = format!("network namespace net:[{inode}]: more than 256 links bear marks of containers");
    for command in ["gc --dry-run", "gc", "boot", "check", "doctor"] {
        let told = bed.outcome(command, "");
        assert!(told.stderr.contains(&left), "{command}: {told:?}");
        assert!(["check", "doctor"].contains(&command) || told.code == 0, "{command}: {told:?}");
    }
    assert_eq!(bed.records(), [format!("{}.json", evil.id)], "the dead one is gone");
    assert_eq!(bed.leases().len(), 1, "and the address of who may live is not free");
    // What a runtime starts anew is over, whatever was written of it.
    fs::write(bed.path(&format!("run/containers/web-{}.json", bed.host.name)), "{").unwrap();
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_ne!(web.addresses("eth0"), evil.addresses("eth0"));
    web.stop();
    fs::remove_file(&record).unwrap();
    bed.gc();
    assert_eq!(bed.leases().len(), 1, "nor is it when the record is lost");
    make_readable(&netns);
    bed.gc();
    assert_eq!(bed.records(), [format!("{}.json", evil.id)], "it is written anew when it can be read");
}

/// A process that is gone when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Addresses come and go so that no list of them is consistent (`NLM_F_DUMP_INTR`).
fn always_changing() {
    let bed = small();
    let netns = Netns::new("changes");
    let web = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    let many: Vec<_> = (0..3000).map(|n| format!("addr add 10.9.{}.{}/32 dev lo", n >> 8, n & 255)).collect();
    netns.ip_batch(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let mut ip = netns.command("ip");
    ip.args(["-force", "-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut ip = Running(ip.spawn().unwrap());
    let mut lines = ip.0.stdin.take().unwrap();
    let change = "addr add 10.8.0.1/32 dev lo\naddr del 10.8.0.1/32 dev lo\n".repeat(100);
    let feed =
        thread::spawn(move || while std::io::Write::write_all(&mut lines, change.as_bytes()).is_ok() {});
    for number in 0..8 {
        dead(&bed, &format!("dead{number}"));
        for command in ["gc", "check", "boot"] {
            let told = bed.outcome(command, "");
            assert_eq!(
                (told.code, told.stdout.is_empty() || command == "gc"),
                (0, true),
                "{command}: {told:?}"
            );
        }
        assert_eq!(bed.records(), [format!("{}.json", web.id)]);
    }
    drop(ip);
    feed.join().unwrap();
}

/// More namespaces than a process may have files open.
fn more_than_descriptors() {
    const NAMESPACES: usize = 120;
    let bed = small();
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let start = |_| {
        let mut command = Command::new("unshare");
        Running(command.args(["--net", "sleep", "1000"]).spawn().unwrap())
    };
    let _others: Vec<Running> = (0..NAMESPACES).map(start).collect();
    let limited = |arguments: &str, stdin: &str| {
        let mut command = bed.host.command("prlimit");
        command
            .arg("--nofile=48")
            .arg(crate::harness::bed::binary())
            .args(bed.dirs())
            .args(arguments.split(' '));
        crate::harness::bed::outcome(&mut command, stdin.as_bytes())
    };
    for command in ["gc", "check", "boot"] {
        let told = limited(command, "");
        assert_eq!((told.code, &*told.stdout, &*told.stderr), (0, "", ""), "{command}");
    }
    fs::remove_dir_all(bed.path("run")).unwrap();
    let next = bed.container(Bare, "next").networks("pub_net").without_hooks().start().unwrap();
    let told = limited("hook createRuntime", &next.state_at("createRuntime"));
    assert_eq!(told.code, 0, "{told:?}");
    assert_ne!(next.addresses("eth0"), web.addresses("eth0"));
    assert_eq!(next.hook("poststop").code, 0);
}
