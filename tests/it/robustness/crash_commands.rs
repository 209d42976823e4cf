//! The crash matrix of commands: each is killed at each of its system calls in turn, or one of them fails. Whatever
//! happens, what the ledger, the definitions and the CDI file say can be read, the same command once more does it, and
//! what it did can be undone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::bed::{Bed, Netns, finish, outcome, write_program};
use crate::harness::container::{Container, Engine::Bare};
use crate::harness::mishaps::{ERRORS, assert_clean, steps, trace_to, turns};
use crate::harness::need::Need;
use crate::harness::test::Test;
use crate::harness::tracer::Mishap;
use crate::host_access::host_access;

/// One call of so many is tried where there is no time for all; of a command that looks into all namespaces there are
/// many that are alike.
const STRIDE: usize = 4;
const STRIDE_OF_A_SURVEY: usize = 29;

/// A command, and what there is before and after it.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    needs: &'static [Need],
    words: &'static str,
    stdin: &'static str,
    /// Makes what the command is about. A bed is used again and again.
    prepare: fn(&Bed),
    /// What the command says when it has nothing to do any more.
    already: Option<&'static str>,
    /// Asserts that it is done.
    done: fn(&Bed, &str),
    /// Takes it away again.
    undo: fn(&Bed),
}

const CREATE: Case = Case {
    name: "network_create",
    needs: &[Need::Macvlan],
    words: "network create --subnet=10.9.0.0/24 --host-access=10.9.0.9 -o parent=eth0 lan",
    stdin: "",
    prepare: |_| {},
    already: Some("network lan exists already"),
    done: |bed, what| {
        assert_eq!(bed.run("network ls -q"), "lan\n", "{what}");
        assert_eq!(devices(bed), ["lan"], "{what}");
    },
    undo: |bed| drop(bed.run("network rm lan")),
};

const CASES: [Case; 6] = [
    CREATE,
    Case {
        name: "network_create_of_a_vlan",
        needs: &[Need::Macvlan, Need::Vlan],
        words: "network create --subnet=10.9.0.0/24 -o parent=eth0.50 lan",
        done: |bed, what| {
            (CREATE.done)(bed, what);
            assert!(bed.host.link("eth0.50").is_some(), "{what}");
        },
        ..CREATE
    },
    Case {
        name: "network_rm",
        words: "network rm lan",
        prepare: |bed| bed.create("--subnet=10.9.0.0/24 --host-access=10.9.0.9 -o parent=eth0 lan"),
        already: Some("network lan does not exist"),
        done: |bed, what| {
            assert_eq!(bed.run("network ls -q"), "", "{what}");
            assert_eq!(devices(bed), [""; 0], "{what}");
        },
        undo: |_| {},
        ..CREATE
    },
    Case {
        name: "network_import",
        words: "network import -",
        stdin: r#"[{"Name": "lan", "Driver": "macvlan", "Options": {"parent": "eth0"},
            "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}]}}]"#,
        already: None,
        ..CREATE
    },
    Case {
        name: "cdi",
        words: "cdi",
        prepare: |bed| {
            bed.create("--subnet=10.9.0.0/24 -o parent=eth0 lan");
            fs::remove_file(bed.path("cdi/underlay.json")).unwrap();
        },
        already: None,
        ..CREATE
    },
    Case {
        name: "boot",
        words: "boot",
        prepare: |bed| {
            bed.create("--subnet=10.9.0.0/24 --host-access=10.9.0.9 -o parent=eth0 lan");
            let _ = bed.host.try_run("ip", "link del ulh-lan");
        },
        already: None,
        done: |bed, what| {
            assert!(bed.host.link("ulh-lan").is_some(), "{what}");
            (CREATE.done)(bed, what);
        },
        ..CREATE
    },
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for case in CASES {
        let mut add = |what: &str, run: fn(Case)| {
            tests.push(Test::new(format!("crash_commands::{what}::{}", case.name), case.needs, move || {
                run(case)
            }));
        };
        add("killed", killed);
        add("error", error);
    }
    for (what, mishap) in [("killed", Kind::Kill), ("error", Kind::Error)] {
        let needs = [Need::Macvlan];
        tests.push(Test::new(format!("crash_commands::{what}::gc"), &needs, move || gc(mishap)));
        tests.push(Test::new(format!("crash_commands::{what}::runtime"), &[], move || runtime(mishap)));
        for command in ["gc", "boot"] {
            let name = format!("crash_commands::{what}::{command}_of_a_lost_ledger");
            tests.push(Test::new(name, &needs, move || lost(mishap, command)));
        }
    }
    tests
}

#[derive(Clone, Copy)]
enum Kind {
    Kill,
    Error,
}

/// The devices that the CDI file names, which can be read at any time.
fn devices(bed: &Bed) -> Vec<String> {
    let spec = bed.cdi();
    let devices = spec.as_ref().and_then(|spec| spec["devices"].as_array()).cloned().unwrap_or_default();
    devices.iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

fn mishap(kind: Kind, at: usize, turn: usize) -> Mishap {
    match kind {
        Kind::Kill => Mishap::Kill,
        Kind::Error => Mishap::Error(ERRORS[(at + turn) % ERRORS.len()]),
    }
}

fn killed(case: Case) {
    matrix(case, Kind::Kill, 0);
}

fn error(case: Case) {
    turns().for_each(|turn| matrix(case, Kind::Error, turn));
}

fn matrix(case: Case, kind: Kind, turn: usize) {
    let bed = Bed::new();
    let before = bed.host_state();
    // The folders, once.
    (case.prepare)(&bed);
    bed.outcome(case.words, case.stdin);
    (case.undo)(&bed);
    let stride = if case.words == "boot" { STRIDE_OF_A_SURVEY } else { STRIDE };
    steps(&format!("commands::{}", case.name), stride, |at| {
        (case.prepare)(&bed);
        let mishap = mishap(kind, at, turn);
        let (traced, hit) = trace_to(&bed.underlay(case.words), case.stdin.as_bytes(), at, mishap);
        let what = format!("{mishap:?} at call {at} ({hit:?}): {}", traced.stderr);
        assert_clean(&traced, hit, &what);
        bed.run("network ls");
        let again = bed.outcome(case.words, case.stdin);
        let is_done = case.already.is_some_and(|already| again.stderr.contains(already));
        assert!(again.code == 0 || is_done, "{what}: {again:?}");
        // Where it was done but for what comes last, `boot` does that.
        bed.run("boot");
        (case.done)(&bed, &what);
        (case.undo)(&bed);
        bed.gc();
        assert_eq!(bed.gc(), "", "{what}: a second gc");
        assert_eq!(bed.host_state(), before, "{what}: the host");
        bed.assert_nothing_held();
        let left = |folder: &str| {
            let entries = fs::read_dir(bed.path(folder)).into_iter().flatten().flatten();
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('#')).count()
        };
        assert_eq!(left("etc/networks") + left("cdi") + left("run"), 0, "{what}: half-written files");
        hit.is_some()
    });
}

/// Beside one that lives: a dead one in a namespace that is kept, a dead one in its own, a lease of nobody, a damaged
/// record.
fn gc(kind: Kind) {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let lives = bed.container(Bare, "lives").networks("pub_net").start().unwrap();
    let alive = || (lives.ip("addr"), lives.routes("-4"));
    let before = alive();
    let pinned = Netns::new("pinned");
    let dead = |id: &str, netns: Option<&Netns>| {
        let container = bed.container(Bare, id).networks("pub_net");
        let container = netns.into_iter().fold(container, |one, netns| one.in_netns(netns.path()));
        let mut container: Container<'_> = container.start().unwrap();
        container.kill();
        container.forget();
    };
    let segment = bed.path("run/segments").join(bed.leases()[0].split('/').next().unwrap());
    steps("commands::gc", STRIDE_OF_A_SURVEY, |at| {
        dead("pinned", Some(&pinned));
        dead("gone", None);
        std::os::unix::fs::symlink("../../containers/nobody.json", segment.join("172.16.86.99")).unwrap();
        fs::write(bed.path("run/containers/damaged.json"), "{").unwrap();
        let mishap = mishap(kind, at, 0);
        let (traced, hit) = trace_to(&bed.underlay("gc"), b"", at, mishap);
        let what = format!("{mishap:?} at call {at} ({hit:?}): {}", traced.stderr);
        assert_clean(&traced, hit, &what);
        assert_eq!(alive(), before, "{what}");
        bed.gc();
        assert_eq!(bed.gc(), "", "{what}: one more gc");
        assert_eq!(bed.run("check"), "", "{what}");
        assert_eq!(alive(), before, "{what}");
        assert_eq!(bed.records(), [format!("{}.json", lives.id)], "{what}");
        assert_eq!(pinned.ip("-brief link").lines().count(), 1, "{what}: links in the namespace");
        hit.is_some()
    });
    lives.stop();
}

/// The state folder is gone: what the command does not find the next one does, and the host reaches all meanwhile.
fn lost(kind: Kind, command: &str) {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let living = ["one", "two"].map(|id| bed.container(Bare, id).networks("pub_net").start().unwrap());
    let seen = || (bed.host.link("ulh-pub_net"), host_access::routes(&bed));
    let before = (seen(), bed.leases(), bed.records());
    steps(&format!("commands::lost::{command}"), STRIDE_OF_A_SURVEY, |at| {
        fs::remove_dir_all(bed.path("run")).unwrap();
        let mishap = mishap(kind, at, 0);
        let (traced, hit) = trace_to(&bed.underlay(command), b"", at, mishap);
        let what = format!("{mishap:?} at call {at} ({hit:?}): {}", traced.stderr);
        assert_clean(&traced, hit, &what);
        assert_eq!(seen(), before.0, "{what}");
        bed.gc();
        assert_eq!((bed.gc(), bed.run("check")), Default::default(), "{what}");
        assert_eq!((seen(), bed.leases(), bed.records()), before, "{what}");
        hit.is_some()
    });
    living.into_iter().for_each(Container::stop);
}

/// `underlay-runtime create`: config.json is the old one or the new one, whole, and its owner's as before.
fn runtime(kind: Kind) {
    let bed = Bed::new();
    let real = bed.path("real");
    write_program(&real, "#!/bin/sh\nexit 0\n");
    bed.configure("underlay.json", &json!({"runtime": real}).to_string());
    let bundle = bed.path("bundle");
    fs::create_dir(&bundle).unwrap();
    let path = bundle.join("config.json");
    let config = json!({
        "ociVersion": "1.0.2", "root": {"path": "/"}, "annotations": {"io.underlay.networks": "lan"},
        "linux": {"namespaces": [{"type": "network"}]},
    });
    let call = || {
        let mut command = bed.wrapper();
        command.args(["create", "--bundle"]).arg(&bundle).arg("web");
        command
    };
    let hooks = || {
        let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let stages =
            ["createRuntime", "poststop"].map(|stage| written["hooks"][stage].as_array().map_or(0, Vec::len));
        assert_eq!(written["annotations"], config["annotations"]);
        stages
    };
    steps("commands::runtime", STRIDE, |at| {
        for entry in fs::read_dir(&bundle).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        fs::write(&path, config.to_string()).unwrap();
        finish(Command::new("chown").arg("1000:1000").arg(&path)).unwrap();
        finish(Command::new("chmod").arg("640").arg(&path)).unwrap();
        let mishap = mishap(kind, at, 0);
        let (traced, hit) = trace_to(&call(), b"", at, mishap);
        let what = format!("{mishap:?} at call {at} ({hit:?}): {}", traced.stderr);
        assert_clean(&traced, hit, &what);
        assert!(matches!(hooks(), [0, 0] | [1, 1]), "{what}: {:?}", hooks());
        let again = outcome(&mut call(), b"");
        assert_eq!((again.code, hooks()), (0, [1, 1]), "{what}: {again:?}");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1000, 1000, 0o640), "{what}");
        hit.is_some()
    });
}
